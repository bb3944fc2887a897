//! What to look at next, and when: every item at most once at a time. Pure; time is a parameter.
//! Entry: [`Queue::push`], [`Queue::take`], [`Queue::finish`].

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use tokio::time::Instant;

/// Items with the time at which each is due. Items that are due at the same time come in their order.
#[derive(Debug)]
pub struct Queue<T> {
    due: BTreeSet<(Instant, T)>,
    states: HashMap<T, State>,
}

/// Where an item is. It has a failure count for as long as it is known.
#[derive(Clone, Copy, Debug)]
struct State {
    place: Place,
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting(Instant),
    InWork,
    /// In work, and pushed again meanwhile.
    InWorkAndDue(Instant),
}

/// How the work on an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Look again at this time.
    Again(Instant),
    /// Nothing more to do until the item is pushed.
    Forget,
    /// Try again at this time; the number of failures in a row grows.
    Failed(Instant),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            due: BTreeSet::new(),
            states: HashMap::new(),
        }
    }
}

impl<T: Ord + Hash + Clone> Queue<T> {
    /// Makes an item due at `at`, or earlier if it already is.
    pub fn push(&mut self, item: T, at: Instant) {
        let state = self.states.get(&item).copied();
        let failures = state.map_or(0, |state| state.failures);
        let place = match state.map(|state| state.place) {
            None => Place::Waiting(at),
            Some(Place::Waiting(before)) => {
                self.due.remove(&(before, item.clone()));
                Place::Waiting(before.min(at))
            }
            Some(Place::InWork) => Place::InWorkAndDue(at),
            Some(Place::InWorkAndDue(before)) => Place::InWorkAndDue(before.min(at)),
        };
        self.set(item, State { place, failures });
    }

    /// Takes the item that has been due for longest at `now`; it is in work until [`Queue::finish`].
    pub fn take(&mut self, now: Instant) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        let (_, item) = self.due.pop_first()?;
        if let Some(state) = self.states.get_mut(&item) {
            state.place = Place::InWork;
        }
        Some(item)
    }

    /// Ends the work on an item. When it was pushed meanwhile, it is due as it was pushed.
    pub fn finish(&mut self, item: T, finish: Finish) {
        let Some(state) = self.states.remove(&item) else {
            return;
        };
        let failures = match finish {
            Finish::Failed(_) => state.failures.saturating_add(1),
            Finish::Again(_) | Finish::Forget => 0,
        };
        let at = match (state.place, finish) {
            (Place::InWorkAndDue(at), _) => at,
            (_, Finish::Again(at) | Finish::Failed(at)) => at,
            (_, Finish::Forget) => return,
        };
        self.set(
            item,
            State {
                place: Place::Waiting(at),
                failures,
            },
        );
    }

    /// How often in a row the item has failed.
    pub fn failures(&self, item: &T) -> u32 {
        self.states.get(item).map_or(0, |state| state.failures)
    }

    /// When the next item is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, item: T, state: State) {
        if let Place::Waiting(at) = state.place {
            self.due.insert((at, item.clone()));
        }
        self.states.insert(item, state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn filled(items: &[(u8, u32)], now: Instant) -> Queue<u8> {
        let mut queue = Queue::default();
        for &(item, seconds) in items {
            queue.push(item, now + SECOND * seconds);
        }
        queue
    }

    #[test]
    fn items_come_when_they_are_due_and_in_order() {
        let now = Instant::now();
        let mut queue = filled(&[(3, 1), (2, 1), (1, 2)], now);
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.next_due(), Some(now + SECOND));
        let then = now + SECOND * 5;
        let order = [
            queue.take(then),
            queue.take(then),
            queue.take(then),
            queue.take(then),
        ];
        assert_eq!(order, [Some(2), Some(3), Some(1), None]);
    }

    #[test]
    fn an_item_that_is_pushed_twice_comes_once_at_the_earlier_time() {
        let now = Instant::now();
        let mut queue = filled(&[(1, 5), (1, 1), (1, 9)], now);
        assert_eq!(queue.take(now + SECOND), Some(1));
        assert_eq!(queue.take(now + SECOND * 99), None);
    }

    #[test]
    fn an_item_in_work_waits_for_its_end_and_then_comes_again() {
        let now = Instant::now();
        let mut queue = filled(&[(1, 0)], now);
        assert_eq!(queue.take(now), Some(1));
        queue.push(1, now);
        assert_eq!(queue.take(now), None);
        queue.finish(1, Finish::Forget);
        assert_eq!(queue.take(now), Some(1));
        queue.finish(1, Finish::Forget);
        assert_eq!(queue.take(now + SECOND * 99), None);
    }

    #[test]
    fn failures_are_counted_until_a_success() {
        let now = Instant::now();
        let mut queue = filled(&[(1, 0)], now);
        for failures in 0..3 {
            assert_eq!(queue.failures(&1), failures);
            assert_eq!(queue.take(now), Some(1));
            queue.finish(1, Finish::Failed(now));
        }
        assert_eq!(queue.take(now), Some(1));
        queue.finish(1, Finish::Again(now + SECOND));
        assert_eq!(queue.failures(&1), 0);
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.take(now + SECOND), Some(1));
    }
}
