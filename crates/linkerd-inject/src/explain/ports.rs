//! What becomes of connections to each port of a pod. Entry: [`plan`].

use linkerd_names::{NoTls, annotations};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    Fate,
    pod::{Pod, items, text},
    protocol::{Expected, Protocol, expected},
    surroundings::Service,
};

/// One port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortPlan {
    /// The container that names the port; none when only a Service does.
    pub container: Option<String>,
    /// Its number.
    pub port: u16,
    /// Its name, of the container or of the Service.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub transport: String,
    /// Services of the manifests that lead to it.
    pub services: Vec<String>,
    /// What it carries, as far as the manifests say.
    pub expected: Expected,
    /// What the proxy does with its connections.
    pub handling: Handling,
    /// Whether connections from meshed pods with TLS are encrypted, or why not.
    pub from_meshed: Secured,
    /// The same for connections from everybody else.
    pub from_others: Secured,
}

/// What the proxy does with the connections of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// The first bytes of either side decide whether there are requests in it, or just bytes.
    Detected,
    /// Bytes, without a look at them.
    Opaque,
    /// They go to the application, as `skip-inbound-ports` says.
    Skipped,
    /// They go to the application: the proxy is for TCP.
    NotTcp,
    /// There is no proxy.
    NoProxy,
}

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secured {
    /// By mutual TLS.
    MutualTls,
    /// They are not, and somebody's proxy records this reason.
    Plaintext(NoTls),
    /// They are not, and no proxy sees them.
    Unseen,
}

impl Secured {
    /// `mutual_tls`, `unseen`, or the reason for plaintext in the words of the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Plaintext(reason) => reason.as_str(),
            Self::Unseen => "unseen",
        }
    }
}

impl Serialize for Secured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Returns what becomes of each port that a container, or one of `services`, names.
pub(super) fn plan(pod: &Pod<'_>, services: &[&Service]) -> Vec<PortPlan> {
    let mut plans = Vec::new();
    for container in pod.serving_containers() {
        for port in items(&container["ports"]) {
            let Some(number) = pod.port_number(&port["containerPort"]) else {
                continue;
            };
            let container = Some(text(&container["name"]).to_owned());
            plans.push(one(pod, services, container, number, port));
        }
    }
    // Kubernetes needs no container to name a port for a Service to lead there.
    for (number, port) in services.iter().flat_map(|service| service.targets(pod)) {
        if !plans.iter().any(|plan| plan.port == number) {
            plans.push(one(pod, services, None, number, port));
        }
    }
    plans
}

fn one(
    pod: &Pod<'_>,
    services: &[&Service],
    container: Option<String>,
    number: u16,
    port: &Value,
) -> PortPlan {
    let transport = match text(&port["protocol"]) {
        "" => "TCP",
        transport => transport,
    };
    let leading = services.iter().filter_map(|service| {
        let mut targets = service.targets(pod);
        let (_, port) = targets.find(|(target, _)| *target == number)?;
        Some((*service, port))
    });
    let leading: Vec<(&Service, &Value)> = leading.collect();
    let app_protocol = leading
        .iter()
        .find_map(|(_, port)| port["appProtocol"].as_str());
    let name = port["name"].as_str().or_else(|| {
        let mut names = leading.iter().map(|(_, port)| port["name"].as_str());
        names.find_map(|name| name)
    });
    let expected = if transport == "TCP" {
        expected(app_protocol, name, number)
    } else {
        Expected {
            protocol: Protocol::Unknown,
            name: if transport == "UDP" { "UDP" } else { "SCTP" },
            evidence: super::Evidence::None,
        }
    };
    let handling = handling(pod, transport, number);
    let (from_meshed, from_others) = secured(pod, handling);
    PortPlan {
        container,
        port: number,
        name: name.map(str::to_owned),
        transport: transport.to_owned(),
        services: leading
            .iter()
            .map(|(service, _)| service.name.clone())
            .collect(),
        expected,
        handling,
        from_meshed,
        from_others,
    }
}

fn handling(pod: &Pod<'_>, transport: &str, port: u16) -> Handling {
    if transport != "TCP" {
        Handling::NotTcp
    } else if pod.fate != Fate::Meshed {
        Handling::NoProxy
    } else if pod.annotated(annotations::SKIP_INBOUND_PORTS, port) {
        Handling::Skipped
    } else if pod.is_opaque(port) {
        Handling::Opaque
    } else {
        Handling::Detected
    }
}

/// For connections from meshed pods with TLS, and for those from everybody else.
fn secured(pod: &Pod<'_>, handling: Handling) -> (Secured, Secured) {
    match handling {
        Handling::NotTcp => (Secured::Unseen, Secured::Unseen),
        // Discovery names no identity for such an address, so the client's proxy records why.
        Handling::Skipped | Handling::NoProxy => {
            (Secured::Plaintext(NoTls::PeerNotMeshed), Secured::Unseen)
        }
        Handling::Detected | Handling::Opaque if pod.has_tls() => (
            Secured::MutualTls,
            Secured::Plaintext(NoTls::PeerSentPlaintext),
        ),
        Handling::Detected | Handling::Opaque => (
            Secured::Plaintext(NoTls::Disabled),
            Secured::Plaintext(NoTls::Disabled),
        ),
    }
}
