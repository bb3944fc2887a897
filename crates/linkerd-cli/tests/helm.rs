//! The real Helm and `linkerd install` make the same of the chart, object by object. Needs `HELM`, the path of
//! Helm 3; `cargo xtask test` builds one.

mod common;

use std::{
    collections::BTreeMap,
    env,
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
fn template(helm: &Path) -> Command {
    let mut template = Command::new(helm);
    template.args(["template", "linkerd", CHART, KUBERNETES]);
    template
}

fn linkerd(arguments: &[&str], input: &str) -> String {
    let mut linkerd = Command::new(env!("CARGO_BIN_EXE_linkerd"));
    run(linkerd.args(arguments), input).expect("linkerd")
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

#[test]
fn helm_makes_the_same_objects_as_linkerd_install() {
    let Some(helm) = helm() else {
        return;
    };
    let ha = format!("{CHART}/values-ha.yaml");
    for (values, ours, inject) in [
        (&["--set=tls="][..], &[][..], &[][..]),
        (
            &["--set=tls=optional"],
            &["--tls=optional"],
            &["--tls=optional"],
        ),
        (
            &["--set=tls=optional,identity=service"],
            &["--tls=optional", "--identity=service"],
            &["--tls=optional", "--identity=service"],
        ),
        (
            &["--set=tls=optional,prometheus.enabled=false"],
            &["--tls=optional", "--set=prometheus.enabled=false"],
            &["--tls=optional"],
        ),
        (
            &["--set=tls=optional,grafana.dashboards.enabled=true"],
            &["--tls=optional", "--set=grafana.dashboards.enabled=true"],
            &["--tls=optional"],
        ),
        (
            &["--set=tls=optional", "-f", &ha],
            &["--tls=optional", "--ha"],
            &["--tls=optional"],
        ),
    ] {
        for more in [
            &[][..],
            &[
                "--set=imagePullSecrets={a,b},nodeSelector.disk=ssd,tolerations[0].operator=Exists",
                "--set=nodeSelector.kubernetes\\.io/os=null,podDisruptionBudget.maxUnavailable=30%",
                "--set=prometheus.resources=null,destination.port=18086,proxy.uid=4000000",
                "--set-string=image.tag=2",
            ],
        ] {
            let mut template = template(&helm);
            template.args(["--namespace", "mesh", "--set=namespace.create=true"]);
            let by_helm = run(template.args(values).args(more), "").expect("helm template");
            let mut flags = inject.to_vec();
            if !more.is_empty() {
                flags.extend(["-v=2", "--api-port=18086", "--proxy-uid=4000000"]);
            }
            let flags = [&["inject", "-L", "mesh", "-"], flags.as_slice()].concat();
            let by_helm = objects(&linkerd(&flags, &by_helm));
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
fn helm_has_nothing_against_the_chart_and_knows_its_schema() {
    let Some(helm) = helm() else {
        return;
    };
    let lint = run(
        Command::new(&helm).args(["lint", "--strict", KUBERNETES, CHART]),
        "",
    );
    assert!(lint.is_ok(), "{lint:?}");
    let mut template = template(&helm);
    let refused = run(template.arg("--set=prometheus.replica=2"), "");
    let refused = refused.expect_err("there is no such value");
    assert!(refused.contains("replica"), "{refused}");
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
