//! What the injector counts.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    decision::{LeftAlone, NotMeshed},
    notice::Reason,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The metrics, with the prefix `linkerd_injector_`. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    injected: Counter,
    left_alone: Family<ReasonLabel, Counter>,
    not_meshed: Family<ReasonLabel, Counter>,
    without_proxy: Family<ReasonLabel, Gauge>,
    watch_errors: Family<KindLabel, Counter>,
    events_lost: Counter,
    connections_dropped: Counter,
    certificate_loaded: Gauge,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            injected: Counter::default(),
            left_alone: Family::default(),
            not_meshed: Family::default(),
            without_proxy: Family::default(),
            watch_errors: Family::default(),
            events_lost: Counter::default(),
            connections_dropped: Counter::default(),
            certificate_loaded: Gauge::default(),
        };
        // A series that begins at its first failure has no increase that an alert could see.
        for reason in NotMeshed::WORDS {
            drop(metrics.not_meshed.get_or_create(&ReasonLabel { reason }));
        }
        for kind in ["namespaces", "pods"] {
            drop(metrics.watch_errors.get_or_create(&KindLabel { kind }));
        }
        metrics.without_proxy(&BTreeMap::new());
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
            "Pods that were created without the proxy that they should have, by the reason",
            metrics.not_meshed.clone(),
        );
        registry.register(
            "pods_without_proxy",
            "Pods that should have a proxy and have none now, by the reason",
            metrics.without_proxy.clone(),
        );
        registry.register(
            "watch_errors",
            "Failed watches of the Kubernetes API, by the kind of object; each is tried again",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "events_lost",
            "Events that were not written, because there were too many",
            metrics.events_lost.clone(),
        );
        registry.register(
            "connections_dropped",
            "Connections to the webhook that were closed for others, because there were too many or they took too \
             much memory",
            metrics.connections_dropped.clone(),
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

    /// Sets how many pods of the cluster lack their proxy, by the word for the reason.
    pub fn without_proxy(&self, counts: &BTreeMap<&str, usize>) {
        for reason in Reason::words() {
            let count = counts.get(reason).copied().unwrap_or_default();
            self.without_proxy
                .get_or_create(&ReasonLabel { reason })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a watch that broke.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&KindLabel { kind }).inc();
    }

    /// Counts an Event that nobody will see.
    pub fn event_lost(&self) {
        self.events_lost.inc();
    }

    /// Counts a connection that was closed for others.
    pub fn connection_dropped(&self) {
        self.connections_dropped.inc();
    }

    /// Notes that a certificate is in use.
    pub fn certificate_loaded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.unwrap_or_default().as_secs();
        self.certificate_loaded
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}
