//! The flags that `install`, `upgrade` and `inject` share: how the injected proxy is configured.
//! Entry: [`ProxyFlags::options`]; the first flag that is wrong, in the order of the fields below,
//! is the one that the user is told about. [`ProxyFlags::values`] and [`ProxyFlags::of_values`] are
//! the same flags as values of the chart.

use linkerd_inject::{
    InvalidOption, Options,
    options::{self, Sidecar},
};
use linkerd_names::{REGISTRY_DEFAULT, VERSION};
use serde_json::{Value, json};

use crate::chart;

/// How the injected proxy is configured. A flag that is not given is none: `upgrade` keeps what was.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ProxyFlags {
    #[arg(short = 'v', long, value_name = "TAG",
          help = format!("Tag of the images [default: {VERSION}]"))]
    pub(crate) linkerd_version: Option<String>,

    #[arg(long, value_name = "REGISTRY", help = format!(
        "Registry of the images, with a port if need be; takes the place of the default one in their \
         names [default: {REGISTRY_DEFAULT}]"))]
    pub(crate) registry: Option<String>,

    /// When images are pulled: Always, IfNotPresent or Never [default: IfNotPresent]
    #[arg(long, value_name = "POLICY")]
    pub(crate) image_pull_policy: Option<String>,

    /// How long the proxy tries to reach an endpoint [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) proxy_bind_timeout: Option<String>,

    /// "optional": TLS between pods of the mesh wherever it can be had; no TLS when not given
    #[arg(long, value_name = "MODE")]
    pub(crate) tls: Option<String>,

    /// Where proxies get their certificates: "secret", written by linkerd-ca, or "service", for a key
    /// that is made in the pod's memory and stays there; needs an install with the same
    /// [default: secret]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) identity: Option<String>,

    #[arg(long, value_name = "IMAGE", help = format!(
        "Image of the init container, without tag [default: {REGISTRY_DEFAULT}/proxy-init]"))]
    pub(crate) init_image: Option<String>,

    #[arg(long, value_name = "IMAGE",
          help = format!("Image of the proxy, without tag [default: {REGISTRY_DEFAULT}/proxy]"))]
    pub(crate) proxy_image: Option<String>,

    /// User id of the proxy [default: 2102]
    #[arg(long, value_name = "UID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub(crate) proxy_uid: Option<u32>,

    /// Log filter of the proxy [default: warn,linkerd=info]
    #[arg(long, value_name = "FILTER", value_parser = options::log_filter)]
    pub(crate) proxy_log_level: Option<String>,

    /// Port of the destination service [default: 8086]
    #[arg(long, value_name = "PORT", value_parser = port())]
    pub(crate) api_port: Option<u16>,

    /// Port on which the proxy can be tapped [default: 4190]
    #[arg(long, value_name = "PORT", value_parser = port())]
    pub(crate) control_port: Option<u16>,

    /// Port on which the proxy shows its metrics [default: 4191]
    #[arg(long, value_name = "PORT", value_parser = port())]
    pub(crate) metrics_port: Option<u16>,

    /// Whether the proxy is an init container that keeps running (Kubernetes 1.29 and later), so
    /// that Jobs end and other init containers are in the mesh [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          require_equals = true)]
    pub(crate) native_sidecar: Option<bool>,

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
    /// Reads the flags; those that are not given are the defaults of [`Options`].
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
        let default = Options::default();
        let version = options::version(linkerd_version.as_ref().unwrap_or(&default.version))?;
        let registry = options::registry(registry.as_deref().unwrap_or(REGISTRY_DEFAULT))?;
        let image_pull_policy = match image_pull_policy {
            Some(policy) => policy.parse()?,
            None => default.image_pull_policy,
        };
        let bind_timeout = proxy_bind_timeout
            .as_ref()
            .unwrap_or(&default.proxy_bind_timeout);
        let proxy_bind_timeout = options::bind_timeout(bind_timeout)?;
        let proxy_image = proxy_image.as_ref().unwrap_or(&default.proxy_image);
        let init_image = init_image.as_ref().unwrap_or(&default.init_image);
        Ok(Options {
            control_plane_namespace: control_plane_namespace.to_owned(),
            tls: tls.as_deref().unwrap_or_default().parse()?,
            identity: identity.as_deref().unwrap_or_default().parse()?,
            sidecar: match native_sidecar {
                Some(false) => Sidecar::Plain,
                Some(true) | None => Sidecar::Native,
            },
            version,
            proxy_image: options::image_in(&registry, proxy_image),
            init_image: options::image_in(&registry, init_image),
            image_pull_policy,
            proxy_uid: proxy_uid.unwrap_or(default.proxy_uid),
            proxy_log_level: proxy_log_level.clone().unwrap_or(default.proxy_log_level),
            proxy_bind_timeout,
            api_port: api_port.unwrap_or(default.api_port),
            control_port: control_port.unwrap_or(default.control_port),
            metrics_port: metrics_port.unwrap_or(default.metrics_port),
            skip_inbound_ports: options::port_ranges(&skip_inbound_ports.join(","))?,
            skip_outbound_ports: options::port_ranges(&skip_outbound_ports.join(","))?,
            ..Options::default()
        })
    }

    /// The flags that were given, as values of the chart, to be merged into others.
    pub(crate) fn values(&self) -> Value {
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
        let ports = |given: &[String]| (!given.is_empty()).then(|| given.join(","));
        // In the chart's values null deletes; here it stands for what was not given.
        let mut values = json!({
            "tls": tls,
            "identity": identity,
            "image": {
                "registry": registry,
                "tag": linkerd_version,
                "pullPolicy": image_pull_policy,
            },
            "destination": { "port": api_port },
            "proxy": {
                "image": proxy_image,
                "initImage": init_image,
                "uid": proxy_uid,
                "logLevel": proxy_log_level,
                "bindTimeout": proxy_bind_timeout,
                "controlPort": control_port,
                "metricsPort": metrics_port,
                "nativeSidecar": native_sidecar,
                "skipInboundPorts": ports(skip_inbound_ports),
                "skipOutboundPorts": ports(skip_outbound_ports),
            },
        });
        chart::drop_nulls(&mut values);
        values
    }

    /// The flags as the chart's values have them, so that the control plane and its proxies agree
    /// whichever of the two ways the user chose. The values fit the schema.
    pub(crate) fn of_values(values: &Value) -> Self {
        let text = |value: &Value| match value.as_str() {
            None | Some("") => None,
            Some(text) => Some(text.to_owned()),
        };
        let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
        let (image, proxy) = (&values["image"], &values["proxy"]);
        Self {
            linkerd_version: text(&image["tag"]),
            registry: text(&image["registry"]),
            image_pull_policy: text(&image["pullPolicy"]),
            proxy_bind_timeout: text(&proxy["bindTimeout"]),
            tls: text(&values["tls"]),
            identity: text(&values["identity"]),
            init_image: text(&proxy["initImage"]),
            proxy_image: text(&proxy["image"]),
            proxy_uid: proxy["uid"].as_u64().and_then(|uid| uid.try_into().ok()),
            proxy_log_level: text(&proxy["logLevel"]),
            api_port: port(&values["destination"]["port"]),
            control_port: port(&proxy["controlPort"]),
            metrics_port: port(&proxy["metricsPort"]),
            native_sidecar: proxy["nativeSidecar"].as_bool(),
            skip_inbound_ports: text(&proxy["skipInboundPorts"]).into_iter().collect(),
            skip_outbound_ports: text(&proxy["skipOutboundPorts"]).into_iter().collect(),
        }
    }
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_values_are_the_defaults_of_inject() {
        let mut values = chart::default_values().unwrap();
        chart::merge(&mut values, json!({"tls": ""}));
        let options = ProxyFlags::of_values(&values).options("linkerd");
        assert_eq!(options, Ok(Options::default()));
        assert_eq!(ProxyFlags::default().options("linkerd"), options);
    }

    #[test]
    fn flags_and_values_are_the_same_thing() {
        let flags = ProxyFlags {
            linkerd_version: Some("v2".to_owned()),
            registry: Some("r.test".to_owned()),
            image_pull_policy: Some("Always".to_owned()),
            proxy_bind_timeout: Some("5s".to_owned()),
            tls: Some("optional".to_owned()),
            identity: Some("service".to_owned()),
            init_image: Some("init".to_owned()),
            proxy_image: Some("proxy".to_owned()),
            proxy_uid: Some(9),
            proxy_log_level: Some("debug".to_owned()),
            api_port: Some(1),
            control_port: Some(2),
            metrics_port: Some(3),
            native_sidecar: Some(false),
            skip_inbound_ports: vec!["25".to_owned(), "26-27".to_owned()],
            skip_outbound_ports: vec!["28".to_owned()],
        };
        let mut values = chart::default_values().unwrap();
        chart::merge(&mut values, flags.values());
        let read_back = ProxyFlags::of_values(&values).options("linkerd");
        assert_eq!(read_back, flags.options("linkerd"));
        assert_eq!(ProxyFlags::default().values(), json!({}));
    }
}
