//! The webhook's port: TLS, HTTP/1.1, `POST /inject`. Entry: [`serve`].
//! Each handshake uses the certificate that was loaded last. The API server shows none, so whoever reaches the port
//! is served, and `seats.rs` has the API server get through.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use linkerd_process::{ConnectionLimits, serve_connections};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    seats::{Limits, Seat, Seats},
    webhook::Webhook,
};

/// Path of the webhook: the chart's MutatingWebhookConfiguration names it.
pub const PATH: &str = "/inject";

/// Each API server keeps a few open, and more while many pods are created at once. A review of a usual pod takes
/// half a megabyte by [`memory_for`], which is on the safe side.
const LIMITS: Limits = Limits {
    connections: 256,
    bytes: 128 * 1024 * 1024,
};
/// Connections that have lost their seat may be there for a moment. An address needs no share beside its seats.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: LIMITS.connections + 64,
    per_address: LIMITS.connections + 64,
};
/// A healthy handshake takes 2 ms and two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that brings no review for so long is closed. The API server sends its request at once, and closes
/// idle connections itself after 90 s.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// From the end of the head to the end of the answer; the API server waits no longer than that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The head of a request, and what is read of its body at once.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// etcd takes objects of 1.5 MiB; a review has the object once when it is created, in longer words.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// What a review may take by [`memory_for`]: 40 times what a usual pod does.
const MEMORY_MAX: usize = 32 * 1024 * 1024;
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
    let seats = Seats::new(LIMITS);
    let serve = move |socket, peer: SocketAddr| {
        let seat = Arc::new(seats.take(peer.ip()));
        let (tls, webhook, ending) = (tls.borrow().clone(), webhook.clone(), ending.clone());
        async move {
            tokio::select! {
                () = connection(socket, peer, tls, &webhook, &seat, ending) => {}
                () = seat.lost() => {
                    debug!(%peer, "closed a connection: there were too many, or it took too much memory");
                    webhook.metrics.connection_dropped();
                }
            }
        }
    };
    serve_connections(listener, CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    webhook: &Arc<Webhook>,
    seat: &Arc<Seat>,
    shutdown: CancellationToken,
) {
    // Without a certificate there is nothing to prove ourselves with.
    let Some(tls) = tls else {
        debug!(%peer, "no certificate yet: closed a connection");
        return;
    };
    match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(socket)).await {
        Ok(Ok(socket)) => speak(socket, peer, webhook, seat, shutdown).await,
        // An API server that does not trust us says so here, and in its own log.
        Ok(Err(error)) => warn!(%peer, %error, "a handshake failed"),
        Err(_) => debug!(%peer, "a handshake took too long"),
    }
}

/// Serves until the client closes, brings no review for too long, or does not read.
async fn speak(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    webhook: &Arc<Webhook>,
    seat: &Arc<Seat>,
    shutdown: CancellationToken,
) {
    let service = service_fn(|request| {
        let (webhook, seat) = (webhook.clone(), seat.clone());
        async move { Ok::<_, Infallible>(respond(request, &webhook, &seat).await) }
    });
    let served = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = silence(seat) => {
            debug!(%peer, "closed a connection: it brought no review");
            return;
        }
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}

/// Ends when the connection was of no use for [`SILENCE_MAX`].
async fn silence(seat: &Seat) {
    let mut before = seat.last_use();
    loop {
        sleep(SILENCE_MAX).await;
        let now = seat.last_use();
        if now == before {
            return;
        }
        before = now;
    }
}

async fn respond(
    request: Request<Incoming>,
    webhook: &Webhook,
    seat: &Seat,
) -> Response<Full<Bytes>> {
    let answered = timeout(ANSWER_TIMEOUT, answer(request, webhook, seat)).await;
    seat.hold(0);
    let refused = match answered {
        Ok(Ok(review)) => {
            seat.use_now();
            return json(review);
        }
        Ok(Err(refused)) => refused,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "too slow".to_owned()),
    };
    let (status, problem) = refused;
    let mut response = Response::new(Full::new(Bytes::from(format!("{problem}\n"))));
    *response.status_mut() = status;
    // The API server does not ask like this.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// The answer to a review, or what is wrong with the request.
async fn answer(
    request: Request<Incoming>,
    webhook: &Webhook,
    seat: &Seat,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let refused = |status, problem: &str| Err((status, problem.to_owned()));
    let invalid = |error: &dyn std::error::Error| (StatusCode::BAD_REQUEST, error.to_string());
    if request.uri().path() != PATH {
        return refused(StatusCode::NOT_FOUND, "this port has /inject");
    }
    if request.method() != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed");
    }
    let body = request.into_body();
    let announced = body.size_hint().upper().unwrap_or(BODY_BYTES_MAX as u64);
    let Some(announced) = usize::try_from(announced)
        .ok()
        .filter(|bytes| *bytes <= BODY_BYTES_MAX)
    else {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "a review of more than 3 MiB");
    };
    seat.hold(announced);
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| invalid(&*error))?.to_bytes();
    let memory = memory_for(&body);
    if memory > MEMORY_MAX {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "a review of too many values");
    }
    seat.hold(memory);
    seat.use_now();
    let review = webhook.review(&body).await;
    let review = review.map_err(|error| invalid(&error))?;
    serde_json::to_vec(&review)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// How much memory a review of this JSON takes at most: a pod and its patched copy. Measured were up to 150 times its
/// length, for lists in lists, and never more than three quarters of this.
fn memory_for(json: &[u8]) -> usize {
    /// A mapping with one entry, twice.
    const MAPPING: usize = 1024;
    /// An item of a list or an entry of a mapping, which both grow by doubling, twice.
    const ITEM: usize = 512;
    let values = json.iter().map(|byte| match byte {
        b'{' => MAPPING,
        b'[' | b',' => ITEM,
        _ => 0,
    });
    4 * json.len() + values.sum::<usize>()
}

fn json(review: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(review)));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use kube::{Client, client::Body};
    use linkerd_inject::Options;
    use prometheus_client::registry::Registry;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        sync::mpsc,
    };

    use super::*;
    use crate::{cluster::Cluster, judge::Judge, metrics::Metrics};

    const REVIEW: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1",
        "kind":{"group":"","version":"v1","kind":"Service"},"operation":"CREATE","userInfo":{},
        "resource":{"group":"","version":"v1","resource":"services"},"name":"a","object":null}}"#;

    fn post(body: &str) -> String {
        let length = body.len();
        format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    /// A webhook without a cluster, at the other end of this.
    fn serve_one(bytes: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = duplex(bytes);
        let nobody = tower::service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(std::io::Error::other("no cluster"))
        });
        let webhook = Arc::new(Webhook {
            judge: Judge {
                cluster: Cluster::new(Client::new(nobody, "default")),
                options: Options::default(),
            },
            metrics: Metrics::new(&mut Registry::default()),
            events: mpsc::channel(1).0,
        });
        let serving = tokio::spawn(async move {
            let peer = SocketAddr::from(([192, 0, 2, 1], 1));
            let seat = Arc::new(Seats::new(LIMITS).take(peer.ip()));
            speak(server, peer, &webhook, &seat, CancellationToken::new()).await;
        });
        (client, serving)
    }

    /// Of the paused clock: minutes pass in no time when nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_connection_stays_while_it_brings_reviews_and_is_closed_when_it_brings_none() {
        let (mut client, serving) = serve_one(64 * 1024);
        for _ in 0..3 {
            sleep(SILENCE_MAX - Duration::from_secs(1)).await;
            client
                .write_all(post(REVIEW).as_bytes())
                .await
                .expect("open");
            let mut answer = [0; 4096];
            let length = client.read(&mut answer).await.expect("an answer");
            assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        }
        let closed = timeout(3 * SILENCE_MAX, client.read_u8()).await;
        assert!(closed.expect("closed").is_err());
        serving.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_off() {
        let (mut client, serving) = serve_one(64);
        let mut write = tokio::spawn(async move {
            // Ends when nobody reads any more.
            while client.write_all(post(REVIEW).as_bytes()).await.is_ok() {}
        });
        let ended = timeout(3 * SILENCE_MAX, &mut write).await;
        ended.expect("cut off").expect("no panic");
        serving.await.expect("no panic");
    }

    #[tokio::test]
    async fn who_does_not_ask_like_the_api_server_is_answered_once() {
        let many = format!("[{}0]", "0,".repeat(100_000));
        let long = " ".repeat(BODY_BYTES_MAX + 1);
        for (request, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2), "404"),
            (post("{}").repeat(2), "400"),
            (post(&many), "413"),
            (post(&long), "413"),
        ] {
            let (mut client, _serving) = serve_one(2 * BODY_BYTES_MAX);
            client.write_all(request.as_bytes()).await.expect("open");
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.expect("closed");
            assert!(
                answers.starts_with(&format!("HTTP/1.1 {expected}")),
                "{answers}"
            );
            assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        }
    }
}
