//! What every write of the controller needs.

use std::time::Duration;

use kube::Client;

/// The cluster, and how this control plane works in it.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Namespace of this control plane; part of every identity.
    pub control_plane_namespace: String,
    /// How long a leaf is valid.
    pub leaf_lifetime: Duration,
}
