//! One call of Observe, as the data path sees it. Its stream ends when the last holder drops it:
//! the list of those who watch until the limit is reached, and every request and connection under way.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use linkerd_proto::tap::TapEvent;
use tokio::sync::mpsc;
use tracing::debug;

use super::matches::Matcher;

/// What one client wants to see.
pub(super) struct Session {
    /// Tells its events from those of other calls.
    pub(super) base: u32,
    pub(super) wanted: Wanted,
    pub(super) matcher: Matcher,
    pub(super) with_headers: bool,
    limit: Limit,
    began: Instant,
    /// Requests and connections that were reported.
    taken: AtomicU64,
    /// The last second in which there were any, in the high half, and how many there were.
    second: AtomicU64,
    events: mpsc::Sender<TapEvent>,
    lost: AtomicU64,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) requests: bool,
    pub(super) connections: bool,
}

/// How much is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// As much in all.
    Total(u32),
    PerSecond(u32),
}

/// Leave to report one request or connection.
pub(super) struct Turn {
    /// Counts from 1.
    pub(super) number: u64,
    pub(super) is_last: bool,
}

impl Session {
    pub(super) fn new(
        base: u32,
        wanted: Wanted,
        matcher: Matcher,
        with_headers: bool,
        limit: Limit,
        events: mpsc::Sender<TapEvent>,
    ) -> Self {
        Self {
            base,
            wanted,
            matcher,
            with_headers,
            limit,
            began: Instant::now(),
            taken: AtomicU64::new(0),
            second: AtomicU64::new(0),
            events,
            lost: AtomicU64::new(0),
        }
    }

    /// One of those up to the limit; none when they are all taken.
    pub(super) fn take_turn(&self, now: Instant) -> Option<Turn> {
        match self.limit {
            Limit::Total(limit) => {
                let limit = u64::from(limit);
                let more = |taken| (taken < limit).then_some(taken + 1);
                let before = self.taken.fetch_update(Relaxed, Relaxed, more).ok()?;
                Some(Turn {
                    number: before + 1,
                    is_last: before + 1 == limit,
                })
            }
            Limit::PerSecond(limit) => {
                let second = now.saturating_duration_since(self.began).as_secs() << 32;
                let more = |state: u64| {
                    let fresh = state >> 32 != second >> 32;
                    let state = if fresh { second } else { state };
                    (state - second < u64::from(limit)).then_some(state + 1)
                };
                self.second.fetch_update(Relaxed, Relaxed, more).ok()?;
                Some(Turn {
                    number: self.taken.fetch_add(1, Relaxed) + 1,
                    is_last: false,
                })
            }
        }
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
    use std::time::Duration;

    use super::*;

    fn session(limit: Limit, events: mpsc::Sender<TapEvent>) -> Session {
        let wanted = Wanted {
            requests: true,
            connections: true,
        };
        Session::new(1, wanted, Matcher::All(Vec::new()), false, limit, events)
    }

    #[test]
    fn there_are_as_many_turns_as_the_limit_says() {
        let session = session(Limit::Total(2), mpsc::channel(1).0);
        let turns: Vec<_> = std::iter::from_fn(|| session.take_turn(Instant::now()))
            .map(|turn| (turn.number, turn.is_last))
            .collect();
        assert_eq!(turns, [(1, false), (2, true)]);
    }

    #[test]
    fn there_are_as_many_turns_a_second_as_the_limit_says() {
        let session = session(Limit::PerSecond(2), mpsc::channel(1).0);
        let turns = |millis| -> Vec<u64> {
            let now = session.began + Duration::from_millis(millis);
            let turns = std::iter::from_fn(|| session.take_turn(now));
            turns.map(|turn| turn.number).collect()
        };
        assert_eq!(turns(500), [1, 2]);
        assert_eq!(turns(999), [0; 0]);
        assert_eq!(turns(1_000), [3, 4]);
        assert_eq!(turns(9_000), [5, 6]);
    }

    #[test]
    fn what_a_slow_client_does_not_take_is_dropped() {
        let (sender, mut receiver) = mpsc::channel(2);
        let session = session(Limit::Total(9), sender);
        for _ in 0..5 {
            session.tell(TapEvent::default());
        }
        assert_eq!(session.lost.load(Relaxed), 3);
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_ok());
        assert!(receiver.try_recv().is_err());
    }
}
