//! The webhook's port: TLS, HTTP/1.1, `POST /inject`. Entry: [`serve`].
//! Each handshake uses the certificate that was loaded last.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use linkerd_process::{ConnectionLimits, serve_connections};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::webhook::Webhook;

/// Path of the webhook: the chart's MutatingWebhookConfiguration names it.
pub const PATH: &str = "/inject";

/// Each API server keeps a few open; all of them may have one address.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 256,
    per_address: 256,
};
/// A healthy handshake takes 2 ms and two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The API server sends its request at once, and closes idle connections itself after 90 s.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// From the end of the head to the end of the answer; the API server waits no longer than that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// etcd takes objects of 1.5 MiB; a review has the object once when it is created.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Reviews that are under way at the shutdown may take this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `shutdown`; reviews that are under way then are answered.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    webhook: Arc<Webhook>,
    shutdown: CancellationToken,
) {
    let ending = shutdown.clone();
    let serve = move |socket, peer| {
        let tls = tls.borrow().clone();
        connection(socket, peer, tls, webhook.clone(), ending.clone())
    };
    serve_connections(listener, CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    webhook: Arc<Webhook>,
    shutdown: CancellationToken,
) {
    // Without a certificate there is nothing to prove ourselves with.
    let Some(tls) = tls else {
        debug!(%peer, "no certificate yet: closed a connection");
        return;
    };
    let socket = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(socket)).await {
        Ok(Ok(socket)) => socket,
        // An API server that does not trust us says so here, and in its own log.
        Ok(Err(error)) => {
            warn!(%peer, %error, "a handshake failed");
            return;
        }
        Err(_) => {
            debug!(%peer, "a handshake took too long");
            return;
        }
    };
    let service = service_fn(move |request| {
        let webhook = webhook.clone();
        async move { Ok::<_, Infallible>(respond(request, &webhook).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}

async fn respond(request: Request<Incoming>, webhook: &Webhook) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, "this port has /inject\n".to_owned());
    }
    if request.method() != Method::POST {
        let problem = "only POST is allowed\n".to_owned();
        return text(StatusCode::METHOD_NOT_ALLOWED, problem);
    }
    let answer = async {
        let body = match Limited::new(request.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
        {
            Ok(body) => body.to_bytes(),
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        match webhook.review(&body).await {
            Ok(review) => json(&review),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "too slow\n".to_owned()),
    }
}

fn json(review: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(review) {
        Ok(body) => {
            let mut response = Response::new(Full::new(Bytes::from(body)));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
