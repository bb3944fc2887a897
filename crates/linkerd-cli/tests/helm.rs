//! The real Helm and `linkerd install` make the same of the chart, object by object, when one does what Helm says
//! after an installation. Needs `HELM`, the path of Helm 3; `cargo xtask test` builds one.

mod common;
mod examples;
mod pipeline;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize as _;
use serde_json::{Value, json};

/// The chart in the repository, which is the one in the program.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/linkerd");

/// For the Kubernetes of the local cluster: built from its module, Helm takes an old one for granted.
const KUBERNETES: &str = "--kube-version=1.34.0";

/// Helm, or none with a word past the test runner's capture.
fn helm() -> Option<PathBuf> {
    let helm = env::var_os("HELM").map(PathBuf::from);
    if helm.is_none() {
        // A closed stderr must not fail a test.
        drop(writeln!(
            std::io::stderr(),
            "skipped: the chart with the real Helm: HELM is not set"
        ));
    }
    helm
}

/// Runs a program with `input` on its stdin, and returns stdout; or else stderr, when it ends with an error.
fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let output = common::run(command.env_remove("KUBECONFIG"), input);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// What Helm makes of the chart, when told nothing more.
fn template(helm: &Path, chart: &Path) -> Command {
    let mut template = Command::new(helm);
    template.args(["template", "linkerd"]).arg(chart);
    template.arg(KUBERNETES);
    template
}

fn linkerd(arguments: &[&str], input: &str) -> String {
    let mut linkerd = Command::new(env!("CARGO_BIN_EXE_linkerd"));
    run(linkerd.args(arguments), input).expect("linkerd")
}

/// The chart with a template that has as its one value what Helm says after an installation, which it does
/// not say without a cluster.
fn chart_with_notes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = Command::new("cp")
        .args(["-r", &format!("{CHART}/.")])
        .arg(folder.path())
        .status();
    assert!(copy.expect("cp").success());
    let template = "notes: {{ include (print .Template.BasePath \"/NOTES.txt\") . | toJson }}\n";
    fs::write(folder.path().join("templates/notes.yaml"), template).expect("writable");
    folder
}

/// The command lines among what Helm says after an installation with these arguments.
fn commands(helm: &Path, arguments: &[&str]) -> Vec<String> {
    let chart = chart_with_notes();
    let mut template = template(helm, chart.path());
    template
        .args(["--show-only", "templates/notes.yaml"])
        .args(arguments);
    let notes = run(&mut template, "").expect("helm template");
    let notes: Value = serde_yaml::from_str(&notes).expect("YAML");
    let notes = notes["notes"].as_str().expect("a text");
    let lines = notes.lines().filter_map(|line| line.strip_prefix("  "));
    lines.map(str::to_owned).collect()
}

/// The objects of manifests by kind, namespace and name.
fn objects(manifests: &str) -> BTreeMap<[String; 3], Value> {
    let documents = serde_yaml::Deserializer::from_str(manifests)
        .map(|document| Value::deserialize(document).expect("YAML"));
    let mut objects = BTreeMap::new();
    for mut object in documents.filter(Value::is_object) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let [namespace, name] = ["namespace", "name"].map(|key| text(&metadata[key]));
        let key = [text(&object["kind"]), namespace, name];
        // Values are a text in an object; Helm writes numbers of that text in another way.
        if let Some(values) = object["data"]["values"].as_str() {
            object["data"]["values"] = serde_yaml::from_str(values).expect("values are YAML");
        }
        // The CLI's own.
        if let Some(data) = object["data"].as_object_mut() {
            data.remove("overrides");
        }
        let before = objects.insert(key.clone(), object);
        assert_eq!(before, None, "{key:?} is there twice");
    }
    objects
}

/// Values that decide what is installed, as arguments of Helm and of `linkerd install`.
const VARIANTS: [(&[&str], &[&str]); 8] = [
    (&["--set=tls="], &[]),
    (&["--set=tls=optional"], &["--tls=optional"]),
    (
        &["--set=identity=service"],
        &["--tls=optional", "--identity=service"],
    ),
    (
        &["--set=injector.enabled=false"],
        &["--tls=optional", "--set=injector.enabled=false"],
    ),
    (
        &["--set=prometheus.enabled=false"],
        &["--tls=optional", "--set=prometheus.enabled=false"],
    ),
    (
        &["--set=prometheus.url=http://p.test:9090/p"],
        &["--tls=optional", "--prometheus-url=http://p.test:9090/p"],
    ),
    (
        &["--set=grafana.dashboards.enabled=true"],
        &["--tls=optional", "--set=grafana.dashboards.enabled=true"],
    ),
    (
        &[
            "--values",
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../charts/linkerd/values-ha.yaml"
            ),
        ],
        &["--tls=optional", "--ha"],
    ),
];

/// Values for each part of the chart, other than the defaults.
const MORE: [&str; 6] = [
    "--set=imagePullSecrets={a,b},nodeSelector.disk=ssd,tolerations[0].operator=Exists",
    "--set=nodeSelector.kubernetes\\.io/os=null,podDisruptionBudget.maxUnavailable=30%",
    "--set=prometheus.resources=null,destination.port=18086,proxy.uid=4000000",
    "--set-string=image.tag=2,proxy.skipOutboundPorts=3306",
    "--set=image.registry=r.test:5000/mesh,image.pullPolicy=Always,proxy.initImage=other/init,\
     proxy.controlPort=14190,proxy.metricsPort=14191,proxy.nativeSidecar=false",
    "--set=proxy.bindTimeout=5s,proxy.logLevel=warn\\,linkerd=debug,\
     proxy.skipInboundPorts=25\\,30-32",
];

#[test]
fn helm_makes_the_same_objects_as_linkerd_install() {
    let Some(helm) = helm() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (values, ours) in VARIANTS {
        for more in [&[][..], &MORE] {
            let release = ["--namespace=mesh", "--set=namespace.create=true"];
            let arguments = [&release[..], values, more].concat();
            let mut template = template(&helm, Path::new(CHART));
            let by_helm = run(template.args(&arguments), "").expect("helm template");
            let commands = commands(&helm, &arguments);
            let inject = commands
                .iter()
                .find(|line| line.starts_with("helm get manifest linkerd -n mesh | "))
                .expect("how the control plane's own pods get a proxy");
            let by_helm = objects(&pipeline::run(folder.path(), inject, &by_helm));
            let install = [&["install", "-L", "mesh"], ours, more].concat();
            let by_us = objects(&linkerd(&install, ""));
            assert!(by_us.len() > 10, "{values:?}");
            let names = |objects: &BTreeMap<[String; 3], Value>| -> Vec<_> {
                objects.keys().cloned().collect()
            };
            assert_eq!(names(&by_helm), names(&by_us), "{values:?} {more:?}");
            for (key, object) in by_us {
                assert_eq!(by_helm[&key], object, "{key:?} {values:?} {more:?}");
            }
        }
    }
}

#[test]
fn what_helm_says_after_an_installation_can_be_typed() {
    let Some(helm) = helm() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let app = "{kind: Deployment, apiVersion: apps/v1, metadata: {name: web}, spec: {template: \
               {spec: {containers: [{name: web, image: web}]}}}}";
    for (values, _) in VARIANTS {
        for namespace in ["linkerd", "mesh"] {
            for more in [&[][..], &MORE] {
                let release = ["--namespace", namespace];
                let arguments = [&release[..], values, more].concat();
                let commands = commands(&helm, &arguments);
                for command in &commands {
                    let command = command.replace("NAMESPACE", "shop");
                    pipeline::run(folder.path(), &command, app);
                    let names = command.contains(" --linkerd-namespace=mesh");
                    let asks = command.contains("linkerd check")
                        || command.contains("linkerd stat")
                        || command.contains("linkerd inject");
                    assert_eq!(names, asks && namespace == "mesh", "{command}");
                    if more.is_empty() && command.contains("linkerd inject") {
                        let flags = command.matches(" --").count() - usize::from(names);
                        let expected = match values {
                            ["--set=tls="] => 0,
                            ["--set=identity=service"] => 2,
                            _ => 1,
                        };
                        assert_eq!(flags, expected, "{command}");
                    }
                }
                let has = |part: &str| commands.iter().any(|command| command.contains(part));
                assert!(
                    has("linkerd check --wait") && has("linkerd stat"),
                    "{commands:?}"
                );
                let injector = !matches!(values, ["--set=tls=" | "--set=injector.enabled=false"]);
                assert_eq!(has("linkerd.io/inject=enabled"), injector, "{values:?}");
                assert_eq!(commands.len(), if injector { 7 } else { 5 }, "{commands:?}");
            }
        }
    }
}

#[test]
fn helm_has_nothing_against_the_chart_and_knows_its_schema() {
    let Some(helm) = helm() else {
        return;
    };
    let lint = run(
        Command::new(&helm).args(["lint", "--strict", KUBERNETES, CHART]),
        "",
    );
    assert!(lint.is_ok(), "{lint:?}");
}

/// Helm names all that is wrong at once, so that each round has one example of every value.
#[test]
fn helm_refuses_wrong_values_and_names_them() {
    let Some(helm) = helm() else {
        return;
    };
    let with = |values: &BTreeMap<String, Value>| {
        let mut template = template(&helm, Path::new(CHART));
        run(template.arg("--values=-"), &examples::file(values))
    };
    let [good, bad] = examples::rounds();
    assert!(good.len() > 5 && bad.len() > 10);
    for round in &good {
        let taken = with(round);
        assert!(taken.is_ok(), "{round:?}: {taken:?}");
    }
    for round in bad {
        let refused = with(&round).expect_err("wrong values");
        for (path, value) in round {
            let named = refused.contains(&format!("'/{}", path.replace('.', "/")));
            assert!(named, "{path}: {value}: {refused}");
        }
    }

    let mut slips = BTreeMap::new();
    for path in good[0].keys() {
        let mapping = path.rsplit_once('.').map_or("", |(mapping, _)| mapping);
        slips.insert(
            format!("{mapping}.slip").trim_start_matches('.').to_owned(),
            json!(1),
        );
    }
    let refused = with(&slips).expect_err("no such values");
    for path in slips.keys() {
        let mapping = path.trim_end_matches("slip").trim_end_matches('.');
        let named = format!(
            "at '/{}': additional properties 'slip'",
            mapping.replace('.', "/")
        );
        let named = named.replace("'/'", "''");
        assert!(refused.contains(&named), "{path}: {refused}");
    }
}

#[test]
fn what_is_compared_are_whole_objects() {
    let found = objects(
        "kind: A\nmetadata: {name: b}\n---\nkind: A\nmetadata: {name: b, namespace: c}\n\
         data: {values: 'x: 1.0', overrides: y}\n",
    );
    let keys: Vec<[&str; 3]> = found
        .keys()
        .map(|key| key.each_ref().map(String::as_str))
        .collect();
    assert_eq!(keys, [["A", "", "b"], ["A", "c", "b"]]);
    let values: Vec<&Value> = found.values().map(|object| &object["data"]).collect();
    assert_eq!(values, [&Value::Null, &json!({"values": {"x": 1.0}})]);
}
