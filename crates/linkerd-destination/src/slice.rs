//! What discovery keeps of an EndpointSlice. Entry: `Slice::from` an object of the API.
//! Endpoints that can never take traffic as they are, are dropped here already.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{self, EndpointConditions, EndpointPort};

use crate::{pod::PodKey, target::ServiceKey};

/// Label by which a slice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Label by which a slice names its writer.
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// Kubernetes' own writer: with it, an endpoint is ready exactly when its pod is.
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// Name and namespace of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceKey {
    /// Namespace of the slice and its Service.
    pub namespace: String,
    /// Name of the slice.
    pub name: String,
}

/// A part of a Service's endpoints, all of one address family and with the same ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Name and namespace.
    pub key: SliceKey,
    /// The Service.
    pub service: ServiceKey,
    /// TCP ports.
    pub ports: Vec<SlicePort>,
    /// The endpoints that are not on their way out.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A TCP port of every endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name of the Service's port that it serves.
    pub name: String,
    /// The number; none means the very port that was asked for.
    pub port: Option<u16>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address. Slices may list more than one; as kube-proxy, we look at the first.
    pub ip: IpAddr,
    /// The pod that it is said to be.
    pub pod: Option<PodKey>,
    /// Its host name within a headless Service.
    pub hostname: Option<String>,
    /// Whether it is there for traffic.
    pub turn: Turn,
}

/// When an endpoint has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Always: it is ready.
    Always,
    /// When nothing of its Service is ready, and its pod is not to blame for that.
    Last,
}

impl From<v1::EndpointSlice> for Slice {
    fn from(object: v1::EndpointSlice) -> Self {
        let namespace = object.metadata.namespace.unwrap_or_default();
        let mut labels = object.metadata.labels.unwrap_or_default();
        let service_name = labels.remove(SERVICE_NAME_LABEL).unwrap_or_default();
        let mirrors_pods = labels
            .get(MANAGED_BY_LABEL)
            .is_some_and(|writer| writer == CONTROLLER);
        let endpoints = object
            .endpoints
            .into_iter()
            .filter_map(|endpoint| {
                // Whoever else writes slices may have reasons that the pod does not tell.
                let turn = turn(endpoint.conditions.as_ref())
                    .filter(|turn| *turn == Turn::Always || mirrors_pods)?;
                slice_endpoint(endpoint, &namespace, turn)
            })
            .collect();
        let ports = object
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(tcp_port)
            .collect();
        Self {
            service: ServiceKey {
                namespace: namespace.clone(),
                name: service_name,
            },
            key: SliceKey {
                namespace,
                name: object.metadata.name.unwrap_or_default(),
            },
            ports,
            endpoints,
        }
    }
}

/// Unknown readiness counts as ready, as the API defines it. None for one on its way out.
fn turn(conditions: Option<&EndpointConditions>) -> Option<Turn> {
    let Some(conditions) = conditions else {
        return Some(Turn::Always);
    };
    if conditions.terminating.unwrap_or(false) {
        return None;
    }
    Some(match conditions.ready.unwrap_or(true) {
        true => Turn::Always,
        false => Turn::Last,
    })
}

fn slice_endpoint(endpoint: v1::Endpoint, namespace: &str, turn: Turn) -> Option<SliceEndpoint> {
    let pod = endpoint
        .target_ref
        .filter(|target| target.kind.as_deref() == Some("Pod"))
        .map(|target| PodKey {
            namespace: target.namespace.unwrap_or_else(|| namespace.to_owned()),
            name: target.name.unwrap_or_default(),
        });
    Some(SliceEndpoint {
        ip: endpoint.addresses.first()?.parse().ok()?,
        pod,
        hostname: endpoint.hostname,
        turn,
    })
}

fn tcp_port(port: EndpointPort) -> Option<SlicePort> {
    if port.protocol.is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    let number = match port.port {
        Some(number) => Some(u16::try_from(number).ok()?),
        None => None,
    };
    Some(SlicePort {
        name: port.name.unwrap_or_default(),
        port: number,
    })
}
