//! The identity service: a pod shows its ServiceAccount token, and gets a certificate for a key that never
//! leaves it. Entry: [`run`]. Who a pod is comes from Kubernetes alone, never from what the pod says;
//! what is signed is decided in [`service`], the root comes from the volume that [`authority`] follows.

pub mod authority;
pub mod limit;
pub mod proof;
pub mod refusal;
pub mod review;
pub mod server;
pub mod service;

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use linkerd_names::{InvalidIdentity, OwnerKind, component};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{index::Index, metrics::IdentityMetrics};

/// What the identity service is told on the command line.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder with the root, as the Secret has it.
    pub root_dir: PathBuf,
    /// How long a certificate is valid.
    pub leaf_lifetime: Duration,
    /// The namespace whose control plane we are part of.
    pub control_plane_namespace: String,
}

/// Serves on `listener` until `shutdown`. While there is no root, every question is refused.
///
/// # Errors
/// When the namespace of the control plane makes no identity.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    client: Client,
    index: Index,
    metrics: IdentityMetrics,
    shutdown: CancellationToken,
) -> Result<(), InvalidIdentity> {
    let Settings {
        root_dir,
        leaf_lifetime,
        control_plane_namespace,
    } = settings;
    let own = linkerd_names::Identity::new(
        component::DESTINATION,
        OwnerKind::Deployment,
        &control_plane_namespace,
        &control_plane_namespace,
    )?;
    let (sender, authority) = tokio::sync::watch::channel(None);
    let follow = authority::follow(root_dir, own, sender, metrics.clone());
    let service = Arc::new(service::Certifier::new(
        client,
        index,
        authority.clone(),
        metrics,
        leaf_lifetime,
        control_plane_namespace,
    ));
    let serve = server::serve(listener, authority, service, shutdown);
    // Only serving ends, with the shutdown.
    tokio::select! {
        () = serve => {}
        () = follow => {}
    }
    Ok(())
}
