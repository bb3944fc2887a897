//! `linkerd inject --explain` as a user runs it. `UPDATE_EXPECT=1 cargo test` rewrites the golden files.

use expect_test::expect_file;

use crate::kubernetes::{Running, linkerd, refusal, run};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/explain.in.yml");

/// What it prints when it has found something that breaks.
fn explain(flags: &[&str]) -> String {
    let mut command = linkerd("/nonexistent/kubeconfig");
    let command = command.args(["inject", "--explain", "--linkerd-version=v1", MANIFESTS]);
    let run = run(command.args(flags));
    assert_eq!((run.stderr.as_str(), run.code), ("", Some(1)));
    run.stdout
}

#[test]
fn people_read_what_will_happen_and_what_breaks_first() {
    expect_file!["../golden/explain.txt"].assert_eq(&explain(&["--tls=optional"]));
}

#[test]
fn programs_read_the_same() {
    expect_file!["../golden/explain.json"].assert_eq(&explain(&["--tls=optional", "-o", "json"]));
}

#[test]
fn flags_change_what_will_happen() {
    let flags = [
        "--native-sidecar=false",
        "--skip-inbound-ports=9000",
        "--skip-outbound-ports=25",
        "--metrics-port=8191",
    ];
    expect_file!["../golden/explain-flags.txt"].assert_eq(&explain(&flags));
}

#[test]
fn how_to_print_is_a_question_of_explanations_alone() {
    let mut command = linkerd("");
    let stderr = refusal(run(command.args(["inject", "-o", "json", MANIFESTS])));
    assert!(stderr.contains("--explain"), "{stderr}");
}

#[test]
fn what_a_namespace_of_the_cluster_configures_is_explained() {
    let cluster = Running::with(
        "{apiVersion: v1, kind: Namespace, metadata: {name: data, annotations: \
         {linkerd.io/inject: enabled, config.linkerd.io/proxy-cpu-request: 70m}}}",
    );
    let stdout = cluster
        .linkerd(&["inject", "--explain", "--tls=optional", MANIFESTS])
        .stdout;
    assert!(stdout.contains("70m"), "{stdout}");
    let note = "Of namespace data: config.linkerd.io/proxy-cpu-request.";
    assert!(stdout.contains(note), "{stdout}");
    assert!(!stdout.contains("The cluster was not asked"), "{stdout}");
}
