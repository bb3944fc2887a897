//! What discovery keeps of a Node: at which addresses its NodePorts answer.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name of the node.
    pub name: String,
    /// Its internal and external addresses.
    pub ips: Vec<IpAddr>,
}

impl From<v1::Node> for Node {
    fn from(object: v1::Node) -> Self {
        let addresses = object
            .status
            .and_then(|status| status.addresses)
            .unwrap_or_default();
        let ips = addresses
            .into_iter()
            .filter_map(|address| address.address.parse().ok());
        Self {
            name: object.metadata.name.unwrap_or_default(),
            ips: ips.collect(),
        }
    }
}
