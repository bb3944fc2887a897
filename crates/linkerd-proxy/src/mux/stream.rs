//! One stream of a multiplexed connection: reads and writes like a connection of its own.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frame::{Reason, Reset},
    hub::Hub,
};
use crate::io::Meter;

/// A stream. Dropped before both sides have ended, it is reset.
pub(crate) struct Stream {
    hub: Arc<Hub>,
    number: u32,
}

impl Stream {
    pub(super) fn new(hub: Arc<Hub>, number: u32) -> Self {
        Self { hub, number }
    }

    /// The peer of the connection below.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.hub.peer
    }

    /// What counts the bytes of requests on the connection below; `new` makes it for the first one.
    pub(crate) fn requests_meter(&self, new: impl FnOnce() -> Meter) -> Arc<Meter> {
        let meter = &self.hub.requests_meter;
        meter.get_or_init(|| Arc::new(new())).clone()
    }

    /// Appends what has come to `buffer`, without a copy when it is empty; nothing at the end.
    pub(crate) fn poll_fill(
        &self,
        cx: &Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        ready!(self.hub.poll_read(self.number, cx, |inbox| {
            if buffer.is_empty() {
                *buffer = std::mem::take(inbox);
            } else {
                buffer.extend_from_slice(inbox);
                inbox.clear();
            }
        }))?;
        Poll::Ready(Ok(()))
    }

    /// Writes some of `bytes`; returns how many.
    pub(crate) fn poll_put(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hub.poll_write(self.number, cx, bytes)
    }

    /// Nothing more will be written.
    pub(crate) fn end(&self) {
        self.hub.end(self.number);
    }

    /// Whether all that the peer had to say has been read.
    pub(crate) fn is_read(&self) -> bool {
        self.hub.is_read(self.number)
    }

    /// Gives the stream up with an error code of HTTP/2.
    pub(crate) fn reset(&self, code: u32) {
        let reason = Reason::Aborted;
        self.hub.reset(self.number, Reset { reason, code });
    }

    /// Gives the stream up, and says that nothing was done with what has come since the last answer on it.
    pub(crate) fn refuse(&self) {
        self.hub.reset(self.number, Reset::REFUSED);
    }

    /// How the stream was given up; none while it is sound, or when its connection broke.
    pub(crate) fn was_reset(&self) -> Option<Reset> {
        self.hub.was_reset(self.number)
    }

    /// Waits until the peer gives the stream up. Wakes the same task as writing.
    pub(crate) fn poll_reset(&self, cx: &Context<'_>) -> Poll<Reset> {
        self.hub.poll_reset(self.number, cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.hub.close(self.number);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.hub.poll_read(self.number, cx, |inbox| {
            let n = inbox.len().min(buf.remaining());
            buf.put_slice(&inbox[..n]);
            inbox.advance(n);
        }))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_put(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
