//! A connection of HTTP/2 as the client: to an endpoint that is no proxy of ours, and to the control plane.
//! Entry: [`Http2::over`].

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::Request;
use tracing::debug;

use super::keep_alive::KeepAlive;
use crate::{config::Limits, io::Socket};

/// When a silent peer is asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pings {
    pub(crate) interval: Duration,
    /// The peer is gone when it has not answered within this.
    pub(crate) timeout: Duration,
    /// Also when no request is under way.
    pub(crate) when_idle: bool,
}

/// What the peer may send of one response before anybody takes it.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// What it may send of all together: so many clients have to stop reading before the others wait for them, and so
/// much memory a connection may take.
const CONNECTION_WINDOW_BYTES: u32 = 128 * STREAM_WINDOW_BYTES;
/// So many requests are sent before the peer has said how many it takes: what most take at least.
const STREAMS_UNTIL_TOLD: usize = 100;
/// What one request may have waiting to be sent.
const SEND_BYTES_MAX: usize = 1024 * 1024;

/// A connection that many requests share.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    streams: Arc<Streams>,
}

/// The requests of an HTTP/2 connection. Whoever has one under way holds this.
pub(crate) struct Streams {
    /// Since somebody has asked last.
    were_used: AtomicBool,
    /// How many the peer allows at once.
    max: AtomicUsize,
    under_way: AtomicUsize,
}

/// A request under way: its connection is looked after until this is dropped.
pub(crate) struct UnderWay(Arc<Streams>);

impl UnderWay {
    fn new(streams: Arc<Streams>) -> Self {
        streams.under_way.fetch_add(1, Relaxed);
        Self(streams)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Http2 {
    /// Begins HTTP/2 on `socket`. The future drives the connection, and ends when its peer closes or vanishes,
    /// or once the last of its clones and streams is gone. Without `pings` its kernel alone tells that it has vanished.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) async fn over(
        mut socket: Socket,
        limits: &Limits,
        pings: Option<Pings>,
    ) -> Result<(Self, impl Future<Output = Result<(), h2::Error>> + use<>), h2::Error> {
        let heard = socket.heard();
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS_UNTIL_TOLD)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(limits.h2_header_list_bytes_max)
            .max_send_buffer_size(SEND_BYTES_MAX)
            .handshake(socket)
            .await?;
        let streams = Arc::new(Streams {
            were_used: AtomicBool::new(false),
            max: AtomicUsize::new(connection.max_concurrent_send_streams()),
            under_way: AtomicUsize::new(0),
        });
        let driven = drive(connection, Arc::downgrade(&streams), pings, heard);
        Ok((Self { sender, streams }, driven))
    }

    /// The same connection, for one request more.
    pub(crate) fn lend(&self) -> Self {
        self.streams.were_used.store(true, Relaxed);
        self.clone()
    }

    /// By which this connection can be told from others.
    pub(crate) fn streams(&self) -> Weak<Streams> {
        Arc::downgrade(&self.streams)
    }

    pub(crate) fn has(&self, streams: &Weak<Streams>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.streams), streams.as_ptr())
    }

    /// Requests under way, and clones.
    pub(crate) fn load(&self) -> usize {
        Arc::strong_count(&self.streams)
    }

    /// Whether nothing is under way, and nothing was since this was asked last. Only to be asked with
    /// the lock under which connections are lent.
    pub(crate) fn was_idle(&self) -> bool {
        let were_used = self.streams.were_used.swap(false, Relaxed);
        !were_used && self.load() == 1
    }

    /// Whether its peer takes one stream more at once.
    pub(crate) fn has_room(&self) -> bool {
        self.load() <= self.streams.max.load(Relaxed)
    }

    /// Whether requests can be sent.
    pub(crate) fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// Sends the head of a request. The last value is to be held until the response has ended.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(crate) fn send(
        mut self,
        head: Request<()>,
        is_end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>, UnderWay), h2::Error> {
        let (response, body) = self.sender.send_request(head, is_end)?;
        Ok((response, body, UnderWay::new(self.streams)))
    }
}

type Connection = h2::client::Connection<Socket, Bytes>;

async fn drive(
    mut connection: Connection,
    streams: Weak<Streams>,
    pings: Option<Pings>,
    heard: Arc<AtomicBool>,
) -> Result<(), h2::Error> {
    let pong = connection.ping_pong();
    let mut keep_alive = pings
        .zip(pong)
        .map(|(pings, pong)| KeepAlive::new(pong, pings.interval, pings.timeout, heard));
    let mut connection = pin!(connection);
    poll_fn(|cx| {
        let result = connection.as_mut().poll(cx);
        let mut is_needed = pings.is_some_and(|pings| pings.when_idle);
        if let Some(streams) = streams.upgrade() {
            let max = connection.max_concurrent_send_streams();
            streams.max.store(max, Relaxed);
            is_needed |= streams.under_way.load(Relaxed) > 0;
        }
        if result.is_ready() {
            return result;
        }
        let Some(keep_alive) = &mut keep_alive else {
            return Poll::Pending;
        };
        keep_alive.poll(cx, is_needed).map(|()| {
            debug!("a server of HTTP/2 does not answer any more");
            Ok(())
        })
    })
    .await
}
