//! The machine's monotonic clock, which all processes share. Entry: [`now`].

use std::time::Duration;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time since the machine started.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Sleeps until the clock shows `time`.
///
/// # Errors
/// The system's.
pub(crate) fn sleep_until(time: Duration) -> std::io::Result<()> {
    let request = Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    };
    loop {
        match clock_nanosleep_absolute(ClockId::Monotonic, &request) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
