//! HTTP connections to one endpoint: idle HTTP/1 ones, and HTTP/2 ones that all share, one until
//! its streams are used up.
//! Entries: [`ready`], [`make`]. A connection is used as long as its TLS outcome could not be better.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use linkerd_names::{NoTls, Tls};
use parking_lot::Mutex;
use tracing::debug;

use super::http2::{ClientStreams, Http2, Pings, Source, UnderWay};
use crate::{
    detect::Protocol,
    endpoint::Endpoint,
    io::{Meter, Socket},
    metrics::Direction,
    mux,
    shared::Shared,
    tls::{
        Verdict,
        connect::{ConnectError, Connected, ForRequests, connect, for_requests, request_stream},
    },
};

/// To proxies, behind mesh TLS. Servers themselves are not asked: those of gRPC close the connection of everybody
/// when they are asked often while they have nothing to say.
const PINGS: Pings = Pings {
    interval: Duration::from_secs(10),
    timeout: Duration::from_secs(15),
    when_idle: false,
};
/// Pause between two looks at idle connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What the kernel knows of a connection may be this much ahead of what it has told us; asking costs a
/// system call.
const NEWS_AFTER: Duration = Duration::from_millis(1);
/// Idle connections for HTTP/1 that comes inside of HTTP/2.
const CARRIERS_MAX: usize = 64;
/// Lines of a head of theirs: what an answer to a proxy of Linkerd may have.
const CARRIER_LINES_MAX: usize = 1_000;

/// The connections of one endpoint.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Somebody looks after the idle ones.
    swept: AtomicBool,
    carriers: Mutex<Vec<Carrier>>,
    shared: Mutex<Vec<Kept>>,
    /// Held while a shared connection is dialled, so that it is dialled once.
    dialling: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

impl Idle {
    fn leave(self) {
        self.connection.socket.leave();
    }
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

/// A connection of HTTP/2, and how it was made.
struct Kept {
    connection: Http2,
    made: Made,
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
            (Tls::Off(NoTls::NoCredentials), Some(store)) => store.current().is_none(),
            _ => true,
        }
    }
}

impl Pool {
    /// Drops every connection that is not in use.
    pub(crate) fn clear(&self) {
        self.idle.lock().drain(..).for_each(Idle::leave);
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
        idle.drain(..fresh).for_each(Idle::leave);
        while let Some(Idle {
            mut connection,
            since,
        }) = idle.pop()
        {
            if connection.is_quiet(now - since) && connection.made.is_best(shared, now) {
                return Some(connection);
            }
            connection.socket.leave();
        }
        None
    }
}

/// Keeps a connection for the next request.
pub(super) fn give_back(shared: &Shared, endpoint: &Arc<Endpoint>, mut connection: Http1) {
    if endpoint.is_gone() || !connection.socket.seen().is_empty() {
        connection.socket.leave();
        return;
    }
    connection.socket.rest();
    let mut idle = endpoint.pool.idle.lock();
    if idle.len() >= shared.config.limits.idle_connections_max {
        connection.socket.leave();
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
            let is_kept = age < age_max && i.connection.is_quiet(age);
            if !is_kept {
                i.connection.socket.leave();
            }
            is_kept
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
    Http2(Http2),
    /// To a proxy of ours, with what counts its bytes.
    Stream(mux::Stream, Arc<Meter>),
    Carrier(Carrier),
}

impl Connection {
    /// By which a connection of HTTP/2 can be avoided.
    pub(super) fn streams(&self) -> Weak<ClientStreams> {
        match self {
            Self::Http2(connection) => connection.streams(),
            _ => Weak::new(),
        }
    }
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Http1,
    Http2,
    /// HTTP/1 that has come inside of HTTP/2.
    OrigProto,
}

/// An HTTP/1 connection for one request at a time that has come inside of HTTP/2.
pub(super) struct Carrier {
    sender: http1::SendRequest<Source>,
    made: Made,
    idle_since: Instant,
}

impl Carrier {
    /// Sends the request; the carrier is to be given back when the response has ended.
    pub(super) async fn send(
        &mut self,
        request: Request<Source>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Source>>> {
        self.sender.try_send_request(request).await
    }
}

/// What a request holds of its connection until the response has ended.
pub(super) enum Lease {
    /// One stream.
    Http2(#[expect(dead_code, reason = "it is counted")] UnderWay),
    /// The whole connection.
    Carrier(Carrier, Arc<Endpoint>),
}

impl Lease {
    /// The response has ended: the connection is for the next request.
    pub(super) fn give_back(self) {
        if let Self::Carrier(mut carrier, endpoint) = self
            && !carrier.sender.is_closed()
            && !endpoint.is_gone()
        {
            let mut carriers = endpoint.pool.carriers.lock();
            if carriers.len() < CARRIERS_MAX {
                carrier.idle_since = Instant::now();
                carriers.push(carrier);
            }
        }
    }
}

/// Finds a connection to `endpoint` that is there already; not the one of HTTP/2 with the streams `avoid`.
pub(super) fn ready(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
    carries: Carries,
    avoid: &Weak<ClientStreams>,
) -> Option<Checkout> {
    let (connection, tls) = match carries {
        Carries::Http1 => {
            let connection = endpoint.pool.take_idle(shared)?;
            let tls = connection.made.tls.clone();
            (Connection::Http1(connection), tls)
        }
        Carries::OrigProto => {
            let now = Instant::now();
            let mut carriers = endpoint.pool.carriers.lock();
            let age_max = shared.config.limits.idle_connection_age;
            carriers.retain(|c| {
                c.sender.is_ready()
                    && now.saturating_duration_since(c.idle_since) < age_max
                    && c.made.is_best(shared, now)
            });
            let carrier = carriers.pop()?;
            let tls = carrier.made.tls.clone();
            (Connection::Carrier(carrier), tls)
        }
        Carries::Http2 => match request_stream(shared, endpoint) {
            Some((stream, tls)) => {
                let meter = meter(shared, direction, endpoint, &stream, &tls);
                (Connection::Stream(stream, meter), tls)
            }
            None => ready_http2(shared, endpoint, avoid)?,
        },
    };
    Some(Checkout {
        tls,
        reused: true,
        connection,
    })
}

/// Makes a connection to `endpoint`, or waits for one of HTTP/2 that somebody else makes.
///
/// # Errors
/// [`ConnectError`] when it could not be made.
pub(super) async fn make(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
    carries: Carries,
    avoid: &Weak<ClientStreams>,
) -> Result<Checkout, ConnectError> {
    if carries == Carries::Http2 {
        return make_http2(shared, direction, endpoint, avoid).await;
    }
    let verdict = Verdict::Known(Protocol::Http1);
    let connection = http1(connect(shared, direction, endpoint, verdict).await?);
    let tls = connection.made.tls.clone();
    let connection = match carries {
        Carries::OrigProto => Connection::Carrier(carrier(shared, connection).await?),
        _ => Connection::Http1(connection),
    };
    Ok(Checkout {
        tls,
        reused: false,
        connection,
    })
}

async fn carrier(shared: &Shared, connection: Http1) -> Result<Carrier, ConnectError> {
    let Http1 { socket, made } = connection;
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(shared.config.limits.h1_head_bytes_max)
        .max_headers(CARRIER_LINES_MAX)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
    // It ends when the sender is dropped or the peer closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "an HTTP/1 connection has ended");
        }
    });
    Ok(Carrier {
        sender,
        made,
        idle_since: Instant::now(),
    })
}

/// Puts a connection that was dialled before the client spoke into the pool.
pub(crate) fn adopt(shared: &Shared, endpoint: &Arc<Endpoint>, connected: Connected) {
    give_back(shared, endpoint, http1(connected));
}

fn ready_http2(
    shared: &Shared,
    endpoint: &Arc<Endpoint>,
    avoid: &Weak<ClientStreams>,
) -> Option<(Connection, Tls)> {
    let now = Instant::now();
    let mut all = endpoint.pool.shared.lock();
    all.retain_mut(|c| c.connection.is_open() && c.made.is_best(shared, now));
    let with_room = all
        .iter()
        .find(|c| c.connection.has_room() && !c.connection.has(avoid));
    let full = all.len() >= shared.config.limits.h2_connections_max;
    // Beyond the limit requests wait for a stream of the least busy connection.
    let waiting = || all.iter().min_by_key(|c| c.connection.load());
    let chosen = with_room.or_else(|| full.then(waiting).flatten())?;
    let connection = Connection::Http2(chosen.connection.lend());
    Some((connection, chosen.made.tls.clone()))
}

async fn make_http2(
    shared: &Shared,
    direction: Direction,
    endpoint: &Arc<Endpoint>,
    avoid: &Weak<ClientStreams>,
) -> Result<Checkout, ConnectError> {
    // Held across the dial on purpose: whoever comes meanwhile waits for this one connection, and
    // every caller has a time limit.
    let _dialling = endpoint.pool.dialling.lock().await;
    if let Some(checkout) = ready(shared, direction, endpoint, Carries::Http2, avoid) {
        return Ok(checkout);
    }
    let connected = match for_requests(shared, direction, endpoint).await? {
        ForRequests::Stream(stream, tls) => {
            let meter = meter(shared, direction, endpoint, &stream, &tls);
            return Ok(Checkout {
                tls,
                reused: false,
                connection: Connection::Stream(stream, meter),
            });
        }
        ForRequests::Connection(connected) => connected,
    };
    let Http1 { socket, made } = http1(connected);
    let limits = &shared.config.limits;
    let pings = matches!(made.tls, Tls::On(_)).then_some(PINGS);
    let (connection, driven) = Http2::over(socket, limits, pings)
        .await
        .map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
    // Ends when the last sender is dropped or the peer closes.
    tokio::spawn(async move {
        if let Err(error) = driven.await {
            debug!(%error, "an HTTP/2 connection has ended");
        }
    });
    let idle = leave_idle(
        Arc::downgrade(endpoint),
        connection.streams(),
        limits.shared_idle,
    );
    // Ends with the connection.
    tokio::spawn(idle);
    let tls = made.tls.clone();
    let lent = connection.lend();
    if !endpoint.is_gone() {
        let kept = Kept { connection, made };
        endpoint.pool.shared.lock().push(kept);
    }
    Ok(Checkout {
        tls,
        reused: false,
        connection: Connection::Http2(lent),
    })
}

/// What counts the bytes of requests on the connection below `stream`.
fn meter(
    shared: &Shared,
    direction: Direction,
    endpoint: &Endpoint,
    stream: &mux::Stream,
    tls: &Tls,
) -> Arc<Meter> {
    stream.requests_meter(|| {
        let labels = &endpoint.labels.rendered;
        let metrics = &shared.metrics.tcp;
        let series = metrics.to_endpoint(direction, labels, tls.into());
        Meter::new(series, Instant::now())
    })
}

/// Takes the connection with `streams` out of the pool once nobody has used it for `period`; then its
/// last sender is gone, and it closes.
async fn leave_idle(endpoint: Weak<Endpoint>, streams: Weak<ClientStreams>, period: Duration) {
    while streams.strong_count() > 0 {
        tokio::time::sleep(period).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        let mut all = endpoint.pool.shared.lock();
        all.retain(|c| !(c.connection.has(&streams) && c.connection.was_idle()));
    }
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
