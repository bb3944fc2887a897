//! What a proxy asks for: a Service by name, an address, or its own pod. Entry: [`Target::parse`].
//! Pure text work: whether the target exists is for `cluster.rs` to say.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;

use crate::pod::PodKey;

/// Port of a target that names none.
const PORT_DEFAULT: u16 = 80;

/// Limit of a label of a DNS name, RFC 1035.
const LABEL_LENGTH_MAX: usize = 63;

/// A Service's name and namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
}

/// What a proxy wants the endpoints of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `name.namespace.svc.<cluster domain>:port`, or one named pod of a headless Service with its
    /// host name in front.
    Name {
        /// The Service.
        service: ServiceKey,
        /// Host name of one endpoint.
        hostname: Option<String>,
        /// Port of the Service.
        port: u16,
    },
    /// Any address that a program connected to.
    Address(SocketAddr),
    /// A pod by its name: what its own proxy asks about.
    Pod {
        /// The pod.
        pod: PodKey,
        /// One of its ports.
        port: u16,
    },
}

/// Why a text is not a target. The caller made a mistake; asking again does not help.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidTarget {
    /// The scheme is neither `k8s` nor empty.
    #[error("unsupported scheme {0:?}: use \"k8s\"")]
    Scheme(String),
    /// The part after the last colon is not a port number from 1 to 65535.
    #[error("invalid port {port:?} in {path:?}")]
    Port {
        /// The whole text.
        path: String,
        /// What stands for the port.
        port: String,
    },
    /// The host is neither an IP address nor a DNS name.
    #[error("invalid host in {0:?}: neither an IP address nor a DNS name")]
    Host(String),
    /// The name does not end in `svc` or `svc.<cluster domain>`.
    #[error("not a name of this cluster: {path:?} does not end in \"svc.{cluster_domain}\"")]
    OffCluster {
        /// The whole text.
        path: String,
        /// Zone of the cluster.
        cluster_domain: String,
    },
    /// The name has too few or too many parts for a Service.
    #[error("not a Service: {0:?}; expected \"name.namespace.svc\"")]
    NotAService(String),
}

impl Target {
    /// Reads `host[:port]`, where the host is an IPv4 address, an IPv6 address in brackets, or a
    /// Service's name with or without `cluster_domain`; the port is 80 when absent.
    ///
    /// # Errors
    /// [`InvalidTarget`], one variant per thing that can be wrong.
    pub fn parse(scheme: &str, path: &str, cluster_domain: &str) -> Result<Self, InvalidTarget> {
        if !matches!(scheme, "" | "k8s") {
            return Err(InvalidTarget::Scheme(scheme.to_owned()));
        }
        let (host, port) = split_port(path)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        match parse_ip(host) {
            Some(ip) => Ok(Self::Address(SocketAddr::new(ip, port))),
            None => parse_name(path, host, port, cluster_domain),
        }
    }
}

fn split_port(path: &str) -> Result<(&str, u16), InvalidTarget> {
    let (host, port) = match path.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Ok((path, PORT_DEFAULT)),
    };
    match port.parse() {
        Ok(number) if number != 0 && !port.starts_with('+') => Ok((host, number)),
        _ => Err(InvalidTarget::Port {
            path: path.to_owned(),
            port: port.to_owned(),
        }),
    }
}

/// IPv6 stands in brackets; an IPv4 address in IPv6 clothes is taken for what it is.
fn parse_ip(host: &str) -> Option<IpAddr> {
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) => Some(inside.parse::<Ipv6Addr>().ok()?.to_canonical()),
        None => Some(host.parse::<Ipv4Addr>().ok()?.into()),
    }
}

fn parse_name(
    path: &str,
    host: &str,
    port: u16,
    cluster_domain: &str,
) -> Result<Target, InvalidTarget> {
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    // A name of digits alone would be a misspelt IP address.
    if !labels.iter().all(|label| is_label(label)) || !host.contains(|c: char| c.is_alphabetic()) {
        return Err(InvalidTarget::Host(path.to_owned()));
    }
    let without_domain = host
        .strip_suffix(cluster_domain)
        .and_then(|rest| rest.strip_suffix('.'))
        .unwrap_or(&host);
    let Some(name) = without_domain.strip_suffix(".svc") else {
        return Err(InvalidTarget::OffCluster {
            path: path.to_owned(),
            cluster_domain: cluster_domain.to_owned(),
        });
    };
    let labels: Vec<&str> = name.split('.').collect();
    let (hostname, name, namespace) = match labels[..] {
        [name, namespace] => (None, name, namespace),
        [hostname, name, namespace] => (Some(hostname.to_owned()), name, namespace),
        _ => return Err(InvalidTarget::NotAService(path.to_owned())),
    };
    let service = ServiceKey {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Ok(Target::Name {
        service,
        hostname,
        port,
    })
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_LENGTH_MAX).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Target, InvalidTarget> {
        Target::parse("k8s", path, "cluster.local")
    }

    #[test]
    fn services_are_named_with_or_without_the_cluster_domain() {
        let web = |port| Target::Name {
            service: ServiceKey {
                namespace: "ns".into(),
                name: "web".into(),
            },
            hostname: None,
            port,
        };
        for (path, port) in [
            ("web.ns.svc.cluster.local:8080", 8080),
            ("web.ns.svc.cluster.local.:8080", 8080),
            ("WEB.ns.svc.Cluster.Local:8080", 8080),
            ("web.ns.svc:8080", 8080),
            ("web.ns.svc.cluster.local", 80),
        ] {
            assert_eq!(parse(path), Ok(web(port)), "{path}");
        }
    }

    #[test]
    fn a_pod_of_a_headless_service_has_its_host_name_in_front() {
        let Ok(Target::Name {
            service,
            hostname,
            port,
        }) = parse("db-0.db.ns.svc:5432")
        else {
            panic!("not a name");
        };
        assert_eq!((service.to_string().as_str(), port), ("db.ns", 5432));
        assert_eq!(hostname.as_deref(), Some("db-0"));
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        for (path, address) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("[fd00::1]:443", "[fd00::1]:443"),
            ("[fd00::1]", "[fd00::1]:80"),
            ("[::ffff:10.0.0.1]:443", "10.0.0.1:443"),
        ] {
            assert_eq!(
                parse(path),
                Ok(Target::Address(address.parse().unwrap())),
                "{path}"
            );
        }
    }

    #[test]
    fn malformed_targets_are_refused_with_a_reason() {
        let long = format!("{}.ns.svc:80", "a".repeat(64));
        for (path, words) in [
            ("", "neither an IP"),
            (":80", "neither an IP"),
            ("web.ns.svc.cluster.local:", "invalid port"),
            ("web.ns.svc.cluster.local:http", "invalid port"),
            ("web.ns.svc.cluster.local:0", "invalid port"),
            ("web.ns.svc.cluster.local:65536", "invalid port"),
            ("web.ns.svc.cluster.local:-1", "invalid port"),
            ("web.ns.svc.cluster.local:+1", "invalid port"),
            ("fd00::1:80", "neither an IP"),
            ("[10.0.0.1]:80", "neither an IP"),
            ("[fd00::1:80", "neither an IP"),
            ("[fd00::1]]:80", "neither an IP"),
            ("10.0.0.256:80", "neither an IP"),
            ("a b.ns.svc:80", "neither an IP"),
            ("-a.ns.svc:80", "neither an IP"),
            ("web..svc:80", "neither an IP"),
            (long.as_str(), "neither an IP"),
            ("example.com:80", "not a name of this cluster"),
            ("web.ns:80", "not a name of this cluster"),
            ("svc.cluster.local:80", "not a name of this cluster"),
            ("ns.svc.cluster.local:80", "not a Service"),
            ("a.b.c.ns.svc.cluster.local:80", "not a Service"),
        ] {
            let error = parse(path).expect_err(path).to_string();
            assert!(error.contains(words), "{path}: {error}");
        }
        let error = Target::parse("consul", "web.ns.svc:80", "cluster.local").expect_err("scheme");
        assert_eq!(error, InvalidTarget::Scheme("consul".into()));
    }
}
