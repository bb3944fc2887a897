//! Keeps a storm of failures from becoming a storm of log lines. Entries: [`Quiet::may_tell`], [`tell`].

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Between two lines at level info of the same kind; the others are logged at level debug.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes a line at level info as often as a [`Quiet`] allows, else at level debug.
macro_rules! tell {
    ($quiet:expr, $($line:tt)+) => {
        match $quiet.may_tell() {
            true => tracing::info!($($line)+),
            false => tracing::debug!($($line)+),
        }
    };
}
pub(crate) use tell;

/// Remembers when something was told last.
pub(crate) struct Quiet {
    start: Instant,
    /// Milliseconds after `start` from which on the next line is due.
    due: AtomicU64,
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            due: AtomicU64::new(0),
        }
    }
}

impl Quiet {
    /// True at most once in [`PAUSE`].
    pub(crate) fn may_tell(&self) -> bool {
        self.may_tell_after(self.start.elapsed())
    }

    fn may_tell_after(&self, age: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = self.due.load(Relaxed);
        let next = millis(age.saturating_add(PAUSE));
        millis(age) >= due
            && self
                .due
                .compare_exchange(due, next, Relaxed, Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_told() {
        let quiet = Quiet::default();
        let told = (0..50)
            .filter(|i| quiet.may_tell_after(Duration::from_millis(100 * i)))
            .count();
        assert_eq!(told, 5);
    }
}
