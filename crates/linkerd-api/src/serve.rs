//! The ports: so many connections, for so long, and an end within a few seconds. Entry: [`serve_http`].
//! Knows nothing of what is asked there.

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use linkerd_process::{ConnectionLimits, serve_connections};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Prometheus has two. A browser has six, which come by one port-forward or `linkerd dashboard`: from this pod's
/// own address.
const HTTP_CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 128,
    per_address: 16,
};
/// Prometheus asks every five seconds, a page every ten; who takes longer to ask the next question connects again.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A connection that is older takes no further question. Whoever is about to ask one just then has to ask again,
/// which must be rare.
const AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// An answer that is under way then is made and read within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Questions under way may end within this time after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `router` until `shutdown`; at the return no connection is open.
pub async fn serve_http(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let end = shutdown.clone();
    let serve = move |stream, peer| http_connection(stream, peer, router.clone(), end.clone());
    serve_connections(listener, HTTP_CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

async fn http_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = timeout(AGE_MAX, shutdown.cancelled()) => {
            served.as_mut().graceful_shutdown();
            let Ok(ended) = timeout(ANSWER_TIMEOUT, served).await else {
                debug!(%peer, "cut off a connection: its client does not read");
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}
