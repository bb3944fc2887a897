//! YAML as kubectl and Helm read it, which is YAML 1.1 with their own habits.
//! Entry: [`read`] for manifests that others wrote, [`to_kube_string`] for everything we write.

use std::fmt;

use serde_json::Value;
use serde_saphyr::{NonFiniteFloatPolicy, options::DuplicateKeyPolicy};

/// So many nodes any text may have; what its aliases repeat counts among them.
const NODES: usize = 250_000;

/// So many bytes of scalars any text may have, likewise.
const SCALAR_BYTES: usize = 64 << 20;

/// So many events aliases may repeat. A short text can ask for billions.
const REPLAYED_EVENTS_MAX: usize = 1_000_000;

/// The text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidYaml {
    /// The line in the whole text; none when the parser could not tell.
    pub line: Option<u64>,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for InvalidYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for InvalidYaml {}

/// Reads one YAML or JSON document that begins in line `first_line` (from 1 on) of its file.
///
/// File modes such as `0644` are octal, `on` is a boolean, of two equal keys the last one wins.
/// An empty document is [`Value::Null`].
///
/// # Errors
/// [`InvalidYaml`] with the line in the file.
pub fn read(text: &str, first_line: usize) -> Result<Value, InvalidYaml> {
    // What stands in the text is not too much for whoever has read the text: each node takes a character at
    // least, and has two events. What aliases make of it is limited by itself, so that no text grows without end.
    let nodes = text.len().max(NODES);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: nodes,
            max_events: nodes.saturating_mul(2).max(REPLAYED_EVENTS_MAX),
            max_total_scalar_bytes: text.len().max(SCALAR_BYTES),
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_EVENTS_MAX,
        },
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        let text = error.to_string();
        let reason = match text.find(" at line ") {
            Some(end) => text[..end].to_owned(),
            None => text,
        };
        InvalidYaml {
            line: line.map(|line| line + first_line as u64 - 1),
            reason,
        }
    })
}

/// Writes `value` such that kubectl and Helm read the same value back.
///
/// serde_yaml writes some strings plain which YAML 1.1 reads as booleans or numbers (`on`,
/// `1_000`); those are put in quotes here, keys too.
pub fn to_kube_string(value: &Value) -> String {
    let mut words = Words {
        prefix: String::new(),
        quoted: Vec::new(),
    };
    if !words.any_in(value) {
        return plain(value);
    }
    // A prefix that the document does not contain.
    let text = plain(value);
    words.prefix = (0u32..)
        .map(|n| format!("quoted{n}x"))
        .find(|prefix| !text.contains(prefix))
        .expect("a text does not contain every number");
    let mut value = value.clone();
    words.replace_in(&mut value);
    words.restore_in(&plain(&value))
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the wrapper that makes it safe"
)]
fn plain(value: &Value) -> String {
    serde_yaml::to_string(value).expect("every JSON value has a YAML form")
}

/// Strings that must be in quotes, each replaced by a word that is safe to write plain.
struct Words {
    prefix: String,
    quoted: Vec<String>,
}

impl Words {
    fn any_in(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => needs_quotes(text),
            Value::Array(items) => items.iter().any(|item| self.any_in(item)),
            Value::Object(map) => map
                .iter()
                .any(|(key, value)| needs_quotes(key) || self.any_in(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn replace_in(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.replace(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_in(item)),
            Value::Object(map) => {
                *map = std::mem::take(map)
                    .into_iter()
                    .map(|(mut key, mut value)| {
                        self.replace(&mut key);
                        self.replace_in(&mut value);
                        (key, value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn replace(&mut self, text: &mut String) {
        if needs_quotes(text) {
            let word = format!("{}{}x", self.prefix, self.quoted.len());
            self.quoted.push(std::mem::replace(text, word));
        }
    }

    fn restore_in(&self, text: &str) -> String {
        let mut parts = text.split(self.prefix.as_str());
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (index, rest) = part.split_once('x').expect("every word ends with an x");
            let index: usize = index.parse().expect("every word has an index");
            result.push_str(&Value::from(self.quoted[index].as_str()).to_string());
            result.push_str(rest);
        }
        result
    }
}

/// Whether serde_yaml writes `text` plain although some YAML 1.1 parser does not read it as a
/// string. Some take words in any mix of cases.
fn needs_quotes(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "yes", "n", "no", "on", "off", "true", "false", "null"];
    let number_like = || {
        text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
            && (text.contains(['_', 'X']) || text.trim_start_matches(['+', '-']).starts_with("0b"))
    };
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) || number_like()
}
