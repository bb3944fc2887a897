//! Durations as people write them: `30s`, `1m30s`, `1.5h`. Entry: [`parse`]. Pure.

use std::time::Duration;

/// The longest in Go, some 292 years: no time from now on is out of range by it.
const DURATION_MAX: Duration = Duration::from_nanos(i64::MAX.unsigned_abs());

/// A text that is no duration. The words are those that users of Go programs know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidDuration {
    #[error("time: invalid duration {0}")]
    Invalid(String),
    #[error("time: missing unit in duration {0}")]
    MissingUnit(String),
    #[error("time: unknown unit {0} in duration {1}")]
    UnknownUnit(String, String),
}

/// Reads numbers with units: `ns`, `us`, `ms`, `s`, `m`, `h`.
///
/// # Errors
/// [`InvalidDuration`] quotes the text. Negative durations are invalid, and those of more than 2562047h.
pub(crate) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration::Invalid(text.to_owned());
    if text.is_empty() {
        return Err(invalid());
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "" => return Err(InvalidDuration::MissingUnit(text.to_owned())),
                unit => {
                    return Err(InvalidDuration::UnknownUnit(
                        unit.to_owned(),
                        text.to_owned(),
                    ));
                }
            };
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(invalid)
}

/// The window as it was written when it has whole numbers, else in milliseconds.
pub(crate) fn whole_units(text: &str, window: Duration) -> String {
    let fine = text.contains('.') || text.contains("us") || text.contains("ns");
    if fine || text.contains('µ') {
        format!("{}ms", window.as_millis().max(1))
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        for (text, millis) in [("1m", 60_000), ("1m30s", 90_000), ("1.5s", 1_500), ("0", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn every_duration_from_now_on_is_a_time() {
        for text in ["2562047h", "9223372036s"] {
            let duration = parse(text).expect(text);
            assert!(std::time::Instant::now().checked_add(duration).is_some());
            assert!(std::time::SystemTime::now().checked_add(duration).is_some());
        }
    }

    #[test]
    fn other_texts_are_refused_in_the_words_of_go() {
        for (text, message) in [
            ("", "time: invalid duration "),
            ("x", "time: invalid duration x"),
            ("-1m", "time: invalid duration -1m"),
            (".", "time: invalid duration ."),
            ("1", "time: missing unit in duration 1"),
            ("1m3", "time: missing unit in duration 1m3"),
            ("1d", "time: unknown unit d in duration 1d"),
            (
                "3000000000000000h",
                "time: invalid duration 3000000000000000h",
            ),
            ("2562048h", "time: invalid duration 2562048h"),
        ] {
            assert_eq!(parse(text).expect_err("refused").to_string(), message);
        }
    }
}
