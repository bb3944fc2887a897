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

    /// Waits until nobody makes a connection. None when somebody has tried meanwhile.
    pub(crate) async fn turn(&self) -> Option<Turn<'_>> {
        let before = self.attempts.load(Relaxed);
        let guard = self.turn.lock().await;
        (self.attempts.load(Relaxed) == before).then_some(Turn {
            pool: self,
            _guard: guard,
        })
    }

    /// Whether there is no connection, not even one without room.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.lock().is_empty()
    }

    /// Takes in a new connection.
    pub(crate) fn keep(&self, connection: Connection, generation: u64) {
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
