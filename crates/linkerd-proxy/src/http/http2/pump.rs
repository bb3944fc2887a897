//! Moves one body, piece by piece as its receiver takes them. Entry: [`Pump::poll`].

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{
    fault::Fault,
    sink::Sink,
    source::{Piece, Source},
};

/// Which end of a body's way is broken.
pub(super) enum Broken {
    From(Fault),
    To(Fault),
}

/// A body on its way through the proxy.
pub(super) struct Pump {
    pub(super) from: Source,
    pub(super) to: Sink,
    /// Has come, and waits for room.
    held: Option<(Bytes, bool)>,
    /// Has come, and was not released to its sender.
    owed_bytes: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flows,
    /// All has come.
    Ends,
    Done,
}

impl Pump {
    pub(super) fn new(from: Source, to: Sink) -> Self {
        Self {
            from,
            to,
            held: None,
            owed_bytes: 0,
            state: State::Flows,
        }
    }

    /// The same body to another place, from the start again: `again` is all that has come of it.
    pub(super) fn restart(&mut self, to: Sink, again: Option<Bytes>) {
        self.to = to;
        self.held = again.map(|again| (again, self.from.is_end()));
        self.state = State::Flows;
    }

    /// There is nothing but the head, and that says so where it can.
    pub(super) fn finish(&mut self) {
        self.state = State::Ends;
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Moves what can be moved, and shows `seen` what comes. Ready at the end, and when one side breaks.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut seen: impl FnMut(&Piece),
    ) -> Poll<Result<(), Broken>> {
        while self.state == State::Flows {
            if let Some((bytes, is_last)) = self.held.take() {
                let room = self.to.poll_room(cx, bytes.len()).map_err(Broken::To)?;
                if room.is_pending() {
                    self.held = Some((bytes, is_last));
                    return Poll::Pending;
                }
                self.to.data(bytes, is_last).map_err(Broken::To)?;
                let owed_bytes = std::mem::take(&mut self.owed_bytes);
                self.from.release(owed_bytes).map_err(Broken::From)?;
                if is_last {
                    self.state = State::Ends;
                }
                continue;
            }
            let Poll::Ready(piece) = self.from.poll_next(cx).map_err(Broken::From)? else {
                // What has collected does not wait for what is to come.
                ready!(self.to.poll_flush(cx, false)).map_err(Broken::To)?;
                return Poll::Pending;
            };
            seen(&piece);
            match piece {
                Piece::Data { bytes, is_last } => {
                    self.owed_bytes += bytes.len();
                    if !bytes.is_empty() || is_last {
                        self.held = Some((bytes, is_last));
                    }
                }
                Piece::Trailers(trailers) => {
                    self.to.trailers(trailers).map_err(Broken::To)?;
                    self.state = State::Ends;
                }
                Piece::End => {
                    self.to.end().map_err(Broken::To)?;
                    self.state = State::Ends;
                }
            }
        }
        if self.state == State::Ends {
            ready!(self.to.poll_flush(cx, true)).map_err(Broken::To)?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }
}
