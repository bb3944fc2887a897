//! What every subcommand needs of its process: the signal to stop, and a gRPC server that heeds it.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};

/// Bound on one gRPC call of ours: long enough for a pod that is being replaced.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on connecting; the channel tries again with the next call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that vanished without a word is noticed after at most twice this time.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Returns a token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(shutdown)
}

/// Serves `routes` on `listener` until `shutdown`, then lets the calls in flight end.
///
/// # Errors
/// When the listener breaks.
pub async fn serve_grpc(
    listener: TcpListener,
    routes: tonic::service::Routes,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.cancelled_owned(),
        )
        .await
        .context("the gRPC server failed")
}

/// Returns a channel to `host_and_port`, which is also the `:authority` of each call. It connects
/// with the first call, and again whenever the connection is lost.
///
/// # Errors
/// When the text is no authority.
pub fn channel(host_and_port: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{host_and_port}"))
        .with_context(|| format!("{host_and_port:?} is not host:port"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    Ok(endpoint.connect_lazy())
}
