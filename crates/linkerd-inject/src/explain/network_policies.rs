//! Whether NetworkPolicies of the manifests keep the proxy from its control plane. Entry: [`blocked`].
//! Says so only when it is certain: labels of namespaces and addresses of nodes are not in manifests.

use serde_json::Value;

use super::{
    pod::{Pod, items, text},
    surroundings::{Surroundings, is_beside},
};
use crate::Options;

/// The label that Kubernetes itself gives to every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Port of DNS, by which the proxy finds the control plane.
const DNS: u16 = 53;

/// A connection that the mesh needs and policies forbid.
pub(super) struct Blocked<'a> {
    /// Name of one of the policies that apply.
    pub(super) policy: &'a str,
    /// `ingress` or `egress`.
    pub(super) direction: &'static str,
    /// The port of the connection.
    pub(super) port: u16,
    /// What is lost by it.
    pub(super) loss: &'static str,
}

/// Which of the pod's connections from and to the control plane are forbidden.
pub(super) fn blocked<'a>(pod: &Pod<'_>, surroundings: &'a Surroundings) -> Vec<Blocked<'a>> {
    let Options {
        metrics_port,
        control_port,
        api_port,
        identity_port,
        ..
    } = pod.options;
    let mut needed = vec![
        (
            "ingress",
            *metrics_port,
            "its figures: the control plane cannot ask the proxy",
        ),
        ("ingress", *control_port, "linkerd tap"),
        (
            "egress",
            DNS,
            "discovery and TLS, reason discovery_unavailable",
        ),
        (
            "egress",
            *api_port,
            "discovery and TLS, reason discovery_unavailable",
        ),
    ];
    if pod.options.uses_identity_service() {
        needed.push((
            "egress",
            *identity_port,
            "its certificate, reason no_credentials",
        ));
    }
    let policies = surroundings.network_policies.iter();
    let policies: Vec<&Value> = policies
        .filter(|policy| is_beside(policy, pod) && selects(&policy["spec"]["podSelector"], pod))
        .collect();
    let mut blocked = Vec::new();
    for (direction, port, loss) in needed {
        let mut isolating = policies.iter().filter(|policy| applies(policy, direction));
        let Some(first) = isolating.clone().next() else {
            continue;
        };
        let other_namespace = if port == DNS {
            "kube-system"
        } else {
            &pod.options.control_plane_namespace
        };
        let (rules, peers) = if direction == "ingress" {
            ("ingress", "from")
        } else {
            ("egress", "to")
        };
        let allowed = isolating.any(|policy| {
            items(&policy["spec"][rules]).any(|rule| {
                has_port(rule, port, pod, direction) && may_be(&rule[peers], other_namespace, pod)
            })
        });
        if !allowed {
            blocked.push(Blocked {
                policy: text(&first["metadata"]["name"]),
                direction,
                port,
                loss,
            });
        }
    }
    blocked
}

/// Whether a selector of pods picks the pod. It is in doubt for expressions that do not exist.
fn selects(selector: &Value, pod: &Pod<'_>) -> bool {
    let labels = selector["matchLabels"].as_object();
    let mut labels = labels.into_iter().flatten();
    labels.all(|(key, value)| pod.label(key) == value.as_str())
        && items(&selector["matchExpressions"]).all(|expression| {
            let label = pod.label(text(&expression["key"]));
            let listed = || items(&expression["values"]).any(|value| value.as_str() == label);
            match text(&expression["operator"]) {
                "In" => label.is_some() && listed(),
                "NotIn" => label.is_none() || !listed(),
                "Exists" => label.is_some(),
                "DoesNotExist" => label.is_none(),
                _ => false,
            }
        })
}

/// Whether a policy is about connections of this direction.
fn applies(policy: &Value, direction: &str) -> bool {
    let spec = &policy["spec"];
    match spec["policyTypes"].as_array() {
        Some(types) => types
            .iter()
            .any(|it| text(it).eq_ignore_ascii_case(direction)),
        None => direction == "ingress" || !spec["egress"].is_null(),
    }
}

/// Whether a rule is about a port. Names are those of the ports of whoever is connected to: what they are of
/// another pod is in doubt, which is a yes.
fn has_port(rule: &Value, wanted: u16, pod: &Pod<'_>, direction: &str) -> bool {
    let Some(ports) = rule["ports"].as_array().filter(|ports| !ports.is_empty()) else {
        return true;
    };
    ports.iter().any(|port| match &port["port"] {
        Value::Null => true,
        Value::String(_) if direction == "egress" => true,
        first => {
            let first = pod.port_number(first);
            let last = pod.port_number(&port["endPort"]).or(first);
            first.is_some_and(|first| first <= wanted) && last.is_some_and(|last| wanted <= last)
        }
    })
}

/// Whether peers of a rule may be pods of `namespace`; doubts are a yes.
fn may_be(peers: &Value, namespace: &str, pod: &Pod<'_>) -> bool {
    let Some(peers) = peers.as_array().filter(|peers| !peers.is_empty()) else {
        return true;
    };
    peers.iter().any(|peer| {
        if !peer["ipBlock"].is_null() {
            return true;
        }
        match &peer["namespaceSelector"] {
            Value::Null => pod.workload.namespace.as_deref() == Some(namespace),
            selector => match selector["matchLabels"][NAMESPACE_NAME].as_str() {
                Some(name) => name == namespace,
                None => true,
            },
        }
    })
}
