//! Names of images: `registry/repository:tag`.

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Result, bail};

/// The parts of an image's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Host, with a port where it is not the usual one.
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) tag: String,
}

impl Reference {
    /// Returns whether the registry is reached over the loopback interface, where nobody has a
    /// certificate.
    pub(super) fn is_on_this_machine(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Returns the host to talk to. Docker Hub's is not the one in the names of its images.
    pub(super) fn host(&self) -> &str {
        if self.registry == "docker.io" {
            "registry-1.docker.io"
        } else {
            &self.registry
        }
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let parts = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        let Some((path, tag)) = parts else {
            bail!("the image name {name} has no tag")
        };
        match path.split_once('/') {
            Some((registry, repository)) if is_host(registry) && !repository.is_empty() => {
                Ok(Self {
                    registry: registry.to_owned(),
                    repository: repository.to_owned(),
                    tag: tag.to_owned(),
                })
            }
            _ => bail!("the image name {name} begins with no registry, such as ghcr.io/you"),
        }
    }
}

/// A first part without a dot, a port or the name `localhost` would be a folder of Docker Hub.
fn is_host(text: &str) -> bool {
    text == "localhost" || text.contains('.') || text.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, registry, repository, tag, here) in [
            (
                "ghcr.io/me/linkerd/proxy:0.1.0",
                "ghcr.io",
                "me/linkerd/proxy",
                "0.1.0",
                false,
            ),
            (
                "localhost/linkerd/proxy:1",
                "localhost",
                "linkerd/proxy",
                "1",
                true,
            ),
            (
                "127.0.0.1:5000/proxy:1",
                "127.0.0.1:5000",
                "proxy",
                "1",
                true,
            ),
            ("[::1]:5000/proxy:1", "[::1]:5000", "proxy", "1", true),
            (
                "10.0.0.1:5000/proxy:1",
                "10.0.0.1:5000",
                "proxy",
                "1",
                false,
            ),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!(reference.is_on_this_machine(), here, "{name}");
            let Reference {
                registry: r,
                repository: p,
                tag: t,
            } = &reference;
            assert_eq!(
                (r.as_str(), p.as_str(), t.as_str()),
                (registry, repository, tag)
            );
        }
    }

    #[test]
    fn names_without_registry_or_tag_are_refused() {
        for name in [
            "proxy:1",
            "me/proxy:1",
            "ghcr.io/proxy",
            "ghcr.io:443/proxy",
            "ghcr.io/:1",
        ] {
            assert!(name.parse::<Reference>().is_err(), "{name}");
        }
    }
}
