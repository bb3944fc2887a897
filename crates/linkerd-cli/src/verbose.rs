//! What `--verbose` shows on stderr: each step on the way to an answer. Entry: [`start`].

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;

/// Our own steps and every request to Kubernetes, but no library's inner life. Of a request its
/// method and path are shown, no header and no body.
const FILTER: &str = "warn,linkerd=debug,kube_client=debug";

/// Shows debug messages from now on.
///
/// # Errors
/// When it was started before.
pub(crate) fn start() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|error| anyhow!("cannot show debug messages: {error}"))
}
