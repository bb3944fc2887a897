//! How to inject: the parsed form of the command line's flags.
//! Entry: [`Options`] and the functions that parse one flag each; their errors are what users read.

use std::{fmt, str::FromStr};

use linkerd_names::{
    CONTROL_PLANE_NAMESPACE_DEFAULT, PROXY_UID, REGISTRY_DEFAULT, VERSION,
    log_filter::{self, InvalidLogFilter},
    ports,
};
use thiserror::Error;

use crate::quantity::amount;

/// A flag's value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidOption {
    /// Not letters, digits, `.`, `-` and `_`.
    #[error("{0} is not a valid version")]
    Version(String),
    /// Not the beginning of an image's name.
    #[error("{0} is not a valid Docker registry")]
    Registry(String),
    /// None of the three.
    #[error("--image-pull-policy must be one of: Always, IfNotPresent, Never")]
    PullPolicy,
    /// Not digits followed by `ms`, `s`, `m` or `h`.
    #[error("Invalid duration '{0}' for --proxy-bind-timeout flag")]
    BindTimeout(String),
    /// Not what selects lines of a log.
    #[error(transparent)]
    LogFilter(#[from] InvalidLogFilter),
    /// A mode that does not exist.
    #[error("--tls must be blank or set to \"optional\"")]
    Tls,
    /// Neither of the two.
    #[error("--identity must be set to \"secret\" or \"service\"")]
    Identity,
    /// There are no certificates without TLS.
    #[error("--identity=service needs --tls=optional")]
    IdentityWithoutTls,
    /// Not a port.
    #[error("{0:?} is not a port (1 to 65535)")]
    Port(String),
    /// Not a user id, or that of root, whose traffic is redirected.
    #[error("{0:?} is not a user id (1 to 2147483647)")]
    UserId(String),
    /// Neither of the two words.
    #[error("{0:?} is neither true nor false")]
    Bool(String),
    /// Not an amount as Kubernetes writes it.
    #[error("{0:?} is not a quantity of Kubernetes (100m, 64Mi)")]
    Quantity(String),
    /// Not the name of an image.
    #[error("{0:?} is not the name of an image")]
    Image(String),
    /// Neither a port nor a range of ports.
    #[error("{0:?} is not a port (1 to 65535) or a range of ports (8000-8010)")]
    Ports(String),
}

/// Whether the injected proxies speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    #[default]
    Off,
    /// With every peer that can, plaintext otherwise.
    Optional,
}

/// Where the injected proxies get their certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentitySource {
    /// From a Secret that `linkerd-ca` writes.
    #[default]
    Secret,
    /// From the identity service, for a key that is made in the pod and stays there.
    Service,
}

/// Where the proxy stands in the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sidecar {
    /// An init container that keeps running (Kubernetes 1.29 and later): started before, and
    /// stopped after, everything that uses it.
    #[default]
    Native,
    /// One more container.
    Plain,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first one.
    pub first: u16,
    /// The last one, not below `first`.
    pub last: u16,
}

/// What the proxy's container asks of its node, as quantities of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Processor time that is kept for it.
    pub cpu_request: String,
    /// Most processor time; none for as much as there is.
    pub cpu_limit: Option<String>,
    /// Memory that is kept for it.
    pub memory_request: String,
    /// Most memory; none for as much as there is.
    pub memory_limit: Option<String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "10m".to_owned(),
            cpu_limit: None,
            memory_request: "20Mi".to_owned(),
            memory_limit: None,
        }
    }
}

/// Everything that decides what [`crate::inject`] adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Namespace of the control plane.
    pub control_plane_namespace: String,
    /// Whether to mark workloads for TLS.
    pub tls: TlsMode,
    /// Where certificates come from, if there is TLS.
    pub identity: IdentitySource,
    /// Native sidecar or not.
    pub sidecar: Sidecar,
    /// Value of the annotation `linkerd.io/created-by`.
    pub created_by: String,
    /// Tag of both images.
    pub version: String,
    /// The proxy's image, without tag.
    pub proxy_image: String,
    /// The init container's image, without tag.
    pub init_image: String,
    /// For both images.
    pub image_pull_policy: PullPolicy,
    /// User id of the proxy.
    pub proxy_uid: u32,
    /// What the proxy asks of its node.
    pub proxy_resources: Resources,
    /// Log filter of the proxy.
    pub proxy_log_level: String,
    /// How long the proxy tries to reach an endpoint: digits and a unit.
    pub proxy_bind_timeout: String,
    /// Port of the destination service.
    pub api_port: u16,
    /// Port of the identity service.
    pub identity_port: u16,
    /// The proxy's control port.
    pub control_port: u16,
    /// The proxy's metrics port.
    pub metrics_port: u16,
    /// The proxy's inbound port.
    pub inbound_port: u16,
    /// The proxy's outbound port.
    pub outbound_port: u16,
    /// Inbound ports that do not enter the proxy.
    pub skip_inbound_ports: Vec<PortRange>,
    /// Outbound ports that do not enter the proxy.
    pub skip_outbound_ports: Vec<PortRange>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_plane_namespace: CONTROL_PLANE_NAMESPACE_DEFAULT.to_owned(),
            tls: TlsMode::Off,
            identity: IdentitySource::Secret,
            sidecar: Sidecar::Native,
            created_by: format!("linkerd/cli {VERSION}"),
            version: VERSION.to_owned(),
            proxy_image: format!("{REGISTRY_DEFAULT}/proxy"),
            init_image: format!("{REGISTRY_DEFAULT}/proxy-init"),
            image_pull_policy: PullPolicy::IfNotPresent,
            proxy_uid: PROXY_UID,
            proxy_resources: Resources::default(),
            proxy_log_level: log_filter::DEFAULT.to_owned(),
            proxy_bind_timeout: "10s".to_owned(),
            api_port: ports::DESTINATION,
            identity_port: ports::IDENTITY,
            control_port: ports::PROXY_CONTROL,
            metrics_port: ports::PROXY_METRICS,
            inbound_port: ports::PROXY_INBOUND,
            outbound_port: ports::PROXY_OUTBOUND,
            skip_inbound_ports: Vec::new(),
            skip_outbound_ports: Vec::new(),
        }
    }
}

/// Accepts what can be an image's tag.
///
/// # Errors
/// [`InvalidOption::Version`].
pub fn version(text: &str) -> Result<String, InvalidOption> {
    let valid = !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| InvalidOption::Version(text.to_owned()))
}

/// Accepts the beginning of an image's name: `gcr.io/linkerd-io`, `registry.example:5000/mesh`.
///
/// # Errors
/// [`InvalidOption::Registry`].
pub fn registry(text: &str) -> Result<String, InvalidOption> {
    let invalid = || InvalidOption::Registry(text.to_owned());
    let (host, path) = match text.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text, None),
    };
    let host = match host.split_once(':') {
        Some((host, port)) => {
            port.parse::<u16>().map_err(|_| invalid())?;
            host
        }
        None => host,
    };
    let mut parts = std::iter::once(host).chain(path.into_iter().flat_map(|path| path.split('/')));
    let valid = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
    };
    parts
        .all(valid)
        .then(|| text.to_owned())
        .ok_or_else(invalid)
}

/// Accepts digits followed by `ms`, `s`, `m` or `h`: what both Go and the proxy read. The proxy counts milliseconds
/// in 64 bits.
///
/// # Errors
/// [`InvalidOption::BindTimeout`].
pub fn bind_timeout(text: &str) -> Result<String, InvalidOption> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let amount = text[..text.len() - unit.len()].parse::<u64>().ok();
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    amount
        .zip(milliseconds)
        .and_then(|(amount, unit): (u64, u64)| amount.checked_mul(unit))
        .map(|_| text.to_owned())
        .ok_or_else(|| InvalidOption::BindTimeout(text.to_owned()))
}

/// Accepts a log filter, as the proxy does.
///
/// # Errors
/// [`InvalidOption::LogFilter`].
pub fn log_filter(text: &str) -> Result<String, InvalidOption> {
    log_filter::check(text)?;
    Ok(text.to_owned())
}

/// Reads a comma-separated list of ports and ranges; blanks around them are ignored.
///
/// # Errors
/// [`InvalidOption::Ports`] names the one that is none.
pub fn port_ranges(text: &str) -> Result<Vec<PortRange>, InvalidOption> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect()
}

/// Accepts a port.
///
/// # Errors
/// [`InvalidOption::Port`].
pub fn port(text: &str) -> Result<u16, InvalidOption> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| InvalidOption::Port(text.to_owned()))
}

/// Accepts the id of a user who is not root; the API server takes none beyond 31 bits.
///
/// # Errors
/// [`InvalidOption::UserId`].
pub fn user_id(text: &str) -> Result<u32, InvalidOption> {
    let id = text.parse::<u32>().ok();
    let id = id.filter(|id| (1..=i32::MAX.unsigned_abs()).contains(id));
    id.ok_or_else(|| InvalidOption::UserId(text.to_owned()))
}

/// Accepts `true` and `false`.
///
/// # Errors
/// [`InvalidOption::Bool`].
pub fn boolean(text: &str) -> Result<bool, InvalidOption> {
    text.parse()
        .map_err(|_| InvalidOption::Bool(text.to_owned()))
}

/// Accepts an amount of something as Kubernetes writes it: digits, perhaps with a point, and a unit.
///
/// # Errors
/// [`InvalidOption::Quantity`].
pub fn quantity(text: &str) -> Result<String, InvalidOption> {
    amount(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| InvalidOption::Quantity(text.to_owned()))
}

/// Accepts what can be the name of an image, with or without a tag.
///
/// # Errors
/// [`InvalidOption::Image`].
pub fn image(text: &str) -> Result<String, InvalidOption> {
    let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b));
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| InvalidOption::Image(text.to_owned()))
}

/// The image's name in `registry`: the default registry in it is replaced.
pub fn image_in(registry: &str, image: &str) -> String {
    image.replacen(REGISTRY_DEFAULT, registry, 1)
}

/// The image's full name: with `version` as its tag, unless it has a tag or a digest already.
pub fn image_with_tag(image: &str, version: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:{version}")
    }
}

impl FromStr for TlsMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            _ => Err(InvalidOption::Tls),
        }
    }
}

impl FromStr for IdentitySource {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "" | "secret" => Ok(Self::Secret),
            "service" => Ok(Self::Service),
            _ => Err(InvalidOption::Identity),
        }
    }
}

impl Options {
    /// Checks what no single flag shows.
    ///
    /// # Errors
    /// [`InvalidOption::IdentityWithoutTls`].
    pub fn check(&self) -> Result<(), InvalidOption> {
        if self.identity == IdentitySource::Service && self.tls == TlsMode::Off {
            return Err(InvalidOption::IdentityWithoutTls);
        }
        Ok(())
    }

    /// Whether the proxies ask the identity service.
    pub(crate) fn uses_identity_service(&self) -> bool {
        self.tls == TlsMode::Optional && self.identity == IdentitySource::Service
    }
}

impl PullPolicy {
    /// The word in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl FromStr for PullPolicy {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        [Self::Always, Self::IfNotPresent, Self::Never]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or(InvalidOption::PullPolicy)
    }
}

impl FromStr for PortRange {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let invalid = || InvalidOption::Ports(text.to_owned());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let first = port(first).ok_or_else(invalid)?;
        let last = port(last)
            .filter(|last| *last >= first)
            .ok_or_else(invalid)?;
        Ok(Self { first, last })
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

impl PortRange {
    /// Whether `port` is one of them.
    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}
