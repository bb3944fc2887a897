//! What `--verbose` shows on stderr: each step on the way to an answer. Entry: [`start`].

use anyhow::{Context as _, anyhow};
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Our own steps and every request to Kubernetes, but no library's inner life. Of a request its
/// method and path are shown, no header and no body.
const FILTER: &str = "warn,linkerd=debug,kube_client=debug";

/// Shows debug messages from now on.
///
/// # Errors
/// When it was started before.
pub(crate) fn start() -> anyhow::Result<()> {
    let targets: Targets = FILTER.parse().context("the filter of --verbose")?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .try_init()
        .map_err(|error| anyhow!("cannot show debug messages: {error}"))
}
