//! What cannot be injected, and the words for it.

mod common;

use common::{options, source};
use linkerd_inject::{inject, options::TlsMode};

fn refusal(text: &str) -> String {
    inject(&source(text), &options(TlsMode::Optional))
        .expect_err("refused")
        .to_string()
}

#[test]
fn the_first_broken_document_is_named_with_its_line() {
    let text =
        "a: 1\n---\nb: 2\n---\nkind: Pod\nmetadata:\n   name: x\n  bad: [\n---\nc: 1\n---\nd: 1\n";
    let refusal = refusal(text);
    assert!(
        refusal.starts_with("test.yml: document 3 of 5, line 8: "),
        "{refusal}"
    );
}

#[test]
fn a_text_that_is_no_object_is_refused() {
    assert_eq!(
        refusal("# c\nhello\n"),
        "test.yml: document 1 of 1, line 2: it is not a Kubernetes object"
    );
}

#[test]
fn a_generated_name_is_refused_with_tls_only() {
    let job =
        "kind: Job\nmetadata: {generateName: run-}\nspec: {template: {spec: {containers: []}}}\n";
    assert_eq!(
        refusal(job),
        "test.yml: document 1 of 1, line 1: job with generateName \"run-\" has no name: its \
         certificate is named after it; give it a name, or inject it without --tls"
    );
    let output = inject(&source(job), &options(TlsMode::Off)).unwrap();
    assert!(output.yaml.contains("linkerd-proxy"));
    assert!(!output.yaml.contains("linkerd.io/proxy-job"));
}

#[test]
fn objects_without_a_name_or_with_fields_of_the_wrong_type_are_refused() {
    for (text, expected) in [
        ("kind: Pod\nspec: {}\n", "a pod has no metadata.name"),
        (
            "kind: Deployment\nmetadata: {name: a}\n",
            "deployment/a: spec.template is not a mapping",
        ),
        (
            "kind: CronJob\nmetadata: {name: a}\nspec: {jobTemplate: {spec: {template: 1}}}\n",
            "cronjob/a: spec.jobTemplate.spec.template is not a mapping",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {containers: {}}\n",
            "pod/a: spec.containers is not a list",
        ),
        (
            "kind: Pod\nmetadata: {name: a, labels: []}\nspec: {containers: []}\n",
            "pod/a: metadata.labels is not a mapping",
        ),
    ] {
        assert_eq!(
            refusal(text),
            format!("test.yml: document 1 of 1, line 1: {expected}")
        );
    }
}

#[test]
fn a_name_too_long_for_an_identity_is_refused_with_tls_only() {
    let name = "a".repeat(64);
    let text = format!("kind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\n");
    let refusal = refusal(&text);
    assert!(refusal.contains(&format!("pod/{name}: ")), "{refusal}");
    assert!(
        refusal.ends_with("more than 63 characters; inject it without --tls"),
        "{refusal}"
    );
    assert!(inject(&source(&text), &options(TlsMode::Off)).is_ok());
}

#[test]
fn a_container_that_runs_as_the_proxys_user_is_refused() {
    for spec in [
        "{securityContext: {runAsUser: 2102}, containers: [{name: app}]}",
        "{containers: [{name: app, securityContext: {runAsUser: 2102}}]}",
    ] {
        let refusal = refusal(&format!("kind: Pod\nmetadata: {{name: a}}\nspec: {spec}\n"));
        assert!(
            refusal.contains("pod/a: container \"app\" runs as user 2102"),
            "{refusal}"
        );
    }
    let overridden = "kind: Pod\nmetadata: {name: a}\nspec: {securityContext: {runAsUser: 2102}, \
                      containers: [{name: app, securityContext: {runAsUser: 1}}]}\n";
    assert!(inject(&source(overridden), &options(TlsMode::Optional)).is_ok());
}

/// Whoever comes second cannot listen, and that would be the container.
#[test]
fn a_container_on_a_port_of_the_proxy_is_refused_until_one_of_them_moves() {
    let with = |annotations: &str, spec: &str| {
        format!("kind: Pod\nmetadata: {{name: a, annotations: {{{annotations}}}}}\nspec: {spec}\n")
    };
    let mail = "{containers: [{name: mail, ports: [{containerPort: 143}, {containerPort: 4190}]}]}";
    assert_eq!(
        refusal(&with("", mail)),
        "test.yml: document 1 of 1, line 1: pod/a: container \"mail\" listens on port 4190, and so would the \
         proxy: give the proxy another one by config.linkerd.io/control-port (--control-port)"
    );
    let sidecar = "{initContainers: [{name: b, restartPolicy: Always, ports: [{containerPort: 4140, protocol: \
                   TCP}]}], containers: []}";
    assert!(refusal(&with("", sidecar)).contains("container \"b\" listens on port 4140"));
    for (annotations, spec) in [
        ("config.linkerd.io/control-port: '5190'", mail),
        (
            "",
            "{containers: [{name: app, ports: [{containerPort: 4190, protocol: UDP}]}]}",
        ),
        // It has ended before the containers start.
        (
            "",
            "{initContainers: [{name: b, ports: [{containerPort: 4140}]}], containers: []}",
        ),
    ] {
        let text = with(annotations, spec);
        assert!(
            inject(&source(&text), &options(TlsMode::Optional)).is_ok(),
            "{text}"
        );
    }
}

#[test]
fn an_annotation_that_is_no_list_of_ports_is_refused() {
    let text = "kind: Pod\nmetadata: {name: a, annotations: {config.linkerd.io/skip-inbound-ports: \
                \"80,x\"}}\nspec: {containers: []}\n";
    assert!(refusal(text).ends_with(
        "pod/a: annotation config.linkerd.io/skip-inbound-ports: \"x\" is not a port (1 to 65535) \
         or a range of ports (8000-8010)"
    ));
}
