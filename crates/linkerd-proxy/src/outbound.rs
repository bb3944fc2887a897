//! The life of a connection from the application: where was it going, who is there, what does it
//! speak, then HTTP requests or bytes. Entry: [`serve`].

use std::{
    io::ErrorKind,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use linkerd_names::{NoTls, Tls};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    balance::{self, Pending},
    breaker::Outcome,
    detect::{Protocol, detect},
    discovery::{Discovery, Target},
    endpoint::Endpoint,
    endpoints::Census,
    first::{Bounds, First, who_speaks},
    http::{
        forward::{Destination, Forward},
        pool, server,
    },
    io::{Connection, Socket},
    join::{Broken, join_tapped},
    listener::original_destination,
    metrics::{Direction, Peer, TlsLabel},
    shared::Shared,
    tap,
    tls::{
        Verdict,
        connect::{ConnectError, Connected, connect},
    },
};

/// A proxy refuses a connection at once when its application is not there, and one whose client is silent after the
/// second that it waits for that.
const TRIAL: Duration = Duration::from_secs(2);

/// Serves one connection of the application.
pub(crate) fn serve(
    client: Socket,
    shared: Arc<Shared>,
    discovery: Arc<Discovery>,
    drain: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let begun = Box::pin(begin(client, shared, discovery, drain));
    async move {
        if let Some(rest) = begun.await {
            rest.await;
        }
    }
}

/// Finds out where the client was going and what it speaks; none when that was the end of it.
async fn begin(
    client: Socket,
    shared: Arc<Shared>,
    discovery: Arc<Discovery>,
    drain: CancellationToken,
) -> Option<Connection> {
    let opened = Instant::now();
    let Some(address) = original_destination(&client, &shared, shared.config.outbound_forward)
    else {
        info!("outbound connection to the proxy itself: refused");
        return None;
    };
    let tls = TlsLabel::from(&Tls::Off(NoTls::Loopback));
    let series = shared
        .metrics
        .tcp
        .series(Direction::Outbound, Peer::Source, tls);
    let mut client = client.metered(series, opened);
    let target = discovery.target(address).await;

    let ports = &shared.config.outbound_opaque_ports;
    if ports.contains(&address.port()) || target.is_opaque() {
        return Some(Box::pin(forward_bytes(client, shared, target)));
    }
    let limits = &shared.config.limits;
    let bounds = Bounds {
        bytes_max: limits.detect_bytes_max,
        partial_timeout: limits.detect_partial_timeout,
        hello_timeout: limits.client_hello_timeout,
        dial_delay: target.habit.dial_delay(limits.early_dial_delay),
        unreachable_grace: limits.unreachable_grace,
        hello_grace: Duration::ZERO,
        http2_grace: limits.http2_grace,
    };
    let judge = |bytes: &[u8]| detect(bytes, limits.detect_bytes_max);
    let mut dialled = None;
    let dial = async {
        let (pending, connected) = dial(&shared, &target, Verdict::Detect).await?;
        dialled = Some(pending);
        Ok::<_, DialError>(connected)
    };
    let first = who_speaks(&mut client, judge, dial, &bounds).await;
    match first {
        Ok(First::Client {
            verdict: Some(protocol @ (Protocol::Http1 | Protocol::Http2)),
            server,
        }) => {
            target.habit.client_first();
            let unused = server.filter(|server| server.socket.seen().is_empty());
            if let (Protocol::Http1, Some(server), Some(dialled)) = (protocol, unused, &dialled) {
                pool::adopt(&shared, &dialled.endpoint, server);
            }
            // Requests choose for themselves.
            drop(dialled);
            let destination = Destination::Target(target);
            let forward = Forward {
                shared: shared.clone(),
                protocol,
                client: client.peer(),
                destination,
            };
            Some(server::serve(client, forward, drain))
        }
        Ok(First::Client {
            verdict: _,
            server: None,
        }) => {
            target.habit.client_first();
            Some(Box::pin(forward_bytes(client, shared, target)))
        }
        Ok(First::Client {
            verdict: _,
            server: Some(server),
        }) => {
            let tapped = tap(&shared, &client, address, dialled.as_ref(), Some(&server));
            Some(Box::pin(copy(client, server, dialled, address, tapped)))
        }
        Ok(First::Server(server)) => {
            target.habit.server_first();
            let tapped = tap(&shared, &client, address, dialled.as_ref(), Some(&server));
            Some(Box::pin(copy(client, server, dialled, address, tapped)))
        }
        Ok(First::Unreachable(error)) => {
            refuse(&client, &shared, address, &error);
            None
        }
        Err(error) => {
            debug!(%address, %error, "the client has gone");
            None
        }
    }
}

async fn forward_bytes(client: Socket, shared: Arc<Shared>, target: Arc<Target>) {
    let dialled = dial(&shared, &target, Verdict::Known(Protocol::Opaque));
    match Box::pin(dialled).await {
        Ok((pending, server)) => {
            let address = target.address;
            let tapped = tap(&shared, &client, address, Some(&pending), Some(&server));
            copy(client, server, Some(pending), address, tapped).await;
        }
        Err(error) => refuse(&client, &shared, target.address, &error),
    }
}

/// `pending` is held to the end: open connections are load.
async fn copy(
    mut client: Socket,
    mut server: Connected,
    mut pending: Option<Pending>,
    address: SocketAddr,
    tapped: Option<Box<tap::Connection>>,
) {
    debug!(%address, tls = server.tls.label(), "forwarding bytes");
    let mut joined = pin!(join_tapped(&mut client, &mut server.socket, tapped));
    let ended = match &mut pending {
        Some(pending) if pending.is_on_trial() => Box::pin(try_out(joined.as_mut(), pending)).await,
        _ => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => joined.await,
    };
    let Err(Broken { by, error, heard }) = ended else {
        return;
    };
    debug!(%address, ?by, %error, "a connection broke");
    let is_refused = by == Peer::Destination && error.kind() == ErrorKind::ConnectionRefused;
    if let Some(pending) = pending.as_mut().filter(|_| is_refused && !heard) {
        pending.answered(Outcome::Unreachable, Instant::now());
    }
}

/// Waits until the endpoint of a probe has shown that its application is there: it has not refused the connection
/// for [`TRIAL`], or that had an end or an answer before. The end, when it has come.
async fn try_out(
    joined: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    pending: &mut Pending,
) -> Option<Result<(), Broken>> {
    let ended = timeout(TRIAL, joined).await.ok();
    if !matches!(&ended, Some(Err(Broken { heard: false, .. }))) {
        pending.answered(Outcome::Connected, Instant::now());
    }
    ended
}

/// Tells whoever watches of a connection that carries no HTTP.
fn tap(
    shared: &Shared,
    client: &Socket,
    address: SocketAddr,
    pending: Option<&Pending>,
    server: Option<&Connected>,
) -> Option<Box<tap::Connection>> {
    shared.taps.connection(|| tap::Facts {
        direction: Direction::Outbound,
        client,
        began: client.opened().unwrap_or_else(Instant::now),
        client_tls: TlsLabel::Off(NoTls::Loopback),
        address,
        endpoint: pending.map(|pending| &*pending.endpoint),
        server,
        hello_bytes_max: shared.config.limits.client_hello_bytes_max,
    })
}

/// Ends a connection that has no server, by a reset: the nearest to a connection that was refused.
fn refuse(client: &Socket, shared: &Shared, address: SocketAddr, error: &DialError) {
    client.reset_when_dropped();
    if let Some(tapped) = tap(shared, client, address, None, None) {
        tapped.unreachable(error);
    }
    if shared.failures.may_tell() {
        info!(%address, %error, "outbound connection failed");
    } else {
        debug!(%address, %error, "outbound connection failed");
    }
}

/// Why a connection has no server.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{service} has no ready endpoints ({census})")]
    NoEndpoints { service: String, census: Census },
    #[error("{service}: tried {tried} of {} endpoints, the last at {address}: {source} ({census})", .census.known)]
    Connect {
        service: String,
        census: Census,
        tried: usize,
        address: SocketAddr,
        source: ConnectError,
    },
}

/// Connects to one of the target's endpoints; to another when that fails.
async fn dial(
    shared: &Shared,
    target: &Target,
    verdict: Verdict,
) -> Result<(Pending, Connected), DialError> {
    let limits = &shared.config.limits;
    let endpoints = target.endpoints_within(limits.endpoint_wait).await;
    let service = || endpoints.service.to_string();
    let deadline = tokio::time::Instant::now() + limits.bind_timeout;
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let census = || endpoints.census(Instant::now());
    let mut last = DialError::NoEndpoints {
        service: service(),
        census: census(),
    };
    while tried.len() < limits.attempts_max
        && tokio::time::Instant::now() < deadline
        && let Some(mut pending) = balance::pick(&endpoints.list, &tried, Instant::now(), |n| {
            rand::random_range(0..n)
        })
    {
        let endpoint = pending.endpoint.clone();
        let connecting = connect(shared, Direction::Outbound, &endpoint, verdict);
        let source = match timeout_at(deadline, connecting).await {
            Ok(Ok(connected)) => {
                match connected.tls {
                    Tls::On(_) => pending.proxy_connected(),
                    Tls::Off(_) => pending.connected(Instant::now()),
                }
                return Ok((pending, connected));
            }
            Ok(Err(source)) => {
                pending.answered(Outcome::Unreachable, Instant::now());
                if matches!(source, ConnectError::NotThePeer(_)) {
                    target.refresh();
                }
                source
            }
            // Says nothing of the endpoint: others may have taken all of the time.
            Err(_) => ConnectError::Timeout,
        };
        let address = endpoint.address;
        tried.push(endpoint);
        last = DialError::Connect {
            service: service(),
            census: census(),
            tried: tried.len(),
            address,
            source,
        };
    }
    Err(last)
}
