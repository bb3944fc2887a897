//! Commands that ask `linkerd-api` for traffic or pods: what they ask it about, and what they say when it does
//! not know the question. Runs the real program.

use serde_json::{Value, json};

use crate::kubernetes::{Cluster, Figures, refusal, success};

const PROOFS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// Every command of this kind that needs no terminal, without flags.
const COMMANDS: [&[&str]; 4] = [
    &["stat", "deploy"],
    &["edges", "deploy"],
    &["get", "pods"],
    &["tap", "deploy"],
];

/// A cluster whose `linkerd-api` answers so.
pub(crate) fn cluster(figures: Figures) -> Cluster {
    let mut cluster = Cluster {
        figures,
        self_check: Some(Vec::new()),
        version: "0.0.9".to_owned(),
        ..Cluster::default()
    };
    cluster.has(
        PROOFS,
        json!({"metadata": {}, "spec": {"request": "", "signerName": ""}}),
    );
    cluster
}

#[test]
fn without_a_namespace_the_one_of_the_context_is_meant() {
    for command in COMMANDS {
        for (flags, namespace) in [
            (&[][..], "default"),
            (&["--context", "shop"], "shop"),
            (&["--context", "shop", "-n", "other"], "other"),
            (&["--context", "shop", "-A"], ""),
        ] {
            let arguments = [command, flags].concat();
            let stderr = refusal(cluster(Figures::Namespace).run(&arguments));
            let expected = format!(": namespace {namespace:?}\n");
            assert!(stderr.ends_with(&expected), "{arguments:?}: {stderr}");
        }
    }
}

#[test]
fn a_context_that_is_not_there_is_no_other_namespace() {
    for command in COMMANDS {
        let arguments = [command, &["--context", "nope"]].concat();
        let stderr = refusal(cluster(Figures::Namespace).run(&arguments));
        assert!(
            stderr.starts_with("Cannot connect to Kubernetes: ") && stderr.contains("nope"),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn pods_are_listed_as_they_are_asked_for() {
    let get = |flags: &[&str]| {
        let arguments = [&["get", "pods", "--context", "shop"], flags].concat();
        success(cluster(Figures::Pods).run(&arguments))
    };
    assert_eq!(get(&[]), "shop/db-0\nshop/web-1\n");
    assert_eq!(get(&["-l", "app=web"]), "shop/web-1\n");
    let table = get(&["-o", "table"]);
    assert!(
        table.starts_with("NAME    MESHED   STATUS    OWNER\n"),
        "{table}"
    );
    let none = cluster(Figures::Pods).run(&["get", "pods", "-n", "shop", "-l", "app=x"]);
    assert_eq!(none.code, Some(0));
    assert_eq!(none.stderr, "No resources found in namespace \"shop\".\n");
    let all: Vec<Value> = serde_json::from_str(&get(&["-A", "-o", "json"])).expect("JSON");
    let meshed: Vec<&Value> = all.iter().map(|pod| &pod["meshed"]).collect();
    assert_eq!(meshed, [&json!(false), &json!(true)]);
}

#[test]
fn edges_of_ten_thousands_of_pods_are_shown() {
    // Some 10 MiB.
    let many = 45_000;
    let stdout = success(cluster(Figures::Edges(many)).run(&["edges", "pods", "-A"]));
    assert_eq!(stdout.lines().count(), 1 + many);
}

#[test]
fn both_versions_are_one_object_for_programs() {
    let stdout = success(cluster(Figures::Unknown).run(&["version", "-o", "json"]));
    let versions: Value = serde_json::from_str(&stdout).expect("JSON");
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(versions, json!({"client": own, "server": "0.0.9"}));
}

#[test]
fn a_control_plane_of_another_version_is_named_with_what_to_do() {
    let own = env!("CARGO_PKG_VERSION");
    for (command, begin, what) in [
        (COMMANDS[0], "StatSummary API error: ", "stat"),
        (COMMANDS[1], "Edges API error: ", "edges"),
        (COMMANDS[2], "ListPods API error: ", "get pods"),
        (COMMANDS[3], "cannot tap: ", "tap"),
    ] {
        let stderr = refusal(cluster(Figures::Unknown).run(command));
        let expected = format!(
            "Error: {begin}the control plane is of version 0.0.9 and does not know {what}; this program is of \
             {own}: upgrade the control plane with `linkerd upgrade | kubectl apply -f -`\n"
        );
        assert_eq!(stderr, expected);
    }
}

#[test]
fn labels_that_the_control_plane_does_not_know_are_not_ignored() {
    let arguments = ["get", "pods", "-l", "app=web", "-L", "mesh"];
    let stderr = refusal(cluster(Figures::PodsOfEarlier).run(&arguments));
    assert!(
        stderr.contains("0.0.9 and does not know get pods -l;"),
        "{stderr}"
    );
    assert!(
        stderr.contains("`linkerd upgrade --linkerd-namespace mesh |"),
        "{stderr}"
    );
    let all = success(cluster(Figures::PodsOfEarlier).run(&["get", "pods"]));
    assert_eq!(all.lines().count(), 2);
}
