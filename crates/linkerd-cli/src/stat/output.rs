//! Prints rows of `stat`. Entries: [`table`], [`json`]. Pure; columns and keys are an interface.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::{Requests, Row, Table};
use crate::{
    json_text, resource,
    table::{chars, pad, right_aligned},
};

const NAMESPACE: &str = "NAMESPACE";
const NAME: &str = "NAME";
/// Only of pods.
const STATUS: &str = "STATUS";
const COLUMNS: [&str; 7] = [
    "MESHED",
    "SUCCESS",
    "RPS",
    "LATENCY_P50",
    "LATENCY_P95",
    "LATENCY_P99",
    "TLS",
];
const WIDE_COLUMNS: [&str; 4] = [
    "TCP_CONN",
    "READ_BYTES/SEC",
    "WRITE_BYTES/SEC",
    "NO_TLS_REASON",
];

/// One table for each type, with a blank line between; nothing at all without rows.
pub(super) fn table(tables: &[Table], with_namespace: bool, wide: bool) -> String {
    let several = tables.len() > 1;
    let rows = || tables.iter().flat_map(|table| &table.rows);
    let width = |head: &str, cell: &dyn Fn(&Row) -> String| {
        rows()
            .map(|row| chars(&cell(row)))
            .chain([chars(head)])
            .max()
            .unwrap_or(0)
    };
    let name = |row: &Row| {
        let prefix = if several {
            resource::prefix(row.kind)
        } else {
            ""
        };
        format!("{prefix}{}", row.name)
    };
    // What is asked for outside of the cluster is in none.
    let namespace = |row: &Row| match row.namespace.as_str() {
        "" => "-".to_owned(),
        namespace => namespace.to_owned(),
    };
    // Both columns are as wide in every table.
    let namespace_width = width(NAMESPACE, &namespace);
    let name_width = width(NAME, &name);
    let line = |namespace: &str, name: &str, cells: Vec<String>| {
        let namespace = with_namespace.then(|| pad(namespace, namespace_width));
        namespace
            .into_iter()
            .chain([pad(name, name_width)])
            .chain(cells)
            .collect()
    };
    let texts: Vec<String> = tables
        .iter()
        .map(|table| {
            let wide_columns = if wide { &WIDE_COLUMNS[..] } else { &[] };
            let heads = COLUMNS.iter().chain(wide_columns);
            let status_width = status_width(table);
            // Words are read from the left.
            let status = |word: &str| status_width.map(|width| pad(word, width));
            let heads = heads.map(|head| (*head).to_owned());
            let heads = status(STATUS).into_iter().chain(heads).collect();
            let mut lines: Vec<Vec<String>> = vec![line(NAMESPACE, NAME, heads)];
            for row in &table.rows {
                let word = status(row.status.as_deref().unwrap_or("-"));
                let cells = word.into_iter().chain(cells(row, wide)).collect();
                lines.push(line(&namespace(row), &name(row), cells));
            }
            right_aligned(&lines)
        })
        .collect();
    texts.join("\n")
}

/// Of the column with the pods' status; none where there is none.
fn status_width(table: &Table) -> Option<usize> {
    let words = table.rows.iter().filter_map(|row| row.status.as_deref());
    let longest = words.map(chars).max()?;
    Some(longest.max(chars(STATUS)))
}

fn cells(row: &Row, wide: bool) -> Vec<String> {
    let none = || "-".to_owned();
    let mut cells = vec![meshed(row)];
    let measured = |text: &dyn Fn(&Requests) -> String| measured(row).map_or_else(none, text);
    let rate = row.requests.as_ref();
    let rate = rate.map(|requests| format!("{:.1}rps", requests.per_second));
    cells.extend([
        measured(&|requests| format!("{:.2}%", requests.success * 100.0)),
        rate.unwrap_or_else(none),
        measured(&|requests| format!("{}ms", requests.latency_ms_p50)),
        measured(&|requests| format!("{}ms", requests.latency_ms_p95)),
        measured(&|requests| format!("{}ms", requests.latency_ms_p99)),
        measured(&|requests| {
            let tls = requests.tls;
            tls.map_or_else(none, |tls| format!("{:.0}%", tls * 100.0))
        }),
    ]);
    if wide {
        match &row.tcp {
            Some(tcp) => cells.extend([
                tcp.open_connections.to_string(),
                format!("{:.1}B/s", tcp.read_bytes_per_second),
                format!("{:.1}B/s", tcp.write_bytes_per_second),
            ]),
            None => cells.extend(std::iter::repeat_with(none).take(3)),
        }
        cells.push(reasons(row).unwrap_or_else(none));
    }
    cells
}

/// The figures of a row's requests, when there were any. Of none there is no share: it would look like an outage, and
/// a program that waits for less than all TLS would take fright.
fn measured(row: &Row) -> Option<&Requests> {
    row.requests.as_ref().filter(|it| it.per_second > 0.0)
}

fn meshed(row: &Row) -> String {
    row.pods.map_or_else(
        || "-".to_owned(),
        |(meshed, running)| format!("{meshed}/{running}"),
    )
}

/// `peer_sent_plaintext (3), off_cluster (1)`, the most frequent first: of requests, or of open
/// connections where there were no requests.
fn reasons(row: &Row) -> Option<String> {
    let reasons = match (&row.requests, &row.tcp) {
        (Some(requests), _) => &requests.no_tls_reasons,
        (None, Some(tcp)) => &tcp.no_tls_reasons,
        (None, None) => return None,
    };
    let mut reasons: Vec<(&String, &u64)> = reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let texts: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{reason} ({count})"))
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// One object of the array. Figures are null where there was no traffic; where there was some earlier, `rps` is 0.
#[derive(Serialize)]
struct JsonRow<'a> {
    namespace: &'a str,
    kind: &'a str,
    name: &'a str,
    meshed: String,
    /// Only of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    success: Option<f64>,
    rps: Option<f64>,
    latency_ms_p50: Option<u64>,
    latency_ms_p95: Option<u64>,
    latency_ms_p99: Option<u64>,
    tls: Option<f64>,
    no_tls_reasons: Option<&'a BTreeMap<String, u64>>,
    tcp_open_connections: Option<u64>,
    tcp_no_tls_reasons: Option<&'a BTreeMap<String, u64>>,
    tcp_read_bytes_rate: Option<f64>,
    tcp_write_bytes_rate: Option<f64>,
}

/// All rows in one array, indented by two blanks.
pub(super) fn json(tables: &[Table]) -> String {
    let rows: Vec<JsonRow<'_>> = tables
        .iter()
        .flat_map(|table| &table.rows)
        .map(json_row)
        .collect();
    json_text::pretty(&rows)
}

fn json_row(row: &Row) -> JsonRow<'_> {
    let requests = row.requests.as_ref();
    let measured = measured(row);
    let tcp = row.tcp.as_ref();
    JsonRow {
        namespace: &row.namespace,
        kind: row.kind.as_str(),
        name: &row.name,
        meshed: meshed(row),
        status: row.status.as_deref(),
        success: measured.map(|it| it.success),
        rps: requests.map(|it| it.per_second),
        latency_ms_p50: measured.map(|it| it.latency_ms_p50),
        latency_ms_p95: measured.map(|it| it.latency_ms_p95),
        latency_ms_p99: measured.map(|it| it.latency_ms_p99),
        tls: measured.and_then(|it| it.tls),
        no_tls_reasons: requests.map(|it| &it.no_tls_reasons),
        tcp_open_connections: tcp.map(|it| it.open_connections),
        tcp_no_tls_reasons: tcp.map(|it| &it.no_tls_reasons),
        tcp_read_bytes_rate: tcp.map(|it| it.read_bytes_per_second),
        tcp_write_bytes_rate: tcp.map(|it| it.write_bytes_per_second),
    }
}

#[cfg(test)]
mod tests;
