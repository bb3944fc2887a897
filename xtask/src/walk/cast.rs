//! The recording as asciinema reads it: asciicast, version 2. Entry: [`text`].

use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::session::{COLUMNS, Event, ROWS, Recording, What};

/// Seconds of silence that a player shows, however long it was.
const IDLE_SECONDS_MAX: u32 = 2;

/// One line of JSON for what it is, and one for each event; commands are markers (`m`), so that a player
/// can go to one.
pub(super) fn text(recording: &Recording) -> Result<String> {
    let Recording { began, events } = recording;
    let began = began.duration_since(UNIX_EPOCH);
    let header = json!({
        "version": 2,
        "width": COLUMNS,
        "height": ROWS,
        "timestamp": began.context("the clock is before 1970")?.as_secs(),
        "idle_time_limit": IDLE_SECONDS_MAX,
        "title": "Every command of linkerd",
        "env": { "TERM": "xterm-256color", "SHELL": "/bin/bash" },
    });
    let mut text = format!("{header}\n");
    for Event { at, what } in events {
        // Microseconds are what asciinema itself keeps.
        let at = (at.as_secs_f64() * 1e6).round() / 1e6;
        let line = match what {
            What::Output(output) => json!([at, "o", output]),
            What::Mark(command) => json!([at, "m", command]),
        };
        text += &format!("{line}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_header_comes_first_and_then_what_happened() {
        let event = |ms, what| Event {
            at: Duration::from_millis(ms),
            what,
        };
        let recording = Recording {
            began: UNIX_EPOCH + Duration::from_secs(1_500_000_000),
            events: vec![
                event(0, What::Mark("linkerd version".into())),
                event(1250, What::Output("\x1b[1m√\r\n".into())),
            ],
        };
        let text = text(&recording).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let header: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(
            (&header["version"], &header["width"]),
            (&json!(2), &json!(COLUMNS))
        );
        assert_eq!(header["timestamp"], 1_500_000_000);
        assert_eq!(lines[1], r#"[0.0,"m","linkerd version"]"#);
        assert_eq!(lines[2], r#"[1.25,"o","\u001b[1m√\r\n"]"#);
    }
}
