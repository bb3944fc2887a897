//! Grafana's dashboards in the chart: they are installed when asked for, Grafana can read them, and they show no
//! metric that `docs/metrics.md` does not have. That Prometheus answers each expression is a test of the cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde::Deserialize as _;
use serde_json::{Value, json};

const DASHBOARDS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../charts/linkerd/dashboards"
);
const METRICS: &str = include_str!("../../../docs/metrics.md");

/// Variables that Grafana itself has; the last two are those of links.
const BUILT_IN: [&str; 4] = ["__rate_interval", "__range", "__value", "__url_time_range"];

/// The files by name without extension.
fn files() -> BTreeMap<String, String> {
    let files = fs::read_dir(DASHBOARDS).expect("the folder");
    let files = files.map(|file| {
        let path = file.expect("a file").path();
        let name = path.file_stem().and_then(|it| it.to_str()).expect("a name");
        (name.to_owned(), fs::read_to_string(&path).expect("text"))
    });
    files.collect()
}

fn dashboards() -> BTreeMap<String, Value> {
    let files = files().into_iter();
    files
        .map(|(name, text)| {
            let dashboard = serde_json::from_str(&text);
            let dashboard = dashboard.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, dashboard)
        })
        .collect()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The queries of the panels.
fn expressions(dashboard: &Value) -> impl Iterator<Item = &str> {
    let panels = array(dashboard, "panels").iter();
    let targets = panels.flat_map(|panel| array(panel, "targets"));
    targets.map(|target| text(target, "expr"))
}

/// The queries behind the variables: `label_values(<this>, label)`.
fn variable_expressions(dashboard: &Value) -> impl Iterator<Item = &str> {
    let variables = array(&dashboard["templating"], "list").iter();
    variables.filter_map(|variable| {
        let query = variable["query"]["query"].as_str()?;
        let inner = query.strip_prefix("label_values(")?;
        inner.rsplit_once(", ").map(|(expression, _)| expression)
    })
}

fn install(flags: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .arg("install")
        .args(flags)
        .output()
        .expect("the program starts");
    let manifests = String::from_utf8(output.stdout).expect("UTF-8");
    serde_yaml::Deserializer::from_str(&manifests)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|object| !object["metadata"]["labels"]["grafana_dashboard"].is_null())
        .collect()
}

#[test]
fn each_file_is_a_config_map_that_grafanas_sidecar_finds() {
    assert_eq!(install(&[]), Vec::<Value>::new());
    let mut installed = BTreeMap::new();
    for object in install(&["--set=grafana.dashboards.enabled=true"]) {
        assert_eq!(object["kind"], "ConfigMap");
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["grafana_dashboard"], "1");
        // By this label `uninstall` and `prune` find it.
        assert_eq!(labels["linkerd.io/control-plane-ns"], "linkerd");
        let name = text(&object["metadata"], "name");
        let (key, content) = object["data"]
            .as_object()
            .and_then(|data| data.iter().next())
            .expect("a file");
        assert_eq!(key, &format!("{name}.json"));
        let name = name.strip_prefix("linkerd-grafana-").expect("a prefix");
        installed.insert(name.to_owned(), content.as_str().expect("text").to_owned());
    }
    assert!(installed == files(), "{:?}", installed.keys());
}

#[test]
fn dashboards_are_of_a_schema_of_today_and_have_addresses_of_their_own() {
    let dashboards = dashboards();
    assert!(dashboards.len() >= 5, "{:?}", dashboards.keys());
    for (name, dashboard) in &dashboards {
        assert_eq!(text(dashboard, "uid"), format!("linkerd-{name}"));
        assert!(dashboard["schemaVersion"].as_u64() >= Some(38), "{name}");
        assert!(text(dashboard, "title").starts_with("Linkerd / "), "{name}");
    }
}

#[test]
fn panels_have_their_place_and_their_name() {
    for (name, dashboard) in dashboards() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        for panel in array(&dashboard, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64()), "{name}: {title}");
            assert!(titles.insert(title), "{name}: {title} is there twice");
            let place = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
            assert!(x + w <= 24, "{name}: {title}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name}: {title} covers another panel");
            }
            let refs: BTreeSet<&str> = array(panel, "targets")
                .iter()
                .map(|target| text(target, "refId"))
                .collect();
            assert_eq!(refs.len(), array(panel, "targets").len(), "{name}: {title}");
            assert_eq!(refs.is_empty(), panel["type"] == "row", "{name}: {title}");
        }
    }
}

#[test]
fn the_data_source_can_be_chosen_and_every_variable_is_there() {
    for (name, dashboard) in dashboards() {
        let variables = array(&dashboard["templating"], "list");
        assert_eq!(variables[0]["type"], "datasource", "{name}");
        let known: BTreeSet<&str> = variables.iter().map(|it| text(it, "name")).collect();
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let panels = array(&dashboard, "panels").iter();
        let with_source = panels
            .filter(|panel| panel["type"] != "row")
            .flat_map(|panel| array(panel, "targets").iter().chain([panel]))
            .chain(variables.iter().filter(|it| it["type"] == "query"));
        for object in with_source {
            assert_eq!(object["datasource"], source, "{name}: {object}");
        }
        let text = dashboard.to_string();
        let used: BTreeSet<&str> = text
            .split('$')
            .skip(1)
            .map(|rest| {
                let rest = rest.trim_start_matches('{');
                let end = rest.find(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
                &rest[..end.unwrap_or(rest.len())]
            })
            // Grafana's name for all values of a variable.
            .filter(|name| *name != "__all")
            .collect();
        for variable in &used {
            assert!(
                known.contains(variable) || BUILT_IN.contains(variable),
                "{name}: ${variable}"
            );
        }
        assert!(known.is_subset(&used), "{name}: {known:?} {used:?}");
    }
}

#[test]
fn every_metric_is_one_that_the_documentation_lists() {
    let documented = documented();
    for (name, dashboard) in dashboards() {
        let expressions = expressions(&dashboard).chain(variable_expressions(&dashboard));
        for expression in expressions {
            let metrics = metrics(expression);
            assert!(!metrics.is_empty(), "{name}: {expression}");
            for metric in metrics {
                let base = metric.strip_suffix("_bucket").unwrap_or(metric);
                let listed = documented
                    .iter()
                    .any(|known| match known.strip_suffix('*') {
                        Some(prefix) => base.starts_with(prefix),
                        None => base == known,
                    });
                assert!(listed, "{name}: {metric} in {expression}");
            }
        }
    }
}

/// What stands in the page as code: `a{label}` is `a`, and `a_{b,c}` are `a_b` and `a_c`.
fn documented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for code in METRICS.split('`').skip(1).step_by(2) {
        match code.split_once('{') {
            Some((prefix, rest)) if prefix.ends_with('_') => {
                let ends = rest.trim_end_matches('}').split(',');
                names.extend(ends.map(|end| format!("{prefix}{end}")));
            }
            Some((name, _)) => drop(names.insert(name.to_owned())),
            None => drop(names.insert(code.to_owned())),
        }
    }
    names
}

/// The metrics in an expression: its words that are no function, no label and not of the language.
fn metrics(expression: &str) -> BTreeSet<&str> {
    const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
    const BEFORE_LABELS: [&str; 6] = [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
    ];
    let is_word = |it: char| it.is_ascii_alphanumeric() || "_:".contains(it);
    let after = |text, end| str::split_once(text, end).map_or("", |(_, after)| after);
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(begin) = rest.find(|it| is_word(it) || it == '{' || it == '[') {
        rest = &rest[begin..];
        if rest.starts_with('{') {
            rest = after(rest, '}');
            continue;
        }
        if rest.starts_with('[') {
            rest = after(rest, ']');
            continue;
        }
        let end = rest.find(|it| !is_word(it)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let next = behind.trim_start();
        if BEFORE_LABELS.contains(&word) {
            rest = after(behind, ')');
            continue;
        }
        rest = behind;
        let is_function = next.starts_with('(')
            || BEFORE_LABELS
                .iter()
                .any(|it| next.starts_with(&format!("{it} (")));
        let is_number = word.starts_with(|it: char| it.is_ascii_digit());
        if !is_function && !is_number && !OPERATORS.contains(&word) {
            found.insert(word);
        }
    }
    found
}

#[test]
fn metrics_are_told_from_the_other_words_of_an_expression() {
    for (expression, expected) in [
        ("up", &["up"][..]),
        (
            r#"sum by (a, b) (rate(c_total{d="e", f!=""}[$__rate_interval])) > 1e9"#,
            &["c_total"],
        ),
        (
            "count(a unless on (ns, pod) b) or time() - min(c)",
            &["a", "b", "c"],
        ),
        ("topk(10, sum(a) by (b)) or vector(0)", &["a"]),
    ] {
        let found: Vec<&str> = metrics(expression).into_iter().collect();
        assert_eq!(found, expected, "{expression}");
    }
    assert!(documented().contains("destination_pods"));
    assert!(documented().contains("linkerd_ca_workloads"));
    assert!(Path::new(DASHBOARDS).is_dir());
}
