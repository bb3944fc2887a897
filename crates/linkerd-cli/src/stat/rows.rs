//! From the control plane's answer to what people read: shares and rates. Entry: [`tables`]. Pure.

use std::{collections::BTreeMap, time::Duration};

use linkerd_names::{ResourceType, tls::NOT_SENT};
use linkerd_proto::public::{
    BasicStats, StatTable, TcpStats,
    stat_table::{self, pod_group},
};

use crate::duration;

/// Rows of one type.
#[derive(Debug)]
pub(super) struct Table {
    /// Sorted by namespace and name; at least one.
    pub(super) rows: Vec<Row>,
}

/// One object.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: ResourceType,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Meshed pods and running pods; none for an authority.
    pub(super) pods: Option<(u64, u64)>,
    /// Of a pod: the word that kubectl shows.
    pub(super) status: Option<String>,
    pub(super) requests: Option<Requests>,
    pub(super) tcp: Option<Tcp>,
}

/// Requests within the window. Shares are from 0 to 1.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) success: f64,
    pub(super) per_second: f64,
    pub(super) latency_ms_p50: u64,
    pub(super) latency_ms_p95: u64,
    pub(super) latency_ms_p99: u64,
    /// Of those that were sent; none where none was.
    pub(super) tls: Option<f64>,
    /// How many responses for each reason for plaintext, and [`NOT_SENT`].
    pub(super) no_tls_reasons: BTreeMap<String, u64>,
}

/// Connections.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) open_connections: u64,
    /// How many of the open connections for each reason for plaintext.
    pub(super) no_tls_reasons: BTreeMap<String, u64>,
    pub(super) read_bytes_per_second: f64,
    pub(super) write_bytes_per_second: f64,
}

/// The answer has a row of a type that this program does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "the control plane answers with a row that this program, of {}, does not understand: use the program of the \
     control plane's version, see `linkerd version`",
    linkerd_names::VERSION
)]
pub(super) struct UnknownRow;

/// The part of a window of time that the rows are about, when it is shorter: without Prometheus `linkerd-api` knows
/// nothing of before its pod began.
pub(super) fn seen(answers: &[StatTable], window: Duration) -> Option<Duration> {
    let rows = answers.iter().flat_map(|answer| match &answer.table {
        Some(stat_table::Table::PodGroup(group)) => group.rows.as_slice(),
        None => &[],
    });
    let seen = rows.map(|row| window_of(row, window)).min()?;
    (seen < window).then_some(seen)
}

/// What is not said is all of it: the control plane may be of an earlier version.
fn window_of(row: &pod_group::Row, window: Duration) -> Duration {
    let seen = duration::parse(&row.time_window).unwrap_or_default();
    if seen.is_zero() {
        window
    } else {
        seen.min(window)
    }
}

/// Computes what the answers say about a window of time: one table for each type, in the order in which
/// types first come. Tables without rows are left out.
///
/// # Errors
/// [`UnknownRow`].
pub(super) fn tables(answers: Vec<StatTable>, window: Duration) -> Result<Vec<Table>, UnknownRow> {
    let mut tables: Vec<Table> = Vec::new();
    for StatTable { table } in answers {
        let Some(stat_table::Table::PodGroup(group)) = table else {
            return Err(UnknownRow);
        };
        let rows = group
            .rows
            .into_iter()
            .map(|row| Row::new(row, window).ok_or(UnknownRow));
        for row in rows {
            let row = row?;
            let of_type = |table: &&mut Table| table.rows[0].kind == row.kind;
            match tables.iter_mut().find(of_type) {
                Some(table) => table.rows.push(row),
                None => tables.push(Table { rows: vec![row] }),
            }
        }
    }
    for table in &mut tables {
        let name = |row: &Row| format!("{}/{}", row.namespace, row.name);
        table.rows.sort_by_cached_key(name);
    }
    Ok(tables)
}

impl Row {
    /// None when the row has no resource of a type that we know.
    fn new(row: pod_group::Row, window: Duration) -> Option<Self> {
        let window = window_of(&row, window);
        let resource = row.resource?;
        let kind = resource.r#type.parse().ok()?;
        let pods = (kind != ResourceType::Authority)
            .then_some((row.meshed_pod_count, row.running_pod_count));
        Some(Self {
            kind,
            namespace: resource.namespace,
            name: resource.name,
            pods,
            status: Some(row.status).filter(|word| !word.is_empty()),
            requests: row.stats.map(|stats| Requests::new(stats, window)),
            tcp: row.tcp_stats.map(|stats| Tcp::new(stats, window)),
        })
    }
}

impl Requests {
    fn new(stats: BasicStats, window: Duration) -> Self {
        let total = stats.success_count + stats.failure_count;
        let not_sent = stats.no_tls_reasons.get(NOT_SENT).copied();
        let sent = total.saturating_sub(not_sent.unwrap_or_default());
        Self {
            success: share(stats.success_count, total),
            per_second: rate(total, window),
            latency_ms_p50: stats.latency_ms_p50,
            latency_ms_p95: stats.latency_ms_p95,
            latency_ms_p99: stats.latency_ms_p99,
            tls: (sent > 0).then(|| share(stats.tls_request_count, sent)),
            no_tls_reasons: stats.no_tls_reasons.into_iter().collect(),
        }
    }
}

impl Tcp {
    fn new(stats: TcpStats, window: Duration) -> Self {
        Self {
            open_connections: stats.open_connections,
            no_tls_reasons: stats.no_tls_reasons.into_iter().collect(),
            read_bytes_per_second: rate(stats.read_bytes, window),
            write_bytes_per_second: rate(stats.write_bytes, window),
        }
    }
}

/// The part of `total`, at most the whole: each of the two was rounded.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share(part: u64, total: u64) -> f64 {
    if total == 0 {
        0.0
    } else {
        (part as f64 / total as f64).min(1.0)
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn rate(count: u64, window: Duration) -> f64 {
    count as f64 / window.as_secs_f64()
}
