//! What all endpoints of a proxy share about being ejected: when, how often, and the log.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tracing::{debug, info};

use crate::{
    breaker::{Change, Outcome, Policy},
    config::Limits,
    endpoint::Endpoint,
    quiet::Quiet,
};

/// The policy and the counters.
pub(crate) struct Ejections {
    pub(crate) policy: Policy,
    /// Because connections could not be made.
    pub(crate) unreachable: AtomicU64,
    /// Because responses failed.
    pub(crate) failing: AtomicU64,
    pub(crate) recovered: AtomicU64,
    log: Quiet,
}

impl Ejections {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            policy: Policy {
                connect_failures_max: limits.connect_failures_max,
                response_failures_max: limits.response_failures_max,
                pause: limits.ejection_pause,
            },
            unreachable: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            log: Quiet::default(),
        }
    }

    /// Counts and logs what `outcome` has changed at `endpoint`.
    pub(crate) fn note(&self, endpoint: &Endpoint, outcome: Outcome, change: Change) {
        let address = endpoint.address;
        let labels = &*endpoint.labels.rendered;
        let Change::Ejected(pause) = change else {
            self.recovered.fetch_add(1, Relaxed);
            debug!(%address, labels, "an endpoint is back");
            return;
        };
        let (counter, reason) = match outcome {
            Outcome::Unreachable => (&self.unreachable, "unreachable"),
            _ => (&self.failing, "failing"),
        };
        counter.fetch_add(1, Relaxed);
        self.tell(endpoint, reason, pause);
    }

    fn tell(&self, endpoint: &Endpoint, reason: &str, pause: Duration) {
        let address = endpoint.address;
        let labels = &*endpoint.labels.rendered;
        if self.log.may_tell() {
            info!(%address, labels, reason, ?pause, "an endpoint is left alone");
        } else {
            debug!(%address, labels, reason, ?pause, "an endpoint is left alone");
        }
    }
}

impl Default for Ejections {
    fn default() -> Self {
        Self::new(&Limits::default())
    }
}
