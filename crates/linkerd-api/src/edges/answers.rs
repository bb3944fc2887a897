//! What was counted of each edge. Entry: [`ask`].

use std::{collections::BTreeMap, time::Duration};

use futures::future::try_join_all;
use linkerd_names::{NoTls, ResourceType};

use crate::{
    metrics::{Metrics, MetricsError, Snapshot},
    query::{Function, Metric, NO_TLS_REASON, Query, Sample, TLS},
    selected::Selected,
};

/// Whether series are those of the client's proxy.
#[derive(Clone, Copy)]
enum Client {
    Meshed,
    Unknown,
}

/// One end of an edge. All is empty of an unknown client and of an address that is nothing in the cluster; a Service
/// that leads to no pod has its namespace alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    /// Empty of a namespace.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: Option<ResourceType>,
}

/// What tells one edge from another, in the order of display.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ends {
    pub(super) src: End,
    pub(super) dst: End,
    pub(super) no_tls_reason: String,
    pub(super) tls: String,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) responses: u64,
    pub(super) connections: u64,
    pub(super) open: u64,
    /// By how much the first two grew within the window.
    grown_responses: u64,
    grown_connections: u64,
}

/// One of the counts.
type Field = fn(&mut Counts) -> &mut u64;

/// What edges may be between.
#[derive(Clone, Copy)]
pub(super) struct Between<'a> {
    /// With several types, an object is of that by which it was named.
    pub(super) targets: &'a [Selected],
    /// All types, the most telling first.
    pub(super) kinds: &'a [ResourceType],
}

/// Asks, and returns what was counted of each edge that is in use: something is open, or was counted within the
/// window.
///
/// # Errors
/// The first question without an answer, or that all together took too long.
pub(super) async fn ask(
    metrics: &Metrics,
    between: Between<'_>,
    window: Duration,
    meshed: impl Fn(Metric, Function) -> Query,
    unmeshed: impl Fn(Metric, Function, NoTls) -> Query,
) -> Result<BTreeMap<Ends, Counts>, MetricsError> {
    metrics
        .at_once(|metrics| ask_at_once(metrics, between, window, meshed, unmeshed))
        .await
}

async fn ask_at_once(
    metrics: Snapshot<'_>,
    between: Between<'_>,
    window: Duration,
    meshed: impl Fn(Metric, Function) -> Query,
    unmeshed: impl Fn(Metric, Function, NoTls) -> Query,
) -> Result<BTreeMap<Ends, Counts>, MetricsError> {
    let (most, growth) = (Function::Max(window), Function::Growth(window));
    let questions: [(Metric, Function, Field); 5] = [
        (Metric::Responses, most, |it| &mut it.responses),
        (Metric::Connections, most, |it| &mut it.connections),
        (Metric::OpenConnections, Function::Latest, |it| &mut it.open),
        (Metric::Responses, growth, |it| &mut it.grown_responses),
        (Metric::Connections, growth, |it| &mut it.grown_connections),
    ];
    let plaintext = NoTls::PeerSentPlaintext;
    let answer = |query| metrics.query(query);
    let of_meshed = questions.map(|(metric, function, _)| answer(meshed(metric, function)));
    let of_unknown =
        questions.map(|(metric, function, _)| answer(unmeshed(metric, function, plaintext)));
    let (of_meshed, of_unknown, probes, grown_probes) = tokio::try_join!(
        try_join_all(of_meshed),
        try_join_all(of_unknown),
        answer(unmeshed(Metric::Responses, most, NoTls::Probe)),
        answer(unmeshed(Metric::Responses, growth, NoTls::Probe)),
    )?;
    let mut answers = Answers {
        between,
        counts: BTreeMap::new(),
    };
    for ((.., field), (meshed, unknown)) in questions.iter().zip(of_meshed.iter().zip(&of_unknown))
    {
        answers.add(meshed, Client::Meshed, *field);
        answers.add(unknown, Client::Unknown, *field);
    }
    answers.subtract_probes(&probes, |it| &mut it.connections);
    answers.subtract_probes(&grown_probes, |it| &mut it.grown_connections);
    answers.counts.retain(|_, counts| counts.are_in_use());
    Ok(answers.counts)
}

impl Counts {
    /// Whether the edge is in use, and not by probes alone.
    fn are_in_use(&self) -> bool {
        let counted = self.responses + self.connections;
        let used = self.open + self.grown_responses + self.grown_connections;
        counted > 0 && used > 0
    }
}

impl Between<'_> {
    /// An end of which these are the labels: of the type of the first target that it is, or else of the
    /// first type that it has. None where it is no object of any of the types.
    fn end(&self, label: impl Fn(&str) -> String) -> Option<End> {
        let namespace = label("namespace");
        let of_kind = |kind: ResourceType| match kind {
            ResourceType::Namespace => (String::new(), namespace.clone()),
            kind => (namespace.clone(), label(kind.metric_label())),
        };
        let targets = self.targets.iter().filter(|it| {
            let (namespace, name) = of_kind(it.target.kind);
            it.names(&namespace, &name)
        });
        let kinds = targets.map(|it| it.target.kind);
        kinds.chain(self.kinds.iter().copied()).find_map(|kind| {
            let (namespace, name) = of_kind(kind);
            (!name.is_empty()).then_some(End {
                namespace,
                name,
                kind: Some(kind),
            })
        })
    }
}

/// Why nobody knows what in the cluster an address is, if it is anything.
fn leads_nowhere(reason: &str) -> bool {
    [NoTls::OffCluster, NoTls::DiscoveryUnavailable]
        .map(NoTls::as_str)
        .contains(&reason)
}

struct Answers<'a> {
    between: Between<'a>,
    counts: BTreeMap<Ends, Counts>,
}

impl Answers<'_> {
    fn add(&mut self, samples: &[Sample], client: Client, field: Field) {
        for sample in samples {
            if let Some(ends) = self.ends(sample, client) {
                *field(self.counts.entry(ends).or_default()) += round(sample.value);
            }
        }
    }

    /// A connection does not say that it is a probe, but kubelet makes one for each probe.
    fn subtract_probes(&mut self, samples: &[Sample], connections: Field) {
        for sample in samples {
            let Some(mut ends) = self.ends(sample, Client::Unknown) else {
                continue;
            };
            ends.no_tls_reason = NoTls::PeerSentPlaintext.as_str().to_owned();
            ends.tls = NoTls::PeerSentPlaintext.label().to_owned();
            if let Some(counts) = self.counts.get_mut(&ends) {
                let connections = connections(counts);
                *connections = connections.saturating_sub(round(sample.value));
            }
        }
    }

    /// None where an end is no object of the type, is told of by other samples, or the connection was never made.
    fn ends(&self, sample: &Sample, client: Client) -> Option<Ends> {
        let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
        let end = |prefix: &str| self.between.end(|name| label(&format!("{prefix}{name}")));
        let dst = || match (label("dst_service").as_str(), end("dst_")) {
            ("", None) if leads_nowhere(&label(NO_TLS_REASON)) => Some(End::default()),
            ("", dst) => dst,
            // A sum of what is said to no pod, by Service. Those by namespace have it as well.
            (_, None) => Some(End {
                namespace: label("dst_namespace"),
                ..End::default()
            }),
            (_, Some(_)) => None,
        };
        let (src, dst) = match client {
            Client::Meshed => (end("")?, dst()?),
            Client::Unknown => (End::default(), end("")?),
        };
        let tls = label(TLS);
        (!tls.is_empty()).then(|| Ends {
            src,
            dst,
            no_tls_reason: label(NO_TLS_REASON),
            tls,
        })
    }
}

/// To the nearest whole number; Prometheus answers NaN where it knows nothing.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and NaN is 0, as wanted"
)]
fn round(value: f64) -> u64 {
    value.round() as u64
}
