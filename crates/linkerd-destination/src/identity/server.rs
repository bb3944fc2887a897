//! The identity service's port: TLS, HTTP/2, gRPC. Entry: [`serve`].
//! Only TLS: a token must not be read on the way. A proxy that asks has no certificate yet, so this
//! process proves itself with one of its own, and no proxy stands between.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use linkerd_process::{ConnectionLimits, serve_connections};
use linkerd_proto::identity::identity_server::IdentityServer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    authority::Authority,
    service::{Caller, Certifier},
};

/// Each is one question of one proxy.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 500,
    per_address: 500,
};
/// A healthy handshake takes 2 ms and two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A question is one small message, its answer another. Whoever wants more connects again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// A token has about 1 KiB, a signing request half of it.
const QUESTION_BYTES_MAX: usize = 64 * 1024;
/// Questions of one connection at once.
const STREAMS_MAX: u32 = 8;

/// Serves until `shutdown`; then no connection is open any more.
pub async fn serve(
    listener: TcpListener,
    authority: watch::Receiver<Option<Arc<Authority>>>,
    certifier: Arc<Certifier>,
    shutdown: CancellationToken,
) {
    let serve = move |socket, peer| {
        let certifier = certifier.clone();
        let authority = authority.borrow().clone();
        connection(socket, peer, authority, Caller { certifier, peer })
    };
    // A proxy that is cut off asks again.
    serve_connections(listener, CONNECTIONS, Duration::ZERO, shutdown, serve).await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    authority: Option<Arc<Authority>>,
    caller: Caller,
) {
    // Without a root there is nothing to prove ourselves with.
    let Some(authority) = authority else {
        debug!(%peer, "no root yet: closed a connection to the identity service");
        return;
    };
    let acceptor = TlsAcceptor::from(authority.tls.clone());
    let socket = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            debug!(%peer, %error, "a handshake with the identity service failed");
            return;
        }
        Err(_) => {
            debug!(%peer, "a handshake with the identity service took too long");
            return;
        }
    };
    let service = IdentityServer::new(caller).max_decoding_message_size(QUESTION_BYTES_MAX);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "a connection to the identity service broke"),
        Err(_) => debug!(%peer, "closed a connection to the identity service: it is too old"),
    }
}
