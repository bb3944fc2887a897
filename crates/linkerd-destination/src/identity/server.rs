//! The identity service's port: TLS, HTTP/2, gRPC. Entry: [`serve`].
//! Only TLS: a token must not be read on the way. A proxy that asks has no certificate yet, so this
//! process proves itself with one of its own, and no proxy stands between.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

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

/// Each is one question of one proxy. A node that hides its pods behind its own address has them ask one
/// after the other as it is ([`super::limit`]); a proxy that is refused a connection comes again.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 500,
    per_address: 20,
};
/// A healthy handshake takes 2 ms and two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A proxy asks as soon as it can. Those of Linkerd keep the connection for their next question, in a day or so.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Who is told that the connection ends has this long to take note.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
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
        connection(socket, peer, authority, certifier)
    };
    // A proxy that is cut off asks again.
    serve_connections(listener, CONNECTIONS, Duration::ZERO, shutdown, serve).await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    authority: Option<Arc<Authority>>,
    certifier: Arc<Certifier>,
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
    let (questions, under_way) = watch::channel(0);
    let caller = Caller {
        certifier,
        peer,
        questions,
    };
    let service = IdentityServer::new(caller).max_decoding_message_size(QUESTION_BYTES_MAX);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    let mut served = pin!(served);
    let ended = async {
        tokio::select! {
            ended = served.as_mut() => ended,
            () = silence(under_way) => {
                debug!(%peer, "closing a connection to the identity service: nothing is asked");
                served.as_mut().graceful_shutdown();
                timeout(CLOSE_TIMEOUT, served).await.unwrap_or(Ok(()))
            }
        }
    };
    match timeout(CONNECTION_TIMEOUT, ended).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "a connection to the identity service broke"),
        Err(_) => debug!(%peer, "closed a connection to the identity service: it is too old"),
    }
}

/// Returns once no question has come or been `under_way` for [`SILENCE_MAX`]; never, when none can come any
/// more.
async fn silence(mut under_way: watch::Receiver<usize>) {
    loop {
        let count = *under_way.borrow_and_update();
        let changed = under_way.changed();
        let changed = match count {
            0 => match timeout(SILENCE_MAX, changed).await {
                Ok(changed) => changed,
                Err(_) => return,
            },
            _ => changed.await,
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_silent_when_nothing_was_asked_for_a_while() {
        let (questions, under_way) = watch::channel(0);
        let mut silence = pin!(silence(under_way));
        let almost = SILENCE_MAX * 9 / 10;
        questions.send_replace(1);
        assert!(timeout(2 * SILENCE_MAX, silence.as_mut()).await.is_err());
        questions.send_replace(0);
        assert!(timeout(almost, silence.as_mut()).await.is_err());
        // So quickly answered that nobody sees it under way.
        questions.send_replace(1);
        questions.send_replace(0);
        assert!(timeout(almost, silence.as_mut()).await.is_err());
        timeout(almost, silence).await.expect("silent by now");
    }
}
