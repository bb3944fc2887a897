//! Durations as people write them in flags: `24h`, `90m`, `30s`, `1h30m`.

use std::time::Duration;

/// Shorter leafs would be renewed more often than the API server likes.
pub const LIFETIME_MIN: Duration = Duration::from_secs(10);
/// Longer leafs would make a stolen key worth stealing.
pub const LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Shorter leafs in Secrets end before the next ones are in the pods. Those are written a third of the life before,
/// and kubelet, which looks at each pod once a minute or so and at Secrets that it may have read a minute ago, then
/// needs up to a minute and a half; the rest of these two minutes is for the API server and the proxy.
pub const LIFETIME_IN_SECRET_MIN: Duration = Duration::from_secs(3 * 2 * 60);

/// Reads how long leafs are valid: whole numbers with the units `d`, `h`, `m`, `s`, largest first.
///
/// # Errors
/// A sentence that says what is expected, or that the value is out of bounds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let lifetime =
        read(text).ok_or("expected a duration such as 24h, 90m, 30s or 1h30m".to_owned())?;
    if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
        return Err("expected between 10s and 365d".to_owned());
    }
    Ok(lifetime)
}

fn read(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let mut after = after.chars();
        let seconds: u64 = match after.next()? {
            'd' => 24 * 60 * 60,
            'h' => 60 * 60,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if seconds >= smaller_than {
            return None;
        }
        smaller_than = seconds;
        let number: u64 = number.parse().ok()?;
        total = total.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = after.as_str();
    }
    (smaller_than != u64::MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("90m", 5_400),
            ("30s", 30),
            ("1h30m", 5_400),
            ("1d2h3m4s", 93_784),
            ("365d", 31_536_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "24",
            "h",
            "1.5h",
            "-1h",
            "1h1h",
            "1m1h",
            "24 h",
            "24H",
            "9s",
            "366d",
            "0s",
            "99999999999999999999h",
            "18446744073709551615d",
            "1ä",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
