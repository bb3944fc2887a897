//! What is asked of the history as a source of metrics, whose time is its own clock's.

use std::time::UNIX_EPOCH;

use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::stat_table::Table;

use super::*;
use crate::{
    Cluster, Pod,
    metrics::{Metrics, Snapshot},
    query::{Aggregate, Function, Metric, Part},
    stat_request::{self, Outbound, StatRequest, Window},
    stat_summary,
    targets::Target,
};

/// A time of day; milliseconds.
const START: u64 = 1_800_000_000_000;

fn history() -> History {
    History::new(100, &mut Registry::default())
}

fn target(pod: &str) -> Target {
    let labels = [("namespace", "shop"), ("pod", pod)];
    Target {
        targets: [([10, 0, 0, 1], 4191).into()],
        labels: labels
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// The present values of a gauge.
async fn open_connections(metrics: Snapshot<'_>) -> Vec<f64> {
    let query = Query {
        aggregate: Aggregate::Sum,
        function: Function::Latest,
        metric: Metric::OpenConnections,
        parts: vec![Part {
            selector: Default::default(),
            by: Vec::new(),
        }],
    };
    let samples = metrics.query(query).await.expect("an answer");
    samples.into_iter().map(|sample| sample.value).collect()
}

#[tokio::test]
async fn what_is_heard_after_a_snapshot_is_not_in_it() {
    let history = history();
    let metrics = Metrics::History(history.clone());
    let hear = |at, text: &str| history.store.write().record(&target("web-1"), at, text);
    hear(START, "tcp_open_connections 1");
    let before = Snapshot::of(&metrics, time(START + 5_000));
    let after = Snapshot::of(&metrics, time(START + 10_000));
    assert_eq!(open_connections(after).await, [1.0]);
    hear(START + 10_000, "tcp_open_connections 2");
    assert_eq!(open_connections(before).await, [1.0]);
    assert_eq!(open_connections(after).await, [2.0]);
    // Now the pod goes, and its proxy is asked no more.
    let none = std::collections::BTreeSet::new();
    history.store.write().set_targets(&none, START + 10_001);
    assert_eq!(open_connections(after).await, [2.0]);
    let later = Snapshot::of(&metrics, time(START + 10_001));
    assert_eq!(open_connections(later).await, [0.0; 0]);
}

#[tokio::test]
async fn a_snapshot_has_all_that_was_heard_before_it_and_nothing_more_later() {
    let history = history();
    let metrics = Metrics::History(history.clone());
    let text = |n| Ok(format!("tcp_open_connections {n}").into());
    for n in 1..200 {
        history.take(&target("web-1"), text(2 * n));
        let heard = millis(SystemTime::now());
        while millis(SystemTime::now()) <= heard {}
        let snapshot = metrics.snapshot().await.expect("the own clock");
        history.take(&target("web-1"), text(2 * n + 1));
        assert_eq!(open_connections(snapshot).await, [f64::from(2 * n)]);
    }
}

/// What a proxy says that has answered 40 requests a second for days, each of 100 bytes.
fn busy(millis: u64) -> String {
    let count = 10_000_000 + millis * 40 / 1000;
    format!(
        "response_total{{direction=\"inbound\",classification=\"success\",tls=\"true\"}} {count}\n\
         tcp_read_bytes_total{{direction=\"inbound\",peer=\"src\"}} {}\n",
        count * 100
    )
}

/// Requests and bytes a second of each pod that has any, as whoever reads the answer computes them.
async fn rates(metrics: Snapshot<'_>, pods: &[&str]) -> Vec<(String, f64, f64)> {
    let cluster = Cluster::default();
    for pod in pods {
        let running = Pod {
            phase: "Running".into(),
            ..Pod::default()
        };
        let key = ("shop".to_owned(), (*pod).to_owned());
        cluster.pods.insert(key, running);
    }
    let kind = ResourceType::Workload(OwnerKind::Pod);
    let request = StatRequest {
        target: stat_request::Target {
            kind,
            namespace: "shop".into(),
            name: String::new(),
        },
        selector: Default::default(),
        outbound: Outbound::None,
        window: Window::parse("1m").expect("a window"),
        tcp_stats: true,
    };
    let tables = stat_summary::tables(&cluster, metrics, "linkerd", &request, &[kind]).await;
    let [table] = &tables.expect("an answer")[..] else {
        panic!("one table for one type");
    };
    let Some(Table::PodGroup(group)) = &table.table else {
        panic!("no rows");
    };
    let rows = group.rows.iter().filter_map(|row| {
        let window = Window::parse(&row.time_window).expect("a window");
        let a_second = |count: u64| count as f64 / window.length.as_secs_f64();
        let requests = a_second(row.stats.as_ref()?.success_count);
        let bytes = a_second(row.tcp_stats.as_ref()?.read_bytes);
        Some((row.resource.as_ref()?.name.clone(), requests, bytes))
    });
    rows.collect()
}

#[tokio::test]
async fn rates_are_right_from_the_second_answer_of_a_proxy_on() {
    // One is heard some seconds after the others, and one does not answer at first.
    let pods = [("at-once", 40), ("later", 3_210), ("refused", 10_050)];
    let names = pods.map(|(pod, _)| pod);
    for age in (10_050..150_000).step_by(739) {
        let history = history();
        history
            .store
            .write()
            .miss(&target("refused"), START, "refused".into());
        let mut expected = Vec::new();
        for (pod, first) in pods {
            let scrapes = (first..=age).step_by(10_000);
            if scrapes.clone().count() > 1 {
                expected.push(pod);
            }
            for after in scrapes {
                let mut store = history.store.write();
                store.record(&target(pod), START + after, &busy(after));
            }
        }
        let metrics = Metrics::History(history);
        let snapshot = Snapshot::of(&metrics, time(START + age));
        let rates = rates(snapshot, &names).await;
        let found: Vec<&str> = rates.iter().map(|(pod, ..)| pod.as_str()).collect();
        assert_eq!(found, expected, "{age} ms");
        for (pod, requests, bytes) in &rates {
            let near = |rate: f64, expected: f64| (rate / expected - 1.0).abs() < 0.01;
            let right = near(*requests, 40.0) && near(*bytes, 4000.0);
            assert!(
                right,
                "{pod} after {age} ms: {requests} requests, {bytes} bytes"
            );
        }
    }
}
