//! What `/metrics` tells about certificates. No series has a workload's name: their number is fixed.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::plan::Reason;

/// From a bare write to the API server to what a pod would notice.
const WRITE_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// The metrics; clones share them.
#[derive(Clone)]
pub struct Metrics {
    issued: Family<ReasonLabel, Counter>,
    failures: Family<ReasonLabel, Counter>,
    watch_errors: Family<KindLabel, Counter>,
    bundles_written: Counter,
    first_write: Histogram,
    leader: Gauge,
    root_not_after: Gauge<f64, AtomicU64>,
    workloads: Family<StateLabel, Gauge>,
    leaf_not_after_min: Gauge<f64, AtomicU64>,
}

/// How many workloads are in which state, and the first end of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// With a certificate that is not yet due.
    pub valid: i64,
    /// With a certificate that is due and still valid.
    pub due: i64,
    /// With a certificate that has ended.
    pub expired: i64,
    /// Without a certificate.
    pub missing: i64,
    /// When the first of the certificates ends.
    pub not_after_min: Option<SystemTime>,
}

impl Metrics {
    /// Registers the metrics, with the prefix `linkerd_ca_`.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            issued: Family::default(),
            failures: Family::default(),
            watch_errors: Family::default(),
            bundles_written: Counter::default(),
            first_write: Histogram::new(WRITE_BUCKETS),
            leader: Gauge::default(),
            root_not_after: Gauge::default(),
            workloads: Family::default(),
            leaf_not_after_min: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("linkerd_ca");
        registry.register(
            "certificates_issued",
            "Certificates written, by the reason for it",
            metrics.issued.clone(),
        );
        registry.register(
            "failures",
            "Attempts that left a workload, a namespace or the control plane without what it needs",
            metrics.failures.clone(),
        );
        registry.register(
            "watch_errors",
            "Failures of watches of the Kubernetes API by kind; each is tried again",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "bundles_written",
            "Trust bundles written",
            metrics.bundles_written.clone(),
        );
        registry.register_with_unit(
            "first_write",
            "Time from the first sight of a workload to its Secret written",
            Unit::Seconds,
            metrics.first_write.clone(),
        );
        registry.register(
            "leader",
            "Whether this replica writes (1) or stands by (0)",
            metrics.leader.clone(),
        );
        registry.register(
            "root_not_after_timestamp_seconds",
            "When the root certificate ends",
            metrics.root_not_after.clone(),
        );
        registry.register(
            "workloads",
            "Workloads by the state of their certificate: valid, due, expired, missing",
            metrics.workloads.clone(),
        );
        registry.register(
            "leaf_not_after_min_timestamp_seconds",
            "When the first of the workloads' certificates ends",
            metrics.leaf_not_after_min.clone(),
        );
        metrics
    }

    /// Counts a certificate that was written.
    pub fn issued(&self, reason: Reason) {
        self.issued
            .get_or_create(&ReasonLabel {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// Counts a failure.
    pub fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a watch that failed.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&KindLabel { kind }).inc();
    }

    /// Counts a trust bundle that was written.
    pub fn bundle_written(&self) {
        self.bundles_written.inc();
    }

    /// Notes how long a new workload waited for its Secret.
    pub fn first_write(&self, waited: Duration) {
        self.first_write.observe(waited.as_secs_f64());
    }

    /// Notes whether this replica leads.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// Notes the root in use.
    pub fn set_root_not_after(&self, not_after: SystemTime) {
        self.root_not_after.set(unix_seconds(not_after));
    }

    /// Notes the state of all workloads.
    pub fn set_census(&self, census: Census) {
        let Census {
            valid,
            due,
            expired,
            missing,
            not_after_min,
        } = census;
        let states = [
            ("valid", valid),
            ("due", due),
            ("expired", expired),
            ("missing", missing),
        ];
        for (state, count) in states {
            self.workloads
                .get_or_create(&StateLabel { state })
                .set(count);
        }
        self.leaf_not_after_min
            .set(not_after_min.map_or(0.0, unix_seconds));
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
