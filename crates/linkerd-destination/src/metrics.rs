//! The numbers of this process: streams, messages, and the size of the index. Entry: [`Metrics`].

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};

use crate::index::Index;

/// Counters that the parts of the process share.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Open streams.
    pub streams: Family<MethodLabels, Gauge>,
    /// Streams that were one too many.
    pub refused: Family<MethodLabels, Counter>,
    /// Messages sent.
    pub messages: Family<MethodLabels, Counter>,
    /// Failures of watches of the Kubernetes API.
    pub watch_errors: Family<KindLabels, Counter>,
}

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MethodLabels {
    /// `get` or `get_profile`; `get_outbound`, `watch_outbound`, `get_inbound` or `watch_inbound`.
    pub method: &'static str,
}

/// Which kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// The kind's name in the API's addresses: `pods`.
    pub kind: &'static str,
}

/// Counters of the identity service.
#[derive(Clone, Debug, Default)]
pub struct IdentityMetrics {
    /// Certificates issued.
    pub issued: Counter,
    refused: Family<ReasonLabels, Counter>,
    root_not_after: Gauge,
}

/// Why no certificate was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl IdentityMetrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "identity_certificates_issued",
            "Certificates that the identity service has issued",
            metrics.issued.clone(),
        );
        registry.register(
            "identity_refusals",
            "Certificates that the identity service has refused, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "identity_root_not_after_seconds",
            "When the root ends, seconds since 1970; 0 while there is none",
            metrics.root_not_after.clone(),
        );
        metrics
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Remembers when the root ends.
    pub fn set_root_not_after(&self, not_after: SystemTime) {
        let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.root_not_after
            .set(i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX));
    }
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`, with the sizes of `index`.
    pub fn register(index: &Index, registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "destination_streams",
            "Open streams by method",
            metrics.streams.clone(),
        );
        registry.register(
            "destination_streams_refused",
            "Streams refused because too many are open, by method",
            metrics.refused.clone(),
        );
        registry.register(
            "destination_messages_sent",
            "Messages sent on streams by method",
            metrics.messages.clone(),
        );
        registry.register(
            "destination_watch_errors",
            "Failures of watches of the Kubernetes API by kind; each is tried again",
            metrics.watch_errors.clone(),
        );
        registry.register_collector(Box::new(IndexSizes(index.clone())));
        metrics
    }
}

/// Reads the sizes when asked, so that no change of an object pays for them.
#[derive(Debug)]
struct IndexSizes(Index);

impl Collector for IndexSizes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let sizes = self.0.sizes();
        for (name, help, value) in [
            ("destination_services", "Services known", sizes.services),
            (
                "destination_endpoint_slices",
                "EndpointSlices known",
                sizes.slices,
            ),
            ("destination_pods", "Pods known", sizes.pods),
            ("destination_nodes", "Nodes known", sizes.nodes),
            (
                "destination_owners",
                "ReplicaSets and Jobs known",
                sizes.links,
            ),
            (
                "destination_targets",
                "Different targets followed",
                self.0.target_count(),
            ),
        ] {
            let gauge = ConstGauge::new(value as u64);
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}
