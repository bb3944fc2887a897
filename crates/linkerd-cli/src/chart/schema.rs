//! Checks values against the chart's JSON schema, so that a slip in a name is told and not ignored.
//! Entry: [`check`]; it knows the words that `values.schema.json` uses, and a test says so.

use regex::Regex;
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
const WORDS: [&str; 15] = [
    "$schema",
    "$ref",
    "title",
    "type",
    "enum",
    "not",
    "minimum",
    "maximum",
    "minLength",
    "pattern",
    "description",
    "items",
    "properties",
    "required",
    "additionalProperties",
];

/// Checks `value` against `schema`. What does not fit a pattern, or is among what a value is not to be, is told
/// in the words of `description`.
///
/// # Errors
/// [`Violation`] with the path of the first value that does not fit.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), Violation> {
    check_at("", schema, schema, value)
}

/// `root` has the definitions that `schema` refers to.
fn check_at(path: &str, root: &Value, schema: &Value, value: &Value) -> Result<(), Violation> {
    let schema = resolved(root, schema);
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
    if let Some(taken) = schema["not"]["enum"].as_array()
        && taken.contains(value)
    {
        let wanted = schema["description"].as_str().unwrap_or("another one");
        return refuse(format!("it has to be {wanted}, not {value}"));
    }
    let bound = |word: &str| value.as_f64().zip(schema[word].as_f64());
    if bound("minimum").is_some_and(|(value, minimum)| value < minimum) {
        let minimum = &schema["minimum"];
        return refuse(format!("it has to be at least {minimum}, not {value}"));
    }
    if bound("maximum").is_some_and(|(value, maximum)| value > maximum) {
        let maximum = &schema["maximum"];
        return refuse(format!("it has to be at most {maximum}, not {value}"));
    }
    if let Some(text) = value.as_str() {
        let long = text.chars().count() as u64 >= schema["minLength"].as_u64().unwrap_or(0);
        let pattern = schema["pattern"].as_str();
        let fits = pattern.is_none_or(|pattern| {
            let pattern =
                Regex::new(pattern).expect("a test compiles each of the chart's patterns");
            pattern.is_match(text)
        });
        if !long || !fits {
            return refuse(match schema["description"].as_str() {
                Some(wanted) => format!("it has to be {wanted}, not {text:?}"),
                None => "it is too short".to_owned(),
            });
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check_at(&format!("{path}[{index}]"), root, &schema["items"], item)?;
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        let key = key.as_str().unwrap_or_default();
        if value.get(key).is_none() {
            return Err(Violation {
                path: format!("{path}.{key}").trim_start_matches('.').to_owned(),
                reason: "it has to be there; null takes it away".to_owned(),
            });
        }
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (
            schema["properties"].get(key),
            &schema["additionalProperties"],
        ) {
            (Some(schema), _) => check_at(&path, root, schema, item)?,
            (None, Value::Bool(false)) => {
                let path = path.trim_start_matches('.').to_owned();
                return Err(Violation {
                    path,
                    reason: "there is no such value".to_owned(),
                });
            }
            (None, others) => check_at(&path, root, others, item)?,
        }
    }
    Ok(())
}

/// What a schema says, or the definition that it refers to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str();
    let pointer = reference.and_then(|reference| reference.strip_prefix('#'));
    pointer.map_or(schema, |pointer| {
        let definition = root.pointer(pointer);
        definition.expect("a test looks each reference of the chart's schema up")
    })
}

fn has_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Hands every schema within a schema to `look`, and itself.
    fn visit(schema: &Value, look: &mut impl FnMut(&Value)) {
        look(schema);
        for word in ["items", "additionalProperties"] {
            if schema[word].is_object() {
                visit(&schema[word], look);
            }
        }
        for word in ["properties", "definitions"] {
            for schema in schema[word].as_object().into_iter().flatten() {
                visit(schema.1, look);
            }
        }
    }

    #[test]
    fn every_word_pattern_and_reference_of_the_charts_schema_is_understood() {
        let root = super::super::chart_yaml("values.schema.json").unwrap();
        let mut seen = 0;
        visit(&root, &mut |schema| {
            seen += 1;
            let mut words = schema.as_object().unwrap().keys();
            let unknown = words.find(|word| !WORDS.contains(&&***word) && *word != "definitions");
            assert_eq!(unknown, None, "{schema}");
            assert!(!resolved(&root, schema)["type"].is_null(), "{schema}");
            let not = schema.get("not").and_then(Value::as_object);
            assert!(
                not.is_none_or(|not| not.keys().eq(["enum"]) && schema["description"].is_string()),
                "{schema}"
            );
            if let Some(pattern) = schema["pattern"].as_str() {
                let whole = pattern.starts_with('^') && pattern.ends_with('$');
                assert!(whole && Regex::new(pattern).is_ok(), "{pattern}");
                assert!(schema["description"].is_string(), "{schema}");
            }
        });
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 9},
            "t": {"type": "string", "enum": ["a", "b"]},
            "s": {"type": "string", "minLength": 1},
            "l": {"type": "array", "items": {"type": "string"}},
            "e": {"type": ["integer", "string"]},
            "p": {"type": "string", "pattern": "^[0-9]+s$", "description": "seconds, such as 5s"},
            "x": {"type": "integer", "not": {"enum": [4, 5]}, "description": "neither 4 nor 5"},
            "r": {"type": "object", "additionalProperties": {"$ref": "#/definitions/q"}},
        }, "definitions": {"q": {"type": "number", "minimum": 0}}});
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
            (
                json!({"p": "5m"}),
                "p: it has to be seconds, such as 5s, not \"5m\"",
            ),
            (
                json!({"r": {"a": -0.5}}),
                "r.a: it has to be at least 0, not -0.5",
            ),
            (json!({"x": 5}), "x: it has to be neither 4 nor 5, not 5"),
            (json!({"y": 1}), "y: there is no such value"),
        ] {
            assert_eq!(check(&schema, &value).unwrap_err().to_string(), expected);
        }
        assert_eq!(
            check(
                &schema,
                &json!({"n": 1, "t": "a", "l": [], "e": "x", "p": "5s", "x": 6, "r": {"a": 1.5}})
            ),
            Ok(())
        );
    }
}
