//! The flags that `install` and `inject` share: how the injected proxy is configured.
//! Entry: [`ProxyFlags::options`]; the first flag that is wrong, in the order of the fields below,
//! is the one that the user is told about.

use linkerd_inject::{
    InvalidOption, Options,
    options::{self, Sidecar},
};
use linkerd_names::{PROXY_UID, REGISTRY_DEFAULT, VERSION, ports};

/// What `--identity` is unless given.
pub(crate) const IDENTITY_DEFAULT: &str = "secret";

/// How the injected proxy is configured.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ProxyFlags {
    /// Tag of the images
    #[arg(short = 'v', long, value_name = "TAG", default_value = VERSION)]
    pub(crate) linkerd_version: String,

    /// Registry of the images, with a port if need be; takes the place of the default one in their
    /// names
    #[arg(long, value_name = "REGISTRY", default_value = REGISTRY_DEFAULT)]
    pub(crate) registry: String,

    /// When images are pulled: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    pub(crate) image_pull_policy: String,

    /// How long the proxy tries to reach an endpoint
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) proxy_bind_timeout: String,

    /// "optional": TLS between pods of the mesh wherever it can be had; no TLS when not given
    #[arg(
        long,
        value_name = "MODE",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) tls: String,

    /// Where proxies get their certificates: "secret", written by linkerd-ca, or "service", for a key
    /// that is made in the pod's memory and stays there; needs an install with the same
    #[arg(long, value_name = "SOURCE", default_value = IDENTITY_DEFAULT)]
    pub(crate) identity: String,

    /// Image of the init container, without tag
    #[arg(long, value_name = "IMAGE", default_value_t = format!("{REGISTRY_DEFAULT}/proxy-init"))]
    pub(crate) init_image: String,

    /// Image of the proxy, without tag
    #[arg(long, value_name = "IMAGE", default_value_t = format!("{REGISTRY_DEFAULT}/proxy"))]
    pub(crate) proxy_image: String,

    /// User id of the proxy
    #[arg(long, value_name = "UID", default_value_t = PROXY_UID,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) proxy_uid: u32,

    /// Log filter of the proxy
    #[arg(long, value_name = "FILTER", default_value = "warn,linkerd=info")]
    pub(crate) proxy_log_level: String,

    /// Port of the destination service
    #[arg(long, value_name = "PORT", default_value_t = ports::DESTINATION, value_parser = port())]
    pub(crate) api_port: u16,

    /// Port on which the proxy can be tapped
    #[arg(long, value_name = "PORT", default_value_t = ports::PROXY_CONTROL, value_parser = port())]
    pub(crate) control_port: u16,

    /// Port on which the proxy shows its metrics
    #[arg(long, value_name = "PORT", default_value_t = ports::PROXY_METRICS, value_parser = port())]
    pub(crate) metrics_port: u16,

    /// Whether the proxy is an init container that keeps running (Kubernetes 1.29 and later), so
    /// that Jobs end and other init containers are in the mesh
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) native_sidecar: bool,

    /// Inbound ports and ranges of ports that do not go through the proxy, comma-separated;
    /// repeatable
    #[arg(long, value_name = "PORTS")]
    pub(crate) skip_inbound_ports: Vec<String>,

    /// Outbound ports and ranges of ports that do not go through the proxy, comma-separated;
    /// repeatable
    #[arg(long, value_name = "PORTS")]
    pub(crate) skip_outbound_ports: Vec<String>,
}

impl ProxyFlags {
    /// Reads the flags.
    ///
    /// # Errors
    /// [`InvalidOption`] of the first flag that is wrong.
    pub(crate) fn options(&self, control_plane_namespace: &str) -> Result<Options, InvalidOption> {
        let Self {
            linkerd_version,
            registry,
            image_pull_policy,
            proxy_bind_timeout,
            tls,
            identity,
            init_image,
            proxy_image,
            proxy_uid,
            proxy_log_level,
            api_port,
            control_port,
            metrics_port,
            native_sidecar,
            skip_inbound_ports,
            skip_outbound_ports,
        } = self;
        let version = options::version(linkerd_version)?;
        let registry = options::registry(registry)?;
        let image_pull_policy = image_pull_policy.parse()?;
        let proxy_bind_timeout = options::bind_timeout(proxy_bind_timeout)?;
        Ok(Options {
            control_plane_namespace: control_plane_namespace.to_owned(),
            tls: tls.parse()?,
            identity: identity.parse()?,
            sidecar: if *native_sidecar {
                Sidecar::Native
            } else {
                Sidecar::Plain
            },
            version,
            proxy_image: options::image_in(&registry, proxy_image),
            init_image: options::image_in(&registry, init_image),
            image_pull_policy,
            proxy_uid: *proxy_uid,
            proxy_log_level: proxy_log_level.clone(),
            proxy_bind_timeout,
            api_port: *api_port,
            control_port: *control_port,
            metrics_port: *metrics_port,
            skip_inbound_ports: options::port_ranges(&skip_inbound_ports.join(","))?,
            skip_outbound_ports: options::port_ranges(&skip_outbound_ports.join(","))?,
            ..Options::default()
        })
    }
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}
