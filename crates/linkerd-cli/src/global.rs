//! The flags that every command takes.
//! Entry: [`Global`], handed to each command by `main.rs`.

use std::{net::Ipv6Addr, path::PathBuf};

use linkerd_names::CONTROL_PLANE_NAMESPACE_DEFAULT;

/// Title of these flags in the help text.
pub(crate) const GLOBAL: &str = "Global options";

/// Which control plane, and how to reach its cluster.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Global {
    /// Namespace of the control plane
    #[arg(
        short = 'l',
        short_alias = 'L',
        long,
        global = true,
        value_name = "NAMESPACE",
        env = "LINKERD_NAMESPACE",
        default_value = CONTROL_PLANE_NAMESPACE_DEFAULT,
        help_heading = GLOBAL
    )]
    pub(crate) linkerd_namespace: String,

    /// Path of the kubeconfig file; kubectl's rules when not given
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use
    #[arg(long, global = true, value_name = "NAME", help_heading = GLOBAL)]
    pub(crate) context: Option<String>,

    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER", help_heading = GLOBAL)]
    pub(crate) as_user: Option<String>,

    /// Group to impersonate; repeatable
    #[arg(long, global = true, value_name = "GROUP", help_heading = GLOBAL)]
    pub(crate) as_group: Vec<String>,

    /// Address host:port of linkerd-api, to reach it without the Kubernetes API
    #[arg(long, global = true, value_name = "ADDR", help_heading = GLOBAL)]
    pub(crate) api_addr: Option<String>,

    /// Print debug messages on stderr
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) verbose: bool,
}

/// A flag of all commands that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFlag {
    /// Characters other than letters, digits and dashes.
    #[error("{0} is not a valid namespace")]
    Namespace(String),
    /// An URL, or one of the two parts is missing.
    #[error("--api-addr has to be host:port, as in localhost:8085, and not {0:?}")]
    ApiAddress(String),
    /// Kubernetes takes no groups of nobody.
    #[error("--as-group needs --as: a user is impersonated, with groups or without")]
    GroupWithoutUser,
}

impl Global {
    /// Checks what does not depend on the command.
    ///
    /// # Errors
    /// [`InvalidFlag`] names the flag or quotes its value.
    pub(crate) fn validate(&self) -> Result<(), InvalidFlag> {
        let namespace = &self.linkerd_namespace;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if namespace.is_empty() || !namespace.bytes().all(allowed) {
            return Err(InvalidFlag::Namespace(namespace.clone()));
        }
        if let Some(address) = self.api_addr.as_ref().filter(|it| !is_address(it)) {
            return Err(InvalidFlag::ApiAddress(address.clone()));
        }
        if self.as_user.is_none() && !self.as_group.is_empty() {
            return Err(InvalidFlag::GroupWithoutUser);
        }
        Ok(())
    }
}

/// Whether it is a name or an IP address, a colon and a port.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(allowed)
        }
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for address in [
            "localhost:8085",
            "10.0.0.1:1",
            "[::1]:8085",
            "linkerd-api.linkerd.svc:8085",
        ] {
            assert!(is_address(address), "{address}");
        }
        for other in [
            "",
            "localhost",
            ":8085",
            "localhost:",
            "localhost:0",
            "localhost:99999",
            "localhost:http",
            "http://localhost:8085",
            "::1:8085",
            "[::1]",
            "a b:1",
        ] {
            assert!(!is_address(other), "{other}");
        }
    }
}
