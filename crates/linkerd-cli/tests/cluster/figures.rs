//! Commands that ask `linkerd-api` for traffic or pods: what they ask it about, and what they say when it does
//! not know the question. Runs the real program.

use serde_json::json;

use crate::kubernetes::{Cluster, Figures, refusal};

const PROOFS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// Every command of this kind that needs no terminal, without flags.
const COMMANDS: [&[&str]; 4] = [
    &["stat", "deploy"],
    &["edges", "deploy"],
    &["get", "pods"],
    &["tap", "deploy"],
];

/// A cluster whose `linkerd-api` answers so.
fn cluster(figures: Figures) -> Cluster {
    let mut cluster = Cluster {
        figures,
        self_check: Some(Vec::new()),
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
