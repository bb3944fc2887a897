//! What the browser's connections get: live requests from this command, all else from `linkerd-api`.
//! Entry: [`serve`].

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use linkerd_names::dashboard::HEADERS;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::debug;

use super::{live, told::Told, upstream::Upstream};
use crate::{control_plane::Kubernetes, global::Global};

/// A browser keeps six to one host; some tabs and scripts besides.
const CONNECTIONS_MAX: usize = 64;

/// When this machine has no more sockets, it is not asked for one at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Every answer's body.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// What all connections share.
pub(super) struct Shared {
    pub(super) global: Global,
    pub(super) kubernetes: Kubernetes,
    pub(super) taps: Arc<Semaphore>,
    pub(super) told: Told,
}

impl Shared {
    pub(super) fn new(global: &Global, kubernetes: Kubernetes) -> Arc<Self> {
        Arc::new(Self {
            global: global.clone(),
            kubernetes,
            taps: Arc::new(Semaphore::new(live::TAPS_MAX)),
            told: Told::default(),
        })
    }
}

/// Serves connections, for ever.
pub(super) async fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => {
                if let Err(panic) = ended {
                    debug!(%panic, "a connection of a browser");
                }
            }
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    debug!(%peer, "a connection of a browser");
                    connections.spawn(connection(stream, shared.clone()));
                }
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Serves one connection, to its end. It has a connection of its own to `linkerd-api`.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let upstream = Upstream::default();
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(answer(request, &shared, &upstream).await)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        // How one ends makes no difference to a browser.
        debug!(%error, "a connection broke");
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    upstream: &Upstream,
) -> Response<Body> {
    if request.uri().path() == live::PATH {
        let mut response = live::answer(&request.into_parts().0, shared).await;
        add_headers(response.headers_mut());
        return response;
    }
    match upstream.ask(request, shared).await {
        Ok(response) => {
            shared.told.well();
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        Err(reason) => {
            shared.told.trouble(&reason);
            let mut response = failure(StatusCode::BAD_GATEWAY, &reason);
            add_headers(response.headers_mut());
            response
        }
    }
}

/// An answer that is none, as `linkerd-api` writes them.
pub(super) fn failure(status: StatusCode, reason: &str) -> Response<Body> {
    let text = json!({ "error": reason }).to_string();
    let body = Full::from(text).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
}
