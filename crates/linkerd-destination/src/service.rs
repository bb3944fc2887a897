//! What discovery keeps of a Service. Entry: `Service::from` an object of the API.
//! Everything else of the object is dropped at once.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{self, LoadBalancerIngress, ServicePort as ApiServicePort},
    apimachinery::pkg::apis::meta::v1::Time,
};
use linkerd_names::annotations;

use crate::{port_set::PortSet, target::ServiceKey};

/// A Service that has endpoints; one of type ExternalName is known without ports or addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Name and namespace.
    pub key: ServiceKey,
    /// When it was created, by the API server's clock: nobody else can set it.
    pub created: Option<Time>,
    /// Addresses that the API server gave to this Service alone.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses of load balancers that deliver without changing the connection.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Addresses that whoever wrote the Service claims; nobody checks them.
    pub external_ips: Vec<IpAddr>,
    /// Whether the first of the Service's families is IPv6.
    pub prefers_ipv6: bool,
    /// TCP ports.
    pub ports: Vec<ServicePort>,
    /// Ports that are never to be read as HTTP.
    pub opaque_ports: PortSet,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty when the Service has one port. Slices name their ports alike.
    pub name: String,
    /// The port that clients know.
    pub port: u16,
    /// The port on every node, if there is one.
    pub node_port: Option<u16>,
}

impl From<v1::Service> for Service {
    fn from(object: v1::Service) -> Self {
        let metadata = object.metadata;
        let opaque_ports = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(annotations::OPAQUE_PORTS))
            .map(String::as_str);
        let key = ServiceKey {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
        };
        let spec = object.spec.unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            return Self {
                key,
                ..Self::default()
            };
        }
        let ingress = object
            .status
            .and_then(|status| status.load_balancer)
            .and_then(|load_balancer| load_balancer.ingress)
            .unwrap_or_default();
        let cluster_ips = spec
            .cluster_ips
            .unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let prefers_ipv6 = spec
            .ip_families
            .and_then(|families| families.into_iter().next())
            .is_some_and(|family| family == "IPv6");
        let ports: Vec<ServicePort> = spec
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter_map(tcp_port)
            .collect();
        let opaque_ports = PortSet::opaque(opaque_ports, |name| {
            let port = ports.iter().find(|port| port.name == name)?;
            Some(port.port)
        });
        Self {
            key,
            created: metadata.creation_timestamp,
            cluster_ips: parsed(cluster_ips),
            load_balancer_ips: parsed(ingress.into_iter().filter_map(transparent_ip)),
            external_ips: parsed(spec.external_ips.unwrap_or_default()),
            prefers_ipv6,
            ports,
            opaque_ports,
        }
    }
}

impl Service {
    /// Addresses that others may claim as well.
    pub(crate) fn outside_ips(&self) -> impl Iterator<Item = &IpAddr> {
        self.load_balancer_ips.iter().chain(&self.external_ips)
    }
}

/// `None` stands among the cluster IPs of a headless Service.
fn parsed(ips: impl IntoIterator<Item = String>) -> Vec<IpAddr> {
    ips.into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// A load balancer in mode `Proxy` ends connections itself: what goes to it must reach it.
fn transparent_ip(ingress: LoadBalancerIngress) -> Option<String> {
    ingress
        .ip
        .filter(|_| ingress.ip_mode.as_deref() != Some("Proxy"))
}

fn tcp_port(port: ApiServicePort) -> Option<ServicePort> {
    if port.protocol.is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    Some(ServicePort {
        name: port.name.unwrap_or_default(),
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|number| u16::try_from(number).ok()),
    })
}
