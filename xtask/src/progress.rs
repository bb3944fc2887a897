//! Tells people on stderr what is done and how long it took. Entry: [`step`].

use std::time::{Duration, Instant};

use anyhow::Result;

/// Does `work` and says on stderr how long it took.
///
/// # Errors
/// Those of `work`.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work();
    let mark = if result.is_ok() { "done" } else { "FAILED" };
    anstream::eprintln!("{:>8}  {name}: {mark}", seconds(start.elapsed()));
    result
}

/// Returns a duration as people read it: `3.2s`, `4m05s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(seconds(Duration::from_millis(3210)), "3.2s");
        assert_eq!(seconds(Duration::from_secs(245)), "4m05s");
    }
}
