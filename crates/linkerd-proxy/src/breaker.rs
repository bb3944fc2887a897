//! Whether an endpoint is left alone for a while because it fails. Entry: [`State`], which decides
//! and is pure; [`Breaker`] keeps it in one word, so that requests never wait for each other.
//!
//! Closed until too many failures in a row; then ejected for a pause; after the pause one request is
//! let through as a probe, which closes it again or begins a longer pause.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Connects that must fail in a row.
    pub(crate) connect_failures_max: u8,
    /// Responses that must fail in a row.
    pub(crate) response_failures_max: u8,
    /// The first pause, and the longest of those that follow failed probes.
    pub(crate) pause: (Duration, Duration),
}

impl Policy {
    /// The pause after so many failed probes, half of it by lot, so that probes of many proxies do
    /// not come together. `lot` is in 0..1.
    fn pause_ms(&self, failed_probes: u8, lot: f64) -> u64 {
        let (min, max) = self.pause;
        let doublings = u32::from(failed_probes).min(16);
        let pause = min.saturating_mul(1 << doublings).min(max);
        millis(pause.mul_f64(1.0 - lot / 2.0)).max(1)
    }
}

/// What has become of a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A connection was made; what its server does is not known yet.
    Connected,
    /// A good response.
    Success,
    /// HTTP 5xx, gRPC UNAVAILABLE, or a response that broke off.
    Failure,
    /// No connection could be made.
    Unreachable,
}

/// Why an endpoint was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is ready.
    Ready,
    /// To find out whether it is well again.
    Probe,
    /// All are ejected.
    LastResort,
    /// There is no other, so there is nothing to decide: it is never ejected.
    Only,
}

/// Whether an endpoint can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// The pause is over; the next request is a probe.
    Due,
    Ejected,
}

/// What an outcome has changed. A pause that was prolonged is no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Ejected(Duration),
    Recovered,
}

/// What is remembered of an endpoint's failures. Fits into 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// 0 = not ejected. 40 bits, 34 years.
    ejected_until_ms: u64,
    /// Since the first ejection in a row.
    failed_probes: u8,
    connect_failures: u8,
    response_failures: u8,
}

impl State {
    fn readiness(self, now_ms: u64) -> Readiness {
        match self.ejected_until_ms {
            0 => Readiness::Ready,
            until if until <= now_ms => Readiness::Due,
            _ => Readiness::Ejected,
        }
    }

    /// The state while a probe is under way; none unless one is due. A probe that nobody hears of
    /// again is followed by another after the pause.
    fn probed(self, policy: &Policy, now_ms: u64) -> Option<Self> {
        let pause = policy.pause_ms(self.failed_probes, 0.0);
        (self.readiness(now_ms) == Readiness::Due).then_some(Self {
            ejected_until_ms: now_ms + pause,
            ..self
        })
    }

    /// The state after an outcome of a request that was sent for `reason`.
    fn after(
        self,
        outcome: Outcome,
        reason: Reason,
        policy: &Policy,
        now_ms: u64,
        lot: f64,
    ) -> Self {
        let mut next = self;
        match outcome {
            Outcome::Failure | Outcome::Unreachable if reason == Reason::Only => return self,
            Outcome::Success => return Self::default(),
            Outcome::Connected => {
                next.connect_failures = 0;
                // An endpoint that was ejected for its responses must answer to come back.
                if next.response_failures < policy.response_failures_max {
                    next.ejected_until_ms = 0;
                    next.failed_probes = 0;
                }
                return next;
            }
            Outcome::Failure => {
                next.response_failures = next.response_failures.saturating_add(1);
            }
            Outcome::Unreachable => {
                next.connect_failures = next.connect_failures.saturating_add(1);
            }
        }
        if next.response_failures < policy.response_failures_max
            && next.connect_failures < policy.connect_failures_max
        {
            return next;
        }
        let is_ejected = self.ejected_until_ms != 0;
        match reason {
            // It was under way when others failed: they have said it all.
            Reason::Ready if is_ejected => return next,
            Reason::Probe if is_ejected => {
                next.failed_probes = next.failed_probes.saturating_add(1)
            }
            // Where all fail the pauses stay short, so that all are found again at once.
            _ => next.failed_probes = 0,
        }
        next.ejected_until_ms = now_ms + policy.pause_ms(next.failed_probes, lot);
        next
    }
}

impl From<u64> for State {
    fn from(word: u64) -> Self {
        let [connect_failures, response_failures, failed_probes, ..] = word.to_le_bytes();
        Self {
            ejected_until_ms: word >> 24,
            failed_probes,
            connect_failures,
            response_failures,
        }
    }
}

impl From<State> for u64 {
    fn from(state: State) -> Self {
        (state.ejected_until_ms << 24)
            | Self::from(state.failed_probes) << 16
            | Self::from(state.response_failures) << 8
            | Self::from(state.connect_failures)
    }
}

/// The state of one endpoint, shared by its requests.
#[derive(Debug, Default)]
pub(crate) struct Breaker(AtomicU64);

impl Breaker {
    pub(crate) fn readiness(&self, now: Instant) -> Readiness {
        match self.0.load(Relaxed) {
            0 => Readiness::Ready,
            word => State::from(word).readiness(clock_ms(now)),
        }
    }

    /// Whether the caller may send the probe that is due. Of many that ask at once, one may.
    pub(crate) fn may_probe(&self, policy: &Policy, now: Instant) -> bool {
        let now_ms = clock_ms(now);
        let claim = |word| State::from(word).probed(policy, now_ms).map(u64::from);
        self.0.fetch_update(Relaxed, Relaxed, claim).is_ok()
    }

    /// Takes an outcome in.
    pub(crate) fn record(
        &self,
        outcome: Outcome,
        reason: Reason,
        policy: &Policy,
        now: Instant,
        lot: impl FnOnce() -> f64,
    ) -> Option<Change> {
        // What happens to nearly every request: nothing has to be written.
        let good = matches!(outcome, Outcome::Success | Outcome::Connected);
        if good && self.0.load(Relaxed) == 0 {
            return None;
        }
        let now_ms = clock_ms(now);
        let lot = if good { 0.0 } else { lot() };
        let after = |word| {
            let state = State::from(word).after(outcome, reason, policy, now_ms, lot);
            Some(u64::from(state))
        };
        let before = State::from(self.0.fetch_update(Relaxed, Relaxed, after).ok()?);
        let after = before.after(outcome, reason, policy, now_ms, lot);
        change(before, after, now_ms)
    }
}

fn change(before: State, after: State, now_ms: u64) -> Option<Change> {
    match (before.ejected_until_ms, after.ejected_until_ms) {
        (0, until @ 1..) => {
            let pause = Duration::from_millis(until.saturating_sub(now_ms));
            Some(Change::Ejected(pause))
        }
        (1.., 0) => Some(Change::Recovered),
        _ => None,
    }
}

/// Milliseconds since the first question, from 1.
pub(crate) fn clock_ms(now: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(now.saturating_duration_since(*START)) + 1
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    const POLICY: Policy = Policy {
        connect_failures_max: 1,
        response_failures_max: 3,
        pause: (Duration::from_secs(1), Duration::from_secs(60)),
    };

    fn after(state: State, outcome: Outcome, reason: Reason, now_ms: u64) -> State {
        state.after(outcome, reason, &POLICY, now_ms, 0.0)
    }

    fn ejected_at(now_ms: u64) -> State {
        let state = after(
            State::default(),
            Outcome::Unreachable,
            Reason::Ready,
            now_ms,
        );
        assert_eq!(state.readiness(now_ms), Readiness::Ejected);
        state
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        use Outcome::{Failure, Success};
        for (outcomes, expected) in [
            (&[Failure, Failure][..], Readiness::Ready),
            (&[Failure, Failure, Failure], Readiness::Ejected),
            (
                &[Failure, Failure, Success, Failure, Failure],
                Readiness::Ready,
            ),
            (&[Outcome::Unreachable], Readiness::Ejected),
        ] {
            let end = outcomes.iter().fold(State::default(), |state, outcome| {
                after(state, *outcome, Reason::Ready, 1)
            });
            assert_eq!(end.readiness(1), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn one_probe_is_let_through_when_the_pause_is_over() {
        let state = ejected_at(1_000);
        assert_eq!(state.readiness(1_999), Readiness::Ejected);
        assert_eq!(state.probed(&POLICY, 1_999), None);
        assert_eq!(state.readiness(2_000), Readiness::Due);
        let probed = state.probed(&POLICY, 2_000).unwrap();
        assert_eq!(probed.readiness(2_000), Readiness::Ejected);
        assert_eq!(probed.probed(&POLICY, 2_000), None);
        // Nobody has heard of it again: another one.
        assert_eq!(probed.readiness(3_000), Readiness::Due);
    }

    #[test]
    fn a_good_probe_brings_the_endpoint_back_and_a_failed_one_doubles_the_pause() {
        let probed = ejected_at(1).probed(&POLICY, 1_001).unwrap();
        let good = after(probed, Outcome::Success, Reason::Probe, 1_002);
        assert_eq!(good, State::default());
        let mut state = ejected_at(1);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let now = state.ejected_until_ms;
            let probed = state.probed(&POLICY, now).unwrap();
            state = after(probed, Outcome::Unreachable, Reason::Probe, now);
            pauses.push((state.ejected_until_ms - now) / 1_000);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn failures_that_were_under_way_at_the_ejection_do_not_prolong_it() {
        let state = ejected_at(1);
        let late = after(state, Outcome::Unreachable, Reason::Ready, 500);
        assert_eq!(late.ejected_until_ms, state.ejected_until_ms);
        assert_eq!(late.failed_probes, 0);
    }

    #[test]
    fn a_failure_of_the_last_resort_keeps_the_pause_short() {
        let mut state = ejected_at(1);
        for _ in 0..6 {
            let now = state.ejected_until_ms;
            let probed = state.probed(&POLICY, now).unwrap();
            state = after(probed, Outcome::Failure, Reason::Probe, now);
        }
        let now = state.ejected_until_ms - 10_000;
        let state = after(state, Outcome::Unreachable, Reason::LastResort, now);
        assert_eq!(state.ejected_until_ms, now + 1_000);
    }

    #[test]
    fn the_only_endpoint_is_never_ejected() {
        let mut state = State::default();
        for _ in 0..10 {
            state = after(state, Outcome::Unreachable, Reason::Only, 1);
        }
        assert_eq!(state, State::default());
        let back = after(ejected_at(1), Outcome::Success, Reason::Only, 2);
        assert_eq!(back, State::default());
    }

    #[test]
    fn a_connection_alone_does_not_bring_back_who_was_ejected_for_its_responses() {
        let mut state = State::default();
        for _ in 0..3 {
            state = after(state, Outcome::Failure, Reason::Ready, 1);
        }
        let probed = state.probed(&POLICY, 1_001).unwrap();
        let connected = after(probed, Outcome::Connected, Reason::Probe, 1_002);
        assert_eq!(connected.readiness(1_002), Readiness::Ejected);
        let unreachable = ejected_at(1);
        let connected = after(unreachable, Outcome::Connected, Reason::LastResort, 2);
        assert_eq!(connected.readiness(2), Readiness::Ready);
    }

    #[test]
    fn up_to_half_of_a_pause_is_left_to_the_lot() {
        assert_eq!(POLICY.pause_ms(0, 0.0), 1_000);
        assert_eq!(POLICY.pause_ms(0, 1.0), 500);
        assert_eq!(POLICY.pause_ms(u8::MAX, 0.0), 60_000);
    }

    #[test]
    fn of_many_that_ask_at_once_one_may_probe() {
        let breaker = Breaker::default();
        let now = Instant::now();
        let ejected = breaker.record(Outcome::Unreachable, Reason::Ready, &POLICY, now, || 0.0);
        assert_eq!(ejected, Some(Change::Ejected(Duration::from_secs(1))));
        let later = now + Duration::from_secs(2);
        let allowed = std::thread::scope(|scope| {
            let ask = || breaker.may_probe(&POLICY, later);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let answers = threads.into_iter().map(|thread| thread.join().unwrap());
            answers.filter(|allowed| *allowed).count()
        });
        assert_eq!(allowed, 1);
        let back = breaker.record(Outcome::Success, Reason::Probe, &POLICY, later, || 0.0);
        assert_eq!(back, Some(Change::Recovered));
        assert_eq!(breaker.readiness(later), Readiness::Ready);
    }

    /// Any history, at any pace: the word keeps the state, nobody is ejected without a reason or
    /// for longer than the longest pause, and a good response always heals.
    #[test]
    fn every_history_keeps_the_promises() {
        let outcomes = [
            Outcome::Connected,
            Outcome::Success,
            Outcome::Failure,
            Outcome::Unreachable,
        ];
        let max_ms = millis(POLICY.pause.1);
        for seed in 0..200 {
            let mut lots = SmallRng::seed_from_u64(seed);
            let mut state = State::default();
            let mut now_ms = 1;
            for step in 0..500 {
                now_ms += lots.random_range(0..3_000);
                let readiness = state.readiness(now_ms);
                let reason = match (readiness, lots.random_range(0..4)) {
                    (Readiness::Ready, _) | (_, 0) => Reason::Ready,
                    (Readiness::Due, _) => {
                        state = state.probed(&POLICY, now_ms).unwrap();
                        Reason::Probe
                    }
                    (Readiness::Ejected, _) => Reason::LastResort,
                };
                let outcome = outcomes[lots.random_range(0..outcomes.len())];
                let lot = lots.random();
                let next = state.after(outcome, reason, &POLICY, now_ms, lot);
                let told = format!("seed {seed} step {step}: {state:?} {outcome:?} -> {next:?}");

                assert_eq!(State::from(u64::from(next)), next, "{told}");
                assert!(next.ejected_until_ms <= now_ms + max_ms, "{told}");
                if outcome == Outcome::Success {
                    assert_eq!(next, State::default(), "{told}");
                }
                if next.ejected_until_ms != 0 {
                    let reasons = next.connect_failures >= POLICY.connect_failures_max
                        || next.response_failures >= POLICY.response_failures_max;
                    assert!(reasons, "{told}");
                }
                if readiness == Readiness::Ready && next.readiness(now_ms) == Readiness::Ejected {
                    let bad = matches!(outcome, Outcome::Failure | Outcome::Unreachable);
                    assert!(bad, "{told}");
                }
                state = next;
            }
        }
    }
}
