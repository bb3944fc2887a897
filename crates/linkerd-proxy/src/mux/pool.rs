//! The multiplexed connections to one endpoint. Entry: [`Pool::stream`], [`Pool::keep`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::MutexGuard;

use super::{Connection, Stream};
use crate::tls::Verdict;

/// Connections of one endpoint, and who is making the next one.
#[derive(Default)]
pub(crate) struct Pool {
    held: Mutex<Vec<Held>>,
    /// Held while a connection is made, so that a burst of clients makes one.
    turn: tokio::sync::Mutex<()>,
    /// Attempts that have ended.
    attempts: AtomicU64,
    /// Connections that were taken in.
    kept: AtomicU64,
}

struct Held {
    connection: Connection,
    /// Of our credentials when it was made.
    generation: u64,
}

/// The right to make a connection; whoever comes meanwhile waits for it.
pub(crate) struct Turn<'a> {
    pool: &'a Pool,
    _guard: MutexGuard<'a, ()>,
}

/// What came of waiting for others.
pub(crate) enum Waited<'a> {
    /// The caller's turn.
    Turn(Turn<'a>),
    /// Somebody has made a connection meanwhile; it may be used up already.
    Made,
    /// Somebody has tried meanwhile, and there is nothing to share.
    InVain,
}

impl Turn<'_> {
    /// The attempt has ended, with a connection or without. Dropped before that it was none: its
    /// client has gone, and the next in line has its turn.
    pub(crate) fn end(self) {
        self.pool.attempts.fetch_add(1, Relaxed);
    }
}

impl Pool {
    /// A stream on a connection that was made with the credentials of `generation`. Others are left:
    /// their streams go on, new ones do not begin on them.
    pub(crate) fn stream(&self, verdict: Verdict, generation: u64) -> Option<Stream> {
        let mut held = self.held.lock();
        held.retain(|held| held.generation == generation && held.connection.is_open());
        held.iter().find_map(|held| held.connection.open(verdict))
    }

    /// Waits until nobody makes a connection.
    pub(crate) async fn turn(&self) -> Waited<'_> {
        let attempts = self.attempts.load(Relaxed);
        let kept = self.kept.load(Relaxed);
        let guard = self.turn.lock().await;
        if self.attempts.load(Relaxed) == attempts {
            Waited::Turn(Turn {
                pool: self,
                _guard: guard,
            })
        } else if self.kept.load(Relaxed) == kept {
            Waited::InVain
        } else {
            Waited::Made
        }
    }

    /// Takes in a new connection.
    pub(crate) fn keep(&self, connection: Connection, generation: u64) {
        self.kept.fetch_add(1, Relaxed);
        self.held.lock().push(Held {
            connection,
            generation,
        });
    }

    /// Leaves every connection; streams that are open may end.
    pub(crate) fn clear(&self) {
        self.held.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::join;

    use super::*;

    async fn turn(pool: &Pool) -> Turn<'_> {
        match pool.turn().await {
            Waited::Turn(turn) => turn,
            Waited::Made | Waited::InVain => panic!("nobody else has tried"),
        }
    }

    #[tokio::test]
    async fn whoever_has_waited_for_nothing_does_not_wait_for_the_next_attempt() {
        let pool = Pool::default();
        let first = turn(&pool).await;
        let attempt = async { first.end() };
        let (second, third, ()) = join!(pool.turn(), pool.turn(), attempt);
        assert!(matches!(second, Waited::InVain));
        assert!(matches!(third, Waited::InVain));
        // Whoever comes later tries alone again.
        turn(&pool).await.end();
    }

    #[tokio::test]
    async fn the_next_in_line_has_the_turn_of_a_client_that_has_gone() {
        let pool = Pool::default();
        let first = turn(&pool).await;
        let gone = async { drop(first) };
        let (second, ()) = join!(turn(&pool), gone);
        second.end();
    }
}
