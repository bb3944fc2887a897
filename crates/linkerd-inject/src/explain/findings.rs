//! What will break in a pod with a proxy, and what else is worth knowing about it.
//! Entries: [`find`], [`notes`].

use linkerd_names::{OwnerKind, annotations, component};
use serde_json::Value;

use super::{
    Fate, Finding, Severity, annotated,
    inherited::Inherited,
    limits,
    network_policies::blocked,
    pod::{Pod, items, text},
    ports::{Handling, PortPlan},
    probes,
    surroundings::{Service, Surroundings},
};
use crate::{
    options::{Sidecar, TlsMode},
    removal,
};

/// Finds what will break, worst first, and within that in the order in which it is met: the pod is made, it
/// starts, it serves, it ends.
pub(super) fn find(
    pod: &Pod<'_>,
    surroundings: &Surroundings,
    ports: &[PortPlan],
    error: Option<String>,
) -> Vec<Finding> {
    if let Some(what) = error {
        let fix = "inject refuses the whole input until this is changed".to_owned();
        return vec![breaks(what, fix)];
    }
    if pod.fate != Fate::Meshed {
        return Vec::new();
    }
    let mut findings = Vec::new();
    findings.extend(pod_security(pod, surroundings));
    let refusals = limits::refusals(pod, surroundings).into_iter();
    findings.extend(refusals.map(|refusal| breaks(refusal.what, refusal.fix)));
    findings.extend(endless(pod));
    findings.extend(dns(pod));
    findings.extend(blind_probes(pod));
    findings.extend(policies(pod, surroundings));
    findings.extend(init_containers(pod));
    findings.extend(annotated::find(pod));
    findings.extend(shared_processes(pod));
    findings.extend(not_encrypted(pod, ports));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn breaks(what: String, fix: String) -> Finding {
    Finding {
        severity: Severity::Breaks,
        what,
        fix,
    }
}

pub(super) fn degrades(what: String, fix: String) -> Finding {
    Finding {
        severity: Severity::Degrades,
        what,
        fix,
    }
}

fn pod_security(pod: &Pod<'_>, surroundings: &Surroundings) -> Option<Finding> {
    let level = surroundings.enforced_level(pod)?;
    let namespace = pod.workload.namespace.as_deref().unwrap_or_default();
    matches!(level, "baseline" | "restricted").then(|| {
        breaks(
            format!(
                "namespace {namespace} enforces Pod Security level {level}, which forbids the capabilities \
                 NET_ADMIN and NET_RAW of {}: no pod is made",
                component::INIT_CONTAINER
            ),
            format!(
                "kubectl label --overwrite namespace {namespace} \
                 pod-security.kubernetes.io/enforce=privileged"
            ),
        )
    })
}

fn endless(pod: &Pod<'_>) -> Option<Finding> {
    let ends = matches!(pod.workload.kind, OwnerKind::Job | OwnerKind::CronJob);
    (ends && pod.options.sidecar == Sidecar::Plain).then(|| {
        breaks(
            "the pods never complete: a plain sidecar does not end with the containers".to_owned(),
            "inject without --native-sidecar=false".to_owned(),
        )
    })
}

fn dns(pod: &Pod<'_>) -> Option<Finding> {
    let policy = text(&pod.spec()["dnsPolicy"]);
    let loss = if pod.has_tls() {
        "everything stays plaintext, reason discovery_unavailable"
    } else {
        "nothing is balanced"
    };
    matches!(policy, "Default" | "None").then(|| {
        degrades(
            format!(
                "dnsPolicy {policy} does not ask the cluster's DNS, so that the proxy does not find {}: \
                 {loss}",
                component::DESTINATION
            ),
            "use dnsPolicy ClusterFirst".to_owned(),
        )
    })
}

fn blind_probes(pod: &Pod<'_>) -> Vec<Finding> {
    let blind = probes::plan(pod).into_iter().filter(|probe| probe.blind);
    let finding = |probe: probes::ProbePlan| {
        degrades(
            format!(
                "the {} probe of container {} ({}) passes as soon as the proxy listens, whether the \
                 application does or not",
                probe.kind, probe.container, probe.action
            ),
            "use a httpGet, grpc or exec probe".to_owned(),
        )
    };
    blind.map(finding).collect()
}

fn policies(pod: &Pod<'_>, surroundings: &Surroundings) -> Vec<Finding> {
    let finding = |it: super::network_policies::Blocked<'_>| {
        let (from_to, namespace) = match (it.direction, it.port) {
            ("ingress", _) => ("from", pod.options.control_plane_namespace.as_str()),
            (_, 53) => ("to", "kube-system"),
            _ => ("to", pod.options.control_plane_namespace.as_str()),
        };
        degrades(
            format!(
                "NetworkPolicy {} lets no {} {from_to} namespace {namespace} pass on port {}: the pod loses \
                 {}",
                it.policy, it.direction, it.port, it.loss
            ),
            format!(
                "allow {} on that port {from_to} that namespace",
                it.direction
            ),
        )
    };
    let blocked = blocked(pod, surroundings).into_iter();
    blocked.map(finding).collect()
}

/// With a plain sidecar the pod's own init containers run before there is a proxy.
fn init_containers(pod: &Pod<'_>) -> Option<Finding> {
    let names: Vec<&str> = items(&pod.spec()["initContainers"])
        .map(|container| text(&container["name"]))
        .collect();
    (pod.options.sidecar == Sidecar::Plain && !names.is_empty()).then(|| {
        degrades(
            format!(
                "the init containers {} run before the proxy: their connections are plaintext, and in \
                 no figures",
                names.join(", ")
            ),
            "inject without --native-sidecar=false".to_owned(),
        )
    })
}

fn shared_processes(pod: &Pod<'_>) -> Option<Finding> {
    (pod.spec()["shareProcessNamespace"] == true && pod.has_tls()).then(|| {
        degrades(
            "shareProcessNamespace lets containers that run as root, or as the proxy's user, reach the \
             proxy's memory and files, its key among them"
                .to_owned(),
            "set shareProcessNamespace: false, or run the containers as another user without SYS_PTRACE"
                .to_owned(),
        )
    })
}

fn not_encrypted(pod: &Pod<'_>, ports: &[PortPlan]) -> Vec<Finding> {
    if pod.options.tls == TlsMode::Off {
        return Vec::new();
    }
    let unseen = ports
        .iter()
        .filter(|port| matches!(port.handling, Handling::NotTcp | Handling::Skipped));
    let finding = |port: &PortPlan| {
        let (why, fix) = match port.handling {
            Handling::Skipped => (
                format!("{} skips it", annotations::SKIP_INBOUND_PORTS),
                "let it through the proxy: any TCP protocol passes".to_owned(),
            ),
            _ => (
                format!("the proxy is for TCP, and this is {}", port.transport),
                "encrypt it in the application".to_owned(),
            ),
        };
        degrades(format!("port {} is never encrypted: {why}", port.port), fix)
    };
    unseen.map(finding).collect()
}

/// What is worth knowing about a workload, and breaks nothing.
pub(super) fn notes(pod: &Pod<'_>, services: &[&Service]) -> Vec<String> {
    let mut notes = Vec::new();
    if pod.fate == Fate::KnownSidecar {
        return whose_proxy(pod).map(str::to_owned).into_iter().collect();
    }
    if pod.fate != Fate::Meshed {
        return notes;
    }
    let native = pod.options.sidecar == Sidecar::Native;
    match pod.workload.kind {
        OwnerKind::Job | OwnerKind::CronJob if native => {
            notes.push("Pods complete: the proxy ends after the last container.".to_owned());
        }
        OwnerKind::StatefulSet if pod.has_tls() => notes.push(
            "All pods of the set prove the same identity; each of them is reached by its own address."
                .to_owned(),
        ),
        _ => {}
    }
    if native && items(&pod.spec()["initContainers"]).next().is_some() {
        notes.push(
            "The proxy runs before the pod's own init containers: their connections are in the mesh."
                .to_owned(),
        );
    }
    for service in services {
        let name = &service.name;
        if service.is_headless() && pod.has_tls() {
            notes.push(format!(
                "Service {name} is headless: clients connect to pods by address, which is encrypted as well."
            ));
        }
        if let Some(kind) = service.outside() {
            notes.push(format!(
                "Service {name} is a {kind}: clients from outside of the cluster arrive in plaintext."
            ));
        }
    }
    let host_ports = pod
        .serving_containers()
        .flat_map(|container| items(&container["ports"]))
        .filter_map(|port| port["hostPort"].as_u64())
        .map(|port| port.to_string())
        .collect::<Vec<_>>();
    if !host_ports.is_empty() {
        notes.push(format!(
            "Connections by the node's port {} arrive through the proxy, in plaintext.",
            host_ports.join(", ")
        ));
    }
    if let Some(before) = pod.annotation(annotations::POD_RESOURCES_BEFORE) {
        notes.push(format!(
            "What the pod has for all its containers together is raised by the proxy's: {before} becomes {}.",
            pod.after["spec"]["resources"]
        ));
    }
    notes.extend(inherited(pod));
    if !pod.ignored.is_empty() {
        notes.push(format!(
            "Annotations that our proxy does not know: {}.",
            pod.ignored.join(", ")
        ));
    }
    let powerful: Vec<&str> = pod
        .containers()
        .filter(|container| may_change_rules(container))
        .map(|container| text(&container["name"]))
        .collect();
    if !powerful.is_empty() {
        notes.push(format!(
            "Containers with NET_ADMIN can lead their connections past the proxy: {}.",
            powerful.join(", ")
        ));
    }
    notes
}

/// Of which other mesh the proxy is that a pod has already; none when it is ours.
fn whose_proxy(pod: &Pod<'_>) -> Option<&'static str> {
    if pod.label(removal::LINKERDS_LABEL).is_some() {
        return Some("The proxy is Linkerd's: `linkerd uninject` takes it out.");
    }
    let ours = |container: &Value| {
        matches!(
            text(&container["name"]),
            component::PROXY_CONTAINER | component::INIT_CONTAINER
        )
    };
    let other = !pod.containers().any(ours);
    other.then_some("The proxy is another mesh's: take it out with that one's program.")
}

/// What the Namespace configures, and whether that counts for this pod.
fn inherited(pod: &Pod<'_>) -> Option<String> {
    let Inherited { keys, counts } = pod.inherited;
    let namespace = pod.workload.namespace.as_deref()?;
    let keys = (!keys.is_empty()).then(|| keys.join(", "))?;
    Some(if *counts {
        format!(
            "Of namespace {namespace}: {keys}. linkerd-injector writes that onto the pods that it meshes; \
             `linkerd inject` does not know it."
        )
    } else {
        format!(
            "Of namespace {namespace}, and without effect here: {keys}. That is for pods for which \
             {}: enabled asks; annotate the pod template instead.",
            annotations::INJECT
        )
    })
}

fn may_change_rules(container: &Value) -> bool {
    let context = &container["securityContext"];
    let mut added = items(&context["capabilities"]["add"]).map(text);
    context["privileged"] == true || added.any(|one| matches!(one, "NET_ADMIN" | "ALL"))
}
