//! Where a body comes from: [`Source`].

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{fault::Fault, stream::Reader};

/// A body on its way to the proxy.
pub(crate) enum Source {
    Http2(RecvStream),
    /// From a proxy of ours.
    Stream(Reader),
    /// Of HTTP/1 that is carried in HTTP/2.
    Http1(Incoming),
}

/// What comes of a body.
pub(super) enum Piece {
    Data {
        bytes: Bytes,
        /// Nothing comes after it.
        is_last: bool,
    },
    Trailers(HeaderMap),
    End,
}

impl Source {
    /// Whether nothing will come, as far as is known.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Http2(stream) => stream.is_end_stream(),
            Self::Stream(reader) => reader.is_end(),
            Self::Http1(body) => body.is_end_stream(),
        }
    }

    /// The next piece; [`Piece::End`] again and again once all has come.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        let piece = match self {
            Self::Http2(stream) => match ready!(stream.poll_data(cx)).transpose()? {
                Some(data) => Some(Ok(data)),
                None => ready!(stream.poll_trailers(cx))?.map(Err),
            },
            Self::Stream(reader) => ready!(reader.poll_body(cx))?,
            Self::Http1(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx)).transpose()?;
                frame.map(|frame| match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(frame) => Err(frame.into_trailers().unwrap_or_default()),
                })
            }
        };
        Poll::Ready(Ok(match piece {
            None => Piece::End,
            Some(Ok(bytes)) => Piece::Data {
                bytes,
                is_last: self.is_end(),
            },
            Some(Err(trailers)) => Piece::Trailers(trailers),
        }))
    }

    /// So many bytes have gone on: their sender may send as many again.
    pub(super) fn release(&mut self, bytes: usize) -> Result<(), Fault> {
        if let Self::Http2(stream) = self {
            stream.flow_control().release_capacity(bytes)?;
        }
        Ok(())
    }
}

/// For HTTP/1 that is carried in HTTP/2.
impl Body for Source {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.poll_next(cx))? {
            Piece::End => None,
            Piece::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Piece::Data { bytes, .. } => {
                this.release(bytes.len())?;
                Some(Ok(Frame::data(bytes)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    /// Not known: hyper goes by the head's Content-Length, or sends chunks.
    fn size_hint(&self) -> SizeHint {
        match self.is_end() {
            true => SizeHint::with_exact(0),
            false => SizeHint::default(),
        }
    }
}
