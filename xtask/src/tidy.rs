//! House rules that no compiler checks: dependency levels, banned crates, module headers.
//! Entry: [`tidy`]. Each broken rule is one line that says where and what to do.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::command;

/// Libraries that other crates of ours may use. Everything else is a process and stands alone.
const LIBRARIES: [&str; 6] = [
    "linkerd-names",
    "linkerd-proto",
    "linkerd-issuer",
    "linkerd-inject",
    "linkerd-process",
    "linkerd-kubernetes",
];

/// Crates that must not be reached by a product crate, and why.
const BANNED: [(&str, &str); 6] = [
    ("ring", "one crypto library: aws-lc-rs"),
    ("openssl", "one crypto library: aws-lc-rs"),
    ("openssl-sys", "one crypto library: aws-lc-rs"),
    ("native-tls", "one TLS library: rustls"),
    ("rustls-pemfile", "unmaintained; rustls-pki-types reads PEM"),
    ("serde_yml", "unsound"),
];

/// What passes through the proxy, and the test for it.
const PROMISES: &str = "docs/protocols.md";

/// These know nothing of Kubernetes.
const WITHOUT_KUBERNETES: [&str; 2] = ["linkerd-proxy", "linkerd-init"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// Checks every rule in the repository at `root`.
///
/// # Errors
/// Lists each broken rule on a line of its own.
pub(crate) fn tidy(root: &Path) -> Result<()> {
    let mut problems = dependency_problems(&metadata(root)?);
    problems.extend(crate_problems(root)?);
    let files = tracked_files(root)?;
    problems.extend(promise_problems(root, &files)?);
    for file in files {
        // A file that is deleted but still tracked has no contents to check.
        let Ok(text) = fs::read_to_string(root.join(&file)) else {
            continue;
        };
        problems.extend(file_problems(&file, &text));
    }
    if problems.is_empty() {
        eprintln!("tidy: every rule holds");
        return Ok(());
    }
    bail!(
        "{} rules are broken:\n{}",
        problems.len(),
        problems.join("\n")
    )
}

fn metadata(root: &Path) -> Result<Metadata> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata
        .args(["metadata", "--format-version=1"])
        .current_dir(root);
    let text = command::output(&mut metadata)?;
    serde_json::from_str(&text).context("cargo metadata printed something unexpected")
}

fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let mut files = Command::new("git");
    files
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root);
    Ok(command::output(&mut files)?
        .lines()
        .map(str::to_owned)
        .collect())
}

fn dependency_problems(metadata: &Metadata) -> Vec<String> {
    let names: HashMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|p| (p.id.as_str(), p.name.as_str()))
        .collect();
    let edges: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                .map(|d| d.pkg.as_str());
            (node.id.as_str(), normal.collect())
        })
        .collect();
    let mut problems = Vec::new();
    for member in &metadata.workspace_members {
        let name = names[member.as_str()];
        if !name.starts_with("linkerd-") {
            continue;
        }
        for dependency in &edges[member.as_str()] {
            let other = names[dependency];
            if other.starts_with("linkerd-") && !LIBRARIES.contains(&other) {
                problems.push(format!(
                    "{name} depends on {other}: processes meet in proto/, objects and files only"
                ));
            }
        }
    }
    problems
}

/// Banned crates, and crates that know Kubernetes where they must not. `cargo tree` tells what is
/// really compiled in; `cargo metadata` also lists what only a feature that is off would bring.
fn crate_problems(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let all = compiled_in(root, &["--workspace"])?;
    for (banned, why) in BANNED {
        if all.contains(banned) {
            problems.push(format!(
                "{banned} is in the tree ({why}): cargo tree -i {banned}"
            ));
        }
    }
    for name in WITHOUT_KUBERNETES {
        let reached = compiled_in(root, &["--package", name])?;
        for other in ["kube", "k8s-openapi"] {
            if reached.contains(other) {
                problems.push(format!(
                    "{name} reaches {other}: it knows nothing of Kubernetes"
                ));
            }
        }
    }
    Ok(problems)
}

/// Names of all crates that are compiled into the selected packages, without tests.
fn compiled_in(root: &Path, selection: &[&str]) -> Result<BTreeSet<String>> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--edges=normal", "--prefix=none", "--format={p}"])
        .args(selection);
    let text = command::output(tree.current_dir(root))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Files and tests that [`PROMISES`] names and that are not there.
fn promise_problems(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let promises = fs::read_to_string(root.join(PROMISES)).context(PROMISES)?;
    let mut code = String::new();
    for file in files.iter().filter(|file| file.contains("/tests/")) {
        if file.ends_with(".rs") {
            code += &fs::read_to_string(root.join(file)).unwrap_or_default();
        }
    }
    Ok(missing_tests(&promises, files, &code))
}

/// The names in the last column of the tables in `promises`: files, and functions or the beginning of
/// some (`name_…`), in backticks.
fn missing_tests(promises: &str, files: &[String], code: &str) -> Vec<String> {
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|line| line.trim_end_matches('|').rsplit('|').next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_there = |name: &str| match name.strip_suffix(".rs") {
        Some(_) => files
            .iter()
            .any(|file| format!("/{file}").ends_with(&format!("/{name}"))),
        None => match name.strip_suffix('…') {
            Some(begin) => code.contains(&format!("fn {begin}")),
            None => code.contains(&format!("fn {name}(")),
        },
    };
    names
        .filter(|name| !is_there(name))
        .map(|name| format!("{PROMISES}: there is no test {name}"))
        .collect()
}

fn file_problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if path.ends_with(".rs") && !text.starts_with("//! ") {
        problems.push(format!(
            "{path}: begin with a `//!` header that says what the file is for"
        ));
    }
    if path.ends_with("Cargo.toml") && text.contains("[package]") {
        if !text.contains("[lints]\nworkspace = true") {
            problems.push(format!("{path}: add `[lints] workspace = true`"));
        }
        if !text.contains("version.workspace = true") {
            problems.push(format!(
                "{path}: versions stand in the root Cargo.toml only"
            ));
        }
    }
    // Built from parts so that this file does not break its own rule.
    let (todo, ignore) = (concat!("TO", "DO"), concat!("#[ig", "nore"));
    for (number, line) in text.lines().enumerate() {
        if !is_code(path) {
            break;
        }
        if line.contains(todo) && !line.contains(&format!("{todo}(#")) {
            problems.push(format!(
                "{path}:{}: write {todo}(#issue) or do it",
                number + 1
            ));
        }
        if line.contains(ignore) {
            problems.push(format!(
                "{path}:{}: an ignored test tells nobody anything",
                number + 1
            ));
        }
    }
    problems
}

fn is_code(path: &str) -> bool {
    [".rs", ".go", ".proto", ".sh", ".ts"]
        .iter()
        .any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_named() {
        assert_eq!(file_problems("a/b.rs", "use std::fs;\n").len(), 1);
        assert!(file_problems("a/b.rs", "//! Reads.\n").is_empty());
    }

    #[test]
    fn a_promise_without_its_test_is_named() {
        let promises = "| promise | test |\n|---|---|\n| `x` | `a.rs`: `there`, `beg…` |\n";
        let files = ["crates/a/tests/a.rs".to_owned()];
        let code = "fn there() {} fn begin_one() {}";
        assert!(missing_tests(promises, &files, code).is_empty());
        assert_eq!(missing_tests(promises, &files, "fn there() {}").len(), 1);
        assert_eq!(missing_tests(promises, &[], "").len(), 3);
    }

    #[test]
    fn a_manifest_without_the_shared_lints_is_named() {
        let manifest = "[package]\nversion.workspace = true\n";
        assert_eq!(file_problems("a/Cargo.toml", manifest).len(), 1);
    }

    #[test]
    fn one_process_may_not_depend_on_another() {
        let metadata = serde_json::from_value(serde_json::json!({
            "packages": [{"id": "a", "name": "linkerd-ca"}, {"id": "b", "name": "linkerd-api"}],
            "workspace_members": ["a", "b"],
            "resolve": {"nodes": [
                {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
                {"id": "b", "deps": []},
            ]},
        }))
        .expect("well formed");
        assert_eq!(dependency_problems(&metadata).len(), 1);
    }
}
