//! Texts with YAML documents, taken apart and put together again.
//! Entry: [`map`], which hands each object to a function and keeps the text of those that the
//! function left alone, comments included.

use serde_json::Value;

use crate::{
    DocumentError, ObjectError, Output, Report, Source,
    report::Entry,
    yaml::{self, InvalidYaml},
};

/// One document of a source.
#[derive(Debug, PartialEq, Eq)]
struct Document<'a> {
    text: &'a str,
    /// The line of the source in which `text` begins, from 1 on.
    line: usize,
}

/// Calls `change` for each object and returns all documents, each followed by `---`.
pub(crate) fn map(
    sources: &[Source],
    mut change: impl FnMut(&mut Value) -> Result<Vec<Entry>, ObjectError>,
) -> Result<Output, DocumentError> {
    let mut output = Output {
        yaml: String::new(),
        report: Report::default(),
    };
    for Source { name, text } in sources {
        let documents = split(text);
        let count = documents
            .iter()
            .filter(|document| document.has_content())
            .count();
        let mut number = 0;
        for document in documents {
            if !document.has_content() {
                append(&mut output.yaml, document.text);
                continue;
            }
            number += 1;
            let name = || name.clone();
            let line = document.first_line_of_content();
            let mut object = document.read().map_err(|error| DocumentError::Yaml {
                name: name(),
                number,
                count,
                error,
            })?;
            if !object.is_object() {
                return Err(DocumentError::NoObject {
                    name: name(),
                    number,
                    count,
                    line,
                });
            }
            let entries = change(&mut object).map_err(|error| DocumentError::Object {
                name: name(),
                number,
                count,
                line,
                error: Box::new(error),
            })?;
            if entries.iter().any(|entry| entry.outcome.is_change()) {
                append(&mut output.yaml, &yaml::to_kube_string(&object));
            } else {
                append(&mut output.yaml, document.text);
            }
            output.report.entries.extend(entries);
        }
    }
    Ok(output)
}

fn append(yaml: &mut String, document: &str) {
    if document.trim().is_empty() {
        return;
    }
    yaml.push_str(document);
    if !document.ends_with('\n') {
        yaml.push('\n');
    }
    yaml.push_str("---\n");
}

/// Splits at lines that begin with `---`. What follows the dashes on the same line belongs to the
/// next document.
fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let end = offset + line.len();
        if let Some(rest) = separator(line) {
            documents.push(Document {
                text: &text[start..offset],
                line: start_line,
            });
            (start, start_line) = if rest.is_empty() {
                (end, index + 2)
            } else {
                (offset, index + 1)
            };
        }
        offset = end;
    }
    documents.push(Document {
        text: &text[start..],
        line: start_line,
    });
    documents.retain(|document| !document.text.is_empty());
    documents
}

/// What follows `---` on a line that begins a document; empty for a comment.
fn separator(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---")?;
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let rest = rest.trim();
    Some(if rest.starts_with('#') { "" } else { rest })
}

impl Document<'_> {
    fn content(&self) -> impl Iterator<Item = usize> {
        self.text.lines().enumerate().filter_map(|(index, line)| {
            let line = line.trim();
            let silent = line.is_empty() || line.starts_with(['#', '%']) || line == "...";
            (!silent).then_some(index)
        })
    }

    /// Whether there is anything but comments and directives.
    fn has_content(&self) -> bool {
        self.content().next().is_some()
    }

    fn first_line_of_content(&self) -> usize {
        self.line + self.content().next().unwrap_or_default()
    }

    fn read(&self) -> Result<Value, InvalidYaml> {
        // JSON with tabs is no YAML, yet kubectl takes it.
        if self.text.trim_start().starts_with('{')
            && let Ok(value) = serde_json::from_str(self.text)
        {
            return Ok(value);
        }
        yaml::read(self.text, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(&str, usize)> {
        split(text)
            .into_iter()
            .map(|document| (document.text, document.line))
            .collect()
    }

    #[test]
    fn documents_know_where_they_begin() {
        assert_eq!(lines("a: 1\n---\nb: 2\n"), [("a: 1\n", 1), ("b: 2\n", 3)]);
        assert_eq!(
            lines("---\na: 1\n--- # c\nb: 2"),
            [("a: 1\n", 2), ("b: 2", 4)]
        );
        assert_eq!(lines("---\r\na: 1\r\n---\r\n"), [("a: 1\r\n", 2)]);
        assert_eq!(lines("\u{feff}a: 1\n"), [("a: 1\n", 1)]);
        assert_eq!(lines(""), []);
    }

    #[test]
    fn content_beside_the_dashes_belongs_to_the_document_after_them() {
        assert_eq!(
            lines("a: 1\n--- {b: 2}\n"),
            [("a: 1\n", 1), ("--- {b: 2}\n", 2)]
        );
    }

    #[test]
    fn dashes_within_a_text_do_not_split() {
        assert_eq!(
            lines("a: |\n  ---\n---x: 1\n"),
            [("a: |\n  ---\n---x: 1\n", 1)]
        );
    }

    #[test]
    fn every_form_of_a_document_can_be_read() {
        for text in [
            "a: 1\n...\n",
            "# c\na: 1",
            "{\n\t\"a\": 1\n}",
            "--- {a: 1}",
            "a: 1\r\n",
        ] {
            let documents = split(text);
            assert_eq!(documents.len(), 1, "{text:?}");
            assert_eq!(
                documents[0].read(),
                Ok(serde_json::json!({"a": 1})),
                "{text:?}"
            );
        }
    }
}
