//! JSON as commands print it. Entries: [`pretty`], [`line()`].
//! Characters that steer a terminal are `\u` escapes: the same values, and whoever looks at them is safe.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::visible::is_hidden;

/// A value over several lines, indented by two blanks. It must have texts for keys and only finite numbers.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("keys are text, numbers are finite");
    escaped(&text) + "\n"
}

/// A value in one line.
pub(crate) fn line(value: &Value) -> String {
    escaped(&value.to_string()) + "\n"
}

/// Outside of strings JSON has no such characters but line feeds, and of those serde_json leaves none in strings.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hidden(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(text, "\\u{unit:04x}").expect("a String takes everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_steer_the_terminal_is_escaped_and_reads_back_the_same() {
        let value = json!({"\u{9b}2J": ["a\u{1b}\n\u{7f}", "\u{202e}\u{e0001}grün 投票 🙂"]});
        let line = line(&value);
        assert_eq!(
            line,
            "{\"\\u009b2J\":[\"a\\u001b\\n\\u007f\",\"\\u202e\\udb40\\udc01grün 投票 🙂\"]}\n"
        );
        for text in [line, pretty(&value)] {
            assert!(text.chars().all(|c| c == '\n' || !is_hidden(c)), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect(&text), value);
        }
    }
}
