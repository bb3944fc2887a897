//! The process `linkerd-api`: follows the cluster, then answers people on a gRPC port.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use linkerd_api::{
    ApiService, Cluster, History, Metrics, Prometheus, SERIES_MAX_DEFAULT, serve_grpc, serve_http,
};
use linkerd_names::{CONTROL_PLANE_NAMESPACE_DEFAULT, ports};
use linkerd_process::Readiness;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing::info;

/// Answers people about the mesh.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Namespace of the control plane
    #[arg(long, env = "LINKERD_NAMESPACE", default_value = CONTROL_PLANE_NAMESPACE_DEFAULT)]
    control_plane_namespace: String,
    /// trace, debug, info, warn or error
    #[arg(long, default_value = "info")]
    log_level: tracing::Level,
    /// Address of /live, /ready and /metrics
    #[arg(long, default_value_t = ([0, 0, 0, 0], ports::ADMIN_API).into())]
    admin_addr: SocketAddr,
    /// Address of the gRPC service
    #[arg(long, default_value_t = ([0, 0, 0, 0], ports::API).into())]
    addr: SocketAddr,
    /// Address of the HTTP server that tells Prometheus what to scrape
    #[arg(long, default_value_t = ([0, 0, 0, 0], ports::API_HTTP).into())]
    http_addr: SocketAddr,
    /// Address of the dashboard, which anybody may read who reaches it
    #[arg(long, default_value_t = ([127, 0, 0, 1], ports::DASHBOARD).into())]
    dashboard_addr: SocketAddr,
    /// Prometheus that scrapes the proxies; without one this process keeps their last hour itself
    #[arg(long)]
    prometheus_url: Option<String>,
    /// Series that are kept at most where there is no Prometheus
    #[arg(long, value_name = "COUNT", default_value_t = SERIES_MAX_DEFAULT)]
    history_series_max: usize,
}

fn main() -> anyhow::Result<()> {
    linkerd_process::install_crypto_provider();
    let args = Args::parse();
    linkerd_process::init_logs_at(args.log_level)?;
    tokio::runtime::Runtime::new()
        .context("cannot start the runtime")?
        .block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        control_plane_namespace,
        log_level: _,
        admin_addr,
        addr,
        http_addr,
        dashboard_addr,
        prometheus_url,
        history_series_max,
    } = args;
    let shutdown = linkerd_process::shutdown_on_signal();
    let kubernetes = linkerd_kubernetes::client()
        .await
        .context("cannot configure the Kubernetes client")?;
    let cluster = Arc::new(Cluster::default());
    let mut registry = Registry::default();
    linkerd_process::register_process_metrics(&mut registry);
    let metrics = match &prometheus_url {
        Some(url) => Metrics::Prometheus(Box::new(Prometheus::new(url)?)),
        None => Metrics::History(History::new(history_series_max, &mut registry)),
    };

    let admin = TcpListener::bind(admin_addr)
        .await
        .with_context(|| format!("cannot listen on {admin_addr}"))?;
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}"))?;
    let http = TcpListener::bind(http_addr)
        .await
        .with_context(|| format!("cannot listen on {http_addr}"))?;
    let dashboard = TcpListener::bind(dashboard_addr)
        .await
        .with_context(|| format!("cannot listen on {dashboard_addr}"))?;
    info!(
        addr = %listener.local_addr()?,
        http = %http.local_addr()?,
        dashboard = %dashboard.local_addr()?,
        admin = %admin.local_addr()?,
        metrics = prometheus_url.as_deref().unwrap_or("own history"),
        "listening"
    );

    let readiness = Readiness::default();
    let admin = tokio::spawn(linkerd_process::serve_admin(
        admin,
        Arc::new(registry),
        readiness.clone(),
        shutdown.clone(),
    ));
    let targets = linkerd_api::router(cluster.clone(), &control_plane_namespace);
    let service = ApiService {
        cluster: cluster.clone(),
        metrics: metrics.clone(),
        kubernetes: kubernetes.clone(),
        control_plane_namespace: control_plane_namespace.clone(),
        taps: Arc::default(),
        questions: Arc::default(),
    };
    let follow = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = cluster.follow(&kubernetes) => {}
        }
    };
    let remember = async {
        let Metrics::History(history) = &metrics else {
            return;
        };
        cluster.wait_synced().await;
        history.follow(&cluster, &control_plane_namespace).await;
    };
    let remember = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = remember => shutdown.cancelled().await,
        }
    };
    let serve = async {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = cluster.wait_synced() => {}
        }
        readiness.set_ready(true);
        info!("the cluster is known; ready");
        // Before the cluster is known Prometheus gets no answer, and keeps the targets it has.
        let targets = serve_http(http, targets, shutdown.clone());
        let page = linkerd_api::dashboard(service.clone());
        let page = serve_http(dashboard, page, shutdown.clone());
        let grpc = serve_grpc(listener, service, shutdown.clone());
        tokio::join!(grpc, targets, page);
        readiness.set_ready(false);
    };
    tokio::join!(follow, remember, serve);
    admin.await.context("the admin server broke")
}
