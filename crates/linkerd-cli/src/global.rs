//! The flags that every command takes.
//! Entry: [`Global`], handed to each command by `main.rs`.

use std::path::PathBuf;

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

/// The namespace has characters other than letters, digits and dashes.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a valid namespace")]
pub(crate) struct InvalidNamespace(String);

impl Global {
    /// Checks what does not depend on the command.
    ///
    /// # Errors
    /// [`InvalidNamespace`] names the control-plane namespace.
    pub(crate) fn validate(&self) -> Result<(), InvalidNamespace> {
        let namespace = &self.linkerd_namespace;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if namespace.is_empty() || !namespace.bytes().all(allowed) {
            return Err(InvalidNamespace(namespace.clone()));
        }
        Ok(())
    }
}
