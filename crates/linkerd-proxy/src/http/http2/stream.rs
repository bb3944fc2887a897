//! A stream of a shared connection as two ends of a message: [`Reader`] and [`Writer`].

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use h2::Reason;
use http::{HeaderMap, Request, Response};

use super::{
    fault::Fault,
    message::{self, CONTENT_BYTES_MAX, HEAD_BYTES, Head, Kind, Malformed},
};
use crate::{io::Meter, mux};

/// What has collected goes once it is so long; longer pieces of a body go without a copy.
const GATHER_BYTES: usize = 8 * 1024;

/// Room for a head and a short body.
const MESSAGE_BYTES: usize = 512;

/// Both ends of a stream whose bytes `meter` counts. Heads and trailers that come may have up to
/// `head_bytes_max`.
pub(super) fn split(
    stream: mux::Stream,
    meter: Arc<Meter>,
    head_bytes_max: usize,
) -> (Reader, Writer) {
    let stream = Arc::new(stream);
    let reader = Reader {
        stream: stream.clone(),
        meter: meter.clone(),
        head_bytes_max,
        seen: BytesMut::new(),
        data_bytes: 0,
        is_last: false,
    };
    let writer = Writer {
        stream,
        meter,
        gathered: Vec::new(),
        rest: Bytes::new(),
    };
    (reader, writer)
}

/// The end that is read.
pub(crate) struct Reader {
    stream: Arc<mux::Stream>,
    meter: Arc<Meter>,
    head_bytes_max: usize,
    /// Come, and not yet taken.
    seen: BytesMut,
    /// To come of the block of data under way.
    data_bytes: usize,
    /// Nothing comes after the block under way.
    is_last: bool,
}

/// A block, or a piece of data.
enum Block {
    Data(Bytes),
    Whole(Kind, Bytes),
}

impl Reader {
    /// The head of a request.
    pub(super) fn poll_request(&mut self, cx: &Context<'_>) -> Poll<Result<Request<()>, Fault>> {
        Poll::Ready(match ready!(self.poll_block(cx))? {
            Some(Block::Whole(Kind::Request, content)) => Ok(message::request(content)?),
            _ => Err(Malformed("no head of a request").into()),
        })
    }

    /// The head of a response.
    pub(super) fn poll_response(&mut self, cx: &Context<'_>) -> Poll<Result<Response<()>, Fault>> {
        Poll::Ready(match ready!(self.poll_block(cx))? {
            Some(Block::Whole(Kind::Response, content)) => Ok(message::response(content)?),
            _ => Err(Malformed("no head of a response").into()),
        })
    }

    /// A piece of the body, or the trailers; none at the end.
    pub(super) fn poll_body(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Result<Bytes, HeaderMap>>, Fault>> {
        Poll::Ready(match ready!(self.poll_block(cx))? {
            None => Ok(None),
            Some(Block::Data(data)) => Ok(Some(Ok(data))),
            Some(Block::Whole(Kind::Trailers, content)) => Ok(Some(Err(message::fields(content)?))),
            Some(Block::Whole(..)) => Err(Malformed("a head amid a message").into()),
        })
    }

    /// Whether the message has ended and all of it was taken.
    pub(super) fn is_end(&self) -> bool {
        self.data_bytes == 0 && (self.is_last || self.seen.is_empty() && self.stream.is_read())
    }

    fn poll_block(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Block>, Fault>> {
        loop {
            if self.data_bytes > 0 && !self.seen.is_empty() {
                let n = self.data_bytes.min(self.seen.len());
                self.data_bytes -= n;
                return Poll::Ready(Ok(Some(Block::Data(self.take(n)))));
            }
            if self.data_bytes == 0 && self.is_last {
                return Poll::Ready(Ok(None));
            }
            if self.data_bytes == 0
                && let Some(head) = message::head(&self.seen)?
            {
                if head.kind == Kind::Data {
                    self.seen.advance(HEAD_BYTES);
                    self.data_bytes = head.bytes;
                    self.is_last = head.is_last;
                    continue;
                }
                if head.bytes > self.head_bytes_max {
                    return Poll::Ready(Err(Malformed("a head that is too long").into()));
                }
                if self.seen.len() >= HEAD_BYTES + head.bytes {
                    self.seen.advance(HEAD_BYTES);
                    self.is_last = head.is_last;
                    let content = self.take(head.bytes);
                    return Poll::Ready(Ok(Some(Block::Whole(head.kind, content))));
                }
            }
            let before = self.seen.len();
            if let Err(error) = ready!(self.stream.poll_fill(cx, &mut self.seen)) {
                return Poll::Ready(Err(Fault::of(&self.stream, error)));
            }
            let n = self.seen.len() - before;
            self.meter.read(n);
            if n == 0 {
                let is_whole = before == 0 && self.data_bytes == 0;
                return Poll::Ready(match is_whole {
                    true => Ok(None),
                    false => Err(Malformed("a message that ends too early").into()),
                });
            }
        }
    }

    /// The first `n` bytes of what was seen, without a copy.
    fn take(&mut self, n: usize) -> Bytes {
        match n == self.seen.len() {
            true => std::mem::take(&mut self.seen).freeze(),
            false => self.seen.split_to(n).freeze(),
        }
    }
}

/// The end that is written.
pub(crate) struct Writer {
    stream: Arc<mux::Stream>,
    meter: Arc<Meter>,
    gathered: Vec<u8>,
    /// A long piece, behind what was gathered.
    rest: Bytes,
}

impl Writer {
    pub(super) fn request(&mut self, head: &Request<()>, is_last: bool) {
        self.gathered.reserve(MESSAGE_BYTES);
        message::put_request(&mut self.gathered, head, is_last);
    }

    pub(super) fn response(&mut self, head: &Response<()>, is_last: bool) {
        self.gathered.reserve(MESSAGE_BYTES);
        message::put_response(&mut self.gathered, head, is_last);
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        // They come behind the body, and are few.
        let rest = std::mem::take(&mut self.rest);
        self.gathered.extend_from_slice(&rest);
        message::put_trailers(&mut self.gathered, trailers);
    }

    /// Only to be called when [`Self::poll_room`] says so.
    pub(super) fn data(&mut self, data: Bytes, is_last: bool) {
        debug_assert!(self.rest.is_empty() && data.len() <= CONTENT_BYTES_MAX);
        let head = Head {
            kind: Kind::Data,
            is_last,
            bytes: data.len(),
        };
        self.gathered.extend_from_slice(&head.written());
        if self.gathered.len() + data.len() <= GATHER_BYTES {
            self.gathered.extend_from_slice(&data);
        } else {
            self.rest = data;
        }
    }

    /// Waits until there is room for one more piece.
    pub(super) fn poll_room(&mut self, cx: &Context<'_>) -> Poll<Result<(), Fault>> {
        if self.rest.is_empty() && self.gathered.len() < GATHER_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(cx)
    }

    /// Hands over all that was written.
    pub(super) fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<Result<(), Fault>> {
        let mut sent = 0;
        while sent < self.gathered.len() {
            match self.poll_put(cx, &self.gathered[sent..]) {
                Poll::Ready(n) => sent += n?,
                Poll::Pending => {
                    self.gathered.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        self.gathered.clear();
        while !self.rest.is_empty() {
            let n = ready!(self.poll_put(cx, &self.rest))?;
            self.rest.advance(n);
        }
        // Owned by nobody who waits.
        self.gathered = Vec::new();
        Poll::Ready(Ok(()))
    }

    fn poll_put(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Fault>> {
        let put = ready!(self.stream.poll_put(cx, bytes));
        let n = put.map_err(|error| Fault::of(&self.stream, error))?;
        self.meter.wrote(n);
        Poll::Ready(Ok(n))
    }

    /// All was flushed, and nothing more will be written.
    pub(super) fn end(&self) {
        self.stream.end();
    }

    /// Gives the stream up.
    pub(super) fn reset(&self, reason: Reason) {
        self.stream.reset(reason.into());
    }

    /// Waits until the peer gives the stream up.
    pub(super) fn poll_reset(&self, cx: &Context<'_>) -> Poll<Fault> {
        self.stream.poll_reset(cx).map(Fault::from)
    }
}
