//! Logging to stderr, one line an event.

use anyhow::Context as _;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Starts logging: our own crates from `level` on, the libraries only when something is wrong.
///
/// # Errors
/// When logging has been started before.
pub fn init_logs_at(level: tracing::Level) -> anyhow::Result<()> {
    init_logs(&format!("warn,linkerd={level}"))
}

/// Starts logging with `filter`, for example `info` or `warn,linkerd=debug`.
///
/// The crates of this project all begin with `linkerd`, so that one word selects them. Filters by
/// span or field are not read: what reads them would be a fortieth of the proxy's program.
///
/// # Errors
/// When the filter cannot be parsed, or logging has been started before.
pub fn init_logs(filter: &str) -> anyhow::Result<()> {
    let targets: Targets = filter
        .parse()
        .with_context(|| format!("{filter:?} is not a log filter (example: warn,linkerd=info)"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
