//! How kubelet's probes arrive in a pod with a proxy. Entry: [`plan`].

use linkerd_names::{NoTls, annotations};
use serde::Serialize;
use serde_json::Value;

use super::{
    Fate,
    pod::{Pod, text},
};
use crate::tcp_probes;

/// One probe of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbePlan {
    /// The container's name.
    pub container: String,
    /// `startup`, `readiness` or `liveness`.
    pub kind: &'static str,
    /// What it does: `GET :8080/healthz`.
    pub action: String,
    /// How it arrives, in words.
    pub passes: &'static str,
    /// What the proxy records about its connections; none when it sees none.
    pub no_tls_reason: Option<&'static str>,
    /// Whether it cannot fail any more, whatever the application does.
    pub blind: bool,
}

const KINDS: [(&str, &str); 3] = [
    ("startup", "startupProbe"),
    ("readiness", "readinessProbe"),
    ("liveness", "livenessProbe"),
];

// Ways that probes of several kinds take.
const AROUND: &str = "past the proxy, as before";
const ELSEWHERE: &str = "to another host than the pod";
const NOWHERE: &str = "nowhere: its container names no such port";
const ASKED: &str = "kubelet asks the proxy, which connects";

/// Returns every probe of the pod's containers in the order of their lists.
pub(super) fn plan(pod: &Pod<'_>) -> Vec<ProbePlan> {
    let mut plans = Vec::new();
    for container in pod.serving_containers() {
        for (kind, field) in KINDS {
            if let Some(plan) = one(pod, container, kind, field) {
                plans.push(plan);
            }
        }
    }
    plans
}

fn one(pod: &Pod<'_>, container: &Value, kind: &'static str, field: &str) -> Option<ProbePlan> {
    let probe = &container[field];
    let through = |port: &Value| {
        let port = tcp_probes::port_number(&container["ports"], port);
        let skipped = port.is_some_and(|port| pod.annotated(annotations::SKIP_INBOUND_PORTS, port));
        pod.fate == Fate::Meshed && !skipped
    };
    let shown = |port: &Value| match port.as_str() {
        Some(name) => name.to_owned(),
        None => port.to_string(),
    };
    let unknown = |port: &Value| {
        port.is_string() && tcp_probes::port_number(&container["ports"], port).is_none()
    };
    let (action, passes, reason, blind) = if let http @ Value::Object(_) = &probe["httpGet"] {
        let tls = http["scheme"] == "HTTPS";
        let scheme = if tls { "https " } else { "" };
        let path = text(&http["path"]);
        let action = format!("GET {scheme}:{}{path}", shown(&http["port"]));
        if !text(&http["host"]).is_empty() {
            (action, ELSEWHERE, None, false)
        } else if unknown(&http["port"]) {
            (action, NOWHERE, None, false)
        } else if !through(&http["port"]) {
            (action, AROUND, None, false)
        } else if tls {
            let reason = Some(NoTls::PeerSentPlaintext);
            (action, "through the proxy, in its own TLS", reason, false)
        } else {
            let reason = Some(NoTls::Probe);
            (action, "through the proxy, in plaintext", reason, false)
        }
    } else if let grpc @ Value::Object(_) = &probe["grpc"] {
        let action = format!("gRPC :{}", shown(&grpc["port"]));
        if through(&grpc["port"]) {
            let reason = Some(NoTls::Probe);
            (action, "through the proxy, in plaintext", reason, false)
        } else {
            (action, AROUND, None, false)
        }
    } else if let tcp @ Value::Object(_) = &probe["tcpSocket"] {
        let action = format!("connect :{}", shown(&tcp["port"]));
        if !text(&tcp["host"]).is_empty() {
            (action, ELSEWHERE, None, false)
        } else if unknown(&tcp["port"]) {
            (action, NOWHERE, None, false)
        } else if pod.asks_proxy(container, field) {
            (action, ASKED, None, false)
        } else if through(&tcp["port"]) {
            let reason = Some(NoTls::PeerSentPlaintext);
            (
                action,
                "the proxy accepts, whoever listens behind it",
                reason,
                true,
            )
        } else {
            (action, AROUND, None, false)
        }
    } else if let exec @ Value::Object(_) = &probe["exec"] {
        let program = exec["command"].get(0).map(text).unwrap_or_default();
        let passes = "within the container, as before";
        (format!("exec {program}"), passes, None, false)
    } else {
        return None;
    };
    let reason = reason.map(|reason| {
        if pod.has_tls() || reason == NoTls::Probe {
            reason
        } else {
            NoTls::Disabled
        }
    });
    Some(ProbePlan {
        container: text(&container["name"]).to_owned(),
        kind,
        action,
        passes,
        no_tls_reason: reason.map(NoTls::as_str),
        blind,
    })
}
