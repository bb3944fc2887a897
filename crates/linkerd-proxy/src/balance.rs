//! Chooses an endpoint: of two drawn by lot the less loaded one. Entry: [`pick`].
//! Load is latency, remembered at its peak and forgotten over seconds, times what is under way.
//! Whoever was not measured yet is compared by what is under way alone, so it is tried soon.

use std::{
    cmp::Ordering,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::endpoint::Endpoint;

/// A peak is forgotten to a third after this.
const DECAY: Duration = Duration::from_secs(10);

/// How loaded one endpoint is.
#[derive(Default)]
pub(crate) struct Load {
    pending: AtomicU32,
    latency: Mutex<Option<Latency>>,
}

/// Measured, nanoseconds.
#[derive(Clone, Copy)]
struct Latency {
    peak: f64,
    at: Instant,
}

impl Latency {
    /// What is left of the peak; an endpoint that nobody asks becomes attractive again.
    fn now(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.peak * (-age / DECAY.as_secs_f64()).exp()
    }
}

impl Load {
    fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    fn latency(&self, now: Instant) -> Option<f64> {
        self.latency.lock().map(|latency| latency.now(now))
    }

    /// Which of two is less loaded.
    fn compare(&self, other: &Self, now: Instant) -> Ordering {
        match (self.latency(now), other.latency(now)) {
            (Some(a), Some(b)) => {
                let a = a * f64::from(self.pending().saturating_add(1));
                let b = b * f64::from(other.pending().saturating_add(1));
                a.total_cmp(&b)
            }
            (a, b) => self
                .pending()
                .cmp(&other.pending())
                .then(a.is_some().cmp(&b.is_some())),
        }
    }

    /// Takes a latency in: at once when it is higher, over time when it is lower.
    fn observe(&self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64() * 1e9;
        let mut latency = self.latency.lock();
        let peak = match *latency {
            Some(old) if sample < old.now(now) => {
                let age = now.saturating_duration_since(old.at).as_secs_f64();
                let keep = (-age / DECAY.as_secs_f64()).exp();
                old.peak * keep + sample * (1.0 - keep)
            }
            _ => sample,
        };
        *latency = Some(Latency { peak, at: now });
    }
}

/// A request or connection under way on an endpoint.
pub(crate) struct Pending {
    endpoint: Arc<Endpoint>,
    started: Instant,
}

impl Pending {
    pub(crate) fn start(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.pending.fetch_add(1, Relaxed);
        Self {
            endpoint: endpoint.clone(),
            started: Instant::now(),
        }
    }

    /// The first data has come.
    pub(crate) fn answered(&self) {
        let now = Instant::now();
        self.endpoint.load.observe(now - self.started, now);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.endpoint.load.pending.fetch_sub(1, Relaxed);
    }
}

/// Chooses an endpoint that is not in `tried`. Ejected ones come only when there is no other.
pub(crate) fn pick(
    endpoints: &[Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<Arc<Endpoint>> {
    if let ([only], []) = (endpoints, tried) {
        return Some(only.clone());
    }
    let untried = |endpoint: &&Arc<Endpoint>| !tried.iter().any(|t| Arc::ptr_eq(t, endpoint));
    let healthy = |endpoint: &&Arc<Endpoint>| untried(endpoint) && !endpoint.is_ejected(now);
    // Two draws usually find two healthy ones; only then need all be looked at.
    if tried.is_empty() && endpoints.len() > 1 {
        let first = draw(endpoints.len());
        let second = (first + 1 + draw(endpoints.len() - 1)) % endpoints.len();
        let (a, b) = (&endpoints[first], &endpoints[second]);
        match (a.is_ejected(now), b.is_ejected(now)) {
            (false, false) => return Some(lighter(a, b, now).clone()),
            (false, true) => return Some(a.clone()),
            (true, false) => return Some(b.clone()),
            (true, true) => {}
        }
    }
    endpoints
        .iter()
        .filter(healthy)
        .min_by(|a, b| a.load.compare(&b.load, now))
        .or_else(|| endpoints.iter().find(untried))
        .cloned()
}

fn lighter<'a>(a: &'a Arc<Endpoint>, b: &'a Arc<Endpoint>, now: Instant) -> &'a Arc<Endpoint> {
    if b.load.compare(&a.load, now).is_lt() {
        b
    } else {
        a
    }
}

#[cfg(test)]
mod tests {
    use linkerd_names::NoTls;

    use super::*;
    use crate::endpoint::Labels;

    fn endpoints(n: u16) -> Vec<Arc<Endpoint>> {
        (1..=n)
            .map(|port| {
                Endpoint::new(
                    ([10, 0, 0, 1], port).into(),
                    None,
                    NoTls::OffCluster,
                    Labels::default(),
                )
            })
            .collect()
    }

    #[test]
    fn of_two_the_less_loaded_is_taken() {
        let endpoints = endpoints(2);
        let _busy = [Pending::start(&endpoints[0]), Pending::start(&endpoints[0])];
        for first in [0, 1] {
            let mut draws = [first, 0].into_iter();
            let picked = pick(&endpoints, &[], Instant::now(), |_| draws.next().unwrap()).unwrap();
            assert_eq!(picked.address.port(), 2);
        }
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::default();
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        load.observe(Duration::from_millis(1), now);
        load.observe(Duration::from_secs(1), later(1));
        load.observe(Duration::from_millis(1), later(2));
        assert!(load.latency(later(2)).unwrap() > 0.9e9);
        load.observe(Duration::from_millis(1), later(60));
        assert!(load.latency(later(60)).unwrap() < 0.1e9);
    }

    #[test]
    fn a_slow_endpoint_that_nobody_asks_is_asked_again() {
        let (slow, fast) = (Load::default(), Load::default());
        let now = Instant::now();
        slow.observe(Duration::from_secs(1), now);
        fast.observe(Duration::from_millis(10), now);
        assert!(fast.compare(&slow, now).is_lt());
        let later = now + Duration::from_secs(60);
        fast.observe(Duration::from_millis(10), later);
        assert!(slow.compare(&fast, later).is_lt());
    }

    #[test]
    fn a_new_endpoint_is_tried_at_once_and_not_flooded() {
        let (new, old) = (Load::default(), Load::default());
        let now = Instant::now();
        old.observe(Duration::from_micros(100), now);
        assert!(new.compare(&old, now).is_lt());
        new.pending.store(1, Relaxed);
        assert!(old.compare(&new, now).is_lt());
    }

    #[test]
    fn ejected_endpoints_are_the_last_resort() {
        let endpoints = endpoints(3);
        endpoints[0].failed();
        endpoints[1].failed();
        for first in 0..3 {
            let mut draws = [first, 0].into_iter().cycle();
            let picked = pick(&endpoints, &[], Instant::now(), |n| {
                draws.next().unwrap() % n
            });
            assert_eq!(picked.unwrap().address.port(), 3);
        }
        let tried = [endpoints[2].clone()];
        assert!(pick(&endpoints, &tried, Instant::now(), |_| 0).is_some());
    }

    #[test]
    fn nothing_is_picked_when_all_were_tried() {
        let endpoints = endpoints(2);
        assert!(pick(&endpoints, &endpoints, Instant::now(), |_| 0).is_none());
        assert!(pick(&[], &[], Instant::now(), |_| 0).is_none());
    }
}
