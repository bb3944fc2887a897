//! Where a body goes: [`Sink`].

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use super::{fault::Fault, stream::Writer};

/// A body on its way from the proxy.
pub(crate) enum Sink {
    Http2(SendStream<Bytes>),
    /// To a proxy of ours.
    Stream(Writer),
}

impl Sink {
    /// Waits until there is room for a piece of `bytes`. Asked only when the piece is there: room that is
    /// taken for later is missing to others on the same connection.
    pub(crate) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<Result<(), Fault>> {
        match self {
            Self::Stream(writer) => writer.poll_room(cx),
            Self::Http2(stream) => {
                if bytes == 0 {
                    return Poll::Ready(Ok(()));
                }
                stream.reserve_capacity(bytes);
                while stream.capacity() == 0 {
                    match ready!(stream.poll_capacity(cx)) {
                        Some(room) => drop(room?),
                        None => return Poll::Ready(Err(Fault::Reset(Reason::CANCEL))),
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Takes a piece for which there is room.
    pub(crate) fn data(&mut self, data: Bytes, is_last: bool) -> Result<(), Fault> {
        match self {
            Self::Stream(writer) => writer.data(data, is_last),
            Self::Http2(stream) => stream.send_data(data, is_last)?,
        }
        Ok(())
    }

    /// Takes the trailers, which are the last piece.
    pub(crate) fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Fault> {
        match self {
            Self::Stream(writer) => writer.trailers(&trailers),
            Self::Http2(stream) => stream.send_trailers(trailers)?,
        }
        Ok(())
    }

    /// Takes an end that came without a last piece.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        if let Self::Http2(stream) = self {
            stream.send_data(Bytes::new(), true)?;
        }
        Ok(())
    }

    /// Sends what has collected; once `is_over` the end as well.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        is_over: bool,
    ) -> Poll<Result<(), Fault>> {
        if let Self::Stream(writer) = self {
            ready!(writer.poll_flush(cx))?;
            if is_over {
                writer.end();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells that the rest will not come.
    pub(crate) fn reset(&mut self, reason: Reason) {
        match self {
            Self::Http2(stream) => stream.send_reset(reason),
            Self::Stream(writer) => writer.reset(reason),
        }
    }

    /// Waits until nobody wants the rest.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        match self {
            Self::Stream(writer) => writer.poll_reset(cx),
            Self::Http2(stream) => stream.poll_reset(cx).map(|reset| match reset {
                Ok(reason) => Fault::Reset(reason),
                Err(error) => error.into(),
            }),
        }
    }
}
