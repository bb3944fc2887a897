//! `/metrics`, `/live`, `/ready` and kubelet's TCP probes on the metrics port, in plaintext and through
//! mesh TLS. Entry: [`Admin::serve`].

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use linkerd_names::probe::TCP_PATH;
use linkerd_process::Readiness;
use tracing::{debug, info};

use crate::{
    discovery::Discovery,
    io::Socket,
    listener::arrived_at,
    metrics,
    shared::Shared,
    tcp_probe,
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
        let own_ip = arrived_at(&client).map(|address| address.ip());
        let Some(Opened { socket, peer: _ }) = either::open(client, &self.shared).await else {
            return;
        };
        let admin = self.clone();
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(admin.respond(&request, own_ip).await) }
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

    /// Answers a request that has come to the address `own_ip` of the pod.
    async fn respond(
        self: Arc<Self>,
        request: &Request<Incoming>,
        own_ip: Option<IpAddr>,
    ) -> Response<Full<bytes::Bytes>> {
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
            path => match (path.strip_prefix(TCP_PATH), own_ip) {
                (Some(port), Some(own_ip)) => self.probe(port, own_ip).await,
                _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
            },
        }
    }

    /// Says whether the application listens on `port`. Other ports than those of the pod's probes are not
    /// tried: the proxy reaches what a client may not.
    async fn probe(&self, port: &str, own_ip: IpAddr) -> Response<Full<bytes::Bytes>> {
        let mut probes = self.shared.config.tcp_probes.iter();
        let asked = port.parse::<u16>().ok();
        let Some((port, bound)) = probes.find(|(port, _)| Some(*port) == asked) else {
            let body = "no TCP probe of this pod is for that port\n".to_owned();
            return text(StatusCode::NOT_FOUND, body);
        };
        match tcp_probe::connect(SocketAddr::new(own_ip, *port), *bound).await {
            Ok(()) => text(StatusCode::OK, "connected\n".to_owned()),
            Err(reason) => {
                // Kubelet shows the status alone.
                if self.shared.failures.may_tell() {
                    info!(%reason, "TCP probe failed");
                }
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
            }
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<bytes::Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
