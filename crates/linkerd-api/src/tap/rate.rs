//! How many requests and connections a client is shown. Entry: [`UnderWay::shows`].
//! Each proxy has its share of the rate, but at least one a second, and seconds of its own: together they tell of
//! more than the client wants. Knows no clock: `now` is a parameter.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Requests and connections of one pod that are kept in mind at once. One that is forgotten takes another turn
/// when there is more of it.
const UNDER_WAY_MAX: usize = 4096;

/// The turns of one tap, which all its pods share. Each second brings as many as the client wants; of those that
/// nobody took a fraction stays, so that half a turn a second is one in two.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    second: Mutex<Second>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    turns: f64,
}

impl Rate {
    pub(super) fn new(per_second: f32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        let second = Second {
            began: now,
            turns: per_second.ceil(),
        };
        Self {
            per_second,
            second: Mutex::new(second),
        }
    }

    fn take_turn(&self, now: Instant) -> bool {
        let mut second = self.second.lock();
        let passed = now.saturating_duration_since(second.began).as_secs();
        if passed > 0 {
            let passed = Duration::from_secs(passed);
            second.began += passed;
            let turns = second.turns + self.per_second * passed.as_secs_f64();
            second.turns = turns.min(self.per_second.ceil());
        }
        let is_one_left = second.turns >= 1.0;
        if is_one_left {
            second.turns -= 1.0;
        }
        is_one_left
    }
}

/// Where in its request or connection an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Before,
    Last,
}

/// What one call to a proxy has told of and not yet told the end of: by number, whether the client sees it.
#[derive(Debug, Default)]
pub(super) struct UnderWay(BTreeMap<u64, bool>);

impl UnderWay {
    /// Whether the client is shown an event of the request or connection `stream`: all of them, when there was
    /// a turn left for the first that came, or none.
    pub(super) fn shows(&mut self, stream: u64, place: Place, rate: &Rate, now: Instant) -> bool {
        let Self(streams) = self;
        let known = streams.remove(&stream);
        let shown = known.unwrap_or_else(|| rate.take_turn(now));
        if place == Place::Before {
            streams.insert(stream, shown);
            if streams.len() > UNDER_WAY_MAX {
                streams.pop_first();
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a thousand that come in each of the seconds are shown.
    fn shown(per_second: f32, seconds: &[u64]) -> Vec<usize> {
        let began = Instant::now();
        let rate = Rate::new(per_second, began);
        let of_second = |second: &u64| {
            let thousand = (0..1000).map(|ms| Duration::from_millis(second * 1000 + ms));
            thousand.filter(|at| rate.take_turn(began + *at)).count()
        };
        seconds.iter().map(of_second).collect()
    }

    #[test]
    fn each_second_has_its_turns_and_a_fraction_of_one_stays() {
        assert_eq!(shown(100.0, &[0, 1, 2]), [100, 100, 100]);
        assert_eq!(shown(1.0, &[0, 1, 2]), [1, 1, 1]);
        assert_eq!(shown(0.5, &[0, 1, 2, 3, 4]), [1, 0, 1, 0, 1]);
        assert_eq!(shown(2.5, &[0, 1, 2, 3]), [3, 2, 3, 2]);
        assert_eq!(shown(f32::MAX, &[0]), [1000]);
        assert_eq!(shown(2.0, &[0, 60, 61]), [2, 2, 2], "no more after a pause");
    }

    #[test]
    fn a_request_is_shown_to_its_end_or_not_at_all() {
        let now = Instant::now();
        let rate = Rate::new(1.0, now);
        let (mut one, mut other) = (UnderWay::default(), UnderWay::default());
        let mut of_one = |stream, place| one.shows(stream, place, &rate, now);
        assert!(of_one(1, Place::Before));
        assert!(!of_one(2, Place::Before), "the only turn is taken");
        assert!(!other.shows(1, Place::Before, &rate, now), "for all pods");
        assert!(of_one(1, Place::Before) && of_one(1, Place::Last));
        let later = now + Duration::from_secs(1);
        let mut of_one = |stream, place| one.shows(stream, place, &rate, later);
        assert!(!of_one(2, Place::Last), "it has begun without a turn");
        // A connection that never was open has an end alone.
        assert!(of_one(3, Place::Last));
        assert!(!of_one(4, Place::Last));
        assert!(one.0.is_empty());
    }

    #[test]
    fn ends_that_never_come_are_forgotten() {
        let now = Instant::now();
        let rate = Rate::new(1.0, now);
        let mut under_way = UnderWay::default();
        for stream in 0..10_000 {
            under_way.shows(stream, Place::Before, &rate, now);
        }
        assert_eq!(under_way.0.len(), UNDER_WAY_MAX);
        assert!(under_way.0.contains_key(&9_999));
    }
}
