//! How loaded an endpoint is: its latency, remembered at its peak and forgotten over seconds, times
//! what is under way. Entry: [`Load::compare`]. Reads and writes no more than two words, so that
//! requests never wait for each other.
//! Whoever was not measured yet is compared by what is under way alone, so it is tried soon.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::breaker::clock_ms;

/// A peak is forgotten to a third after this.
const DECAY: Duration = Duration::from_secs(10);
/// How much slower than remembered an answer counts that failed, so that an endpoint does not
/// attract requests by failing them fast.
const FAILURE_FACTOR: f32 = 2.0;
/// Failures alone raise a latency up to this, microseconds.
const FAILURE_LATENCY_MAX_US: f32 = 10_000_000.0;

/// How loaded one endpoint is.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pending: AtomicU32,
    /// [`Latency`] as one word; 0 = not measured.
    latency: AtomicU64,
}

/// Measured.
#[derive(Clone, Copy)]
struct Latency {
    peak_us: f32,
    /// Of the clock that wraps around after 49 days, when nothing is left of a peak anyway.
    at_ms: u32,
}

impl Latency {
    fn read(word: u64) -> Option<Self> {
        let [p0, p1, p2, p3, a0, a1, a2, a3] = word.to_le_bytes();
        (word != 0).then_some(Self {
            peak_us: f32::from_le_bytes([p0, p1, p2, p3]),
            at_ms: u32::from_le_bytes([a0, a1, a2, a3]),
        })
    }

    fn word(self) -> u64 {
        u64::from(self.peak_us.to_bits()) | u64::from(self.at_ms) << 32
    }

    /// The share of a peak that is left at `now_ms`.
    fn kept(self, now_ms: u32) -> f32 {
        // A sample of a moment ago may be later than a `now` that was taken before it.
        let age_ms = now_ms.wrapping_sub(self.at_ms).cast_signed().max(0);
        (-(age_ms as f32) / DECAY.as_millis() as f32).exp()
    }

    /// What is left of the peak; an endpoint that nobody asks becomes attractive again.
    fn left_us(self, now_ms: u32) -> f32 {
        self.peak_us * self.kept(now_ms)
    }
}

/// What a sample says.
enum Sample {
    /// An answer took so long.
    Exactly(f32),
    /// No answer came for so long.
    AtLeast(f32),
    /// An answer that failed took so long.
    Failed(f32),
}

impl Load {
    pub(crate) fn begin(&self) {
        self.pending.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.pending.fetch_sub(1, Relaxed);
    }

    /// An answer came: counts at once when it is slower than remembered, over time when it is faster.
    pub(crate) fn answered(&self, after: Duration, now: Instant) {
        self.observe(&Sample::Exactly(micros(after)), now);
    }

    /// Nobody waits any longer.
    pub(crate) fn given_up(&self, after: Duration, now: Instant) {
        self.observe(&Sample::AtLeast(micros(after)), now);
    }

    /// An answer came and was a failure.
    pub(crate) fn failed(&self, after: Duration, now: Instant) {
        self.observe(&Sample::Failed(micros(after)), now);
    }

    fn observe(&self, sample: &Sample, now: Instant) {
        let now_ms = wrapping_ms(now);
        let old = Latency::read(self.latency.load(Relaxed));
        let left = old.map_or(0.0, |old| old.left_us(now_ms));
        let peak_us = match (sample, old) {
            (Sample::Exactly(took), Some(old)) if *took < left => {
                let keep = old.kept(now_ms);
                old.peak_us * keep + took * (1.0 - keep)
            }
            (Sample::Exactly(took), _) => *took,
            (Sample::AtLeast(took), _) => took.max(left),
            (Sample::Failed(took), _) => {
                let raised = (left.max(*took) * FAILURE_FACTOR).min(FAILURE_LATENCY_MAX_US);
                raised.max(left)
            }
        };
        let latency = Latency {
            // Never 0, which stands for "not measured".
            peak_us: peak_us.max(1.0),
            at_ms: now_ms,
        };
        // Of two samples at the same moment one may get lost.
        self.latency.store(latency.word(), Relaxed);
    }

    /// Which of two is less loaded.
    pub(crate) fn compare(&self, other: &Self, now: Instant) -> Ordering {
        let now_ms = wrapping_ms(now);
        let (a, b) = (self.pending.load(Relaxed), other.pending.load(Relaxed));
        let left = |load: &Self| {
            Latency::read(load.latency.load(Relaxed)).map(|latency| latency.left_us(now_ms))
        };
        match (left(self), left(other)) {
            (Some(a_us), Some(b_us)) => {
                let cost = |us: f32, pending: u32| f64::from(us) * (f64::from(pending) + 1.0);
                cost(a_us, a).total_cmp(&cost(b_us, b))
            }
            (a_us, b_us) => a.cmp(&b).then(a_us.is_some().cmp(&b_us.is_some())),
        }
    }
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
        let latency = Latency::read(load.latency.load(Relaxed)).unwrap();
        latency.left_us(wrapping_ms(now))
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
        }
        failing.failed(MS / 10, now);
        assert!(good.compare(&failing, now).is_lt());
        for _ in 0..100 {
            failing.failed(MS / 10, now);
        }
        assert!(left_us(&failing, now) <= FAILURE_LATENCY_MAX_US);
    }

    #[test]
    fn an_answer_that_nobody_waited_for_is_slow_and_never_fast() {
        let load = Load::default();
        let now = Instant::now();
        load.answered(10 * MS, now);
        load.given_up(MS, now);
        assert!(left_us(&load, now) > 9_000.0);
        load.given_up(S, now);
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
