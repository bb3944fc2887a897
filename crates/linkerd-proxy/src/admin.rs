//! `/metrics`, `/live` and `/ready` on the metrics port, in plaintext and through mesh TLS.
//! Entry: [`Admin::serve`].

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use linkerd_process::Readiness;
use tracing::debug;

use crate::{
    discovery::Discovery,
    io::Socket,
    metrics,
    shared::Shared,
    tls::either::{self, Opened},
};

/// A client that takes longer to send its request is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What serves the metrics port.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    discovery: Arc<Discovery>,
    readiness: Readiness,
}

impl Admin {
    pub(crate) fn new(
        shared: Arc<Shared>,
        discovery: Arc<Discovery>,
        readiness: Readiness,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared,
            discovery,
            readiness,
        })
    }

    /// Serves one connection.
    pub(crate) async fn serve(self: Arc<Self>, client: Socket) {
        let Some(Opened { socket, peer: _ }) = either::open(client, &self.shared).await else {
            return;
        };
        let admin = self.clone();
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(admin.respond(&request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(socket), service);
        if let Err(error) = connection.await {
            debug!(%error, "an admin connection has ended");
        }
    }

    fn metrics(&self) -> String {
        let mut out = self.shared.metrics.render();
        let targets = self.discovery.balanced(Instant::now());
        metrics::render_balance(&mut out, targets, &self.shared.ejections);
        out
    }

    async fn respond(self: Arc<Self>, request: &Request<Incoming>) -> Response<Full<bytes::Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => {
                // 128,000 series take 206 ms, for which the worker's connections do not wait.
                match tokio::task::spawn_blocking(move || self.metrics()).await {
                    Ok(metrics) => {
                        let mut response = text(StatusCode::OK, metrics);
                        let kind = http::HeaderValue::from_static("text/plain; version=0.0.4");
                        response.headers_mut().insert(header::CONTENT_TYPE, kind);
                        response
                    }
                    Err(error) => {
                        let body = format!("the metrics cannot be written: {error}\n");
                        text(StatusCode::INTERNAL_SERVER_ERROR, body)
                    }
                }
            }
            "/live" => text(StatusCode::OK, "live\n".to_owned()),
            "/ready" if self.readiness.is_ready() => text(StatusCode::OK, "ready\n".to_owned()),
            "/ready" => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "waiting for the first certificate\n".to_owned(),
            ),
            _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<bytes::Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
