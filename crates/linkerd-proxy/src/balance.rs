//! Chooses an endpoint: of two drawn by lot the less loaded one. Entry: [`pick`], which gives a
//! [`Pending`]; what becomes of the request is told to that.
//! Ejected endpoints are left out; one whose pause is over gets one request as a probe; when all are
//! ejected they are used all the same; the only one is never ejected. Nothing is allocated or locked here.

use std::{sync::Arc, time::Instant};

use crate::{
    breaker::{Outcome, Readiness, Reason},
    endpoint::Endpoint,
};

/// Pairs that are drawn before all endpoints are looked at: even when half of them are ejected, one
/// request in 256 has to do that.
const PAIRS: usize = 4;

/// A request or connection under way on an endpoint.
pub(crate) struct Pending {
    pub(crate) endpoint: Arc<Endpoint>,
    reason: Reason,
    /// When the wait for the first data or the connection began.
    since: Instant,
    waiting: bool,
    /// The endpoint has been judged by this.
    judged: bool,
    /// It is ejected, and its proxy alone has answered.
    on_trial: bool,
}

impl Pending {
    fn start(endpoint: &Arc<Endpoint>, reason: Reason, now: Instant) -> Self {
        endpoint.load.begin();
        Self {
            endpoint: endpoint.clone(),
            reason,
            since: now,
            waiting: true,
            judged: false,
            on_trial: false,
        }
    }

    /// There is a connection, new or used before; what goes through it is not known yet.
    /// How long that took is not load: a stream of a shared connection is there at once, and the first
    /// one takes a handshake.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.waiting = false;
        self.endpoint.record(Outcome::Connected, self.reason, now);
    }

    /// There is a connection to the endpoint's proxy. Whether its application is there shows later: the endpoint
    /// of a probe is on trial until then.
    pub(crate) fn proxy_connected(&mut self) {
        self.waiting = false;
        self.on_trial = matches!(self.reason, Reason::Probe | Reason::LastResort);
    }

    pub(crate) fn is_on_trial(&self) -> bool {
        self.on_trial
    }

    /// The request is being sent: from now on its first data is waited for.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.since = now;
        self.waiting = true;
    }

    /// The connection had closed before; that says nothing about the endpoint.
    pub(crate) fn not_sent(&mut self) {
        self.waiting = false;
    }

    /// The first data of a response has come that is good so far. That is all that a probe has to
    /// find out: the response may go on for long.
    pub(crate) fn first_data(&mut self, now: Instant) {
        if std::mem::take(&mut self.waiting) {
            let took = now.saturating_duration_since(self.since);
            self.endpoint.load.answered(took, now);
        }
        if self.reason != Reason::Ready && !self.judged {
            self.endpoint.record(Outcome::Success, self.reason, now);
            if self.reason != Reason::Only {
                self.reason = Reason::Ready;
            }
        }
    }

    /// What has become of it. The first word counts.
    pub(crate) fn answered(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.judged, true) {
            return;
        }
        let took = now.saturating_duration_since(self.since);
        let load = &self.endpoint.load;
        let is_good = matches!(outcome, Outcome::Success | Outcome::Connected);
        match (std::mem::take(&mut self.waiting), is_good) {
            (true, true) => load.answered(took, now),
            (true, false) => load.ended_after(took, now),
            (false, _) => {}
        }
        load.judged(is_good, now);
        self.endpoint.record(outcome, self.reason, now);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.endpoint.load.end();
        if self.waiting {
            // The client did not wait any longer; so slow was the endpoint at least.
            let now = Instant::now();
            let took = now.saturating_duration_since(self.since);
            self.endpoint.load.ended_after(took, now);
        }
    }
}

/// Chooses an endpoint that is not in `tried`; none when all were. `draw` gives a number below its
/// argument.
pub(crate) fn pick(
    endpoints: &[Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<Pending> {
    let is_tried = |endpoint: &Arc<Endpoint>| tried.iter().any(|t| Arc::ptr_eq(t, endpoint));
    match endpoints {
        [] => return None,
        [only] => return (!is_tried(only)).then(|| Pending::start(only, Reason::Only, now)),
        _ => {}
    }
    let count = endpoints.len();
    for _ in 0..PAIRS {
        let first = draw(count);
        let second = (first + 1 + draw(count - 1)) % count;
        let pair = [&endpoints[first], &endpoints[second]];
        let untried = pair.into_iter().filter(|endpoint| !is_tried(endpoint));
        if let Some(pending) = lighter_ready(untried, now) {
            return Some(pending);
        }
    }
    // Beginning anywhere, so that not all requests come to the same endpoint.
    let start = draw(count);
    let all = || {
        let (front, back) = endpoints.split_at(start);
        let from_start = back.iter().chain(front);
        from_start.filter(|endpoint| !is_tried(endpoint))
    };
    lighter_ready(all(), now).or_else(|| {
        let mut two = all();
        let chosen = lighter(two.next()?, two.next(), now);
        Some(Pending::start(chosen, Reason::LastResort, now))
    })
}

/// The first whose probe is due; otherwise the less loaded of the first two that are ready.
fn lighter_ready<'a>(
    endpoints: impl Iterator<Item = &'a Arc<Endpoint>>,
    now: Instant,
) -> Option<Pending> {
    let mut found: Option<&Arc<Endpoint>> = None;
    for endpoint in endpoints {
        match endpoint.readiness(now) {
            Readiness::Ready => match found {
                None => found = Some(endpoint),
                Some(other) => {
                    found = Some(lighter(other, Some(endpoint), now));
                    break;
                }
            },
            Readiness::Due if endpoint.may_probe(now) => {
                return Some(Pending::start(endpoint, Reason::Probe, now));
            }
            Readiness::Due | Readiness::Ejected => {}
        }
    }
    found.map(|endpoint| Pending::start(endpoint, Reason::Ready, now))
}

fn lighter<'a>(
    a: &'a Arc<Endpoint>,
    b: Option<&'a Arc<Endpoint>>,
    now: Instant,
) -> &'a Arc<Endpoint> {
    match b {
        Some(b) if b.load.compare(&a.load, now).is_lt() => b,
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linkerd_names::NoTls;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::endpoint::Labels;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn endpoints(n: u16) -> Vec<Arc<Endpoint>> {
        (1..=n)
            .map(|port| {
                Endpoint::new(
                    ([10, 0, 0, 1], port).into(),
                    None,
                    NoTls::OffCluster,
                    Labels::default(),
                    Arc::default(),
                )
            })
            .collect()
    }

    fn lots() -> impl FnMut(usize) -> usize {
        let mut lots = SmallRng::seed_from_u64(1);
        move |n| lots.random_range(0..n)
    }

    /// How many of `n` requests, one after the other, each endpoint gets. It answers after
    /// `latency` of its port.
    fn shares(
        endpoints: &[Arc<Endpoint>],
        n: usize,
        mut now: Instant,
        latency: impl Fn(u16) -> (Duration, Outcome),
    ) -> Vec<usize> {
        let mut draw = lots();
        let mut counts = vec![0; endpoints.len()];
        for _ in 0..n {
            let mut pending = pick(endpoints, &[], now, &mut draw).unwrap();
            let port = pending.endpoint.address.port();
            counts[usize::from(port) - 1] += 1;
            let (latency, outcome) = latency(port);
            now += latency;
            pending.answered(outcome, now);
        }
        counts
    }

    fn eject(endpoint: &Arc<Endpoint>, now: Instant) {
        endpoint.record(Outcome::Unreachable, Reason::Ready, now);
    }

    #[test]
    fn of_two_the_less_loaded_is_taken() {
        let endpoints = endpoints(2);
        let now = Instant::now();
        let _busy = [(); 2].map(|()| Pending::start(&endpoints[0], Reason::Ready, now));
        for first in [0, 1] {
            let mut draws = [first, 0].into_iter();
            let picked = pick(&endpoints, &[], now, |_| draws.next().unwrap()).unwrap();
            assert_eq!(picked.endpoint.address.port(), 2);
        }
    }

    #[test]
    fn a_new_endpoint_gets_connections_until_it_has_as_many_as_the_others() {
        let endpoints = endpoints(2);
        let now = Instant::now();
        let mut draw = lots();
        let mut connect = |endpoints: &[Arc<Endpoint>], now| {
            let mut open = pick(endpoints, &[], now, &mut draw).unwrap();
            // The first of an endpoint takes a handshake.
            let is_first = Arc::strong_count(&open.endpoint) == 2;
            open.connected(now + if is_first { 5 * MS } else { MS / 500 });
            open
        };
        let mut open: Vec<Pending> = (0..50).map(|_| connect(&endpoints[..1], now)).collect();
        open.extend((0..50).map(|n| connect(&endpoints, now + n * 100 * MS)));
        let of_old = |p: &&Pending| p.endpoint.address.port() == 1;
        assert_eq!(open.iter().filter(of_old).count(), 50);
    }

    #[test]
    fn equal_endpoints_get_equal_shares() {
        let counts = shares(&endpoints(10), 10_000, Instant::now(), |_| {
            (MS, Outcome::Success)
        });
        let expected = 800..1_200;
        assert!(counts.iter().all(|n| expected.contains(n)), "{counts:?}");
    }

    #[test]
    fn a_slow_endpoint_gets_a_small_share() {
        let counts = shares(&endpoints(4), 10_000, Instant::now(), |port| {
            let latency = if port == 1 { 100 * MS } else { MS };
            (latency, Outcome::Success)
        });
        assert!(counts[0] < 100, "{counts:?}");
        assert!(counts[1..].iter().all(|n| *n > 2_000), "{counts:?}");
    }

    /// One that fails each second request is never ejected, but avoided.
    #[test]
    fn an_endpoint_that_fails_now_and_then_gets_a_small_share() {
        let odd = std::cell::Cell::new(false);
        let counts = shares(&endpoints(4), 10_000, Instant::now(), |port| {
            let fails = port == 1 && odd.replace(!odd.get());
            match fails {
                true => (MS / 10, Outcome::Failure),
                false => (MS, Outcome::Success),
            }
        });
        assert!(counts[0] < 500, "{counts:?}");
    }

    #[test]
    fn an_endpoint_that_fails_is_left_and_probed() {
        let endpoints = endpoints(3);
        let counts = shares(&endpoints, 10_000, Instant::now(), |port| match port {
            1 => (MS / 10, Outcome::Failure),
            _ => (MS, Outcome::Success),
        });
        // Seven until it is ejected, and one probe after 1, 3, 7 seconds.
        assert!(counts[0] <= 12, "{counts:?}");
    }

    #[test]
    fn ejected_endpoints_are_left_out() {
        let endpoints = endpoints(3);
        let now = Instant::now();
        eject(&endpoints[0], now);
        eject(&endpoints[1], now);
        let mut draw = lots();
        for _ in 0..100 {
            let picked = pick(&endpoints, &[], now, &mut draw).unwrap();
            assert_eq!(picked.endpoint.address.port(), 3);
        }
    }

    #[test]
    fn the_one_ready_among_many_ejected_is_found() {
        let endpoints = endpoints(500);
        let now = Instant::now();
        for endpoint in &endpoints[1..] {
            eject(endpoint, now);
        }
        let mut draw = lots();
        for _ in 0..20 {
            let picked = pick(&endpoints, &[], now, &mut draw).unwrap();
            assert_eq!(picked.endpoint.address.port(), 1);
        }
    }

    #[test]
    fn when_all_are_ejected_all_are_used() {
        let endpoints = endpoints(4);
        let now = Instant::now();
        endpoints.iter().for_each(|endpoint| eject(endpoint, now));
        let mut draw = lots();
        let mut counts = [0; 4];
        for _ in 0..400 {
            let picked = pick(&endpoints, &[], now, &mut draw).unwrap();
            counts[usize::from(picked.endpoint.address.port()) - 1] += 1;
        }
        assert!(counts.iter().all(|n| *n > 40), "{counts:?}");
        // The first that answers is ready for all.
        let mut picked = pick(&endpoints, &[], now, &mut draw).unwrap();
        picked.answered(Outcome::Success, now);
        let ready = picked.endpoint.address;
        let next = pick(&endpoints, &[], now, &mut draw).unwrap();
        assert_eq!(next.endpoint.address, ready);
    }

    #[test]
    fn a_recovered_endpoint_gets_one_probe_and_then_its_share() {
        let endpoints = endpoints(2);
        let now = Instant::now();
        eject(&endpoints[0], now);
        let later = now + 2 * S;
        let mut draw = lots();
        let mut probe = pick(&endpoints, &[], later, &mut draw).unwrap();
        assert_eq!(probe.endpoint.address.port(), 1);
        let meanwhile: Vec<Pending> = (0..10)
            .map(|_| pick(&endpoints, &[], later, &mut draw).unwrap())
            .collect();
        assert!(meanwhile.iter().all(|p| p.endpoint.address.port() == 2));
        for mut other in meanwhile {
            other.answered(Outcome::Success, later + MS);
        }
        probe.sent(later);
        probe.first_data(later + MS);
        let next = pick(&endpoints, &[], later + MS, &mut draw).unwrap();
        let after = pick(&endpoints, &[], later + MS, &mut draw).unwrap();
        assert_ne!(next.endpoint.address, after.endpoint.address);
    }

    #[test]
    fn the_only_endpoint_is_always_used() {
        let endpoints = endpoints(1);
        let now = Instant::now();
        for _ in 0..100 {
            let mut picked = pick(&endpoints, &[], now, |_| 0).unwrap();
            picked.answered(Outcome::Unreachable, now);
        }
        assert_eq!(endpoints[0].readiness(now), Readiness::Ready);
        // Responses that begin well and break off.
        for _ in 0..100 {
            let mut picked = pick(&endpoints, &[], now, |_| 0).unwrap();
            picked.sent(now);
            picked.first_data(now);
            picked.answered(Outcome::Failure, now);
        }
        assert_eq!(endpoints[0].readiness(now), Readiness::Ready);
    }

    #[test]
    fn nothing_is_picked_twice_for_one_request() {
        let endpoints = endpoints(3);
        let now = Instant::now();
        let mut draw = lots();
        let mut tried = Vec::new();
        while let Some(picked) = pick(&endpoints, &tried, now, &mut draw) {
            tried.push(picked.endpoint.clone());
        }
        tried.sort_by_key(|endpoint| endpoint.address);
        assert!(tried.iter().zip(&endpoints).all(|(a, b)| Arc::ptr_eq(a, b)));
        assert_eq!(tried.len(), 3);
        assert!(pick(&[], &[], now, &mut draw).is_none());
    }
}
