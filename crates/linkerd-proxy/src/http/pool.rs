//! HTTP connections to one endpoint: idle HTTP/1 ones, and HTTP/2 ones that all share, one until
//! its streams are used up.
//! Entry: [`checkout`]. A connection is used as long as its TLS outcome could not be better.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use linkerd_names::{NoTls, Tls};
use parking_lot::Mutex;
use tracing::debug;

use super::body::RequestBody;
use crate::{
    detect::Protocol,
    endpoint::Endpoint,
    io::Socket,
    metrics::Direction,
    shared::Shared,
    tls::{
        Verdict,
        connect::{ConnectError, Connected, connect},
    },
};

/// A PING that is not answered within the sum of both means that the peer is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections of one endpoint.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Http2>>,
    /// Held while a shared connection is dialled, so that it is dialled once.
    dialling: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    made: Made,
}

#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    made: Made,
    /// One more for each request under way.
    streams: Arc<()>,
    /// How many the peer allows at once.
    streams_max: Arc<AtomicUsize>,
}

impl Http2 {
    fn has_room(&self) -> bool {
        Arc::strong_count(&self.streams) <= self.streams_max.load(Relaxed)
    }
}

/// How a connection was made.
#[derive(Clone)]
struct Made {
    tls: Tls,
    generation: u64,
    retry_tls_at: Option<Instant>,
}

impl Made {
    /// Whether a new connection would not be better than this one.
    fn is_best(&self, shared: &Shared, now: Instant) -> bool {
        if self.retry_tls_at.is_some_and(|at| at <= now) {
            return false;
        }
        match (&self.tls, &shared.credentials) {
            (Tls::On(_), Some(store)) => self.generation == store.generation(),
            (Tls::Off(NoTls::NoCredentials), Some(store)) => store.generation() == 0,
            _ => true,
        }
    }
}

impl Pool {
    /// Drops every connection that is not in use.
    pub(crate) fn clear(&self) {
        self.idle.lock().clear();
        self.shared.lock().clear();
    }

    /// Closes connections that were idle for too long, although nobody asks for one.
    pub(crate) fn sweep(&self, now: Instant, age_max: Duration) {
        self.idle.lock().retain(|idle| now - idle.since < age_max);
    }

    fn take_idle(&self, shared: &Shared) -> Option<Http1> {
        let now = Instant::now();
        let age_max = shared.config.limits.idle_connection_age;
        let mut idle = self.idle.lock();
        // Oldest first in the list: those too old are in front, the freshest is taken.
        let fresh = idle
            .iter()
            .position(|i| now - i.since < age_max)
            .unwrap_or(idle.len());
        idle.drain(..fresh);
        while let Some(Idle { connection, .. }) = idle.pop() {
            if !connection.sender.is_closed() && connection.made.is_best(shared, now) {
                return Some(connection);
            }
        }
        None
    }
}

/// A connection that is ready for one request.
pub(super) struct Checkout {
    pub(super) tls: Tls,
    /// It has served before, so it may be closing under our hands.
    pub(super) reused: bool,
    connection: Connection,
}

enum Connection {
    Http1(Http1),
    Http2(Http2),
}

/// What one request holds of a connection until its response has ended.
pub(crate) enum Lease {
    /// The whole connection.
    Http1(Http1Lease),
    /// One of its streams.
    Http2(Arc<()>),
}

/// An HTTP/1 connection in use by one request.
pub(crate) struct Http1Lease {
    connection: Http1,
    endpoint: Arc<Endpoint>,
    idle_max: usize,
    /// The request's body has been sent.
    finished: Arc<AtomicBool>,
}

impl Lease {
    /// The response has ended: the connection is for the next request, if it can take one.
    pub(super) fn give_back(self) {
        let Http1Lease {
            connection,
            endpoint,
            idle_max,
            finished,
        } = match self {
            Self::Http1(lease) => lease,
            Self::Http2(stream) => return drop(stream),
        };
        if connection.sender.is_closed() || !finished.load(Relaxed) || endpoint.is_gone() {
            return;
        }
        let mut idle = endpoint.pool.idle.lock();
        if idle.len() < idle_max {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }
}

/// Finds or makes a connection to `endpoint`.
///
/// # Errors
/// [`ConnectError`] when a new connection was needed and could not be made.
pub(super) async fn checkout(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
    protocol: Protocol,
) -> Result<Checkout, ConnectError> {
    match protocol {
        Protocol::Http2 => checkout_http2(shared, direction, endpoint).await,
        Protocol::Http1 | Protocol::Opaque => {
            while let Some(mut connection) = endpoint.pool.take_idle(shared) {
                if connection.sender.ready().await.is_ok() {
                    let tls = connection.made.tls.clone();
                    let connection = Connection::Http1(connection);
                    return Ok(Checkout {
                        tls,
                        reused: true,
                        connection,
                    });
                }
            }
            let verdict = Verdict::Known(Protocol::Http1);
            let connected = connect(shared, direction, endpoint, verdict).await?;
            let connection = http1(shared, connected).await?;
            let tls = connection.made.tls.clone();
            Ok(Checkout {
                tls,
                reused: false,
                connection: Connection::Http1(connection),
            })
        }
    }
}

/// Puts a connection that was dialled before the client spoke into the pool.
pub(crate) async fn adopt(shared: &Shared, endpoint: &Arc<Endpoint>, connected: Connected) {
    match http1(shared, connected).await {
        Ok(connection) => {
            let mut idle = endpoint.pool.idle.lock();
            if idle.len() < shared.config.limits.idle_connections_max {
                idle.push(Idle {
                    connection,
                    since: Instant::now(),
                });
            }
        }
        Err(error) => debug!(%error, "an early connection was not usable"),
    }
}

async fn checkout_http2(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
) -> Result<Checkout, ConnectError> {
    let connections_max = shared.config.limits.h2_connections_max;
    let usable = || {
        let now = Instant::now();
        let mut connections = endpoint.pool.shared.lock();
        connections.retain(|c| !c.sender.is_closed() && c.made.is_best(shared, now));
        let with_room = connections.iter().find(|c| c.has_room());
        let full = connections.len() >= connections_max;
        // Beyond the limit requests wait for a stream of the least busy connection.
        let waiting = || {
            connections
                .iter()
                .min_by_key(|c| Arc::strong_count(&c.streams))
        };
        with_room.or_else(|| full.then(waiting).flatten()).cloned()
    };
    let checkout = |connection: Http2, reused| Checkout {
        tls: connection.made.tls.clone(),
        reused,
        connection: Connection::Http2(connection),
    };
    if let Some(connection) = usable() {
        return Ok(checkout(connection, true));
    }
    // Held across the dial on purpose: whoever comes meanwhile waits for this one connection, and
    // every caller has a time limit.
    let _dialling = endpoint.pool.dialling.lock().await;
    if let Some(connection) = usable() {
        return Ok(checkout(connection, true));
    }
    let verdict = Verdict::Known(Protocol::Http2);
    let connected = connect(shared, direction, endpoint, verdict).await?;
    let limits = &shared.config.limits;
    let Connected {
        socket,
        tls,
        generation,
        retry_tls_at,
    } = connected;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(limits.h2_header_list_bytes_max)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
    let streams_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let connection = watch_limit(connection, streams_max.clone());
    // It ends when the last sender is dropped or the peer closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "an HTTP/2 connection has ended");
        }
    });
    let made = Made {
        tls,
        generation,
        retry_tls_at,
    };
    let connection = Http2 {
        sender,
        made,
        streams: Arc::default(),
        streams_max,
    };
    if !endpoint.is_gone() {
        endpoint.pool.shared.lock().push(connection.clone());
    }
    Ok(checkout(connection, false))
}

type Http2Connection = http2::Connection<TokioIo<Socket>, RequestBody, TokioExecutor>;

/// Drives a connection and tells how many streams its peer allows, which may change.
async fn watch_limit(connection: Http2Connection, limit: Arc<AtomicUsize>) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        let result = connection.as_mut().poll(cx);
        limit.store(connection.current_max_send_streams(), Relaxed);
        result
    })
    .await
}

async fn http1(shared: &Shared, connected: Connected) -> Result<Http1, ConnectError> {
    let Connected {
        socket,
        tls,
        generation,
        retry_tls_at,
    } = connected;
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(shared.config.limits.h1_head_bytes_max)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
    // It ends when the sender is dropped or the peer closes.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "an HTTP/1 connection has ended");
        }
    });
    Ok(Http1 {
        sender,
        made: Made {
            tls,
            generation,
            retry_tls_at,
        },
    })
}

impl Checkout {
    /// Sends the request. The lease is to be given back when the response has ended.
    pub(super) async fn send(
        self,
        request: Request<RequestBody>,
        endpoint: &Arc<Endpoint>,
        idle_max: usize,
    ) -> Result<(Response<Incoming>, Option<Lease>), TrySendError<Request<RequestBody>>> {
        match self.connection {
            Connection::Http2(mut connection) => {
                let response = connection.sender.try_send_request(request).await?;
                Ok((response, Some(Lease::Http2(connection.streams))))
            }
            Connection::Http1(mut connection) => {
                let finished = request.body().finished();
                let response = connection.sender.try_send_request(request).await?;
                let endpoint = endpoint.clone();
                let lease = Http1Lease {
                    connection,
                    endpoint,
                    idle_max,
                    finished,
                };
                Ok((response, Some(Lease::Http1(lease))))
            }
        }
    }
}
