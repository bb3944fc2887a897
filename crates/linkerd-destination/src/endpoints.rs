//! The answer to a target at one moment: [`Endpoints`], immutable and shared by all who asked.

use std::{net::SocketAddr, sync::Arc};

use linkerd_names::{Identity, Owner};

use crate::{pod::PodKey, port_set::PortSet, target::ServiceKey};

/// What stands behind a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// What the target turned out to be.
    pub source: Source,
    /// Sorted by address, each address once.
    pub list: Vec<Endpoint>,
}

/// What a target is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing in the cluster: the caller may go where it wanted to go.
    #[default]
    Unknown,
    /// A port of a Service.
    Service {
        /// The Service.
        key: ServiceKey,
        /// The Service's own port, also when it was asked for by its NodePort.
        port: u16,
        /// Whether it is never to be read as HTTP.
        opaque: bool,
        /// Whether somebody has written so.
        listed_opaque: bool,
    },
    /// One pod, which is the only endpoint: at the address asked for, or at all of its own when it
    /// was asked for by name.
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// Whether it is never to be read as HTTP.
        opaque: bool,
    },
}

/// An address that takes a target's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is known of it; nothing when it is no pod of the cluster.
    pub workload: Option<Arc<Workload>>,
}

/// What is known of a pod that is an endpoint. One value for each pod, shared by its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The pod.
    pub pod: PodKey,
    /// The workload that the pod is part of; none while the objects between are not known.
    pub owner: Option<Owner>,
    /// Namespace of the control plane that meshed it.
    pub control_plane_namespace: Option<String>,
    /// Hash of the pod's template.
    pub template_hash: Option<String>,
    /// The identity that its proxy proves.
    pub identity: Option<Identity>,
    /// Ports whose traffic does not enter its proxy.
    pub skip_inbound_ports: PortSet,
    /// Ports that are never to be read as HTTP.
    pub opaque_ports: PortSet,
    /// The port at which its proxy takes the pod's connections.
    pub inbound_port: Option<u16>,
}

/// How a proxy of Linkerd may reach an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The proxy's own port, for connections with a header that tells the application's.
    pub inbound_port: u16,
    /// Whether the bytes are never to be read as HTTP.
    pub opaque: bool,
}

impl Endpoints {
    /// Whether the target is something in the cluster.
    pub fn exists(&self) -> bool {
        self.source != Source::Unknown
    }
}

impl Endpoint {
    /// What the proxy at this address understands beyond the application's own protocol; none where
    /// no proxy proves who it is.
    pub fn transport(&self) -> Option<Transport> {
        self.identity()?;
        let workload = self.workload.as_ref()?;
        Some(Transport {
            inbound_port: workload.inbound_port?,
            opaque: workload.opaque_ports.contains(self.address.port()),
        })
    }

    /// Whether somebody has written that what comes here is never to be read as HTTP.
    pub fn is_listed_opaque(&self) -> bool {
        let workload = self.workload.as_ref();
        workload.is_some_and(|workload| workload.opaque_ports.lists(self.address.port()))
    }

    /// The identity that answers at this address: none when the port goes around the proxy.
    pub fn identity(&self) -> Option<&Identity> {
        self.workload
            .as_ref()
            .filter(|workload| !workload.skip_inbound_ports.contains(self.address.port()))
            .and_then(|workload| workload.identity.as_ref())
    }
}
