//! Requests of HTTP/2: those of a client's connection, entry [`serve`], and those that a proxy of ours
//! sends, each as a stream of a shared connection, entry [`Streams`]. Each is one task from its head to
//! the end of its response, which moves both bodies; nothing else stands between the two connections.

mod client;
mod exchange;
mod fault;
mod keep_alive;
mod message;
mod pump;
mod reply;
mod sink;
mod source;
mod stream;
mod upload;

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::Request;
use linkerd_names::ports;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::forward::{Destination, Forward};
use crate::{
    config::Limits,
    io::{Meter, Socket},
    metrics::{Direction, Peer},
    mux,
};
use exchange::Exchanges;
use keep_alive::KeepAlive;
use reply::Reply;

pub(crate) use client::{Http2, Pings, Streams as ClientStreams, UnderWay};
pub(crate) use fault::{Fault, Refusal};
pub(crate) use sink::Sink;
pub(crate) use source::Source;

/// What a client may send of one request before anybody takes it.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What it may send of all together: so many of its requests have to be stuck before the others wait for them, and so
/// much memory a connection may take.
const CONNECTION_WINDOW_BYTES: u32 = 64 * STREAM_WINDOW_BYTES;
/// What one response may have waiting to be sent.
const SEND_BYTES_MAX: usize = 400 * 1024;

/// Serves requests until the client closes, or after `drain` until those under way are done.
pub(super) async fn serve(socket: Socket, forward: Forward, drain: CancellationToken) {
    let mut limits = forward.shared.config.limits.clone();
    // An application's own client is looked after by its kernel.
    let is_inbound = matches!(forward.destination, Destination::Application(..));
    if let Destination::Application(app, _) = &forward.destination
        && app.address.port() == ports::DESTINATION
    {
        limits.h2_streams_max = limits.discovery_streams_max;
    }
    let pings = is_inbound.then_some((limits.h2_ping_interval, limits.h2_ping_timeout));
    let exchanges = Arc::new(Exchanges::new(forward));
    let served = accept(socket, &limits, pings, &drain, |request, reply| {
        let exchanges = exchanges.clone();
        let exchange = async move {
            let (head, body) = request.into_parts();
            let head = Request::from_parts(head, ());
            let (body, reply) = (Source::Http2(body), Reply::Http2(reply));
            exchanges.exchange(head, body, reply).await;
        };
        // Ends with its stream, which ends with the connection. Boxed, because tokio moves what it is
        // given more than once.
        tokio::spawn(Box::pin(exchange));
    });
    if let Err(error) = served.await {
        debug!(%error, "a client connection has ended");
    }
}

/// Speaks HTTP/2 as the server, and gives each request to `asked`. With `pings`, interval and timeout, a
/// client that does not answer is left.
///
/// # Errors
/// The connection is broken, or its client does not speak HTTP/2.
pub(crate) async fn accept(
    mut socket: Socket,
    limits: &Limits,
    pings: Option<(Duration, Duration)>,
    drain: &CancellationToken,
    mut asked: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
) -> Result<(), h2::Error> {
    let heard = socket.heard();
    let mut connection = Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_list_bytes_max)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(socket)
        .await?;
    let mut keep_alive = pings
        .zip(connection.ping_pong())
        .map(|((interval, timeout), pings)| KeepAlive::new(pings, interval, timeout, heard));
    let mut drained = pin!(drain.cancelled());
    let mut leaves = false;
    loop {
        let accepted = poll_fn(|cx| {
            if !leaves && drained.as_mut().poll(cx).is_ready() {
                leaves = true;
                connection.graceful_shutdown();
            }
            let accepted = connection.poll_accept(cx);
            if accepted.is_pending()
                && let Some(keep_alive) = &mut keep_alive
                && keep_alive.poll(cx, true).is_ready()
            {
                debug!("a client does not answer any more");
                return Poll::Ready(None);
            }
            accepted
        });
        match accepted.await {
            Some(Ok((request, reply))) => asked(request, reply),
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}

/// The requests of one shared connection.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Exchanges>);

impl Streams {
    /// All go where `forward` says.
    pub(crate) fn new(forward: Forward) -> Self {
        Self(Arc::new(Exchanges::new(forward)))
    }

    /// Serves the one request of `stream`.
    pub(crate) async fn serve(self, stream: mux::Stream) {
        let forward = &self.0.forward;
        let meter = stream.requests_meter(|| {
            let tls = forward.source(false);
            let metrics = &forward.shared.metrics.tcp;
            let series = metrics.series(Direction::Inbound, Peer::Source, tls);
            Meter::new(series, Instant::now())
        });
        let bytes_max = head_bytes_max(&forward.shared.config.limits);
        let (mut reader, writer) = stream::split(stream, meter, bytes_max);
        match poll_fn(|cx| reader.poll_request(cx)).await {
            Ok(head) => {
                let (body, reply) = (Source::Stream(reader), Reply::Stream(writer));
                self.0.exchange(head, body, reply).await;
            }
            Err(fault) => {
                debug!(error = %fault, "a proxy's stream has no request");
                writer.reset(Reason::PROTOCOL_ERROR);
            }
        }
    }
}

/// The longest head of a message that a proxy of ours sends: HTTP/2 counts 32 bytes for each field
/// (RFC 9113 section 6.5.2), a message 6, and both the names and values; the rest is for the request's own line.
fn head_bytes_max(limits: &Limits) -> usize {
    limits.h2_header_list_bytes_max as usize + 1024
}
