//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// The first wait; short, because most failures are conflicts and restarts that are soon over.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: an operator who has removed the cause sees the effect within a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// The wait after `failures` failures in a row (1 is the first): doubled each time, at most a minute, of
/// which a random half is left away so that many owners do not come back at once.
pub fn delay(failures: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_have_a_limit() {
        assert!(delay(1) >= FIRST / 2 && delay(1) <= FIRST);
        assert!(delay(5) >= FIRST * 8 && delay(5) <= FIRST * 16);
        for failures in [11, 100, u32::MAX] {
            assert!(delay(failures) >= LONGEST / 2 && delay(failures) <= LONGEST);
        }
    }
}
