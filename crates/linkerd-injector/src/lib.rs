//! The admission webhook: pods that ask for it, or whose namespace does, get the proxy as they are created.
//! Entry: [`run`]. What is added is decided in `linkerd-inject`; whether, in [`decision`]. A pod is never
//! refused: what cannot be meshed starts without a proxy, and a metric and a warning say why. [`audit`] finds such
//! pods, and those about which we were not asked, and writes the Event.

pub mod audit;
pub mod certificate;
pub mod claims;
pub mod cluster;
pub mod decision;
pub mod events;
pub mod judge;
pub mod metrics;
pub mod notice;
pub mod seats;
pub mod server;
pub mod unmeshed;
pub mod webhook;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use linkerd_inject::Options;
use linkerd_process::{Readiness, register_process_metrics, serve_admin};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    audit::{Audit, Pace},
    cluster::Cluster,
    events::Writer,
    judge::Judge,
    metrics::Metrics,
    webhook::Webhook,
};

/// Events that wait to be written. More pods than these are told of at once only when something is wrong with all.
const EVENTS_MAX: usize = 256;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API server reaches the webhook.
    pub addr: SocketAddr,
    /// Address of `/live`, `/ready` and `/metrics`.
    pub admin_addr: SocketAddr,
    /// Folder with the serving certificate and its key.
    pub certificate_dir: PathBuf,
    /// What is added to pods.
    pub options: Options,
    /// Name of this replica.
    pub pod_name: String,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When there is no cluster, or an address cannot be listened on.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Config {
        addr,
        admin_addr,
        certificate_dir,
        options,
        pod_name,
    } = config;
    let client = linkerd_kubernetes::client()
        .await
        .context("cannot find the cluster")?;
    let bind = async |addr: SocketAddr| {
        TcpListener::bind(addr)
            .await
            .with_context(|| format!("cannot listen on {addr}"))
    };
    let (listener, admin_listener) = (bind(addr).await?, bind(admin_addr).await?);
    info!(
        version = linkerd_names::VERSION,
        addr = %listener.local_addr()?,
        admin = %admin_listener.local_addr()?,
        control_plane_namespace = options.control_plane_namespace,
        tls = ?options.tls,
        identity = ?options.identity,
        "linkerd-injector",
    );

    let mut registry = Registry::default();
    register_process_metrics(&mut registry);
    let metrics = Metrics::new(&mut registry);
    let readiness = Readiness::default();
    let (event_sender, event_receiver) = mpsc::channel(EVENTS_MAX);
    let (tls_sender, tls) = watch::channel(None);
    let judge = Judge {
        cluster: Cluster::new(client.clone()),
        options,
    };
    let writer = Writer::new(client.clone(), pod_name);
    let audit = Audit::new(
        client,
        judge.clone(),
        metrics.clone(),
        writer.clone(),
        Pace::default(),
    );
    let webhook = Arc::new(Webhook {
        judge,
        metrics: metrics.clone(),
        events: event_sender,
    });

    let admin = serve_admin(
        admin_listener,
        Arc::new(registry),
        readiness.clone(),
        shutdown.clone(),
    );
    let writing = events::write_all(writer, event_receiver, metrics.clone());
    let following = certificate::follow(certificate_dir, tls_sender, readiness, metrics);
    let served = async {
        server::serve(listener, tls, webhook, shutdown.clone()).await;
    };
    tokio::join!(
        admin,
        served,
        shutdown.run_until_cancelled(following),
        shutdown.run_until_cancelled(writing),
        shutdown.run_until_cancelled(Box::pin(audit.run())),
    );
    info!("stopped");
    Ok(())
}
