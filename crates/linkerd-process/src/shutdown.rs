//! The one signal that ends a process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Returns a token that is cancelled by the first SIGTERM or SIGINT.
///
/// A second signal ends the process at once with the code 130, so that nobody waits for a drain
/// that they no longer want.
///
/// # Panics
/// Outside of a tokio runtime, or when the process may not handle signals.
pub fn shutdown_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    let cancelled = token.clone();
    // Lives as long as the process: nobody awaits it, because it is what ends the others.
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = next().await;
        info!(signal, "shutting down");
        cancelled.cancel();
        let signal = next().await;
        info!(signal, "second signal: ending at once");
        std::process::exit(130);
    });
    token
}
