//! The admin server of a process: `/live`, `/ready` and `/metrics`, and nothing that changes state.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{ConnectionLimits, serve_connections};

/// Probes and scrapes come from a handful of clients; more than this at once is an attack, and no one client
/// may keep kubelet out.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 64,
    per_address: 16,
};
/// A client that takes longer to send its request is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that is older takes no further request.
const AGE_MAX: Duration = Duration::from_secs(5);
/// A client that takes longer to read the answer that is under way then is cut off. So long Prometheus waits
/// for one itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Open scrapes may end within this time after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the process can do its work: what `/ready` answers. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets what `/ready` answers from now on.
    pub fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Returns what was set last; a new one is not ready.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Serves the admin endpoints on `listener` until `shutdown`.
pub async fn serve_admin(
    listener: TcpListener,
    registry: Arc<Registry>,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let serve = move |stream, _| connection(stream, registry.clone(), readiness.clone());
    serve_connections(listener, CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    registry: Arc<Registry>,
    readiness: Readiness,
) {
    let service = service_fn(move |request| {
        let response = respond(&request, &registry, &readiness);
        async move { Ok(response) }
    });
    serve_admin_connection(stream, service).await;
}

/// Answers the requests of one connection, for no longer than those of an admin server take. For servers that have
/// their own way to accept connections and their own answers.
pub async fn serve_admin_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = sleep(AGE_MAX) => {
            served.as_mut().graceful_shutdown();
            let Ok(ended) = timeout(ANSWER_TIMEOUT, served).await else {
                debug!("cut off an admin connection: its client does not read");
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        debug!(%error, "admin connection ended");
    }
}

/// Answers one admin request. For servers that have their own way to accept connections.
pub fn respond<B>(
    request: &Request<B>,
    registry: &Registry,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed\n");
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" if readiness.is_ready() => text(StatusCode::OK, "ready\n"),
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => {
            let mut response = text(StatusCode::OK, render_metrics(registry));
            let kind = hyper::header::HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "this port has /live, /ready and /metrics\n",
        ),
    }
}

/// Renders a registry in the Prometheus text format 0.0.4.
pub fn render_metrics(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry).expect("writing to a String does not fail");
    text
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn status(method: Method, path: &str, readiness: &Readiness) -> StatusCode {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .expect("valid");
        respond(&request, &Registry::default(), readiness).status()
    }

    #[test]
    fn ready_says_what_was_set_last() {
        let readiness = Readiness::default();
        assert_eq!(
            status(Method::GET, "/ready", &readiness),
            StatusCode::SERVICE_UNAVAILABLE
        );
        readiness.set_ready(true);
        assert_eq!(status(Method::GET, "/ready", &readiness), StatusCode::OK);
    }

    #[test]
    fn nothing_that_changes_state_is_served() {
        let readiness = Readiness::default();
        assert_eq!(
            status(Method::POST, "/ready", &readiness),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            status(Method::GET, "/shutdown", &readiness),
            StatusCode::NOT_FOUND
        );
    }

    /// Of the paused clock: a minute passes in no time when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_does_not_hold_its_connection_for_ever() {
        let (mut client, server) = tokio::io::duplex(64);
        let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
        let connection = connection(server, Arc::default(), Readiness::default());
        let connection = timeout(Duration::from_secs(60), connection);
        let (written, ended) = tokio::join!(client.write_all(request), connection);
        written.expect("the server reads");
        ended.expect("cut off");
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_server_while_a_silent_client_is_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_admin(
            listener,
            Arc::new(Registry::default()),
            Readiness::default(),
            shutdown.clone(),
        ));
        let _silent = tokio::net::TcpStream::connect(address)
            .await
            .expect("accepted");
        shutdown.cancel();
        server.await.expect("ends by itself");
    }
}
