//! Logging to stderr, one line an event.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Starts logging with `filter`, for example `info` or `warn,linkerd=debug`.
///
/// The crates of this project all begin with `linkerd`, so that one word selects them.
///
/// # Errors
/// When the filter cannot be parsed, or logging has been started before.
pub fn init_logs(filter: &str) -> anyhow::Result<()> {
    let parsed = EnvFilter::try_new(filter)
        .with_context(|| format!("{filter:?} is not a log filter (example: warn,linkerd=info)"))?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
