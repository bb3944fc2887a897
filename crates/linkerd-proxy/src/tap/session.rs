//! One call of Observe, as the data path sees it. Its stream ends when the last holder drops it:
//! the list of those who watch until the limit is reached, and every request under way.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use linkerd_proto::tap::TapEvent;
use tokio::sync::mpsc;
use tracing::debug;

use super::matches::Matcher;

/// What one client wants to see.
pub(super) struct Session {
    /// Tells its events from those of other calls.
    pub(super) base: u32,
    pub(super) matcher: Matcher,
    pub(super) with_headers: bool,
    limit: u32,
    /// Requests that may still be reported.
    left: AtomicU32,
    events: mpsc::Sender<TapEvent>,
    lost: AtomicU64,
}

/// Leave to report one request.
pub(super) struct Turn {
    /// Counts from 1.
    pub(super) number: u64,
    pub(super) is_last: bool,
}

impl Session {
    pub(super) fn new(
        base: u32,
        matcher: Matcher,
        with_headers: bool,
        limit: u32,
        events: mpsc::Sender<TapEvent>,
    ) -> Self {
        Self {
            base,
            matcher,
            with_headers,
            limit,
            left: AtomicU32::new(limit),
            events,
            lost: AtomicU64::new(0),
        }
    }

    /// One of the requests up to the limit; none when they are all taken.
    pub(super) fn take_turn(&self) -> Option<Turn> {
        let before = self
            .left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .ok()?;
        Some(Turn {
            number: u64::from(self.limit - before) + 1,
            is_last: before == 1,
        })
    }

    /// Tells the client, if it keeps up; traffic never waits for it.
    pub(super) fn tell(&self, event: TapEvent) {
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let lost = self.lost.load(Relaxed);
        debug!(base = self.base, lost, "a tap has ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(limit: u32, events: mpsc::Sender<TapEvent>) -> Session {
        Session::new(1, Matcher::All(Vec::new()), false, limit, events)
    }

    #[test]
    fn there_are_as_many_turns_as_the_limit_says() {
        let session = session(2, mpsc::channel(1).0);
        let turns: Vec<_> = std::iter::from_fn(|| session.take_turn())
            .map(|turn| (turn.number, turn.is_last))
            .collect();
        assert_eq!(turns, [(1, false), (2, true)]);
    }

    #[test]
    fn what_a_slow_client_does_not_take_is_dropped() {
        let (sender, mut receiver) = mpsc::channel(2);
        let session = session(9, sender);
        for _ in 0..5 {
            session.tell(TapEvent::default());
        }
        assert_eq!(session.lost.load(Relaxed), 3);
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok());
        assert!(receiver.try_recv().is_err());
    }
}
