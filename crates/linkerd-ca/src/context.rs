//! What every write of the controller needs.

use std::time::Duration;

use kube::Client;

use crate::workloads::Source;

/// The cluster, and how this control plane works in it.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Namespace of this control plane; part of every identity.
    pub control_plane_namespace: String,
    /// How long a leaf is valid.
    pub leaf_lifetime: Duration,
    /// Where the proxies that `linkerd-injector` adds get their certificates; none without an injector.
    pub injected: Option<Source>,
}
