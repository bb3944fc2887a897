//! Values from several places put together as Helm does it.
//! Entry: [`merge`] for files, [`set`] for one `--set` flag, [`set_string`] for one `--set-string`;
//! [`difference`] is what has to be merged to come from one to the other.

use serde_json::{Map, Value};
use thiserror::Error;

/// A `--set` or `--set-string` that cannot be understood; the text begins after the flag's name.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum InvalidSet {
    /// There is no `=`.
    #[error("{0:?}: it has to be key=value")]
    NoValue(String),
    /// Two dots in a row, or one at an end.
    #[error("{0:?}: a part of the key is empty")]
    EmptyKey(String),
    /// `a[x]`.
    #[error("{0:?}: an index of a list has to be a number below {INDEX_MAX}, as in key[0]")]
    Index(String),
}

/// Lists are filled up to the index; a slip of the hand shall not fill the memory.
const INDEX_MAX: usize = 1000;

/// Puts `over` on top of `base`: mappings are merged, everything else is replaced, null deletes.
pub(crate) fn merge(base: &mut Value, over: Value) {
    let Value::Object(over) = over else {
        *base = over;
        return;
    };
    if !base.is_object() {
        *base = Value::Object(Map::new());
    }
    let Some(base) = base.as_object_mut() else {
        return;
    };
    for (key, value) in over {
        if value.is_null() {
            base.shift_remove(&key);
        } else {
            merge(base.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// What [`merge`] has to put on top of `base` to make it `wanted`: an empty mapping when they are equal.
pub(crate) fn difference(base: &Value, wanted: &Value) -> Value {
    let (Value::Object(base), Value::Object(wanted)) = (base, wanted) else {
        return wanted.clone();
    };
    let mut over = Map::new();
    for (key, value) in wanted {
        match base.get(key) {
            Some(old) if old == value => {}
            Some(old) => {
                over.insert(key.clone(), difference(old, value));
            }
            None => {
                over.insert(key.clone(), value.clone());
            }
        }
    }
    for key in base.keys().filter(|key| !wanted.contains_key(*key)) {
        over.insert(key.clone(), Value::Null);
    }
    Value::Object(over)
}

/// Takes out of mappings what is null, and mappings that have nothing else in them.
pub(crate) fn drop_nulls(values: &mut Value) {
    let Value::Object(map) = values else {
        return;
    };
    map.values_mut().for_each(drop_nulls);
    map.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
}

/// Applies one `--set`: `a.b=1,c[0]=x,d={x,y}`. A backslash takes its meaning from the character
/// after it.
///
/// # Errors
/// [`InvalidSet`] names the part that is wrong.
pub(crate) fn set(values: &mut Value, text: &str) -> Result<(), InvalidSet> {
    set_as(values, text, typed)
}

/// Applies one `--set-string`: as [`set`], but every value is a text, `true` and `1` as well.
///
/// # Errors
/// [`InvalidSet`] names the part that is wrong.
pub(crate) fn set_string(values: &mut Value, text: &str) -> Result<(), InvalidSet> {
    set_as(values, text, |text| Value::from(unescaped(text)))
}

fn set_as(values: &mut Value, text: &str, scalar: fn(&str) -> Value) -> Result<(), InvalidSet> {
    for assignment in split(text, ',') {
        let parts = split(&assignment, '=');
        let Some((key, value)) = parts.split_first().filter(|(_, value)| !value.is_empty()) else {
            return Err(InvalidSet::NoValue(assignment));
        };
        merge_at(values, &path(key)?, listed(&value.join("="), scalar));
    }
    Ok(())
}

enum Step {
    Key(String),
    Index(usize),
}

fn path(key: &str) -> Result<Vec<Step>, InvalidSet> {
    let mut steps = Vec::new();
    for part in split(key, '.') {
        let (name, indices) = part.split_once('[').unwrap_or((&part, ""));
        if name.is_empty() {
            return Err(InvalidSet::EmptyKey(key.to_owned()));
        }
        steps.push(Step::Key(unescaped(name)));
        for index in indices.split_terminator('[') {
            let index = index.strip_suffix(']').and_then(|index| index.parse().ok());
            let index = index.filter(|index| *index < INDEX_MAX);
            steps.push(Step::Index(
                index.ok_or_else(|| InvalidSet::Index(key.to_owned()))?,
            ));
        }
    }
    Ok(steps)
}

fn merge_at(values: &mut Value, path: &[Step], new: Value) {
    let Some((step, rest)) = path.split_first() else {
        *values = new;
        return;
    };
    match step {
        Step::Key(key) => {
            if !values.is_object() {
                *values = Value::Object(Map::new());
            }
            let Some(map) = values.as_object_mut() else {
                return;
            };
            if rest.is_empty() && new.is_null() {
                map.shift_remove(key);
            } else {
                merge_at(map.entry(key.as_str()).or_insert(Value::Null), rest, new);
            }
        }
        Step::Index(index) => {
            if !values.is_array() {
                *values = Value::Array(Vec::new());
            }
            let Some(list) = values.as_array_mut() else {
                return;
            };
            if list.len() <= *index {
                list.resize(index + 1, Value::Null);
            }
            merge_at(&mut list[*index], rest, new);
        }
    }
}

/// What is in braces is a list.
fn listed(text: &str, scalar: fn(&str) -> Value) -> Value {
    let items = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let Some(items) = items else {
        return scalar(text);
    };
    split(items, ',')
        .iter()
        .filter(|item| !item.is_empty())
        .map(|item| listed(item, scalar))
        .collect()
}

/// Words and whole numbers have a type; everything else is text.
fn typed(text: &str) -> Value {
    match text {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match text.parse::<i64>() {
            // 007 is a text.
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => Value::from(unescaped(text)),
        },
    }
}

/// Splits at `separator` where neither a backslash nor a brace protects it.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut escaped, mut depth) = (false, 0_usize);
    for c in text.chars() {
        let protected = escaped || depth > 0;
        if c == separator && !protected {
            parts.push(String::new());
            continue;
        }
        match c {
            '{' if !escaped => depth += 1,
            '}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

fn unescaped(text: &str) -> String {
    let mut result = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        result.extend(if c == '\\' {
            characters.next()
        } else {
            Some(c)
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mappings_are_merged_and_null_deletes() {
        let mut values = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 1});
        merge(
            &mut values,
            json!({"a": {"b": 3}, "d": [4], "e": null, "f": {"g": null}}),
        );
        assert_eq!(values, json!({"a": {"b": 3, "c": 2}, "d": [4], "f": {}}));
    }

    #[test]
    fn set_reads_what_helm_reads() {
        for (text, expected) in [
            ("a=1", json!({"a": 1, "m": {"x": 1}})),
            (
                "a.b.c=x,d=true",
                json!({"m": {"x": 1}, "a": {"b": {"c": "x"}}, "d": true}),
            ),
            ("m.y=2", json!({"m": {"x": 1, "y": 2}})),
            ("m.x=null", json!({"m": {}})),
            ("a={x,1}", json!({"m": {"x": 1}, "a": ["x", 1]})),
            ("a={}", json!({"m": {"x": 1}, "a": []})),
            ("a[1].b=x", json!({"m": {"x": 1}, "a": [null, {"b": "x"}]})),
            (r"a\.b=x\,y", json!({"m": {"x": 1}, "a.b": "x,y"})),
            (
                "a=007,b=1.10,c=,d=x=y",
                json!({"m": {"x": 1}, "a": "007", "b": "1.10", "c": "", "d": "x=y"}),
            ),
        ] {
            let mut values = json!({"m": {"x": 1}});
            assert_eq!(set(&mut values, text), Ok(()), "{text}");
            assert_eq!(values, expected, "{text}");
        }
    }

    #[test]
    fn set_string_makes_everything_a_text() {
        let mut values = json!({"n": 1});
        assert_eq!(set_string(&mut values, "n=2,a.b=true,l={1,null}"), Ok(()));
        let expected = json!({"n": "2", "a": {"b": "true"}, "l": ["1", "null"]});
        assert_eq!(values, expected);
        let refused = set_string(&mut values, "a");
        assert_eq!(refused, Err(InvalidSet::NoValue("a".to_owned())));
    }

    #[test]
    fn a_difference_leads_from_one_to_the_other() {
        let base = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 1, "f": {"g": 1}});
        let wanted = json!({"a": {"b": 1, "c": 3}, "d": [1], "f": {}, "h": {"i": 1}});
        let over = difference(&base, &wanted);
        let expected = json!({
            "a": {"c": 3}, "d": [1], "f": {"g": null}, "h": {"i": 1}, "e": null,
        });
        assert_eq!(over, expected);
        let mut merged = base.clone();
        merge(&mut merged, over);
        assert_eq!(merged, wanted);
        assert_eq!(difference(&base, &base), json!({}));
    }

    #[test]
    fn what_is_null_is_dropped_with_what_held_nothing_else() {
        let mut values =
            json!({"a": null, "b": {"c": null}, "d": {"e": 1, "f": null}, "g": [null]});
        drop_nulls(&mut values);
        assert_eq!(values, json!({"d": {"e": 1}, "g": [null]}));
    }

    #[test]
    fn a_set_that_is_none_is_refused() {
        for text in ["", "a", "a..b=1", ".a=1", "a[x]=1", "a[1=1", "a[100000]=1"] {
            assert!(set(&mut json!({}), text).is_err(), "{text}");
        }
    }
}
