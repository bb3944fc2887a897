//! A body on its way from one connection to the other, as it comes. Entry: [`Pump`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    chunks::Chunks,
    head::{self, Framing, Malformed},
    may_end,
};
use crate::io::Socket;

/// A longer piece of a body is not copied to follow its head in the same write.
const TAKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Whoever sends it has broken off.
    #[error("its sender has broken off: {0}")]
    Sender(io::Error),
    /// Whoever is to receive it has gone.
    #[error("its receiver has gone: {0}")]
    Receiver(io::Error),
    #[error("its framing is wrong: {0}")]
    Malformed(#[from] Malformed),
}

/// One body.
pub(super) struct Pump {
    left: Left,
    /// Bytes at hand that were looked at and belong to the body.
    ready: usize,
    /// Trailers as they go on.
    trailers: Vec<u8>,
    /// So many bytes of those that come are known not to hold their end.
    looked_at: usize,
    trailers_max: usize,
    is_response: bool,
    /// Of the trailers.
    pub(super) grpc_status: Option<u16>,
    /// Bytes of the body that were seen, without framing.
    pub(super) body_bytes: u64,
}

enum Left {
    Length(u64),
    Chunks(Chunks),
    UntilEnd,
    Nothing,
}

impl Pump {
    pub(super) fn new(framing: Framing, is_response: bool, trailers_max: usize) -> Self {
        let left = match framing {
            Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunks(Chunks::new(is_response)),
            Framing::UntilEnd => Left::UntilEnd,
        };
        Self {
            left,
            ready: 0,
            trailers: Vec::new(),
            looked_at: 0,
            trailers_max,
            is_response,
            grpc_status: None,
            body_bytes: 0,
        }
    }

    /// Whether all of it has gone on.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.left, Left::Nothing) && self.ready == 0 && self.trailers.is_empty()
    }

    /// Takes what is there already, up to so much as goes well with a head, and appends it to `out`.
    ///
    /// # Errors
    /// When the framing is wrong.
    pub(super) fn take(&mut self, from: &mut Socket, out: &mut Vec<u8>) -> Result<(), Malformed> {
        while !self.is_done() && !from.seen().is_empty() && from.seen().len() <= TAKEN_BYTES_MAX {
            self.look(from)?;
            if self.ready == 0 && self.trailers.is_empty() {
                break;
            }
            out.extend_from_slice(&from.seen()[..self.ready]);
            from.consume(std::mem::take(&mut self.ready));
            out.append(&mut self.trailers);
        }
        Ok(())
    }

    /// Passes on what is there until all of it has gone.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket,
        to: &mut Socket,
    ) -> Poll<Result<(), Broken>> {
        loop {
            self.look(from)?;
            let has_some = self.ready > 0 || !self.trailers.is_empty();
            while self.ready > 0 {
                let bytes = &from.seen()[..self.ready];
                let n =
                    ready!(Pin::new(&mut *to).poll_write(cx, bytes)).map_err(Broken::Receiver)?;
                from.consume(n);
                self.ready -= n;
            }
            while !self.trailers.is_empty() {
                let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.trailers))
                    .map_err(Broken::Receiver)?;
                self.trailers.drain(..n);
            }
            if self.is_done() {
                return Pin::new(&mut *to).poll_flush(cx).map_err(Broken::Receiver);
            }
            if has_some {
                continue;
            }
            match from.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if matches!(self.left, Left::UntilEnd) => {
                    self.left = Left::Nothing;
                }
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Broken::Sender(io::ErrorKind::UnexpectedEof.into())));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Sender(error))),
                Poll::Pending => {
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Broken::Receiver)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Finds out how much of what is there belongs to the body.
    fn look(&mut self, from: &mut Socket) -> Result<(), Malformed> {
        if self.ready > 0 || !self.trailers.is_empty() {
            return Ok(());
        }
        let seen = from.seen();
        match &mut self.left {
            Left::Nothing => {}
            Left::UntilEnd => {
                self.ready = seen.len();
                self.body_bytes += self.ready as u64;
            }
            Left::Length(left) => {
                self.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(seen.len());
                *left -= self.ready as u64;
                self.body_bytes += self.ready as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
            }
            Left::Chunks(chunks) if !chunks.is_at_trailers() => {
                self.ready = chunks.scan(seen)?;
                self.body_bytes = chunks.data_bytes;
            }
            // Where there are none, their end is the first two bytes.
            Left::Chunks(_)
                if self.looked_at >= 2
                    && seen.len() <= self.trailers_max
                    && !may_end(seen, self.looked_at) =>
            {
                self.looked_at = seen.len();
            }
            Left::Chunks(_) => match head::trailers(seen, self.is_response, &mut self.trailers)? {
                Some((bytes, grpc_status)) => {
                    self.grpc_status = grpc_status;
                    self.left = Left::Nothing;
                    from.consume(bytes);
                }
                None if seen.len() > self.trailers_max => {
                    return Err(Malformed("the trailers are too long"));
                }
                None => self.looked_at = seen.len(),
            },
        }
        Ok(())
    }
}
