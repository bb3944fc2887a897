//! The values of the chart: each one is explained in `values.yaml`, is in the table of the chart's README as it is
//! there, and is known to the schema. `UPDATE_EXPECT=1 cargo test` rewrites the table.

use std::{collections::BTreeMap, fs, path::PathBuf};

use expect_test::expect_file;
use serde_json::Value;

/// What stands before the table and after it.
const TABLE: [&str; 2] = ["## Values\n", "\n## "];

/// What begins the explanation of a value; its other lines begin as every comment does.
const EXPLANATION: &str = "# -- ";

fn chart(file: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/linkerd");
    fs::read_to_string(folder.join(file)).expect("a file of the chart")
}

/// The values that a text of YAML explains, in their order: the path of each, and the explanation.
fn explained(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // The mappings that the line is in, with their indentation.
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut explanation: Option<String> = None;
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(begin) = content.strip_prefix(EXPLANATION) {
            explanation = Some(begin.to_owned());
        } else if let Some(more) = content.strip_prefix("# ") {
            explanation = explanation.map(|begin| format!("{begin} {more}"));
        } else if let Some((key, _)) = content.split_once(':') {
            let indentation = line.len() - content.len();
            path.retain(|(outer, _)| *outer < indentation);
            path.push((indentation, key));
            let keys: Vec<&str> = path.iter().map(|(_, key)| *key).collect();
            found.extend(explanation.take().map(|text| (keys.join("."), text)));
        } else {
            explanation = None;
        }
    }
    found
}

/// The paths of what is no mapping, or is an empty one.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object() {
        Some(values) if !values.is_empty() => {
            for (key, value) in values {
                leaves(&format!("{path}.{key}"), value, found);
            }
        }
        _ => found.push(path.trim_start_matches('.').to_owned()),
    }
}

/// The value at a path.
fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |value, key| &value[key])
}

/// What the schema says about the value at a path.
fn schema_of<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(schema, |schema, key| &schema["properties"][key])
}

/// The types that a value may have.
fn types(schema: &Value) -> String {
    match &schema["type"] {
        Value::Array(types) => {
            let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
            types.join(" or ")
        }
        one => one.as_str().expect("a type").to_owned(),
    }
}

/// The table of the README.
fn table(values: &Value, schema: &Value, explained: &[(String, String)]) -> String {
    let mut table = "| value | type | default | what |\n|---|---|---|---|\n".to_owned();
    for (path, explanation) in explained {
        let (types, default) = (types(schema_of(schema, path)), at(values, path));
        let explanation = explanation.replace('|', "\\|");
        table += &format!("| `{path}` | {types} | `{default}` | {explanation} |\n");
    }
    table
}

#[test]
fn the_readme_has_a_table_of_all_values() {
    let text = chart("values.yaml");
    let values = serde_yaml::from_str(&text).expect("YAML");
    let schema = serde_json::from_str(&chart("values.schema.json")).expect("JSON");
    let readme = chart("README.md");
    let [before, after] = TABLE;
    let (begin, rest) = readme.split_once(before).expect("a place for the table");
    let (introduction, rest) = rest.split_once("| value ").unwrap_or((rest, ""));
    let end = rest.find(after).map_or("", |at| &rest[at..]);
    let table = table(&values, &schema, &explained(&text));
    let expected = format!("{begin}{before}{introduction}{table}{end}");
    expect_file!["../../../charts/linkerd/README.md"].assert_eq(&expected);
}

#[test]
fn every_value_is_explained() {
    let text = chart("values.yaml");
    let values: Value = serde_yaml::from_str(&text).expect("YAML");
    let explained: BTreeMap<_, _> = explained(&text).into_iter().collect();
    let mut found = Vec::new();
    leaves("", &values, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for leaf in found {
        // Of a mapping such as `resources` the whole is explained.
        let mut parts = leaf.match_indices('.').map(|(end, _)| &leaf[..end]);
        let whole = parts.any(|part| explained.contains_key(part));
        assert!(
            whole || explained.contains_key(&leaf),
            "values.yaml: {leaf} has no line that begins with {EXPLANATION:?}"
        );
    }
    for path in explained.keys() {
        assert!(
            !at(&values, path).is_null(),
            "values.yaml: {path}: {values}"
        );
    }
}

#[test]
fn the_schema_knows_the_values_and_no_others() {
    fn known(path: &str, schema: &Value, found: &mut Vec<String>) {
        match schema["properties"].as_object() {
            Some(properties) => {
                for (key, schema) in properties {
                    known(&format!("{path}.{key}"), schema, found);
                }
            }
            None => found.push(path.trim_start_matches('.').to_owned()),
        }
    }
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).expect("JSON");
    let mut found = Vec::new();
    known("", &schema, &mut found);
    // Helm gives it to every chart.
    found.retain(|path| path != "global");
    found.sort();
    let mut explained: Vec<String> = explained(&chart("values.yaml"))
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    explained.sort();
    assert_eq!(found, explained);
}

#[test]
fn an_explanation_belongs_to_the_key_after_it() {
    let text = "# About a.\na:\n  # -- One,\n  # two.\n  b: 1\n  c: 2\n\n# -- Lost.\n\n# -- d:\nd: {e: 1}\n\
                f:\n  # -- All.\n  g:\n    h: x\n";
    let pair = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    assert_eq!(
        explained(text),
        [
            pair("a.b", "One, two."),
            pair("d", "d:"),
            pair("f.g", "All.")
        ]
    );
}
