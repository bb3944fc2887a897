//! What injection makes of whole manifests. `UPDATE_EXPECT=1 cargo test` rewrites the golden files.

mod common;

use common::{options, source};
use expect_test::{ExpectFile, expect, expect_file};
use linkerd_inject::{
    Outcome, explain, inject,
    options::{IdentitySource, Options, Sidecar, TlsMode},
    uninject,
};

fn check(input: &str, options: &Options, golden: ExpectFile) {
    let output = inject(&source(input), options).expect("valid");
    golden.assert_eq(&output.yaml);
}

#[test]
fn a_deployment_with_tls() {
    let input = include_str!("data/deployment.in.yml");
    check(
        input,
        &options(TlsMode::Optional),
        expect_file!["data/deployment-tls.out.yml"],
    );
}

#[test]
fn a_deployment_whose_key_stays_in_the_pod() {
    let input = include_str!("data/deployment.in.yml");
    let options = Options {
        identity: IdentitySource::Service,
        ..options(TlsMode::Optional)
    };
    check(
        input,
        &options,
        expect_file!["data/deployment-identity-service.out.yml"],
    );
}

#[test]
fn a_deployment_without_tls_and_with_a_plain_sidecar() {
    let input = include_str!("data/deployment.in.yml");
    let options = Options {
        sidecar: Sidecar::Plain,
        skip_inbound_ports: linkerd_inject::options::port_ranges("25,3306").unwrap(),
        skip_outbound_ports: linkerd_inject::options::port_ranges("443").unwrap(),
        ..options(TlsMode::Off)
    };
    check(
        input,
        &options,
        expect_file!["data/deployment-plain.out.yml"],
    );
}

#[test]
fn cron_jobs_stateful_sets_and_bare_pods() {
    let input = include_str!("data/kinds.in.yml");
    check(
        input,
        &options(TlsMode::Optional),
        expect_file!["data/kinds.out.yml"],
    );
}

#[test]
fn probes_of_ports_that_the_proxy_takes() {
    let input = include_str!("data/probes.in.yml");
    check(
        input,
        &options(TlsMode::Off),
        expect_file!["data/probes.out.yml"],
    );
}

#[test]
fn the_items_of_a_list() {
    let input = include_str!("data/list.in.yml");
    check(
        input,
        &options(TlsMode::Off),
        expect_file!["data/list.out.yml"],
    );
}

#[test]
fn what_is_left_alone_is_echoed_byte_for_byte_and_reported() {
    let input = include_str!("data/left-alone.in.yml");
    let output = inject(&source(input), &options(TlsMode::Optional)).unwrap();
    assert_eq!(output.yaml, format!("{input}---\n"));
    expect![[r#"

        hostNetwork: pods do not use host networking...............................[warn] -- "hostNetwork: true" detected in daemonset/host
        sidecar: pods do not have a proxy or initContainer already injected........[warn] -- known sidecar detected in deployment/istio
        disabled: pods are not annotated to disable injection......................[warn] -- "linkerd.io/inject: disabled" annotation set on deployment/object-says-no, deployment/template-says-no
        windows: pods are for nodes with Linux, as the proxy is....................[warn] -- "windows" as the operating system in deployment/windows, daemonset/on-windows
        supported: at least one resource injected..................................[warn] -- no supported objects found
        udp: pod specs do not include UDP ports....................................[warn] -- deployment/template-says-no uses "protocol: UDP"

        Summary: 0 of 7 YAML document(s) injected

    "#]].assert_eq(&output.report.inject_text());
}

/// `kubectl get all -o yaml` shows what a workload has made too: ReplicaSets would be wrong, and pods cannot
/// be changed.
#[test]
fn what_another_workload_has_made_is_left_alone_and_reported() {
    let input = include_str!("data/owned.in.yml");
    let output = inject(&source(input), &options(TlsMode::Optional)).unwrap();
    let objects = |outcome| -> Vec<String> {
        let entries = output.report.entries.iter();
        let found = entries.filter(|entry| entry.outcome == outcome);
        found.map(|entry| entry.object.clone()).collect()
    };
    assert_eq!(
        objects(Outcome::Injected),
        ["deployment/web", "replicaset/rolled"]
    );
    assert_eq!(
        objects(Outcome::Owned),
        ["replicaset/web-5d4f", "pod/web-5d4f-x", "job/nightly-1"]
    );
    let report = output.report.inject_text();
    let line = "owned: objects are not made by other workloads.............................[warn] -- \
                replicaset/web-5d4f belongs to deployment/web, pod/web-5d4f-x belongs to \
                replicaset/web-5d4f, job/nightly-1 belongs to cronjob/nightly\n";
    assert!(report.contains(line), "{report}");

    // What was meshed before is not taken out of them either.
    let output = uninject(&source(&output.yaml)).unwrap();
    let text = output.report.uninject_text();
    assert!(text.contains("2 of 5 YAML document(s)"), "{text}");

    let explanation = explain(&source(input), &options(TlsMode::Optional), &[]).unwrap();
    let explained = explanation.workloads.iter();
    let explained: Vec<&str> = explained.map(|plan| plan.object.as_str()).collect();
    assert_eq!(explained, ["deployment/web", "replicaset/rolled"]);
    assert!(
        explanation.notes[0].contains("3 objects"),
        "{:?}",
        explanation.notes
    );
}

/// Kinds of the same name in other API groups have pods that are not those of a workload of Kubernetes.
#[test]
fn the_api_group_decides_and_its_version_does_not() {
    let injected = |api_version: &str, kind: &str| {
        let object = format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: web}}, \
             spec: {{template: {{spec: {{containers: [{{name: app}}]}}}}}}}}\n"
        );
        let output = inject(&source(&object), &options(TlsMode::Optional)).unwrap();
        assert_eq!(
            output.yaml.contains("linkerd-proxy"),
            output.yaml != format!("{object}---\n")
        );
        output.report.entries[0].outcome == Outcome::Injected
    };
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("apps/v1beta2", "StatefulSet"),
        ("extensions/v1beta1", "Deployment"),
        ("extensions/v1beta1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("v1", "ReplicationController"),
    ] {
        assert!(injected(api_version, kind), "{api_version} {kind}");
    }
    for (api_version, kind) in [
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("apps.kruise.io/v1alpha1", "DaemonSet"),
        ("batch.volcano.sh/v1alpha1", "Job"),
    ] {
        assert!(!injected(api_version, kind), "{api_version} {kind}");
    }
}

#[test]
fn the_report_says_what_was_injected() {
    let input = include_str!("data/kinds.in.yml");
    let output = inject(&source(input), &options(TlsMode::Off)).unwrap();
    expect![[r#"

        hostNetwork: pods do not use host networking...............................[ok]
        sidecar: pods do not have a proxy or initContainer already injected........[ok]
        supported: at least one resource injected..................................[ok]
        udp: pod specs do not include UDP ports....................................[warn] -- pod/one uses "protocol: UDP"

        Summary: 3 of 3 YAML document(s) injected
          cronjob/nightly
          statefulset/store
          pod/one

    "#]].assert_eq(&output.report.inject_text());
}

#[test]
fn jobs_with_a_plain_sidecar_are_warned_of() {
    let input = include_str!("data/kinds.in.yml");
    let options = Options {
        sidecar: Sidecar::Plain,
        ..options(TlsMode::Off)
    };
    let text = inject(&source(input), &options)
        .unwrap()
        .report
        .inject_text();
    let line = "jobs: pods that are to end have a native sidecar...........................[warn] \
                -- cronjob/nightly will never complete; inject without --native-sidecar=false\n";
    assert!(text.contains(line), "{text}");
}
