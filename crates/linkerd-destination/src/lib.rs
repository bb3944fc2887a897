//! Discovery: which endpoints has a target, and who are they; and certificates for those who prove it.
//! Entry: [`run`]. Objects of Kubernetes go into [`index`], answers come out of [`destination`] and
//! [`identity`].

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use linkerd_names::InvalidIdentity;
use linkerd_process::Readiness;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub mod cluster;
pub mod destination;
pub mod endpoints;
mod follow;
pub mod identity;
mod inbound_policies;
pub mod inbound_policy;
pub mod index;
pub mod metrics;
mod multimap;
pub mod node;
mod outbound_policies;
pub mod outbound_policy;
pub mod owner;
pub mod pod;
pub mod port_set;
pub mod profile;
mod reference;
pub mod server;
pub mod service;
pub mod slice;
pub mod streams;
pub mod tables;
pub mod target;
pub mod update;
pub mod watch;
pub mod workload;

use crate::{
    destination::DestinationService,
    index::Index,
    metrics::{IdentityMetrics, Metrics},
    streams::Streams,
};

/// What the process is told on its command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to serve proxies.
    pub addr: SocketAddr,
    /// Where to serve `/live`, `/ready` and `/metrics`.
    pub admin_addr: SocketAddr,
    /// The namespace whose control plane we are part of.
    pub control_plane_namespace: String,
    /// Zone of the cluster.
    pub cluster_domain: String,
    /// The identity service; none = it is not served, and there is no need for the root.
    pub identity: Option<IdentityConfig>,
}

/// What the process is told about the identity service.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Where to serve it.
    pub addr: SocketAddr,
    /// Folder with the root.
    pub root_dir: PathBuf,
    /// How long a certificate is valid.
    pub leaf_lifetime: Duration,
}

/// Serves until `shutdown`. Ready once everything in the cluster has been listed.
///
/// # Errors
/// When a port cannot be bound, no Kubernetes configuration is found, the identity service cannot be served,
/// or a watch task dies; at once, whatever else goes on.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Config {
        addr,
        admin_addr,
        control_plane_namespace,
        cluster_domain,
        identity,
    } = config;
    let index = Index::new(&control_plane_namespace);
    let mut registry = Registry::default();
    linkerd_process::register_process_metrics(&mut registry);
    let metrics = Metrics::register(&index, &mut registry);
    let readiness = Readiness::default();

    let listener = bind(addr).await?;
    let admin_listener = bind(admin_addr).await?;
    info!(addr = %listener.local_addr()?, admin_addr = %admin_listener.local_addr()?, "listening");
    let client = linkerd_kubernetes::client()
        .await
        .context("cannot reach Kubernetes")?;

    let identity = identity_service(
        identity,
        control_plane_namespace,
        client.clone(),
        index.clone(),
        &mut registry,
        shutdown.clone(),
    )
    .await?;
    let admin = linkerd_process::serve_admin(
        admin_listener,
        Arc::new(registry),
        readiness.clone(),
        shutdown.clone(),
    );
    let service = DestinationService {
        index: index.clone(),
        cluster_domain,
        metrics: metrics.clone(),
        streams: Streams::default(),
        shutdown: shutdown.clone(),
    };
    let watches = watch::watch_cluster(client, index, metrics, readiness);
    let serving = async {
        let destination = async {
            server::serve(listener, service, shutdown).await;
            Ok(())
        };
        let admin = async {
            admin.await;
            Ok(())
        };
        // Without one of them the process is not what it says to be: Kubernetes starts another.
        tokio::try_join!(identity, destination, admin).context("the identity service broke")?;
        Ok(())
    };
    tokio::select! {
        served = serving => served,
        died = watches => died.context("a watch died"),
    }
}

/// Binds the identity service's port, if it is wanted; the future serves it until `shutdown`.
async fn identity_service(
    config: Option<IdentityConfig>,
    control_plane_namespace: String,
    client: Client,
    index: Index,
    registry: &mut Registry,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = Result<(), InvalidIdentity>> + use<>> {
    let parts = match config {
        None => None,
        Some(config) => Some((
            bind(config.addr).await?,
            IdentityMetrics::register(registry),
            config,
        )),
    };
    Ok(async move {
        let Some((listener, metrics, config)) = parts else {
            return Ok(());
        };
        let settings = identity::Settings {
            root_dir: config.root_dir,
            leaf_lifetime: config.leaf_lifetime,
            control_plane_namespace,
        };
        identity::run(listener, settings, client, index, metrics, shutdown).await
    })
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}"))
}
