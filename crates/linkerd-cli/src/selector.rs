//! The flag `--selector`, for commands about objects with labels.
//! Entry: [`Selector`]. kubectl's `-l` is ours in these commands; elsewhere `-l` is `--linkerd-namespace`.

use linkerd_names::CONTROL_PLANE_NAMESPACE_DEFAULT;

/// Which objects, by their labels.
#[derive(clap::Args, Debug)]
pub(crate) struct Selector {
    /// Only objects with these labels, as for kubectl: app=web, env in (test,prod), !canary
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub(crate) selector: String,

    /// Namespace of the control plane; -l is --selector here
    // The id is that of the global flag, which takes its value.
    #[arg(
        id = "linkerd_namespace",
        short = 'L',
        long = "linkerd-namespace",
        value_name = "NAMESPACE",
        env = "LINKERD_NAMESPACE",
        default_value = CONTROL_PLANE_NAMESPACE_DEFAULT,
        help_heading = crate::global::GLOBAL
    )]
    _linkerd_namespace: String,
}
