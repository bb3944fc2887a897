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

use super::hub::Hub;

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

    /// Appends what has come to `buffer`, without a copy when it is empty; nothing at the end.
    pub(crate) fn poll_fill(
        &mut self,
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
        self.hub.poll_write(self.number, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hub.end(self.number);
        Poll::Ready(Ok(()))
    }
}
