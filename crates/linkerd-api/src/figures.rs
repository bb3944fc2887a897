//! Asks for the figures of the rows of one type and sums up the answers. Entries: [`ask`], [`over_time`].
//! Sums are rounded once, at the end, so that a row's parts make up its whole.

use std::collections::{BTreeMap, BTreeSet};

use linkerd_names::{ResourceType, tls::NOT_SENT};
use linkerd_proto::public::{BasicStats, TcpStats};

use crate::{
    metrics::{MetricsError, Snapshot},
    query::{self, Course, Metric, Sample, Steps},
    question::Question,
    stat_request::{Outbound, StatRequest},
    table::Key,
};

/// Value of the label `tls` on connections that finished a mutual handshake.
const TLS_ON: &str = "true";

/// What is known about the traffic of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// None when no request was seen in the window.
    pub(crate) basic: Option<BasicStats>,
    /// None when it was not asked for or there was no connection.
    pub(crate) tcp: Option<TcpStats>,
}

/// Returns the figures by namespace and name, for all objects of type `request.target.kind` that
/// have any. Asks twice at most: what rare requests are asked for depends on the answers about all.
///
/// # Errors
/// The first question without an answer.
pub(crate) async fn ask(
    metrics: Snapshot<'_>,
    request: &StatRequest,
) -> Result<BTreeMap<Key, Figures>, MetricsError> {
    if request.target.kind == ResourceType::Service && matches!(request.outbound, Outbound::To(_)) {
        // A Service sends nothing.
        return Ok(BTreeMap::new());
    }
    let question = Question::new(request);
    let connections = async {
        if !request.tcp_stats || !question.has_connections() {
            return Ok(None);
        }
        let answers = tokio::try_join!(
            metrics.query(question.open_connections()),
            metrics.query(question.bytes(Metric::ReadBytes)),
            metrics.query(question.bytes(Metric::WrittenBytes)),
        );
        answers.map(Some)
    };
    let (responses, p50, p95, p99, connections) = tokio::try_join!(
        metrics.query(question.responses()),
        metrics.query(question.latency(0.5)),
        metrics.query(question.latency(0.95)),
        metrics.query(question.latency(0.99)),
        connections,
    )?;
    let mut answers = Answers {
        group_by: question.group_by(),
        rows: BTreeMap::new(),
    };
    answers.add_responses(&responses);
    let without_latency = answers.without_latency(&p50);
    answers.add_latencies([&p50, &p95, &p99], |_| true);
    if !without_latency.is_empty() {
        // Rare requests: none between the last two scrapes, but some in the window.
        let (p50, p95, p99) = tokio::try_join!(
            metrics.query(question.latency_over_window(0.5)),
            metrics.query(question.latency_over_window(0.95)),
            metrics.query(question.latency_over_window(0.99)),
        )?;
        answers.add_latencies([&p50, &p95, &p99], |key| without_latency.contains(key));
    }
    if let Some((open, read, written)) = connections {
        answers.add_connections(&open);
        answers.add_tcp(&read, |stats| &mut stats.read_bytes);
        answers.add_tcp(&written, |stats| &mut stats.write_bytes);
    }
    Ok(answers.rows)
}

/// Returns the figures of [`ask`] at several times, oldest first, each of the window before it. Bytes are
/// left out. One question after the other: each answer is large.
///
/// # Errors
/// The first question without an answer.
pub(crate) async fn over_time(
    metrics: Snapshot<'_>,
    request: &StatRequest,
    steps: Steps,
) -> Result<Vec<BTreeMap<Key, Figures>>, MetricsError> {
    let question = Question::new(request);
    let responses = metrics.courses(question.responses(), steps).await?;
    let mut latencies = Vec::new();
    for share in [0.5, 0.95, 0.99] {
        let question = question.latency_over_window(share);
        latencies.push(metrics.courses(question, steps).await?);
    }
    let open = metrics.courses(question.open_connections(), steps).await?;
    let figures = (0..steps.count).map(|step| {
        let mut answers = Answers {
            group_by: question.group_by(),
            rows: BTreeMap::new(),
        };
        answers.add_responses(&at(&responses, step));
        if let [p50, p95, p99] = &latencies[..] {
            let samples = [p50, p95, p99].map(|courses| at(courses, step));
            let [p50, p95, p99] = &samples;
            answers.add_latencies([p50, p95, p99], |_| true);
        }
        answers.add_connections(&at(&open, step));
        answers.rows
    });
    Ok(figures.collect())
}

/// The values at one time.
fn at(courses: &[Course], step: usize) -> Vec<Sample> {
    let samples = courses.iter().filter_map(|course| {
        let value = course.values.get(step).copied().flatten()?;
        Some(Sample {
            labels: course.labels.clone(),
            value,
        })
    });
    samples.collect()
}

struct Answers<'a> {
    group_by: &'a [String],
    rows: BTreeMap<Key, Figures>,
}

/// Responses of one row before rounding.
#[derive(Default)]
struct Responses<'a> {
    success: f64,
    failure: f64,
    tls: f64,
    no_tls: BTreeMap<&'a str, f64>,
    not_sent: f64,
}

impl Answers<'_> {
    fn add_responses(&mut self, samples: &[Sample]) {
        let mut sums: BTreeMap<Key, Responses<'_>> = BTreeMap::new();
        for sample in samples {
            let Some(key) = key(self.group_by, sample) else {
                continue;
            };
            let sum = sums.entry(key).or_default();
            let count = finite(sample.value);
            match label(sample, query::CLASSIFICATION) {
                "success" => sum.success += count,
                "failure" => sum.failure += count,
                // It would be a part of TLS, but not of the whole.
                _ => continue,
            }
            match (
                label(sample, query::TLS),
                label(sample, query::NO_TLS_REASON),
            ) {
                (TLS_ON, _) => sum.tls += count,
                ("", "") => sum.not_sent += count,
                // Proxies of 2018 gave their reason in the label `tls` itself.
                (word, "") => *sum.no_tls.entry(word).or_default() += count,
                (_, reason) => *sum.no_tls.entry(reason).or_default() += count,
            }
        }
        for (key, sum) in sums {
            // Each is a fraction: what is a part of the whole must stay one when both are rounded.
            let all = round(sum.success + sum.failure);
            let failure = round(sum.failure).min(all);
            let is_plain = sum.no_tls.values().any(|count| *count > 0.0);
            let sent = all.saturating_sub(round(sum.not_sent));
            let tls = if is_plain {
                round(sum.tls).min(sent)
            } else {
                sent
            };
            let not_sent = [(NOT_SENT, sum.not_sent)];
            let reasons = (sum.no_tls.into_iter())
                .chain(not_sent)
                .map(|(reason, count)| (reason.to_owned(), round(count)));
            let stats = self.stats(key);
            stats.success_count = all - failure;
            stats.failure_count = failure;
            stats.tls_request_count = tls;
            stats.no_tls_reasons = reasons.filter(|(_, count)| *count > 0).collect();
        }
    }

    /// Rows that have responses, but no latency in `samples`.
    fn without_latency(&self, samples: &[Sample]) -> BTreeSet<Key> {
        let known: BTreeSet<Key> = samples
            .iter()
            .filter(|sample| sample.value.is_finite())
            .filter_map(|sample| key(self.group_by, sample))
            .collect();
        let has_responses = |figures: &Figures| {
            figures
                .basic
                .as_ref()
                .is_some_and(|stats| stats.success_count + stats.failure_count > 0)
        };
        let rows = self
            .rows
            .iter()
            .filter(|(_, figures)| has_responses(figures));
        rows.map(|(key, _)| key.clone())
            .filter(|key| !known.contains(key))
            .collect()
    }

    /// Takes over the latencies of three quantiles, 0.5, 0.95 and 0.99, for the rows that are wanted.
    fn add_latencies(&mut self, samples: [&[Sample]; 3], wanted: impl Fn(&Key) -> bool) {
        let fields: [fn(&mut BasicStats) -> &mut u64; 3] = [
            |stats| &mut stats.latency_ms_p50,
            |stats| &mut stats.latency_ms_p95,
            |stats| &mut stats.latency_ms_p99,
        ];
        for (samples, field) in samples.into_iter().zip(fields) {
            for sample in samples {
                let Some(key) = key(self.group_by, sample).filter(&wanted) else {
                    continue;
                };
                *field(self.stats(key)) = round(finite(sample.value));
            }
        }
    }

    fn add_connections(&mut self, samples: &[Sample]) {
        for sample in samples {
            let Some(key) = key(self.group_by, sample) else {
                continue;
            };
            let count = round(finite(sample.value));
            let stats = self.tcp(key);
            stats.open_connections += count;
            let reason = label(sample, query::NO_TLS_REASON);
            if label(sample, query::TLS) == TLS_ON {
                stats.tls_open_connections += count;
            } else if count > 0 && !reason.is_empty() {
                *stats.no_tls_reasons.entry(reason.to_owned()).or_default() += count;
            }
        }
    }

    fn add_tcp(&mut self, samples: &[Sample], field: fn(&mut TcpStats) -> &mut u64) {
        for sample in samples {
            let Some(key) = key(self.group_by, sample) else {
                continue;
            };
            *field(self.tcp(key)) = round(finite(sample.value));
        }
    }

    fn stats(&mut self, key: Key) -> &mut BasicStats {
        self.rows
            .entry(key)
            .or_default()
            .basic
            .get_or_insert_default()
    }

    fn tcp(&mut self, key: Key) -> &mut TcpStats {
        self.rows
            .entry(key)
            .or_default()
            .tcp
            .get_or_insert_default()
    }
}

/// The row a series belongs to; none when it lacks the label with the name.
fn key(group_by: &[String], sample: &Sample) -> Option<Key> {
    let (namespace, name) = match group_by {
        [name] => ("", label(sample, name)),
        [namespace, name] => (label(sample, namespace), label(sample, name)),
        _ => unreachable!("a question groups by one or two labels"),
    };
    (!name.is_empty()).then(|| (namespace.to_owned(), name.to_owned()))
}

fn label<'a>(sample: &'a Sample, name: &str) -> &'a str {
    sample.labels.get(name).map_or("", String::as_str)
}

/// Prometheus answers NaN where there was nothing to divide by.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// To the nearest whole number, halves away from zero.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as wanted"
)]
fn round(value: f64) -> u64 {
    value.round() as u64
}
