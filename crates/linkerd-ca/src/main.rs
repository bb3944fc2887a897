//! Runs the CA controller.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use linkerd_ca::{
    causes,
    context::Context,
    controller::Controller,
    lease::{Candidate, Leadership},
    metrics::Metrics,
    report::Reports,
    watches::watch_all,
    workloads::Source,
};
use linkerd_issuer::lifetime;
use linkerd_names::{CONTROL_PLANE_NAMESPACE_DEFAULT, ports};
use linkerd_process::{
    Readiness, init_logs_at, install_crypto_provider, register_process_metrics, serve_admin,
    shutdown_on_signal,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Writes a certificate Secret for every workload of the mesh, and the trust bundle for its namespace.
#[derive(Parser)]
#[command(name = "linkerd-ca", version)]
struct Args {
    /// Namespace of the control plane
    #[arg(long, default_value = CONTROL_PLANE_NAMESPACE_DEFAULT)]
    control_plane_namespace: String,
    /// How much is logged: trace, debug, info, warn or error
    #[arg(long, default_value = "info")]
    log_level: tracing::Level,
    /// Address of /live, /ready and /metrics
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], ports::ADMIN_CA)))]
    admin_addr: SocketAddr,
    /// How long a certificate is valid, for example 24h, 90m or 1h30m; renewed at two thirds of it
    #[arg(long, default_value = "24h", value_parser = lifetime::parse)]
    leaf_lifetime: Duration,
    /// With linkerd-injector: where the proxies that it adds get their certificates
    #[arg(long, value_enum)]
    injected_identity: Option<IdentitySource>,
    /// Name of this replica, different from every other's
    #[arg(long, env = "POD_NAME", default_value_t = format!("linkerd-ca-{}", std::process::id()))]
    pod_name: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum IdentitySource {
    Secret,
    Service,
}

impl From<IdentitySource> for Source {
    fn from(source: IdentitySource) -> Self {
        match source {
            IdentitySource::Secret => Self::Secret,
            IdentitySource::Service => Self::Service,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    install_crypto_provider();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkerd-ca: {}", causes::text(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        control_plane_namespace,
        log_level,
        admin_addr,
        leaf_lifetime,
        injected_identity,
        pod_name,
    } = args;
    let injected = injected_identity.map(Source::from);
    init_logs_at(log_level)?;
    let shutdown = shutdown_on_signal();
    let client = linkerd_kubernetes::client()
        .await
        .context("cannot find the cluster")?;
    let mut registry = Registry::default();
    register_process_metrics(&mut registry);
    let metrics = Metrics::new(&mut registry);
    let readiness = Readiness::default();
    let listener = TcpListener::bind(admin_addr)
        .await
        .with_context(|| format!("cannot listen on {admin_addr}"))?;
    info!(
        version = linkerd_names::VERSION,
        admin = %listener.local_addr()?,
        control_plane_namespace,
        leaf_lifetime_seconds = leaf_lifetime.as_secs(),
        holder = pod_name,
        "linkerd-ca",
    );

    let in_secrets = !matches!(injected_identity, Some(IdentitySource::Service));
    if in_secrets && leaf_lifetime < lifetime::LIFETIME_IN_SECRET_MIN {
        warn!(
            leaf_lifetime_seconds = leaf_lifetime.as_secs(),
            least_seconds = lifetime::LIFETIME_IN_SECRET_MIN.as_secs(),
            "certificates end before kubelet has brought the next ones into the pods",
        );
    }

    // The lease is given back only when nothing is written any more.
    let lease_shutdown = CancellationToken::new();
    let (leadership_tx, leadership) = watch::channel(Leadership::Unknown);
    let candidate = Candidate::new(client.clone(), &control_plane_namespace, pod_name.clone());
    let lease = tokio::spawn(candidate.run(leadership_tx, lease_shutdown.clone()));
    let admin = tokio::spawn(serve_admin(
        listener,
        Arc::new(registry),
        readiness.clone(),
        shutdown.clone(),
    ));

    let observed = watch_all(&client, &control_plane_namespace, injected, &metrics);
    let reports = Reports::new(client.clone(), pod_name);
    let context = Context {
        client,
        control_plane_namespace,
        leaf_lifetime,
        injected,
    };
    Controller::new(context, metrics, reports)
        .run(observed, leadership, readiness, shutdown)
        .await;

    lease_shutdown.cancel();
    lease.await.context("the lease's task broke off")?;
    admin.await.context("the admin server's task broke off")?;
    info!("stopped");
    Ok(())
}
