//! A request's body on its way to an endpoint, and to another one when the first has refused it. Entry:
//! [`Upload::go`].

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    pump::{Broken, Pump},
    sink::Sink,
    source::{Piece, Source},
};
use crate::metrics::Route;

/// The body of one request. Counts the request when all of it has gone and there is an answer, or when it is
/// dropped.
pub(super) struct Upload {
    state: State,
    seen: Seen,
    kept_bytes_max: usize,
    route: Option<Arc<Route>>,
    is_answered: bool,
}

enum State {
    Waits(Source),
    Goes(Pump),
    /// Somebody else has it, or nobody wants it.
    Over,
}

/// What has come of the body so far.
enum Seen {
    Nothing,
    /// One piece, which can be sent again.
    First(Bytes),
    /// More than is kept.
    More,
}

impl Upload {
    /// `kept_bytes_max`: a first piece of so many bytes is kept until there is an answer.
    pub(super) fn new(body: Source, kept_bytes_max: usize) -> Self {
        Self {
            state: State::Waits(body),
            seen: Seen::Nothing,
            kept_bytes_max,
            route: None,
            is_answered: false,
        }
    }

    /// Whether there is a body at all, as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        let from = match &self.state {
            State::Waits(from) => from,
            State::Goes(pump) => &pump.from,
            State::Over => return true,
        };
        matches!(self.seen, Seen::Nothing) && from.is_end()
    }

    /// Begins, or begins again where [`Self::may_go_again`] allows it. An empty body has gone with the
    /// request's head.
    pub(super) fn go(&mut self, to: Sink, was_empty: bool) {
        let mut pump = match std::mem::replace(&mut self.state, State::Over) {
            State::Waits(from) => Pump::new(from, to),
            State::Goes(mut pump) => {
                let again = match &self.seen {
                    Seen::First(bytes) => Some(bytes.clone()),
                    Seen::Nothing | Seen::More => None,
                };
                pump.restart(to, again);
                pump
            }
            State::Over => return,
        };
        if was_empty {
            pump.finish();
        }
        self.state = State::Goes(pump);
    }

    /// Counts the request on `route` once it is over, and on no other.
    pub(super) fn count(&mut self, route: &Arc<Route>) {
        self.route = Some(route.clone());
    }

    /// Whether nothing has come that is not there any more.
    pub(super) fn may_go_again(&self) -> bool {
        !matches!(
            (&self.state, &self.seen),
            (State::Over, _) | (_, Seen::More)
        )
    }

    /// There is an answer: nothing has to be kept.
    pub(super) fn answered(&mut self) {
        self.seen = Seen::More;
        self.is_answered = true;
        if self.is_over() {
            self.counted();
        }
    }

    /// Gives the body to somebody else; none when it is on its way.
    pub(super) fn take(&mut self) -> Option<Source> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Waits(from) => Some(from),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Takes it back, untouched.
    pub(super) fn put_back(&mut self, body: Source) {
        self.state = State::Waits(body);
    }

    pub(super) fn is_over(&self) -> bool {
        match &self.state {
            State::Waits(_) => false,
            State::Goes(pump) => pump.is_done(),
            State::Over => true,
        }
    }

    /// Goes on with it. An endpoint that takes no more of it may still answer: its refusal is told once,
    /// and is the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let State::Goes(pump) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        let (seen, bytes_max) = (&mut self.seen, self.kept_bytes_max);
        let result = pump.poll(cx, |piece| seen.note(piece, bytes_max));
        if result.is_ready() && self.is_answered {
            self.counted();
        }
        result
    }

    /// Waits until the endpoint takes no more.
    pub(super) fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        match &mut self.state {
            State::Goes(pump) => pump.to.poll_reset(cx).map(Broken::To),
            State::Waits(_) | State::Over => Poll::Pending,
        }
    }

    /// The rest will not come, for `reason`.
    pub(super) fn reset(&mut self, reason: h2::Reason) {
        if let State::Goes(pump) = &mut self.state
            && !pump.is_done()
        {
            pump.to.reset(reason);
        }
        self.leave();
    }

    /// Nobody wants the rest.
    pub(super) fn leave(&mut self) {
        self.state = State::Over;
        self.counted();
    }

    fn counted(&mut self) {
        if let Some(route) = self.route.take() {
            route.request_ended();
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.counted();
    }
}

impl Seen {
    fn note(&mut self, piece: &Piece, bytes_max: usize) {
        match (&self, piece) {
            (_, Piece::End) => {}
            (_, Piece::Data { bytes, .. }) if bytes.is_empty() => {}
            (Self::Nothing, Piece::Data { bytes, .. }) if bytes.len() <= bytes_max => {
                *self = Self::First(bytes.clone());
            }
            _ => *self = Self::More,
        }
    }
}
