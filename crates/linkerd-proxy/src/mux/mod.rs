//! Many connections between two proxies over one mTLS connection: what an application's connection
//! costs between them is a frame instead of a handshake, and the requests of all clients share
//! records and system calls. Entry: [`Connection::open`] as the client, [`serve`] as the server.
//!
//! Both proxies have agreed to it in ALPN. A connection belongs to one endpoint (pod and port), to
//! one identity at either end and to one generation of credentials, and so do its streams.

mod driver;
mod frame;
mod hub;
mod pool;
mod stream;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use frame::{Reason, Reset};
pub(crate) use pool::{Pool, Waited};
pub(crate) use stream::Stream;

use crate::tls::{Shares, Verdict, stream::TlsStream};
use driver::{Driver, Side};
use frame::Kind;
use hub::{Hub, Idle};

/// Streams that a server takes on one connection; ours open far fewer.
const SERVER_STREAMS_MAX: usize = 1_024;
/// So long a server that leaves still takes streams that were under way when it said so.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The client's end: opens streams as long as it is open.
pub(crate) struct Connection {
    hub: Arc<Hub>,
    shares: Shares,
    streams_max: usize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.release();
    }
}

impl Connection {
    /// Takes over a connection whose handshake has agreed on multiplexing, and opens its first stream.
    pub(crate) fn new(
        tls: TlsStream,
        peer: SocketAddr,
        shares: Shares,
        streams_max: usize,
        idle_max: Duration,
        verdict: Verdict,
    ) -> (Self, Stream) {
        let hub = Hub::new(Some(peer));
        // Before the driver can hear that the peer has gone.
        let first = hub.open(verdict, usize::MAX);
        let first = first.expect("a connection that nobody drives takes a stream");
        let first = Stream::new(hub.clone(), first);
        let driver = Driver::new(tls, hub.clone(), Client { idle_max });
        // Ends with the connection, with idleness, or once it is released and without streams.
        tokio::spawn(async move {
            if let Err(error) = driver.run().await {
                debug!(%peer, %error, "a multiplexed connection has ended");
            }
        });
        let connection = Self {
            hub,
            shares,
            streams_max,
        };
        (connection, first)
    }

    /// A new stream, at once; none when this connection takes no more, or none of this kind.
    pub(crate) fn open(&self, verdict: Verdict) -> Option<Stream> {
        if !self.shares.take(verdict) {
            return None;
        }
        let number = self.hub.open(verdict, self.streams_max)?;
        Some(Stream::new(self.hub.clone(), number))
    }

    /// Whether it takes streams, now or once others have ended.
    pub(crate) fn is_open(&self) -> bool {
        self.hub.is_open()
    }
}

struct Client {
    idle_max: Duration,
}

impl Side for Client {
    fn opened(&mut self, _: Stream, _: Verdict) -> bool {
        false
    }

    fn streams_max(&self) -> usize {
        usize::MAX
    }

    fn is_done(&self, idle: &Idle) -> bool {
        idle.is_left || idle.since.elapsed() >= self.idle_max
    }
}

/// Serves a client's streams, each given to `opened`, until the client closes; after `drain` until
/// those that are open have ended.
///
/// # Errors
/// What has broken the connection.
pub(crate) async fn serve(
    tls: TlsStream,
    peer: Option<SocketAddr>,
    drain: &CancellationToken,
    opened: impl FnMut(Stream, Verdict),
) -> io::Result<()> {
    let hub = Hub::new(peer);
    let side = Server {
        opened,
        drain: drain.clone(),
    };
    let driver = Driver::new(tls, hub.clone(), side).run();
    let mut driver = std::pin::pin!(driver);
    tokio::select! {
        result = &mut driver => return result,
        () = drain.cancelled() => hub.put(0, Kind::GoAway, &[]),
    }
    loop {
        tokio::select! {
            result = &mut driver => return result,
            () = tokio::time::sleep(LAST_CALL) => {}
        }
    }
}

struct Server<F> {
    opened: F,
    drain: CancellationToken,
}

impl<F: FnMut(Stream, Verdict)> Side for Server<F> {
    fn opened(&mut self, stream: Stream, verdict: Verdict) -> bool {
        (self.opened)(stream, verdict);
        true
    }

    fn streams_max(&self) -> usize {
        SERVER_STREAMS_MAX
    }

    fn is_done(&self, idle: &Idle) -> bool {
        self.drain.is_cancelled() && idle.since.elapsed() >= LAST_CALL
    }
}
