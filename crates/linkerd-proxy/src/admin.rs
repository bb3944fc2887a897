//! `/metrics`, `/live`, `/ready` and kubelet's TCP probes on the metrics port, in plaintext and through
//! mesh TLS. Entry: [`Admin::serve`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use linkerd_names::probe::TCP_PATH;
use linkerd_process::{Readiness, Shares, client_address, serve_admin_connection};
use tokio::sync::Semaphore;
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

/// Probes and scrapes need a few; each connection may hold an answer that its client is slow to read.
const CONNECTIONS_PER_ADDRESS: usize = 16;
/// A rendering can take megabytes and a fifth of a second of a processor.
const RENDERINGS_MAX: usize = 2;

/// What serves the metrics port.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    discovery: Arc<Discovery>,
    readiness: Readiness,
    shares: Shares,
    renderings: Semaphore,
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
            shares: Shares::new(CONNECTIONS_PER_ADDRESS),
            renderings: Semaphore::new(RENDERINGS_MAX),
        })
    }

    /// Serves one connection.
    pub(crate) async fn serve(self: Arc<Self>, client: Socket) {
        let address = client.tcp().zip(client.peer());
        let address = address.and_then(|(tcp, peer)| client_address(tcp, peer));
        let share = address.map(|address| self.shares.take(address));
        if let Some(None) = share {
            debug!(?address, "closed a connection: its address has too many");
            return;
        }
        let own_ip = arrived_at(&client).map(|address| address.ip());
        let Some(Opened { socket, peer: _ }) = either::open(client, &self.shared).await else {
            return;
        };
        let admin = self.clone();
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok(admin.respond(&request, own_ip).await) }
        });
        serve_admin_connection(socket, service).await;
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
                let turn = self.renderings.acquire().await;
                let _turn = turn.expect("it is never closed");
                // 128,000 series take 206 ms, for which the worker's connections do not wait.
                let this = self.clone();
                match tokio::task::spawn_blocking(move || this.metrics()).await {
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
