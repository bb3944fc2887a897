//! Checks values against the chart's JSON schema, so that a slip in a name is told and not ignored.
//! Entry: [`check`]; it knows the words that `values.schema.json` uses, and a test says so.

use serde_json::Value;
use thiserror::Error;

/// A value that the schema refuses.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{path}: {reason}")]
pub(crate) struct Violation {
    path: String,
    reason: String,
}

/// Words of JSON schema that [`check`] understands or that say nothing about values.
#[cfg(test)]
const WORDS: [&str; 9] = [
    "$schema",
    "title",
    "type",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "properties",
    "additionalProperties",
];

/// Checks `value` against `schema`.
///
/// # Errors
/// [`Violation`] with the path of the first value that does not fit.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), Violation> {
    check_at("", schema, value)
}

fn check_at(path: &str, schema: &Value, value: &Value) -> Result<(), Violation> {
    let refuse = |reason: String| {
        Err(Violation {
            path: path.trim_start_matches('.').to_owned(),
            reason,
        })
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|wanted| has_type(value, wanted)) {
        let types = types.join(" or ");
        return refuse(format!("it has to be of type {types}, not {value}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return refuse(format!(
            "it has to be one of {}, not {value}",
            allowed.join(", ")
        ));
    }
    if let (Some(value), Some(minimum)) = (value.as_i64(), schema["minimum"].as_i64())
        && value < minimum
    {
        return refuse(format!("it has to be at least {minimum}, not {value}"));
    }
    if let (Some(value), Some(maximum)) = (value.as_i64(), schema["maximum"].as_i64())
        && value > maximum
    {
        return refuse(format!("it has to be at most {maximum}, not {value}"));
    }
    if let (Some(text), Some(length)) = (value.as_str(), schema["minLength"].as_u64())
        && (text.chars().count() as u64) < length
    {
        return refuse("it is too short".to_owned());
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check_at(&format!("{path}[{index}]"), &schema["items"], item)?;
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match schema["properties"].get(key) {
            Some(schema) => check_at(&path, schema, item)?,
            None if schema["additionalProperties"] == false => {
                let path = path.trim_start_matches('.').to_owned();
                return Err(Violation {
                    path,
                    reason: "there is no such value".to_owned(),
                });
            }
            None => {}
        }
    }
    Ok(())
}

fn has_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(schema: &Value, found: &mut Vec<String>) {
        for (word, value) in schema.as_object().into_iter().flatten() {
            match word.as_str() {
                "items" => words(value, found),
                "properties" => {
                    value
                        .as_object()
                        .into_iter()
                        .flatten()
                        .for_each(|(_, value)| words(value, found));
                }
                _ => found.push(word.clone()),
            }
        }
    }

    #[test]
    fn every_word_of_the_charts_schema_is_understood() {
        let schema = super::super::chart_yaml("values.schema.json").unwrap();
        let mut found = Vec::new();
        words(&schema, &mut found);
        assert!(found.len() > 20, "{found:?}");
        assert!(
            found.iter().all(|word| WORDS.contains(&&**word)),
            "{found:?}"
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 9},
            "t": {"type": "string", "enum": ["a", "b"]},
            "s": {"type": "string", "minLength": 1},
            "l": {"type": "array", "items": {"type": "string"}},
            "e": {"type": ["integer", "string"]},
        }});
        for (value, expected) in [
            (json!({"n": 0}), "n: it has to be at least 1, not 0"),
            (json!({"n": 10}), "n: it has to be at most 9, not 10"),
            (
                json!({"n": "1"}),
                "n: it has to be of type integer, not \"1\"",
            ),
            (
                json!({"t": "c"}),
                "t: it has to be one of \"a\", \"b\", not \"c\"",
            ),
            (json!({"s": ""}), "s: it is too short"),
            (
                json!({"l": ["a", 1]}),
                "l[1]: it has to be of type string, not 1",
            ),
            (
                json!({"e": true}),
                "e: it has to be of type integer or string, not true",
            ),
            (json!({"x": 1}), "x: there is no such value"),
        ] {
            assert_eq!(check(&schema, &value).unwrap_err().to_string(), expected);
        }
        assert_eq!(
            check(&schema, &json!({"n": 1, "t": "a", "l": [], "e": "x"})),
            Ok(())
        );
    }
}
