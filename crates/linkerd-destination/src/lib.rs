//! Discovery: which endpoints has a target, and who are they. Entry: [`run`].
//! Objects of Kubernetes go into [`index`], answers come out of [`destination`].

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use kube::Client;
use linkerd_process::Readiness;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub mod cluster;
pub mod destination;
pub mod endpoints;
mod follow;
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
pub mod tables;
pub mod target;
pub mod update;
pub mod watch;
pub mod workload;

use crate::{destination::DestinationService, index::Index, metrics::Metrics};

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
}

/// Serves until `shutdown`. Ready once everything in the cluster has been listed.
///
/// # Errors
/// When a port cannot be bound, no Kubernetes configuration is found, or a watch task dies.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Config {
        addr,
        admin_addr,
        control_plane_namespace,
        cluster_domain,
    } = config;
    let index = Index::new(&control_plane_namespace);
    let mut registry = Registry::default();
    linkerd_process::register_process_metrics(&mut registry);
    let metrics = Metrics::register(&index, &mut registry);
    let readiness = Readiness::default();

    let listener = bind(addr).await?;
    let admin_listener = bind(admin_addr).await?;
    info!(addr = %listener.local_addr()?, admin_addr = %admin_listener.local_addr()?, "listening");
    let client = Client::try_default()
        .await
        .context("cannot reach Kubernetes")?;

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
        shutdown: shutdown.clone(),
    };
    let watches = watch::watch_cluster(client, index, metrics, readiness);
    let serving = async {
        let (served, ()) = tokio::join!(server::serve(listener, service, shutdown.clone()), admin);
        served.context("the server broke")
    };
    tokio::select! {
        served = serving => served,
        died = watches => died.context("a watch died"),
    }
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}"))
}
