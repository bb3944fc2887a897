//! Slows down who writes the same object again and again, because somebody else undoes it each time: the
//! first writes are done at once, later ones ever more rarely. Entry: [`Restraint::note`]. Pure.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

use crate::backoff;

/// Who has left an object alone for so long starts from the beginning; longer than any wait.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The objects that were written.
#[derive(Debug)]
pub struct Restraint<K>(HashMap<K, Written>);

#[derive(Debug)]
struct Written {
    last: Instant,
    /// How often in a row it was written again.
    repeats: u32,
    free_at: Instant,
}

impl<K> Default for Restraint<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Restraint<K> {
    /// Notes that the object was written at `now`, and returns how long it must not be written again.
    pub fn note(&mut self, key: K, now: Instant) -> Duration {
        let first = Written {
            last: now,
            repeats: 0,
            free_at: now,
        };
        let before = self.0.remove(&key);
        let recent = before.filter(|written| now - written.last < FORGOTTEN_AFTER);
        let written = recent.map_or(first, |written| {
            let repeats = written.repeats.saturating_add(1);
            Written {
                last: now,
                repeats,
                free_at: now + backoff::delay(repeats),
            }
        });
        let wait = written.free_at - now;
        self.0.insert(key, written);
        wait
    }

    /// When the object may be written again; none when that is now.
    pub fn wait_until(&self, key: &K, now: Instant) -> Option<Instant> {
        let free_at = self.0.get(key)?.free_at;
        (free_at > now).then_some(free_at)
    }

    /// Forgets an object that concerns us no more.
    pub fn forget(&mut self, key: &K) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_undone_again_and_again_writes_ever_more_rarely() {
        let start = Instant::now();
        let mut restraint = Restraint::default();
        let (mut now, mut writes) = (start, 0);
        while now < start + 600 * SECOND {
            restraint.note("web", now);
            writes += 1;
            now = restraint.wait_until(&"web", now).unwrap_or(now);
        }
        assert!((18..40).contains(&writes), "{writes}");
    }

    #[test]
    fn a_first_repair_is_at_once_and_a_rare_one_too() {
        let now = Instant::now();
        let mut restraint = Restraint::default();
        assert_eq!(restraint.note("web", now), Duration::ZERO);
        assert_eq!(restraint.wait_until(&"web", now), None);
        assert!(restraint.note("web", now + SECOND) <= SECOND / 10);
        let later = now + FORGOTTEN_AFTER + SECOND;
        assert_eq!(restraint.note("web", later), Duration::ZERO);
        assert_eq!(restraint.wait_until(&"other", later), None);
        restraint.note("web", later);
        restraint.forget(&"web");
        assert_eq!(restraint.wait_until(&"web", later), None);
    }
}
