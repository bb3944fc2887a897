//! The ports: so many connections, for so long, and an end within a few seconds. Entries: [`serve_grpc`],
//! [`serve_http`].
//! Knows nothing of what is asked there.

use std::{
    fmt::Display,
    future::pending,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use linkerd_process::{ConnectionLimits, serve_connections};
use linkerd_proto::public::api_server::ApiServer;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::debug;

use crate::ApiService;

/// Prometheus has two. A browser has six, which come by one port-forward or `linkerd dashboard`: from this pod's
/// own address.
const HTTP_CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 128,
    per_address: 16,
};
/// A command has one; a dashboard one for each page that watches. Those of people come by port-forwards, which is
/// from this pod's own address.
const GRPC_CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 256,
    per_address: 16,
};
/// One CLI asks one question at a time.
const STREAMS_MAX: u32 = 16;
/// Longer than any answer takes, or the beginning of one; a client that waits has given up by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A client that has vanished is noticed so late.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Prometheus asks every five seconds, a page every ten; who takes longer to ask the next question connects again.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A connection that is older takes no further question. Whoever is about to ask one just then has to ask again,
/// which must be rare.
const AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// An answer that is under way then is made and read within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Questions under way may end within this time after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a tap has begun on a connection. Clones are of the same connection; a request brings one along.
#[derive(Clone, Default)]
pub(crate) struct Tapped(Arc<AtomicBool>);

impl Tapped {
    /// Says that one has.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Serves gRPC until `shutdown`; at the return no connection is open.
pub async fn serve_grpc(listener: TcpListener, service: ApiService, shutdown: CancellationToken) {
    let end = shutdown.clone();
    let serve = move |stream, peer| grpc_connection(stream, peer, service.clone(), end.clone());
    serve_connections(listener, GRPC_CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

/// Serves `router` until `shutdown`; at the return no connection is open.
pub async fn serve_http(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let end = shutdown.clone();
    let serve = move |stream, peer| http_connection(stream, peer, router.clone(), end.clone());
    serve_connections(listener, HTTP_CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

async fn grpc_connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: ApiService,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "a connection broke");
        return;
    }
    let service = TowerToHyperService::new(ApiServer::new(service));
    let tapped = Tapped::default();
    let of_requests = tapped.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(of_requests.clone());
        let answer = timeout(REQUEST_TIMEOUT, service.call(request));
        async {
            let late = || Status::deadline_exceeded("linkerd-api has no answer in time");
            answer.await.unwrap_or_else(|_| Ok(late().into_http()))
        }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    serve_until(served, peer, &shutdown, &tapped).await;
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
    serve_until(served, peer, &shutdown, &Tapped::default()).await;
}

/// Serves a connection until it is old, or `shutdown`, and then what is under way. A tap, for which it takes a right,
/// goes on for as long as somebody looks.
async fn serve_until(
    served: impl GracefulConnection<Error: Display>,
    peer: SocketAddr,
    shutdown: &CancellationToken,
    tapped: &Tapped,
) {
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = timeout(AGE_MAX, shutdown.cancelled()) => {
            served.as_mut().graceful_shutdown();
            let overdue = async {
                sleep(ANSWER_TIMEOUT).await;
                if tapped.get() {
                    pending().await
                }
            };
            tokio::select! {
                ended = served => ended,
                () = overdue => {
                    debug!(%peer, "cut off a connection: its client does not ask, or does not read");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::Response;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Of the paused clock: minutes pass in no time when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn an_old_connection_goes_on_when_a_tap_has_begun_and_else_is_cut_off() {
        let peer = ([192, 0, 2, 1], 1).into();
        for begun in [false, true] {
            let (mut client, server) = tokio::io::duplex(64);
            let request = b"GET / HTTP/1.1\r\n\r\n";
            client.write_all(request).await.expect("it has room");
            let endless =
                service_fn(async |_| pending::<Result<Response<String>, Infallible>>().await);
            let served = http1::Builder::new().serve_connection(TokioIo::new(server), endless);
            let tapped = Tapped::default();
            if begun {
                tapped.set();
            }
            let shutdown = CancellationToken::new();
            let served = serve_until(served, peer, &shutdown, &tapped);
            let goes_on = timeout(2 * AGE_MAX, served).await.is_err();
            assert_eq!(goes_on, begun);
        }
    }
}
