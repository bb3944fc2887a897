//! What discovery keeps of a Pod. Entry: `Pod::from` an object of the API.
//! Specification, status and metadata beyond it are dropped at once: a pod costs some hundred bytes.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{self, PodCondition},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use linkerd_names::{OwnerKind, annotations, component, labels};

use crate::port_set::PortSet;

/// Label that a Deployment's pods share with their ReplicaSet.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// A pod's name and namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
}

/// The facts of a pod by which its traffic is found, labelled and encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Name and namespace.
    pub key: PodKey,
    /// Tells it from an earlier pod of the same name.
    pub uid: String,
    /// Its addresses, one for each family.
    pub ips: Vec<IpAddr>,
    /// Whether its addresses are its own or the node's.
    pub network: Network,
    /// Where it stands in its life.
    pub stage: Stage,
    /// Whether it was ready when its node was last heard of.
    pub readiness: Readiness,
    /// The object that made it.
    pub controller: Option<Controller>,
    /// The workload that inject wrote onto it.
    pub labelled_owner: Option<(OwnerKind, String)>,
    /// Namespace of the control plane that meshed it.
    pub control_plane_namespace: Option<String>,
    /// Whether inject marked it for TLS.
    pub tls: TlsMark,
    /// Hash of the template that it was made of.
    pub template_hash: Option<String>,
    /// Ports whose traffic does not enter its proxy.
    pub skip_inbound_ports: PortSet,
    /// Ports that are never to be read as HTTP.
    pub opaque_ports: PortSet,
    /// The port at which its proxy takes the pod's connections.
    pub inbound_port: Option<u16>,
}

/// Whose addresses a pod has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Its own.
    #[default]
    Pod,
    /// The node's, which it shares with others: an address says nothing of who answers.
    Host,
}

/// Stages of a pod's life, as far as they matter to its traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It came to an end: its address may be another's by now.
    #[default]
    Ended,
    /// Not yet running.
    Pending,
    /// Running, and asked to end.
    Terminating,
    /// Running.
    Running,
}

/// What kubelet last said of a pod, whatever others say meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// A probe or a readiness gate fails, or has not passed yet.
    #[default]
    NotReady,
    /// All probes and gates pass.
    Ready,
}

impl Readiness {
    /// Reads the conditions of a pod.
    ///
    /// When a node is silent for 40 s, the node lifecycle controller sets the status of `Ready`, and of
    /// nothing else, to `False` in all its pods. Kubelet sets `ContainersReady` along with it, or, when
    /// only a gate fails, gives `Ready` a reason. So an unready pod without a reason whose containers
    /// are ready was made unready by the controller.
    fn of(conditions: &[PodCondition]) -> Self {
        let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let containers_ready =
            find("ContainersReady").is_some_and(|condition| condition.status == "True");
        let kubelet_says_ready = find("Ready").is_some_and(|condition| {
            condition.status == "True"
                || condition.status == "False"
                    && condition.reason.as_deref().unwrap_or_default().is_empty()
        });
        if containers_ready && kubelet_says_ready {
            Self::Ready
        } else {
            Self::NotReady
        }
    }
}

/// Whether inject marked a pod for TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMark {
    /// No certificate is issued for it.
    #[default]
    Absent,
    /// It has, or will have, a certificate.
    Present,
}

/// A reference to a managing controller. The kind is any, not only those of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// API group and version: other groups have kinds of the same name.
    pub api_version: String,
    /// Kind as the API writes it.
    pub kind: String,
    /// Name; the namespace is that of the managed object.
    pub name: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Controller {
    /// The managing controller among an object's owners.
    pub fn of(owners: Option<Vec<OwnerReference>>) -> Option<Self> {
        owners?
            .into_iter()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| Self {
                api_version: owner.api_version,
                kind: owner.kind,
                name: owner.name,
            })
    }
}

impl From<v1::Pod> for Pod {
    fn from(object: v1::Pod) -> Self {
        let ObjectMeta {
            namespace,
            name,
            uid,
            labels,
            annotations,
            owner_references,
            deletion_timestamp,
            ..
        } = object.metadata;
        let mut labels = labels.unwrap_or_default();
        let annotations = annotations.unwrap_or_default();
        let spec = object.spec.unwrap_or_default();
        let host_network = spec.host_network.unwrap_or(false);
        let status = object.status.unwrap_or_default();
        let stage = match (status.phase.as_deref(), deletion_timestamp) {
            (Some("Running"), None) => Stage::Running,
            (Some("Running"), Some(_)) => Stage::Terminating,
            (Some("Pending"), None) => Stage::Pending,
            _ => Stage::Ended,
        };
        let readiness = Readiness::of(status.conditions.as_deref().unwrap_or_default());
        let pod_ips = status
            .pod_ips
            .unwrap_or_default()
            .into_iter()
            .map(|ip| ip.ip);
        let mut ips: Vec<IpAddr> = pod_ips.filter_map(|ip| ip.parse().ok()).collect();
        if ips.is_empty() {
            ips.extend(status.pod_ip.and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        Self {
            key: PodKey {
                namespace: namespace.unwrap_or_default(),
                name: name.unwrap_or_default(),
            },
            uid: uid.unwrap_or_default(),
            ips,
            network: if host_network {
                Network::Host
            } else {
                Network::Pod
            },
            stage,
            readiness,
            controller: Controller::of(owner_references),
            labelled_owner: labelled_owner(&mut labels),
            control_plane_namespace: labels
                .remove(labels::CONTROL_PLANE_NAMESPACE)
                .filter(|namespace| !namespace.is_empty()),
            tls: match labels.remove(labels::TLS_MODE) {
                Some(_) => TlsMark::Present,
                None => TlsMark::Absent,
            },
            template_hash: labels.remove(TEMPLATE_HASH_LABEL),
            skip_inbound_ports: ports(&annotations, annotations::SKIP_INBOUND_PORTS),
            opaque_ports: PortSet::opaque(
                annotations
                    .get(annotations::OPAQUE_PORTS)
                    .map(String::as_str),
                |name| named_port(&spec, name),
            ),
            inbound_port: inbound_port(spec),
        }
    }
}

fn labelled_owner(labels: &mut BTreeMap<String, String>) -> Option<(OwnerKind, String)> {
    OwnerKind::ALL.into_iter().find_map(|kind| {
        let name = labels.remove(&kind.pod_label()?)?;
        (!name.is_empty()).then_some((kind, name))
    })
}

/// The number of a container's port.
fn named_port(spec: &v1::PodSpec, name: &str) -> Option<u16> {
    let containers = spec.init_containers.iter().flatten();
    let mut ports = containers
        .chain(&spec.containers)
        .flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(name))?;
    u16::try_from(port.container_port).ok()
}

/// A native sidecar stands among the init containers.
fn inbound_port(spec: v1::PodSpec) -> Option<u16> {
    let containers = spec.init_containers.into_iter().flatten();
    let proxy = containers
        .chain(spec.containers)
        .find(|container| container.name == component::PROXY_CONTAINER)?;
    let port = proxy
        .ports?
        .into_iter()
        .find(|port| port.name.as_deref() == Some(component::INBOUND_PORT_NAME))?;
    u16::try_from(port.container_port).ok()
}

fn ports(annotations: &BTreeMap<String, String>, key: &str) -> PortSet {
    annotations
        .get(key)
        .map(|text| PortSet::parse(text))
        .unwrap_or_default()
}
