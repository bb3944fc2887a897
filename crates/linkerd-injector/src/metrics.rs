//! What the injector counts.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::decision::{LeftAlone, NotMeshed};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The metrics, with the prefix `linkerd_injector_`. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    injected: Counter,
    left_alone: Family<ReasonLabel, Counter>,
    not_meshed: Family<ReasonLabel, Counter>,
    events_lost: Counter,
    certificate_loaded: Gauge,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            injected: Counter::default(),
            left_alone: Family::default(),
            not_meshed: Family::default(),
            events_lost: Counter::default(),
            certificate_loaded: Gauge::default(),
        };
        // A series that begins at its first failure has no increase that an alert could see.
        for reason in NotMeshed::WORDS {
            drop(metrics.not_meshed.get_or_create(&ReasonLabel { reason }));
        }
        let registry = registry.sub_registry_with_prefix("linkerd_injector");
        registry.register(
            "pods_injected",
            "Pods that got the proxy",
            metrics.injected.clone(),
        );
        registry.register(
            "pods_left_alone",
            "Pods that are as they should be without us, by the reason",
            metrics.left_alone.clone(),
        );
        registry.register(
            "pods_not_meshed",
            "Pods that should have a proxy and have none, by the reason",
            metrics.not_meshed.clone(),
        );
        registry.register(
            "events_lost",
            "Events that were not written, because too many waited",
            metrics.events_lost.clone(),
        );
        registry.register_with_unit(
            "certificate_loaded_timestamp",
            "When the serving certificate in use was loaded",
            Unit::Seconds,
            metrics.certificate_loaded.clone(),
        );
        metrics
    }

    /// Counts a pod that got the proxy.
    pub fn injected(&self) {
        self.injected.inc();
    }

    /// Counts a pod that needs none.
    pub fn left_alone(&self, reason: LeftAlone) {
        let reason = reason.as_str();
        self.left_alone.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a pod that should have one.
    pub fn not_meshed(&self, reason: &NotMeshed) {
        let reason = reason.as_str();
        self.not_meshed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts an Event that nobody will see.
    pub fn event_lost(&self) {
        self.events_lost.inc();
    }

    /// Notes that a certificate is in use.
    pub fn certificate_loaded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.unwrap_or_default().as_secs();
        self.certificate_loaded
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}
