//! The process `linkerd-destination`: reads its command line and runs.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use linkerd_destination::{Config, IdentityConfig, run};
use linkerd_issuer::lifetime;

/// Tells proxies which endpoints a target has, and who they are.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Namespace of the control plane.
    #[arg(long, env = "LINKERD_CONTROL_PLANE_NAMESPACE", default_value = linkerd_names::CONTROL_PLANE_NAMESPACE_DEFAULT)]
    control_plane_namespace: String,
    /// DNS zone of the cluster.
    #[arg(long, env = "LINKERD_CLUSTER_DOMAIN", default_value = linkerd_names::CLUSTER_DOMAIN)]
    cluster_domain: String,
    /// Address for proxies (gRPC).
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], linkerd_names::ports::DESTINATION)))]
    addr: SocketAddr,
    /// Address of `/live`, `/ready` and `/metrics`.
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], linkerd_names::ports::ADMIN_DESTINATION)))]
    admin_addr: SocketAddr,
    /// Address of the identity service; it is not served unless given.
    #[arg(long)]
    identity_addr: Option<SocketAddr>,
    /// Folder with the root that the identity service signs with.
    #[arg(long, default_value = linkerd_names::paths::ROOT_DIR)]
    root_dir: PathBuf,
    /// How long a certificate of the identity service is valid, for example 24h, 90m or 1h30m.
    #[arg(long, default_value = "24h", value_parser = lifetime::parse)]
    leaf_lifetime: Duration,
    /// How much to log: trace, debug, info, warn or error.
    #[arg(long, env = "LINKERD_LOG_LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

#[tokio::main]
async fn main() -> ExitCode {
    linkerd_process::install_crypto_provider();
    let Args {
        control_plane_namespace,
        cluster_domain,
        addr,
        admin_addr,
        identity_addr,
        root_dir,
        leaf_lifetime,
        log_level,
    } = Args::parse();
    let config = Config {
        addr,
        admin_addr,
        control_plane_namespace,
        cluster_domain,
        identity: identity_addr.map(|addr| IdentityConfig {
            addr,
            root_dir,
            leaf_lifetime,
        }),
    };
    let ran = match linkerd_process::init_logs_at(log_level) {
        Ok(()) => run(config, linkerd_process::shutdown_on_signal()).await,
        Err(error) => Err(error),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkerd-destination: {error:#}");
            ExitCode::FAILURE
        }
    }
}
