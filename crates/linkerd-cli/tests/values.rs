//! The values of the chart: each one is explained in `values.yaml`, is in the table of the chart's README as it is
//! there, and is known to the schema. `UPDATE_EXPECT=1 cargo test` rewrites the table.

mod common;
mod examples;

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use examples::{Example, Kind};
use expect_test::expect_file;
use linkerd_inject::options;
use linkerd_issuer::lifetime;
use serde_json::Value;

/// What stands before the table and after it.
const TABLE: [&str; 2] = ["## Values\n", "\n## "];

/// What begins the explanation of a value; its other lines begin as every comment does.
const EXPLANATION: &str = "# -- ";

/// How a process reads a text, as far as it says so without a cluster: whether it can.
type Reads = fn(&str) -> bool;

/// What reads the values.
const READERS: [(&str, Reads); 9] = [
    ("ca.leafLifetime", |text| lifetime::parse(text).is_ok()),
    ("proxy.bindTimeout", |text| {
        options::bind_timeout(text).is_ok()
    }),
    ("proxy.logLevel", |text| options::log_filter(text).is_ok()),
    ("proxy.image", |text| options::image(text).is_ok()),
    ("proxy.initImage", |text| options::image(text).is_ok()),
    ("proxy.skipInboundPorts", |text| {
        options::port_ranges(text).is_ok()
    }),
    ("proxy.skipOutboundPorts", |text| {
        options::port_ranges(text).is_ok()
    }),
    ("image.registry", |text| options::registry(text).is_ok()),
    ("image.tag", |text| {
        text.is_empty() || options::version(text).is_ok()
    }),
];

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
fn schema_of<'a>(root: &'a Value, path: &str) -> &'a Value {
    let keys = path.split('.');
    let schema = keys.fold(root, |schema, key| &schema["properties"][key]);
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(&reference[1..]).expect("a definition"),
        None => schema,
    }
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

/// What `linkerd install` says on stdout and stderr with these values.
fn install(values: &str) -> [String; 2] {
    let mut linkerd = Command::new(env!("CARGO_BIN_EXE_linkerd"));
    linkerd.args(["install", "--values=-"]).env_clear();
    let output = common::run(&mut linkerd, values);
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn wrong_values_are_refused_and_named() {
    for round in &examples::rounds()[0] {
        let [stdout, stderr] = install(&examples::file(round));
        let warned =
            stderr.starts_with("Warning: ca.leafLifetime is ") && stderr.lines().count() == 1;
        assert!(
            stdout.len() > 1000 && (stderr.is_empty() || warned),
            "{round:?}: {stderr}"
        );
    }
    for Example { path, kind, value } in examples::read() {
        if kind == Kind::Good {
            continue;
        }
        let [stdout, stderr] = install(&examples::file([(&path, &value)]));
        let named = stderr.starts_with(&format!("Error: values: {path}"));
        assert!(named && stdout.is_empty(), "{path}: {value}: {stderr}");
    }
}

#[test]
fn the_schema_takes_what_the_processes_read() {
    let mut seen = 0;
    for Example { path, kind, value } in examples::read() {
        let reader = READERS.iter().find(|(wanted, _)| *wanted == path);
        if let (Some((_, reads)), Some(text)) = (reader, value.as_str()) {
            assert_eq!(reads(text), kind != Kind::Bad, "{path}: {text:?}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

/// `PROMETHEUS_BIN` is the program of Debian; without it Prometheus is not asked.
#[test]
fn the_schema_takes_the_durations_that_prometheus_reads() {
    let Some(prometheus) = env::var_os("PROMETHEUS_BIN") else {
        return;
    };
    for Example { path, kind, value } in examples::read() {
        let Some(text) = value.as_str().filter(|_| path == "prometheus.retention") else {
            continue;
        };
        // It reads its flags first, and ends because there is no configuration.
        let output = Command::new(&prometheus)
            .arg(format!("--storage.tsdb.retention.time={text}"))
            .arg("--config.file=/nonexistent")
            .output()
            .expect("Prometheus starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let read = stderr.contains("/nonexistent");
        assert_eq!(read, kind != Kind::Bad, "{text:?}: {stderr}");
    }
}

#[test]
fn every_value_has_examples_and_every_text_bad_ones() {
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).expect("JSON");
    for (path, _) in explained(&chart("values.yaml")) {
        let mut examples = examples::read().into_iter();
        let bad = examples.any(|example| example.path == path && example.kind == Kind::Bad);
        let boolean = types(schema_of(&schema, &path)) == "boolean";
        assert!(bad || boolean, "{path}");
    }
}

#[test]
fn names_that_do_not_exist_are_refused_at_every_level() {
    let mut mappings: Vec<String> = explained(&chart("values.yaml"))
        .into_iter()
        .map(|(path, _)| {
            path.rsplit_once('.')
                .map_or("", |(mapping, _)| mapping)
                .to_owned()
        })
        .collect();
    mappings.dedup();
    assert!(mappings.len() > 10, "{mappings:?}");
    for mapping in mappings {
        let path = format!("{mapping}.slip");
        let path = path.trim_start_matches('.');
        let [_, stderr] = install(&examples::file([(&path.to_owned(), &Value::from(1))]));
        assert_eq!(
            stderr,
            format!("Error: values: {path}: there is no such value\n")
        );
    }
}
