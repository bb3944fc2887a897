//! Chooses an endpoint: of two drawn by lot the less loaded one. Entry: [`pick`].
//! Load is latency, remembered at its peak and forgotten over seconds, times what is under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::endpoint::Endpoint;

/// What an endpoint is expected to need before it has answered: new ones are tried, yet not flooded.
const LATENCY_DEFAULT: Duration = Duration::from_millis(30);
/// A peak is forgotten to a third after this.
const DECAY: Duration = Duration::from_secs(10);

/// How loaded one endpoint is.
pub(crate) struct Load {
    pending: AtomicU32,
    /// Bits of an f64, nanoseconds.
    latency: AtomicU64,
    updated: Mutex<Instant>,
}

impl Default for Load {
    fn default() -> Self {
        let latency = LATENCY_DEFAULT.as_secs_f64() * 1e9;
        Self {
            pending: AtomicU32::new(0),
            latency: AtomicU64::new(latency.to_bits()),
            updated: Mutex::new(Instant::now()),
        }
    }
}

impl Load {
    fn cost(&self) -> f64 {
        let latency = f64::from_bits(self.latency.load(Relaxed));
        latency * (f64::from(self.pending.load(Relaxed)) + 1.0)
    }

    /// Takes a latency in: at once when it is higher, over time when it is lower.
    fn observe(&self, latency: Duration, now: Instant) {
        let sample = latency.as_secs_f64() * 1e9;
        let mut updated = self.updated.lock();
        let old = f64::from_bits(self.latency.load(Relaxed));
        let new = if sample > old {
            sample
        } else {
            let age = now.saturating_duration_since(*updated).as_secs_f64();
            let keep = (-age / DECAY.as_secs_f64()).exp();
            old * keep + sample * (1.0 - keep)
        };
        *updated = now;
        self.latency.store(new.to_bits(), Relaxed);
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
            (false, false) => return Some(lighter(a, b).clone()),
            (false, true) => return Some(a.clone()),
            (true, false) => return Some(b.clone()),
            (true, true) => {}
        }
    }
    endpoints
        .iter()
        .filter(healthy)
        .min_by(|a, b| a.load.cost().total_cmp(&b.load.cost()))
        .or_else(|| endpoints.iter().find(untried))
        .cloned()
}

fn lighter<'a>(a: &'a Arc<Endpoint>, b: &'a Arc<Endpoint>) -> &'a Arc<Endpoint> {
    if b.load.cost() < a.load.cost() { b } else { a }
}

#[cfg(test)]
mod tests {
    use linkerd_names::NoTls;

    use super::*;

    fn endpoints(n: u16) -> Vec<Arc<Endpoint>> {
        (1..=n)
            .map(|port| {
                Endpoint::new(
                    ([10, 0, 0, 1], port).into(),
                    None,
                    NoTls::OffCluster,
                    "".into(),
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
        load.observe(Duration::from_secs(1), now);
        let peak = load.cost();
        load.observe(Duration::from_millis(1), now + Duration::from_millis(10));
        assert!(load.cost() > peak * 0.9);
        load.observe(Duration::from_millis(1), now + Duration::from_secs(60));
        assert!(load.cost() < peak * 0.1);
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
