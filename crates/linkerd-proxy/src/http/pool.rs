//! HTTP connections to one endpoint: idle HTTP/1 ones, and HTTP/2 ones that all share, one until
//! its streams are used up.
//! Entry: [`checkout`]. A connection is used as long as its TLS outcome could not be better.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
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
/// Pause between two looks at idle connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What the kernel knows of a connection may be this much ahead of what it has told us; asking costs a
/// system call.
const NEWS_AFTER: Duration = Duration::from_millis(1);
/// Idle connections for HTTP/1 that comes inside of HTTP/2.
const CARRIERS_MAX: usize = 64;

/// The connections of one endpoint.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Somebody looks after the idle ones.
    swept: AtomicBool,
    carriers: Mutex<Vec<Carrier>>,
    shared: Mutex<Vec<Http2>>,
    /// Held while a shared connection is dialled, so that it is dialled once.
    dialling: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

/// A connection that carries one exchange after the other.
pub(super) struct Http1 {
    pub(super) socket: Socket,
    made: Made,
}

impl Http1 {
    /// Whether its peer has neither closed it nor said anything.
    fn is_quiet(&mut self, idle: Duration) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.socket.poll_fill(&mut cx).is_pending()
            && (idle < NEWS_AFTER || self.socket.is_silent())
    }
}

#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    made: Made,
    /// One more for each request under way.
    streams: Arc<Streams>,
    /// How many the peer allows at once.
    streams_max: Arc<AtomicUsize>,
}

/// The requests of an HTTP/2 connection. Whoever has one under way holds this.
#[derive(Default)]
pub(crate) struct Streams {
    /// Since somebody has asked last.
    were_used: AtomicBool,
}

impl Http2 {
    /// The same connection, for one request more.
    fn lend(&self) -> Self {
        self.streams.were_used.store(true, Relaxed);
        self.clone()
    }

    /// Whether nothing is under way, and nothing was since this was asked last. Only to be asked with
    /// the lock under which connections are lent.
    fn was_idle(&self) -> bool {
        let were_used = self.streams.were_used.swap(false, Relaxed);
        !were_used && Arc::strong_count(&self.streams) == 1
    }

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
        self.carriers.lock().clear();
        self.shared.lock().clear();
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
        while let Some(Idle {
            mut connection,
            since,
        }) = idle.pop()
        {
            if connection.is_quiet(now - since) && connection.made.is_best(shared, now) {
                return Some(connection);
            }
        }
        None
    }
}

/// Keeps a connection for the next request.
pub(super) fn give_back(shared: &Shared, endpoint: &Arc<Endpoint>, mut connection: Http1) {
    if endpoint.is_gone() || !connection.socket.seen().is_empty() {
        return;
    }
    connection.socket.rest();
    let mut idle = endpoint.pool.idle.lock();
    if idle.len() >= shared.config.limits.idle_connections_max {
        return;
    }
    let since = Instant::now();
    idle.push(Idle { connection, since });
    if !endpoint.pool.swept.swap(true, Relaxed) {
        let age_max = shared.config.limits.idle_connection_age;
        // Ends when nothing is idle any more.
        tokio::spawn(sweep(Arc::downgrade(endpoint), age_max));
    }
}

/// Closes what nobody has used for long, and what its peer has closed.
async fn sweep(endpoint: Weak<Endpoint>, age_max: Duration) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL.min(age_max)).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        let now = Instant::now();
        let mut idle = endpoint.pool.idle.lock();
        idle.retain_mut(|i| {
            let age = now - i.since;
            age < age_max && i.connection.is_quiet(age)
        });
        if idle.is_empty() {
            idle.shrink_to_fit();
            endpoint.pool.swept.store(false, Relaxed);
            return;
        }
    }
}

/// A connection that is ready for one request.
pub(super) struct Checkout {
    pub(super) tls: Tls,
    /// It has served before, so it may be closing under our hands.
    pub(super) reused: bool,
    pub(super) connection: Connection,
}

pub(super) enum Connection {
    /// For our own HTTP/1.
    Http1(Http1),
    /// For requests that came as HTTP/2.
    Hyper(Hyper),
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Http1,
    Http2,
    /// HTTP/1 that has come inside of HTTP/2.
    OrigProto,
}

/// A connection that hyper drives.
pub(super) enum Hyper {
    Http2(Http2),
    Carrier(Carrier),
}

/// An HTTP/1 connection for one request at a time that has come inside of HTTP/2.
pub(crate) struct Carrier {
    sender: http1::SendRequest<RequestBody>,
    made: Made,
}

/// What a request holds of its connection until the response has ended.
pub(crate) enum Lease {
    /// One stream.
    Http2(#[expect(dead_code, reason = "it is counted")] Arc<Streams>),
    /// The whole connection.
    Carrier(Carrier, Arc<Endpoint>),
}

impl Lease {
    /// The response has ended: the connection is for the next request.
    pub(super) fn give_back(self) {
        if let Self::Carrier(carrier, endpoint) = self
            && !carrier.sender.is_closed()
            && !endpoint.is_gone()
        {
            let mut carriers = endpoint.pool.carriers.lock();
            if carriers.len() < CARRIERS_MAX {
                carriers.push(carrier);
            }
        }
    }
}

/// Finds or makes a connection to `endpoint`; not the one of HTTP/2 with the streams `avoid`.
///
/// # Errors
/// [`ConnectError`] when a new connection was needed and could not be made.
pub(super) async fn checkout(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
    carries: Carries,
    avoid: &Weak<Streams>,
) -> Result<Checkout, ConnectError> {
    match carries {
        Carries::Http2 => checkout_http2(shared, direction, endpoint, avoid).await,
        Carries::OrigProto => checkout_carrier(shared, direction, endpoint).await,
        Carries::Http1 => {
            let (connection, reused) = match endpoint.pool.take_idle(shared) {
                Some(connection) => (connection, true),
                None => {
                    let verdict = Verdict::Known(Protocol::Http1);
                    let connected = connect(shared, direction, endpoint, verdict).await?;
                    (http1(connected), false)
                }
            };
            Ok(Checkout {
                tls: connection.made.tls.clone(),
                reused,
                connection: Connection::Http1(connection),
            })
        }
    }
}

async fn checkout_carrier(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
) -> Result<Checkout, ConnectError> {
    let usable = || {
        let now = Instant::now();
        let mut carriers = endpoint.pool.carriers.lock();
        carriers.retain(|c| c.sender.is_ready() && c.made.is_best(shared, now));
        carriers.pop()
    };
    let (carrier, reused) = match usable() {
        Some(carrier) => (carrier, true),
        None => {
            let verdict = Verdict::Known(Protocol::Http1);
            let Http1 { socket, made } =
                http1(connect(shared, direction, endpoint, verdict).await?);
            let (sender, connection) = http1::Builder::new()
                .preserve_header_case(true)
                .max_buf_size(shared.config.limits.h1_head_bytes_max)
                .handshake(TokioIo::new(socket))
                .await
                .map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
            // It ends when the sender is dropped or the peer closes.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "an HTTP/1 connection has ended");
                }
            });
            (Carrier { sender, made }, false)
        }
    };
    Ok(Checkout {
        tls: carrier.made.tls.clone(),
        reused,
        connection: Connection::Hyper(Hyper::Carrier(carrier)),
    })
}

/// Puts a connection that was dialled before the client spoke into the pool.
pub(crate) fn adopt(shared: &Shared, endpoint: &Arc<Endpoint>, connected: Connected) {
    give_back(shared, endpoint, http1(connected));
}

async fn checkout_http2(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
    avoid: &Weak<Streams>,
) -> Result<Checkout, ConnectError> {
    let connections_max = shared.config.limits.h2_connections_max;
    let usable = || {
        let now = Instant::now();
        let mut connections = endpoint.pool.shared.lock();
        connections.retain(|c| !c.sender.is_closed() && c.made.is_best(shared, now));
        let is_avoided = |c: &Http2| std::ptr::eq(Arc::as_ptr(&c.streams), avoid.as_ptr());
        let with_room = connections.iter().find(|c| c.has_room() && !is_avoided(c));
        let full = connections.len() >= connections_max;
        // Beyond the limit requests wait for a stream of the least busy connection.
        let waiting = || {
            connections
                .iter()
                .min_by_key(|c| Arc::strong_count(&c.streams))
        };
        let chosen = with_room.or_else(|| full.then(waiting).flatten());
        chosen.map(Http2::lend)
    };
    let checkout = |connection: Http2, reused| Checkout {
        tls: connection.made.tls.clone(),
        reused,
        connection: Connection::Hyper(Hyper::Http2(connection)),
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
    let streams: Arc<Streams> = Arc::default();
    let idle = leave_idle(
        Arc::downgrade(endpoint),
        Arc::downgrade(&streams),
        limits.shared_idle,
    );
    // It ends when the last sender is dropped or the peer closes.
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = connection => ended,
            never = idle => match never {},
        };
        if let Err(error) = ended {
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
        streams,
        streams_max,
    };
    if !endpoint.is_gone() {
        endpoint.pool.shared.lock().push(connection.lend());
    }
    Ok(checkout(connection, false))
}

/// Takes the connection with `streams` out of the pool once nobody has used it for `period`; then its
/// last sender is gone, and it closes.
async fn leave_idle(
    endpoint: Weak<Endpoint>,
    streams: Weak<Streams>,
    period: Duration,
) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(period).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return std::future::pending().await;
        };
        let is_it = |c: &Http2| std::ptr::eq(Arc::as_ptr(&c.streams), streams.as_ptr());
        let mut connections = endpoint.pool.shared.lock();
        connections.retain(|c| !(is_it(c) && c.was_idle()));
    }
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

fn http1(connected: Connected) -> Http1 {
    let Connected {
        socket,
        tls,
        generation,
        retry_tls_at,
    } = connected;
    Http1 {
        socket,
        made: Made {
            tls,
            generation,
            retry_tls_at,
        },
    }
}

impl Hyper {
    /// By which this connection can be avoided.
    pub(super) fn streams(&self) -> Weak<Streams> {
        match self {
            Self::Http2(connection) => Arc::downgrade(&connection.streams),
            Self::Carrier(_) => Weak::new(),
        }
    }

    /// Sends the request. The lease is to be given back when the response has ended.
    pub(super) async fn send(
        self,
        request: Request<RequestBody>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<(Response<Incoming>, Lease), TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http2(mut connection) => {
                let response = connection.sender.try_send_request(request).await?;
                Ok((response, Lease::Http2(connection.streams)))
            }
            Self::Carrier(mut carrier) => {
                let response = carrier.sender.try_send_request(request).await?;
                Ok((response, Lease::Carrier(carrier, endpoint.clone())))
            }
        }
    }
}
