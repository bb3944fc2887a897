//! The process `linkerd-injector`: reads its command line and runs.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use linkerd_inject::{
    InvalidOption, Options,
    options::{self, Sidecar},
};
use linkerd_injector::{Config, run};
use linkerd_names::{
    CONTROL_PLANE_NAMESPACE_DEFAULT, PROXY_UID, REGISTRY_DEFAULT, VERSION, paths, ports,
};

/// Adds the proxy to pods as they are created, when they or their namespace ask for it.
#[derive(Debug, Parser)]
#[command(name = "linkerd-injector", version)]
struct Args {
    /// Namespace of the control plane
    #[arg(long, default_value = CONTROL_PLANE_NAMESPACE_DEFAULT)]
    control_plane_namespace: String,
    /// Address for the API server (HTTPS)
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], ports::INJECTOR)))]
    addr: SocketAddr,
    /// Address of /live, /ready and /metrics
    #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], ports::ADMIN_INJECTOR)))]
    admin_addr: SocketAddr,
    /// Folder with the serving certificate and its key, tls.crt and tls.key
    #[arg(long, default_value = paths::INJECTOR_CERTIFICATE_DIR)]
    certificate_dir: PathBuf,
    /// Whether the proxies speak TLS: "optional", or "" for no
    #[arg(long, default_value = "")]
    tls: String,
    /// Where the proxies get their certificates: "secret" or "service"
    #[arg(long, default_value = "secret")]
    identity: String,
    /// Registry of the images of proxy and init container
    #[arg(long, default_value = REGISTRY_DEFAULT)]
    registry: String,
    /// Tag of these images
    #[arg(long, default_value = VERSION)]
    linkerd_version: String,
    /// When these images are pulled: Always, IfNotPresent or Never
    #[arg(long, default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// Port of the destination service
    #[arg(long, default_value_t = ports::DESTINATION)]
    api_port: u16,
    /// Image of the proxy, without tag
    #[arg(long, default_value_t = Options::default().proxy_image)]
    proxy_image: String,
    /// Image of the init container, without tag
    #[arg(long, default_value_t = Options::default().init_image)]
    init_image: String,
    /// User id of the proxy
    #[arg(long, default_value_t = PROXY_UID, value_parser = clap::value_parser!(u32).range(1..))]
    proxy_uid: u32,
    /// Log filter of the proxy
    #[arg(long, default_value_t = Options::default().proxy_log_level, value_parser = options::log_filter)]
    proxy_log_level: String,
    /// How long the proxy tries to reach an endpoint
    #[arg(long, default_value_t = Options::default().proxy_bind_timeout)]
    proxy_bind_timeout: String,
    /// Port on which the proxy can be tapped
    #[arg(long, default_value_t = ports::PROXY_CONTROL)]
    control_port: u16,
    /// Port on which the proxy shows its metrics
    #[arg(long, default_value_t = ports::PROXY_METRICS)]
    metrics_port: u16,
    /// Whether the proxy is an init container that keeps running
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    native_sidecar: bool,
    /// How much is logged: trace, debug, info, warn or error
    #[arg(long, default_value = "info")]
    log_level: tracing::Level,
    /// Name of this replica
    #[arg(long, env = "POD_NAME", default_value_t = format!("linkerd-injector-{}", std::process::id()))]
    pod_name: String,
}

impl Args {
    fn config(self) -> Result<Config, InvalidOption> {
        let Self {
            control_plane_namespace,
            addr,
            admin_addr,
            certificate_dir,
            tls,
            identity,
            registry,
            linkerd_version,
            image_pull_policy,
            api_port,
            proxy_image,
            init_image,
            proxy_uid,
            proxy_log_level,
            proxy_bind_timeout,
            control_port,
            metrics_port,
            native_sidecar,
            log_level: _,
            pod_name,
        } = self;
        let registry = options::registry(&registry)?;
        let options = Options {
            control_plane_namespace,
            tls: tls.parse()?,
            identity: identity.parse()?,
            sidecar: if native_sidecar {
                Sidecar::Native
            } else {
                Sidecar::Plain
            },
            created_by: format!("linkerd/injector {VERSION}"),
            version: options::version(&linkerd_version)?,
            proxy_image: options::image_in(&registry, &proxy_image),
            init_image: options::image_in(&registry, &init_image),
            image_pull_policy: image_pull_policy.parse()?,
            proxy_uid,
            proxy_log_level,
            proxy_bind_timeout: options::bind_timeout(&proxy_bind_timeout)?,
            api_port,
            control_port,
            metrics_port,
            ..Options::default()
        };
        options.check()?;
        Ok(Config {
            addr,
            admin_addr,
            certificate_dir,
            options,
            pod_name,
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    linkerd_process::install_crypto_provider();
    let args = Args::parse();
    let started = linkerd_process::init_logs_at(args.log_level);
    let ran = match started.and_then(|()| Ok(args.config()?)) {
        Ok(config) => run(config, linkerd_process::shutdown_on_signal()).await,
        Err(error) => Err(error),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkerd-injector: {error:#}");
            ExitCode::FAILURE
        }
    }
}
