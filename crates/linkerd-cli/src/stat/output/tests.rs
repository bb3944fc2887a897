//! Every table and document, byte for byte.

use std::time::Duration;

use linkerd_names::OwnerKind;
use linkerd_proto::public::{
    BasicStats, StatTable, TcpStats,
    stat_table::{self, PodGroup, pod_group},
};

use super::*;
use crate::stat::rows::{seen, tables};

const DEPLOYMENT: &str = OwnerKind::Deployment.as_str();
const POD: &str = OwnerKind::Pod.as_str();

fn row(kind: &str, namespace: &str, name: &str) -> pod_group::Row {
    pod_group::Row {
        resource: Some(linkerd_proto::public::Resource {
            namespace: namespace.into(),
            r#type: kind.into(),
            name: name.into(),
        }),
        ..pod_group::Row::default()
    }
}

fn with_pods(row: pod_group::Row, meshed: u64, running: u64) -> pod_group::Row {
    pod_group::Row {
        meshed_pod_count: meshed,
        running_pod_count: running,
        ..row
    }
}

/// Responses by success, failure and TLS, and the three latencies.
fn with_stats(row: pod_group::Row, counts: [u64; 3], latencies: [u64; 3]) -> pod_group::Row {
    let [success_count, failure_count, tls_request_count] = counts;
    let [latency_ms_p50, latency_ms_p95, latency_ms_p99] = latencies;
    let stats = BasicStats {
        success_count,
        failure_count,
        latency_ms_p50,
        latency_ms_p95,
        latency_ms_p99,
        tls_request_count,
        ..BasicStats::default()
    };
    pod_group::Row {
        stats: Some(stats),
        ..row
    }
}

fn answer(groups: Vec<Vec<pod_group::Row>>) -> Vec<Table> {
    answer_over(Duration::from_secs(60), groups)
}

fn answer_over(window: Duration, groups: Vec<Vec<pod_group::Row>>) -> Vec<Table> {
    tables(answered(groups), window).expect("known types")
}

fn answered(groups: Vec<Vec<pod_group::Row>>) -> Vec<StatTable> {
    let table = |rows| StatTable {
        table: Some(stat_table::Table::PodGroup(PodGroup { rows })),
    };
    groups.into_iter().map(table).collect()
}

#[test]
fn authorities_have_no_pods_and_are_sorted() {
    let authority = |name| row("authority", "emojivoto", name);
    let rows = vec![
        with_stats(
            authority("web-svc.emojivoto:80"),
            [1197, 63, 1260],
            [3, 8, 9],
        ),
        with_stats(
            authority("emoji-svc.emojivoto:8080"),
            [1200, 0, 1200],
            [1, 1, 1],
        ),
        with_stats(
            authority("voting-svc.emojivoto:8080"),
            [510, 90, 600],
            [1, 2, 2],
        ),
    ];
    assert_eq!(
        table(&answer_over(Duration::from_secs(600), vec![rows]), false, false),
        "\
NAME                        MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99    TLS
emoji-svc.emojivoto:8080         -   100.00%   2.0rps           1ms           1ms           1ms   100%
voting-svc.emojivoto:8080        -    85.00%   1.0rps           1ms           2ms           2ms   100%
web-svc.emojivoto:80             -    95.00%   2.1rps           3ms           8ms           9ms   100%
"
    );
}

#[test]
fn a_single_row_is_as_in_2018() {
    let rows = vec![with_pods(
        with_stats(
            row("namespace", "", "emoji"),
            [120, 0, 120],
            [123, 123, 123],
        ),
        1,
        2,
    )];
    assert_eq!(
        table(&answer(vec![rows]), false, false),
        "\
NAME    MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99    TLS
emoji      1/2   100.00%   2.0rps         123ms         123ms         123ms   100%
"
    );
}

#[test]
fn no_traffic_is_dashes_and_no_requests_are_a_rate_of_zero() {
    let rows = vec![
        with_pods(row(DEPLOYMENT, "ns", "idle"), 0, 1),
        with_pods(
            with_stats(row(DEPLOYMENT, "ns", "zero"), [0; 3], [0; 3]),
            1,
            1,
        ),
    ];
    assert_eq!(
        table(&answer(vec![rows]), true, false),
        "\
NAMESPACE   NAME   MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS
ns          idle      0/1         -        -             -             -             -     -
ns          zero      1/1         -   0.0rps             -             -             -     -
"
    );
}

#[test]
fn an_authority_outside_of_the_cluster_is_in_no_namespace() {
    let rows = vec![
        row("authority", "", "example.org:443"),
        row("authority", "shop", "web:80"),
    ];
    assert_eq!(
        table(&answer(vec![rows]), true, false),
        "\
NAMESPACE   NAME              MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS
-           example.org:443        -         -     -             -             -             -     -
shop        web:80                 -         -     -             -             -             -     -
"
    );
}

#[test]
fn tables_of_several_types_share_the_width_of_names_only() {
    let groups = vec![
        vec![with_pods(row(DEPLOYMENT, "ns", "web"), 1, 1)],
        vec![],
        vec![with_pods(
            with_stats(row(POD, "ns", "web-7c9f-x"), [60, 0, 0], [1, 10, 100]),
            1,
            1,
        )],
    ];
    assert_eq!(
        table(&answer(groups), false, false),
        "\
NAME            MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS
deploy/web         1/1         -     -             -             -             -     -

NAME            MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS
po/web-7c9f-x      1/1   100.00%   1.0rps           1ms          10ms         100ms    0%
"
    );
}

#[test]
fn objects_of_one_type_are_in_one_table_however_they_were_asked_for() {
    let groups = vec![
        vec![with_pods(row(DEPLOYMENT, "ns", "web"), 1, 1)],
        vec![with_pods(row(POD, "ns", "x"), 1, 1)],
        vec![with_pods(row(DEPLOYMENT, "ns", "db"), 1, 1)],
    ];
    let text = table(&answer(groups), false, false);
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        names,
        ["NAME", "deploy/db", "deploy/web", "", "NAME", "po/x"]
    );
}

#[test]
fn connections_without_requests_have_their_own_reasons() {
    let mut db = with_pods(row(DEPLOYMENT, "ns", "db"), 1, 1);
    db.tcp_stats = Some(TcpStats {
        open_connections: 2,
        no_tls_reasons: [("peer_sent_plaintext".to_owned(), 2)].into(),
        ..TcpStats::default()
    });
    let text = table(&answer(vec![vec![db]]), false, true);
    assert!(text.ends_with("   peer_sent_plaintext (2)\n"), "{text}");
}

#[test]
fn what_was_not_sent_is_no_part_of_tls() {
    let tls = |counts: [u64; 3], not_sent: u64| {
        let mut web = with_stats(row(DEPLOYMENT, "ns", "web"), counts, [0; 3]);
        let stats = web.stats.as_mut().expect("just set");
        stats.no_tls_reasons.insert("not_sent".into(), not_sent);
        let tables = answer(vec![vec![web]]);
        let requests = tables[0].rows[0].requests.as_ref();
        requests.expect("there are some").tls
    };
    assert_eq!(tls([10, 30, 10], 30), Some(1.0));
    assert_eq!(tls([20, 20, 10], 20), Some(0.5));
    assert_eq!(tls([0, 20, 0], 20), None);
}

#[test]
fn nothing_is_an_empty_table_and_an_empty_array() {
    assert_eq!(table(&answer(vec![vec![]]), false, false), "");
    assert_eq!(json(&answer(vec![])), "[]\n");
}

/// A row with everything.
fn full() -> Vec<Table> {
    let mut web = with_pods(
        with_stats(row(DEPLOYMENT, "emojivoto", "web"), [54, 6, 45], [1, 2, 3]),
        1,
        2,
    );
    let stats = web.stats.as_mut().expect("just set");
    stats.no_tls_reasons.insert("off_cluster".into(), 5);
    stats
        .no_tls_reasons
        .insert("peer_sent_plaintext".into(), 10);
    web.tcp_stats = Some(TcpStats {
        open_connections: 7,
        tls_open_connections: 5,
        read_bytes: 6000,
        write_bytes: 90,
        no_tls_reasons: [("peer_sent_plaintext".to_owned(), 2)].into(),
    });
    let idle = with_pods(row(DEPLOYMENT, "emojivoto", "idle"), 0, 1);
    answer(vec![vec![web, idle]])
}

#[test]
fn the_wide_table_says_why_there_is_plaintext() {
    assert_eq!(
        table(&full(), false, true),
        "\
NAME   MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS   TCP_CONN   READ_BYTES/SEC   WRITE_BYTES/SEC                               NO_TLS_REASON
idle      0/1         -        -             -             -             -     -          -                -                 -                                           -
web       1/2    90.00%   1.0rps           1ms           2ms           3ms   75%          7         100.0B/s            1.5B/s   peer_sent_plaintext (10), off_cluster (5)
"
    );
}

#[test]
fn the_document_has_null_where_there_was_no_traffic() {
    assert_eq!(
        json(&full()),
        r#"[
  {
    "namespace": "emojivoto",
    "kind": "deployment",
    "name": "idle",
    "meshed": "0/1",
    "success": null,
    "rps": null,
    "latency_ms_p50": null,
    "latency_ms_p95": null,
    "latency_ms_p99": null,
    "tls": null,
    "no_tls_reasons": null,
    "tcp_open_connections": null,
    "tcp_no_tls_reasons": null,
    "tcp_read_bytes_rate": null,
    "tcp_write_bytes_rate": null
  },
  {
    "namespace": "emojivoto",
    "kind": "deployment",
    "name": "web",
    "meshed": "1/2",
    "success": 0.9,
    "rps": 1.0,
    "latency_ms_p50": 1,
    "latency_ms_p95": 2,
    "latency_ms_p99": 3,
    "tls": 0.75,
    "no_tls_reasons": {
      "off_cluster": 5,
      "peer_sent_plaintext": 10
    },
    "tcp_open_connections": 7,
    "tcp_no_tls_reasons": {
      "peer_sent_plaintext": 2
    },
    "tcp_read_bytes_rate": 100.0,
    "tcp_write_bytes_rate": 1.5
  }
]
"#
    );
}

#[test]
fn rates_are_of_as_much_of_the_window_as_was_seen() {
    let seen_for = |time_window: &str| pod_group::Row {
        time_window: time_window.to_owned(),
        ..with_stats(row(DEPLOYMENT, "ns", "web"), [60, 0, 0], [1; 3])
    };
    let window = Duration::from_secs(3600);
    for (time_window, rate, seconds) in [
        ("30s", "2.0rps", Some(30)),
        ("1h", "0.0rps", None),
        ("2h", "0.0rps", None),
        ("", "0.0rps", None),
        ("soon", "0.0rps", None),
    ] {
        let rows = || vec![vec![seen_for(time_window)]];
        let shown = table(&answer_over(window, rows()), false, false);
        assert!(shown.contains(rate), "{time_window}: {shown}");
        let found = seen(&answered(rows()), window).map(|it| it.as_secs());
        assert_eq!(found, seconds, "{time_window}");
    }
}

#[test]
fn no_requests_have_no_shares_in_the_document() {
    let quiet = with_stats(row(DEPLOYMENT, "ns", "quiet"), [0; 3], [0; 3]);
    let rows: serde_json::Value =
        serde_json::from_str(&json(&answer(vec![vec![quiet]]))).expect("a document");
    assert_eq!(rows[0]["rps"], 0.0);
    for share in ["success", "tls", "latency_ms_p99"] {
        assert!(rows[0][share].is_null(), "{rows:#}");
    }
}

#[test]
fn a_row_of_an_unknown_type_is_an_error() {
    let group = PodGroup {
        rows: vec![row("node", "", "a")],
    };
    let answer = StatTable {
        table: Some(stat_table::Table::PodGroup(group)),
    };
    assert!(tables(vec![answer], Duration::from_secs(60)).is_err());
}

#[test]
fn pods_have_the_status_that_kubectl_shows() {
    let pod = |name, status: &str| pod_group::Row {
        status: status.to_owned(),
        ..with_pods(row(POD, "ns", name), 1, 1)
    };
    let rows = vec![
        with_stats(pod("web-1", "Running"), [60, 0, 60], [1, 2, 3]),
        pod("web-2", "CrashLoopBackOff"),
    ];
    let tables = answer(vec![
        rows,
        vec![with_pods(row(DEPLOYMENT, "ns", "web"), 2, 2)],
    ]);
    expect_test::expect![[r#"
        NAME         STATUS             MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99    TLS
        po/web-1     Running               1/1   100.00%   1.0rps           1ms           2ms           3ms   100%
        po/web-2     CrashLoopBackOff      1/1         -        -             -             -             -      -

        NAME         MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS
        deploy/web      2/2         -     -             -             -             -     -
    "#]]
    .assert_eq(&table(&tables, false, false));
    let rows: serde_json::Value = serde_json::from_str(&json(&tables)).expect("JSON");
    assert_eq!(rows[1]["status"], "CrashLoopBackOff");
    assert_eq!(rows[2].get("status"), None);
}

#[test]
fn what_clients_ask_for_steers_no_terminal_and_keeps_its_column() {
    let rows = vec![
        row("authority", "shop", "\u{1b}[2J\u{202e}"),
        row("authority", "shop", "web:80"),
    ];
    let tables = answer(vec![rows]);
    expect_test::expect![[r#"
        NAME                MESHED   SUCCESS   RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TLS
        \u{1b}[2J\u{202e}        -         -     -             -             -             -     -
        web:80                   -         -     -             -             -             -     -
    "#]]
    .assert_eq(&table(&tables, false, false));
    assert!(json(&tables).contains(r#""name": "\u001b[2J\u202e""#));
}
