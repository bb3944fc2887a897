//! How loaded an endpoint is: its latency, remembered at its peak and forgotten over seconds, times
//! what is under way; more when requests fail. Entry: [`Load::compare`]. Reads and writes single
//! words, so that requests never wait for each other.
//! Whoever was not measured yet is compared by what is under way alone, so it is tried soon.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::breaker::clock_ms;

/// A peak of latency is forgotten to a third after this.
const LATENCY_DECAY_MS: f32 = 10_000.0;
/// Failures are: whoever was repaired gets its share again soon.
const FAILURE_DECAY_MS: f32 = 2_000.0;
/// What one answer counts among those that tell the share of failures.
const FAILURE_STEP: f32 = 0.25;
/// How many times as loaded an endpoint counts that always fails, less one. So it does not attract
/// requests by failing them fast; it is ejected for failing in a row only.
const FAILURE_WEIGHT: f32 = 10.0;
/// A smaller share of failures is none.
const FAILURE_SHARE_MIN: f32 = 0.01;

/// How loaded one endpoint is.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pending: AtomicU32,
    /// Microseconds, as [`Remembered`]; 0 = not measured.
    latency: AtomicU64,
    /// Share of failures, as [`Remembered`]; 0 = none.
    failures: AtomicU64,
}

/// A number that is forgotten over time. Fits into 64 bits.
#[derive(Clone, Copy)]
struct Remembered {
    value: f32,
    /// Of the clock that wraps around after 49 days, when nothing is left anyway.
    at_ms: u32,
}

impl Remembered {
    fn read(word: u64) -> Option<Self> {
        let [v0, v1, v2, v3, a0, a1, a2, a3] = word.to_le_bytes();
        (word != 0).then_some(Self {
            value: f32::from_le_bytes([v0, v1, v2, v3]),
            at_ms: u32::from_le_bytes([a0, a1, a2, a3]),
        })
    }

    fn word(self) -> u64 {
        u64::from(self.value.to_bits()) | u64::from(self.at_ms) << 32
    }

    /// The share that is left at `now_ms`.
    fn kept(self, now_ms: u32, decay_ms: f32) -> f32 {
        // It may have been written a moment after the caller took the time.
        let age_ms = now_ms.wrapping_sub(self.at_ms).cast_signed().max(0);
        (-(age_ms as f32) / decay_ms).exp()
    }

    fn left(self, now_ms: u32, decay_ms: f32) -> f32 {
        self.value * self.kept(now_ms, decay_ms)
    }
}

impl Load {
    pub(crate) fn begin(&self) {
        self.pending.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.pending.fetch_sub(1, Relaxed);
    }

    /// The first data came: counts at once when it is slower than remembered, over time when it is
    /// faster.
    pub(crate) fn answered(&self, after: Duration, now: Instant) {
        let (now_ms, took) = (wrapping_ms(now), micros(after));
        let latency = match Remembered::read(self.latency.load(Relaxed)) {
            Some(old) if took < old.left(now_ms, LATENCY_DECAY_MS) => {
                let keep = old.kept(now_ms, LATENCY_DECAY_MS);
                old.value * keep + took * (1.0 - keep)
            }
            _ => took,
        };
        self.set_latency(latency, now_ms);
    }

    /// Nobody waits any longer, or what came was a failure: so slow the endpoint was at least.
    pub(crate) fn ended_after(&self, after: Duration, now: Instant) {
        let now_ms = wrapping_ms(now);
        let left = self.latency_us(now_ms).unwrap_or_default();
        self.set_latency(micros(after).max(left), now_ms);
    }

    fn set_latency(&self, us: f32, now_ms: u32) {
        let latency = Remembered {
            // Never 0, which stands for "not measured".
            value: us.max(1.0),
            at_ms: now_ms,
        };
        // Of two samples at the same moment one may get lost.
        self.latency.store(latency.word(), Relaxed);
    }

    /// Whether a request succeeded.
    pub(crate) fn judged(&self, success: bool, now: Instant) {
        let word = self.failures.load(Relaxed);
        if success && word == 0 {
            return;
        }
        let now_ms = wrapping_ms(now);
        let left = failure_share(word, now_ms);
        let latest = if success { 0.0 } else { 1.0 };
        let share = left + FAILURE_STEP * (latest - left);
        let failures = Remembered {
            value: share,
            at_ms: now_ms,
        };
        let word = if share < FAILURE_SHARE_MIN {
            0
        } else {
            failures.word()
        };
        self.failures.store(word, Relaxed);
    }

    /// What was measured while the endpoint was down says nothing about it now.
    pub(crate) fn forget(&self) {
        self.latency.store(0, Relaxed);
        self.failures.store(0, Relaxed);
    }

    /// Which of two is less loaded.
    pub(crate) fn compare(&self, other: &Self, now: Instant) -> Ordering {
        let now_ms = wrapping_ms(now);
        let weight = |load: &Self| {
            let pending = load.pending.load(Relaxed) as f32 + 1.0;
            let failures = failure_share(load.failures.load(Relaxed), now_ms);
            pending * (1.0 + FAILURE_WEIGHT * failures)
        };
        match (self.latency_us(now_ms), other.latency_us(now_ms)) {
            (Some(a_us), Some(b_us)) => (a_us * weight(self)).total_cmp(&(b_us * weight(other))),
            (a_us, b_us) => weight(self)
                .total_cmp(&weight(other))
                .then(a_us.is_some().cmp(&b_us.is_some())),
        }
    }

    /// What is left of the peak; an endpoint that nobody asks becomes attractive again.
    fn latency_us(&self, now_ms: u32) -> Option<f32> {
        let latency = Remembered::read(self.latency.load(Relaxed))?;
        Some(latency.left(now_ms, LATENCY_DECAY_MS))
    }
}

fn failure_share(word: u64, now_ms: u32) -> f32 {
    Remembered::read(word).map_or(0.0, |failures| failures.left(now_ms, FAILURE_DECAY_MS))
}

fn micros(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e6
}

fn wrapping_ms(now: Instant) -> u32 {
    // The upper half is dropped on purpose.
    clock_ms(now) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn left_us(load: &Load, now: Instant) -> f32 {
        load.latency_us(wrapping_ms(now)).unwrap()
    }

    #[test]
    fn of_two_the_one_with_less_under_way_is_less_loaded() {
        let (idle, busy) = (Load::default(), Load::default());
        let now = Instant::now();
        busy.begin();
        assert!(idle.compare(&busy, now).is_lt());
        busy.answered(MS, now);
        idle.answered(MS, now);
        assert!(idle.compare(&busy, now).is_lt());
        busy.end();
        assert!(idle.compare(&busy, now).is_eq());
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::default();
        let now = Instant::now();
        load.answered(MS, now);
        load.answered(S, now + S);
        load.answered(MS, now + 2 * S);
        assert!(left_us(&load, now + 2 * S) > 0.9e6);
        load.answered(MS, now + 60 * S);
        assert!(left_us(&load, now + 60 * S) < 0.1e6);
    }

    #[test]
    fn a_slow_endpoint_that_nobody_asks_is_asked_again() {
        let (slow, fast) = (Load::default(), Load::default());
        let now = Instant::now();
        slow.answered(S, now);
        fast.answered(10 * MS, now);
        assert!(fast.compare(&slow, now).is_lt());
        let later = now + 60 * S;
        fast.answered(10 * MS, later);
        assert!(slow.compare(&fast, later).is_lt());
    }

    #[test]
    fn a_new_endpoint_is_tried_at_once_and_not_flooded() {
        let (new, old) = (Load::default(), Load::default());
        let now = Instant::now();
        old.answered(MS / 10, now);
        assert!(new.compare(&old, now).is_lt());
        new.begin();
        assert!(old.compare(&new, now).is_lt());
    }

    #[test]
    fn an_endpoint_is_not_made_attractive_by_failing_fast() {
        let (failing, good) = (Load::default(), Load::default());
        let now = Instant::now();
        for load in [&failing, &good] {
            load.answered(10 * MS, now);
            load.judged(true, now);
        }
        failing.ended_after(MS / 10, now);
        failing.judged(false, now);
        assert!(good.compare(&failing, now).is_lt());
        // It can be told from one that is just as busy for seconds, and not for ever.
        assert!(good.compare(&failing, now + S).is_lt());
        good.begin();
        assert!(failing.compare(&good, now + 3 * S).is_lt());
    }

    #[test]
    fn good_answers_make_up_for_failures() {
        let load = Load::default();
        let now = Instant::now();
        for _ in 0..100 {
            load.judged(false, now);
        }
        let share = || failure_share(load.failures.load(Relaxed), wrapping_ms(now));
        assert!((0.99..=1.0).contains(&share()));
        for _ in 0..20 {
            load.judged(true, now);
        }
        assert_eq!(load.failures.load(Relaxed), 0);
    }

    #[test]
    fn an_answer_that_nobody_waited_for_is_slow_and_never_fast() {
        let load = Load::default();
        let now = Instant::now();
        load.answered(10 * MS, now);
        load.ended_after(MS, now);
        assert!(left_us(&load, now) > 9_000.0);
        load.ended_after(S, now);
        assert!(left_us(&load, now) > 0.9e6);
    }

    #[test]
    fn a_sample_and_a_question_may_be_out_of_order() {
        let load = Load::default();
        let now = Instant::now();
        load.answered(MS, now + MS);
        assert!((left_us(&load, now) - 1_000.0).abs() < 1.0);
    }
}
