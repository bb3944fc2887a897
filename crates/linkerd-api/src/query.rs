//! What is asked of the proxies' metrics, as values. Entry: [`Query`].
//! `promql.rs` writes it for Prometheus, `history/answer.rs` answers it itself.

use std::{collections::BTreeMap, time::Duration};

/// Label of our proxies' series: the word for the outcome of TLS.
pub(crate) const TLS: &str = "tls";
/// Label of our proxies' series: why a connection is plaintext.
pub(crate) const NO_TLS_REASON: &str = "no_tls_reason";
/// Label of our proxies' series: `success` or `failure`.
pub(crate) const CLASSIFICATION: &str = "classification";
/// Label of a histogram's series: the upper bound of the bucket.
pub(crate) const BOUND: &str = "le";

/// A metric of the proxies that is asked for. The own history keeps these and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Responses,
    LatencyBuckets,
    Connections,
    OpenConnections,
    ReadBytes,
    WrittenBytes,
    StartTime,
    CertificateEnd,
    CertificateRenewal,
    TrustAnchorEnd,
}

impl Metric {
    pub(crate) const ALL: [Self; 10] = [
        Self::Responses,
        Self::LatencyBuckets,
        Self::Connections,
        Self::OpenConnections,
        Self::ReadBytes,
        Self::WrittenBytes,
        Self::StartTime,
        Self::CertificateEnd,
        Self::CertificateRenewal,
        Self::TrustAnchorEnd,
    ];

    /// Its name at `/metrics` of a proxy.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Responses => "response_total",
            Self::LatencyBuckets => "response_latency_ms_bucket",
            Self::Connections => "tcp_open_total",
            Self::OpenConnections => "tcp_open_connections",
            Self::ReadBytes => "tcp_read_bytes_total",
            Self::WrittenBytes => "tcp_write_bytes_total",
            Self::StartTime => "process_start_time_seconds",
            Self::CertificateEnd => "identity_cert_expiration_timestamp_seconds",
            Self::CertificateRenewal => "identity_cert_renewal_timestamp_seconds",
            Self::TrustAnchorEnd => "identity_trust_anchor_expiration_timestamp_seconds",
        }
    }
}

/// A question about one metric, with the meaning that PromQL gives to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) aggregate: Aggregate,
    pub(crate) function: Function,
    pub(crate) metric: Metric,
    /// Of what there is an answer; a later one adds the groups that no earlier one has (PromQL's `or`).
    pub(crate) parts: Vec<Part>,
}

/// Series that are put together to groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) selector: Selector,
    /// The labels by which they are.
    pub(crate) by: Vec<String>,
}

/// What becomes of the values of one group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aggregate {
    Sum,
    Max,
    /// The value that this share of a histogram's observations does not exceed.
    Quantile(f64),
}

/// What a series' value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// The present one.
    Latest,
    /// By how much a counter grew within the window.
    Increase(Duration),
    /// The same, a second.
    Rate(Duration),
    /// Growth a second between the last two points of the window.
    LastRate(Duration),
    /// The largest one within the window.
    Max(Duration),
    /// By how much a counter grew since the window began, as it was seen and not extended to the window's
    /// ends; all that it has counted when it began within the window. None, or zero, when it rested.
    Growth(Duration),
}

impl Function {
    /// How far it looks back; none when it asks for the present value.
    pub(crate) fn window(self) -> Option<Duration> {
        match self {
            Self::Latest => None,
            Self::Increase(window)
            | Self::Rate(window)
            | Self::LastRate(window)
            | Self::Max(window)
            | Self::Growth(window) => Some(window),
        }
    }
}

/// The distance of the moments of a window, in whole milliseconds. A series that had ended and began again may have
/// the same value as before, and shows in that it has one at a moment and had none at the one before.
///
/// Each moment costs time. A proxy keeps a series for ten minutes, so more than one a minute say little in long windows.
pub(crate) fn distance_of_moments(window: Duration) -> Duration {
    const FEW: u32 = 10;
    const MANY: u32 = 60;
    const CLOSE: Duration = Duration::from_secs(60);
    let distance = (window / FEW).min(CLOSE).max(window / MANY);
    let millis = distance.as_millis().max(1);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Conditions by label. All have to be met.
pub(crate) type Selector = BTreeMap<String, Condition>;

/// What a label's value has to be. A series without the label has the empty value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Is(String),
    IsNot(String),
}

impl Condition {
    pub(crate) fn is(value: &str) -> Self {
        Self::Is(value.to_owned())
    }

    /// The label is there.
    pub(crate) fn is_set() -> Self {
        Self::IsNot(String::new())
    }

    pub(crate) fn met_by(&self, value: &str) -> bool {
        match self {
            Self::Is(wanted) => value == wanted,
            Self::IsNot(unwanted) => value != unwanted,
        }
    }
}

/// Times at which a question is asked, evenly spaced up to the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) count: usize,
    pub(crate) length: Duration,
}

/// The values of one group at several times.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Course {
    /// Label values by name.
    pub(crate) labels: BTreeMap<String, String>,
    /// One for each time, oldest first; none where the group has none.
    pub(crate) values: Vec<Option<f64>>,
}

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Label values by name.
    pub labels: BTreeMap<String, String>,
    /// The value; may be NaN or infinite.
    pub value: f64,
}
