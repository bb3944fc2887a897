//! `docs/metrics.md` against the processes: what they show is there, with its labels, and what is there is in them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{Documented, Emojivoto, Namespace, eventually, in_namespace};

/// The processes of the control plane, and the ports of their metrics.
const CONTROL_PLANE: [(&str, u16); 4] = [
    ("linkerd-ca", 9990),
    ("linkerd-destination", 9991),
    ("linkerd-api", 9992),
    ("linkerd-injector", 9993),
];
const PROXY: u16 = 4191;

#[test]
fn what_the_processes_show_is_documented() -> Result<()> {
    in_namespace("metrics", |namespace| {
        let documented = Documented::read()?;
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        // One vote in seven fails, by its gRPC status.
        eventually("a failed request", || {
            let text = namespace.proxy_metrics("voting")?;
            let failed = |line: &str| {
                line.starts_with("response_total{") && line.contains("classification=\"failure\"")
            };
            ensure!(text.lines().any(failed), "{text}");
            Ok(())
        })?;
        for app in Emojivoto::DEPLOYMENTS {
            let text = namespace.proxy_metrics(app)?;
            documented.check("linkerd-proxy", &text).context(app)?;
        }
        let plane = Namespace {
            cluster: namespace.cluster.clone(),
            name: namespace.cluster.control_plane_namespace.clone(),
        };
        for (process, port) in CONTROL_PLANE {
            let pod = plane.component(process)?;
            documented.check(process, &plane.metrics(&pod, port)?)?;
            documented.check("linkerd-proxy", &plane.metrics(&pod, PROXY)?)?;
        }
        Ok(())
    })
}

/// What is shown rarely, or only by what is not installed here, is at least in the code.
#[test]
fn what_is_documented_is_in_the_code() {
    for (process, metrics) in Documented::read().unwrap().0 {
        let source = source(&process);
        for (name, metric) in &metrics {
            let literals = names_in_code(&process, name);
            let there = literals
                .iter()
                .any(|it| source.contains(&format!("\"{it}\"")));
            assert!(there, "{process} has no {name}");
            for label in &metric.labels {
                let label = label.trim_end_matches('*');
                let there = source.contains(&format!("\"{label}\""))
                    || source.contains(&format!("    {label}: "))
                    || source.contains(&format!("pub {label}: "));
                assert!(there, "{process} has no label {label} for {name}");
            }
        }
    }
}

/// What is registered and not yet counted is not shown: the code has it.
#[test]
fn what_is_registered_is_documented() {
    let mut seen = 0;
    for (process, metrics) in Documented::read().unwrap().0 {
        let documented: BTreeSet<String> = metrics
            .keys()
            .flat_map(|name| names_in_code(&process, name))
            .collect();
        for name in registered(&source(&process)) {
            assert!(
                documented.contains(&name),
                "no page has {name} of {process}"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// How the code may write the name of a metric: the library adds what follows from type and unit, and a prefix
/// is given once.
fn names_in_code(process: &str, name: &str) -> Vec<String> {
    let prefix = format!("{}_", process.replace('-', "_"));
    let bare = name.strip_prefix(&prefix).unwrap_or(name);
    let mut names = vec![bare.to_owned()];
    for suffix in ["_total", "_seconds"] {
        names.extend(bare.strip_suffix(suffix).map(str::to_owned));
    }
    names
}

/// The names that are registered: the literals at the begin of calls.
fn registered(source: &str) -> Vec<String> {
    let calls = ["register(", "register_with_unit("].into_iter();
    let arguments = calls.flat_map(|call| source.split(call).skip(1));
    let literals = arguments.filter_map(|text| text.trim_start().strip_prefix('"'));
    literals
        .filter_map(|text| text.split('"').next().map(str::to_owned))
        .collect()
}

/// All of the code of a process.
fn source(process: &str) -> String {
    fn add(folder: &Path, source: &mut String) {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                add(&path, source);
            } else {
                *source += &fs::read_to_string(path).expect("text");
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let mut source = String::new();
    add(&crates.join(process).join("src"), &mut source);
    source
}

#[test]
fn a_name_in_the_code_lacks_what_the_library_adds() {
    assert_eq!(
        names_in_code("linkerd-ca", "linkerd_ca_a_total"),
        ["a_total", "a"]
    );
    assert_eq!(
        names_in_code("linkerd-api", "api_a_seconds"),
        ["api_a_seconds", "api_a"]
    );
    let source = "registry.register(\n \"a\", b);\nr.register_with_unit(\"c\", d); x.register(y)";
    assert_eq!(registered(source), ["a", "c"]);
}
