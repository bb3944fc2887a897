//! Injection is idempotent, and `uninject` is its way back.

mod common;

use common::{options, source};
use linkerd_inject::{
    Outcome, inject,
    options::{IdentitySource, Options, Sidecar, TlsMode},
    uninject, yaml,
};
use serde_json::Value;

const INPUTS: [&str; 7] = [
    include_str!("data/deployment.in.yml"),
    include_str!("data/probes.in.yml"),
    include_str!("data/list.in.yml"),
    "kind: Pod\nmetadata: {name: one}\nspec: {containers: [{name: app}]}\n",
    // Ports that the user skips: others than the flags, the same, and more in the user's own words.
    "kind: Pod\nmetadata: {name: one, annotations: {config.linkerd.io/skip-inbound-ports: '80, 443', \
     config.linkerd.io/skip-outbound-ports: '5432'}}\nspec: {containers: [{name: app}]}\n",
    "kind: Pod\nmetadata: {name: one, annotations: {config.linkerd.io/skip-inbound-ports: '25'}}\n\
     spec: {containers: [{name: app}]}\n",
    "kind: Pod\nmetadata: {name: one, annotations: {config.linkerd.io/skip-inbound-ports: '80 ,25'}}\n\
     spec: {containers: [{name: app}]}\n",
];

fn variants() -> impl Iterator<Item = Options> {
    [
        (TlsMode::Off, IdentitySource::Secret),
        (TlsMode::Optional, IdentitySource::Secret),
        (TlsMode::Optional, IdentitySource::Service),
    ]
    .into_iter()
    .flat_map(|(tls, identity)| {
        [Sidecar::Native, Sidecar::Plain]
            .into_iter()
            .map(move |sidecar| Options {
                sidecar,
                identity,
                skip_inbound_ports: linkerd_inject::options::port_ranges("25").expect("valid"),
                ..options(tls)
            })
    })
}

fn documents(text: &str) -> Vec<Value> {
    text.split("---\n")
        .map(|text| yaml::read(text, 1).expect("valid"))
        .collect()
}

#[test]
fn uninject_gives_back_what_was_injected() {
    for input in INPUTS {
        for options in variants() {
            let injected = inject(&source(input), &options).unwrap();
            let back = uninject(&source(&injected.yaml)).unwrap();
            assert_eq!(documents(&back.yaml), documents(&format!("{input}---\n")));
        }
    }
}

#[test]
fn what_linkerd_itself_has_injected_goes_as_well() {
    let injected = "kind: Pod
metadata:
  name: one
  annotations: {linkerd.io/created-by: linkerd/proxy-injector stable-2.14.0, linkerd.io/inject: enabled,
    linkerd.io/proxy-version: stable-2.14.0, linkerd.io/trust-root-sha256: '81'}
  labels: {app: web, linkerd.io/control-plane-ns: linkerd, linkerd.io/proxy-deployment: web,
    linkerd.io/workload-ns: shop}
spec:
  containers: [{name: linkerd-proxy}, {name: app}]
  initContainers: [{name: linkerd-network-validator}, {name: linkerd-init}]
  volumes: [{name: linkerd-proxy-init-xtables-lock}, {name: linkerd-identity-end-entity},
    {name: linkerd-identity-token}, {name: data}]
";
    let expected = "kind: Pod
metadata:
  name: one
  annotations: {linkerd.io/inject: enabled}
  labels: {app: web}
spec:
  containers: [{name: app}]
  volumes: [{name: data}]
---
";
    let back = uninject(&source(injected)).unwrap();
    assert_eq!(documents(&back.yaml), documents(expected));
}

#[test]
fn uninject_echoes_what_was_never_injected() {
    let input = include_str!("data/left-alone.in.yml");
    let output = uninject(&source(input)).unwrap();
    assert_eq!(output.yaml, format!("{input}---\n"));
    assert_eq!(
        output.report.uninject_text(),
        "\nSummary: 0 of 7 YAML document(s) uninjected\n\n"
    );
}

#[test]
fn a_second_injection_changes_nothing() {
    for input in INPUTS {
        for options in variants() {
            let once = inject(&source(input), &options).unwrap();
            let twice = inject(&source(&once.yaml), &options).unwrap();
            assert_eq!(once.yaml, twice.yaml);
            let sidecars = |report: &linkerd_inject::Report, outcome| {
                report
                    .entries
                    .iter()
                    .filter(|entry| entry.outcome == outcome)
                    .count()
            };
            assert_eq!(
                sidecars(&once.report, Outcome::Injected),
                sidecars(&twice.report, Outcome::KnownSidecar)
            );
            assert_eq!(sidecars(&twice.report, Outcome::Injected), 0);
        }
    }
}
