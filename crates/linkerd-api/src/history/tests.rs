//! What is asked of the history as a source of metrics, whose time is its own clock's.

use std::time::UNIX_EPOCH;

use super::*;
use crate::{
    metrics::{Metrics, Snapshot},
    query::{Aggregate, Function, Metric, Part},
    targets::Target,
};

/// A time of day; milliseconds.
const START: u64 = 1_800_000_000_000;

fn history() -> History {
    History::new(100, &mut Registry::default())
}

fn target() -> Target {
    Target {
        targets: [([10, 0, 0, 1], 4191).into()],
        labels: [("pod".to_owned(), "web-1".to_owned())].into(),
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
    let hear = |at, text: &str| history.store.write().record(&target(), at, text);
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
        history.take(&target(), text(2 * n));
        let heard = millis(SystemTime::now());
        while millis(SystemTime::now()) <= heard {}
        let snapshot = metrics.snapshot().await.expect("the own clock");
        history.take(&target(), text(2 * n + 1));
        assert_eq!(open_connections(snapshot).await, [f64::from(2 * n)]);
    }
}
