//! The functions of Helm that our templates use and the template engine does not have.
//! Entry: [`template`], which makes a template that knows them, and [`with_helpers`], within which
//! it is rendered.

use std::{cell::RefCell, rc::Rc};

use gtmpl_ng::{Context, Func, FuncError, Number, Template, Value};
use linkerd_inject::yaml;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

/// Files with named templates: file name and text.
pub(super) type Helpers = Vec<(String, String)>;

const FUNCTIONS: [(&str, Func); 11] = [
    ("include", include),
    ("toYaml", to_yaml),
    ("nindent", nindent),
    ("indent", indent),
    ("quote", quote),
    ("default", default),
    ("dict", dict),
    ("int64", int64),
    ("sha256sum", sha256sum),
    ("fail", fail),
    (FILES_GET.1, files_get),
];

/// Helm's name of a method, for which the engine has no place, and that of the function in its stead.
const FILES_GET: (&str, &str) = (".Files.Get", "filesGet");

thread_local! {
    /// What `include` looks names up in: functions of the engine have no other way to it.
    static HELPERS: RefCell<Option<Rc<Helpers>>> = const { RefCell::new(None) };
}

/// Makes a template that renders `text`, or else the named template `name` out of `helpers`.
///
/// # Errors
/// Why the text or a helper cannot be parsed.
pub(super) fn template(
    name: &str,
    helpers: &Helpers,
    text: Option<&str>,
) -> Result<Template, String> {
    let mut template = Template::with_name(name);
    template.add_funcs(&FUNCTIONS);
    let text = text.map(|text| text.replace(FILES_GET.0, FILES_GET.1));
    let files = helpers
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()));
    for (file, text) in files.chain(text.as_deref().map(|text| (name, text))) {
        template
            .add_template(file, text)
            .map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(template)
}

/// Runs `render` with `helpers` as what `include` finds.
pub(super) fn with_helpers<T>(helpers: &Rc<Helpers>, render: impl FnOnce() -> T) -> T {
    let before = HELPERS.replace(Some(Rc::clone(helpers)));
    let result = render();
    HELPERS.set(before);
    result
}

/// A JSON value as the engine's own.
pub(super) fn to_template_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(to_template_value).collect()),
        Json::Object(map) => Value::Map(
            map.iter()
                .map(|(key, value)| (key.clone(), to_template_value(value)))
                .collect(),
        ),
        Json::Number(number) => Value::Number(match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Number::unsigned(value),
            (None, Some(value)) => Number::signed(value),
            (None, None) => Number::float(number.as_f64().unwrap_or(f64::NAN)),
        }),
    }
}

/// The engine's value as JSON, keys in order of the alphabet as Helm writes them.
fn to_json(value: &Value) -> Result<Json, FuncError> {
    Ok(match value {
        Value::NoValue | Value::Nil => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::String(text) => Json::from(text.as_str()),
        Value::Array(items) => Json::Array(
            items
                .iter()
                .map(to_json)
                .collect::<Result<_, FuncError>>()?,
        ),
        Value::Object(map) | Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries
                .into_iter()
                .map(|(key, value)| Ok((key.clone(), to_json(value)?)));
            Json::Object(entries.collect::<Result<_, FuncError>>()?)
        }
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Json::from(value),
            (None, Some(value), _) => Json::from(value),
            (None, None, value) => Json::from(value),
        },
        Value::Function(_) => return Err(error("toYaml", "a function has no YAML form")),
    })
}

/// `include "name" .`: what the named template renders to.
fn include(arguments: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(name), dot] = arguments else {
        return Err(error("include", "wants a name and a value"));
    };
    let helpers = HELPERS.with_borrow(Clone::clone);
    let helpers = helpers.ok_or_else(|| error("include", "there are no named templates"))?;
    let failed = |reason: &dyn std::fmt::Display| error("include", &format!("{name:?}: {reason}"));
    let template = template(name, &helpers, None).map_err(|reason| failed(&reason))?;
    let text = template
        .render(&Context::from(dot.clone()))
        .map_err(|reason| failed(&reason))?;
    Ok(Value::String(text))
}

fn to_yaml(arguments: &[Value]) -> Result<Value, FuncError> {
    let [value] = arguments else {
        return Err(error("toYaml", "wants one value"));
    };
    Ok(Value::String(
        yaml::to_kube_string(&to_json(value)?)
            .trim_end_matches('\n')
            .to_owned(),
    ))
}

fn nindent(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(format!(
        "\n{}",
        indented("nindent", arguments)?
    )))
}

fn indent(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(indented("indent", arguments)?))
}

fn indented(function: &'static str, arguments: &[Value]) -> Result<String, FuncError> {
    let [Value::Number(width), Value::String(text)] = arguments else {
        return Err(error(function, "wants a number and a text"));
    };
    let width = width.as_u64().and_then(|width| usize::try_from(width).ok());
    let width = width.ok_or_else(|| error(function, "wants a whole number"))?;
    let pad = " ".repeat(width);
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn quote(arguments: &[Value]) -> Result<Value, FuncError> {
    let given = arguments
        .iter()
        .filter(|value| !matches!(value, Value::NoValue | Value::Nil));
    let quoted: Vec<String> = given
        .map(|value| Json::from(value.to_string()).to_string())
        .collect();
    Ok(Value::String(quoted.join(" ")))
}

/// `default fallback value`: the value unless it is empty.
fn default(arguments: &[Value]) -> Result<Value, FuncError> {
    match arguments {
        [fallback] => Ok(fallback.clone()),
        [fallback, value] if is_empty(value) => Ok(fallback.clone()),
        [_, value] => Ok(value.clone()),
        _ => Err(error("default", "wants a fallback and a value")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::NoValue | Value::Nil => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) | Value::Map(map) => map.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Function(_) => false,
    }
}

fn dict(arguments: &[Value]) -> Result<Value, FuncError> {
    let pairs = arguments.chunks(2).map(|pair| match pair {
        [Value::String(key), value] => Ok((key.clone(), value.clone())),
        _ => Err(error("dict", "wants pairs of a name and a value")),
    });
    Ok(Value::Map(pairs.collect::<Result<_, FuncError>>()?))
}

/// Helm reads every number as a float; this makes it whole again, and here it does nothing else.
fn int64(arguments: &[Value]) -> Result<Value, FuncError> {
    match arguments {
        [Value::Number(number)] if number.as_i64().is_some() => Ok(arguments[0].clone()),
        _ => Err(error("int64", "wants one whole number")),
    }
}

fn sha256sum(arguments: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(text)] = arguments else {
        return Err(error("sha256sum", "wants one text"));
    };
    let digest = Sha256::digest(text.as_bytes());
    Ok(Value::String(
        digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

/// `.Files.Get "path"`: a file of the chart. Helm has an empty text for one that is not there.
fn files_get(arguments: &[Value]) -> Result<Value, FuncError> {
    let [Value::String(path)] = arguments else {
        return Err(error(FILES_GET.0, "wants a path in the chart"));
    };
    let file = super::CHART.get_file(path);
    let text = file.and_then(include_dir::File::contents_utf8);
    let text = text.ok_or_else(|| error(FILES_GET.0, &format!("there is no {path:?}")))?;
    Ok(Value::String(text.to_owned()))
}

/// `fail "text"`: nothing is rendered, and the user is told why.
fn fail(arguments: &[Value]) -> Result<Value, FuncError> {
    match arguments {
        [Value::String(reason)] => Err(FuncError::Generic(reason.clone())),
        _ => Err(error("fail", "wants a text")),
    }
}

fn error(function: &'static str, reason: &str) -> FuncError {
    FuncError::Generic(format!("{function}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(text: &str) -> Result<String, String> {
        let helpers = Rc::new(vec![(
            "h.tpl".to_owned(),
            r#"{{ define "greet" }}hello {{ .name }}{{ end }}"#.to_owned(),
        )]);
        let top = json!({"n": 3, "list": [1, "on"], "map": {"b": 1, "a": "x"}, "none": ""});
        let template = template("t", &helpers, Some(text))?;
        with_helpers(&helpers, || {
            template.render(&Context::from(to_template_value(&top)))
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn functions_answer_as_helms_do() {
        for (text, expected) in [
            (r#"{{ include "greet" (dict "name" "you") }}"#, "hello you"),
            (
                r#"{{ include "greet" (dict "name" "you") | nindent 2 }}"#,
                "\n  hello you",
            ),
            (r#"{{ toYaml .map | indent 1 }}"#, " a: x\n b: 1"),
            (r#"{{ toYaml .list }}"#, "- 1\n- \"on\""),
            (r#"{{ quote .n "a\"b" }}"#, r#""3" "a\"b""#),
            (
                r#"{{ .none | default "x" }}{{ .missing | default "y" }}{{ .n | default 4 }}"#,
                "xy3",
            ),
            (r#"{{ int64 .n }}"#, "3"),
            (
                r#"{{ sha256sum "abc" }}"#,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                r#"{{ .Files.Get ".helmignore" | indent 1 }}"#,
                " .git/\n .DS_Store\n *.swp\n *.bak\n *.orig\n *~\n ",
            ),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_template_that_fails_says_why() {
        let text = r#"{{ if eq .n 3 }}{{ fail "n is 3" }}{{ end }}"#;
        let error = rendered(text).unwrap_err();
        assert!(error.ends_with("n is 3"), "{error}");
    }

    #[test]
    fn wrong_arguments_are_errors() {
        for text in [
            r#"{{ include "nobody" . }}"#,
            r#"{{ include "greet" }}"#,
            r#"{{ dict "a" }}"#,
            r#"{{ int64 "3" }}"#,
            r#"{{ nindent "x" "y" }}"#,
            r#"{{ unknown }}"#,
            r#"{{ fail 3 }}"#,
            r#"{{ .Files.Get "nowhere.json" }}"#,
        ] {
            assert!(rendered(text).is_err(), "{text}");
        }
    }
}
