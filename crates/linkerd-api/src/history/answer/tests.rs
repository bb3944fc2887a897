//! What is asked, against what was scraped. Expected values are PromQL's, by hand; `prometheus.rs` has the
//! real one say the same.

use super::*;
use crate::query::{Condition, Metric};

mod prometheus;

const MINUTE: Duration = Duration::from_secs(60);
/// A time of day; milliseconds.
const START: u64 = 1_800_000_000_000;

pub(super) fn target(namespace: &str, pod: &str) -> Target {
    let labels = [("namespace", namespace), ("pod", pod)];
    Target {
        targets: [([10, 0, 0, 1], 4191).into()],
        labels: labels
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

/// A sum over series that meet the conditions.
fn query(
    function: Function,
    metric: Metric,
    by: &[&str],
    conditions: &[(&str, Condition)],
) -> Query {
    let conditions = conditions.iter();
    Query {
        aggregate: Aggregate::Sum,
        function,
        metric,
        parts: vec![Part {
            selector: conditions
                .map(|(label, it)| ((*label).to_owned(), it.clone()))
                .collect(),
            by: by.iter().map(|label| (*label).to_owned()).collect(),
        }],
    }
}

/// A store in which `pod` of namespace `ns` said these texts every ten seconds, the last one at `START`.
fn store(pods: &[(&str, &[&str])]) -> Store {
    let mut store = Store::new(1000);
    for (pod, texts) in pods {
        let ago = (0..texts.len() as u64).rev().map(|n| n * 10_000);
        for (ago, text) in ago.zip(*texts) {
            store.record(&target("ns", pod), START - ago, text);
        }
    }
    store
}

/// The answer, one `label=value,… value` each.
fn asked(store: &Store, query: &Query, now: u64) -> Vec<String> {
    let samples = answer(store, query, now).into_iter().map(|sample| {
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("{} {}", labels.join(","), sample.value)
    });
    samples.collect()
}

#[test]
fn increases_are_summed_up_by_labels() {
    let store = store(&[
        (
            "a",
            &[
                "response_total{tls=\"true\",x=\"1\"} 100\nresponse_total{tls=\"true\",x=\"2\"} 50",
                "response_total{tls=\"true\",x=\"1\"} 110\nresponse_total{tls=\"true\",x=\"2\"} 50",
                "response_total{tls=\"true\",x=\"1\"} 120\nresponse_total{tls=\"true\",x=\"2\"} 51",
            ],
        ),
        (
            "b",
            &[
                "response_total 100",
                "response_total 100",
                "response_total 104",
            ],
        ),
    ]);
    // 20, 1 and 4 in 20 s, and half of 10 s before each.
    let by_tls = query(
        Function::Increase(MINUTE),
        Metric::Responses,
        &["namespace", "tls"],
        &[],
    );
    assert_eq!(
        asked(&store, &by_tls, START),
        ["namespace=ns 5", "namespace=ns,tls=true 26.25"]
    );
    let by_pod = query(Function::Increase(MINUTE), Metric::Responses, &["pod"], &[]);
    assert_eq!(asked(&store, &by_pod, START), ["pod=a 26.25", "pod=b 5"]);
}

#[test]
fn a_label_that_is_not_there_is_empty() {
    let store = store(&[(
        "a",
        &[
            "tcp_open_connections{tls=\"x\"} 1\ntcp_open_connections{tls=\"y\"} 2\ntcp_open_connections 4",
        ],
    )]);
    for (condition, expected) in [
        (Condition::is("x"), &[" 1"][..]),
        (Condition::IsNot("x".into()), &[" 6"]),
        (Condition::is_set(), &[" 3"]),
        (Condition::is(""), &[" 4"]),
        (Condition::is("z"), &[]),
    ] {
        let conditions = [("tls", condition.clone())];
        let query = query(Function::Latest, Metric::OpenConnections, &[], &conditions);
        assert_eq!(asked(&store, &query, START), expected, "{condition:?}");
    }
}

#[test]
fn what_was_not_in_the_last_scrape_has_no_present_value() {
    let mut store = store(&[
        (
            "a",
            &[
                "tcp_open_connections{x=\"gone\"} 1\ntcp_open_connections 2",
                "tcp_open_connections 3",
            ],
        ),
        ("b", &["tcp_open_connections 5"]),
        ("c", &["tcp_open_connections 7"]),
    ]);
    let by_pod = query(Function::Latest, Metric::OpenConnections, &["pod"], &[]);
    assert_eq!(
        asked(&store, &by_pod, START),
        ["pod=a 3", "pod=b 5", "pod=c 7"]
    );
    store.miss(&target("ns", "b"), START + 10_000, "refused".into());
    let there = ["a", "b"].map(|pod| target("ns", pod));
    store.set_targets(&there.into(), START + 10_000);
    assert_eq!(asked(&store, &by_pod, START + 10_000), ["pod=a 3"]);
    assert_eq!(asked(&store, &by_pod, START + 300_000), ["pod=a 3"]);
    assert_eq!(asked(&store, &by_pod, START + 300_001), [""; 0]);
    // A window still has them.
    let most = query(
        Function::Max(MINUTE),
        Metric::OpenConnections,
        &["pod", "x"],
        &[],
    );
    assert_eq!(
        asked(&store, &most, START + 10_000),
        ["pod=a 3", "pod=a,x=gone 1", "pod=b 5", "pod=c 7"]
    );
}

#[test]
fn a_later_part_adds_the_groups_that_earlier_ones_lack() {
    let store = store(&[(
        "a",
        &[
            "tcp_open_connections{x=\"1\",y=\"a\"} 1\ntcp_open_connections{x=\"1\",y=\"b\"} 2\n\
           tcp_open_connections{x=\"2\",y=\"b\"} 4",
        ],
    )]);
    let of = |y, by: &[&str]| {
        let conditions = [("y", Condition::is(y))];
        query(Function::Latest, Metric::OpenConnections, by, &conditions)
    };
    let mut either = of("a", &["x"]);
    either.parts.extend(of("b", &["x"]).parts);
    assert_eq!(asked(&store, &either, START), ["x=1 1", "x=2 4"]);
    // Groups of other labels are others.
    either.parts.extend(of("b", &["y", "x"]).parts);
    assert_eq!(
        asked(&store, &either, START),
        ["x=1 1", "x=1,y=b 2", "x=2 4", "x=2,y=b 4"]
    );
}

#[test]
fn latencies_are_those_of_all_series_of_a_group() {
    let text = |low: u32, high: u32| {
        format!(
            "response_latency_ms_bucket{{x=\"1\",le=\"1\"}} {low}\n\
             response_latency_ms_bucket{{x=\"1\",le=\"2\"}} {high}\n\
             response_latency_ms_bucket{{x=\"1\",le=\"+Inf\"}} {high}\n\
             response_latency_ms_bucket{{le=\"1\",x=\"2\"}} 0\n\
             response_latency_ms_bucket{{le=\"2\",x=\"2\"}} {high}\n\
             response_latency_ms_bucket{{le=\"+Inf\",x=\"2\"}} {high}\n"
        )
    };
    let texts = [text(0, 0), text(10, 10), text(20, 30)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let store = store(&[("a", &texts)]);
    let latency = |function, share, by: &[&str]| {
        let query = Query {
            aggregate: Aggregate::Quantile(share),
            ..query(function, Metric::LatencyBuckets, by, &[])
        };
        asked(&store, &query, START)
    };
    // 20 up to 1 ms, 40 between that and 2 ms.
    let rate = Function::Rate(MINUTE);
    assert_eq!(latency(rate, 0.25, &["pod"]), ["pod=a 0.75"]);
    assert_eq!(latency(rate, 0.5, &["pod"]), ["pod=a 1.25"]);
    assert_eq!(latency(rate, 0.5, &["x"]), ["x=1 0.75", "x=2 1.5"]);
    // Lately 10 up to 1 ms, 30 between that and 2 ms.
    let last = Function::LastRate(MINUTE);
    assert_eq!(latency(last, 0.25, &["pod"]), ["pod=a 1"]);
    assert_eq!(latency(last, 0.625, &["pod"]), ["pod=a 1.5"]);
}

#[test]
fn a_proxy_cannot_speak_for_another_pod() {
    let store = store(&[("a", &["tcp_open_connections{pod=\"b\",namespace=\"x\"} 1"])]);
    let by_pod = query(
        Function::Latest,
        Metric::OpenConnections,
        &["namespace", "pod"],
        &[],
    );
    assert_eq!(asked(&store, &by_pod, START), ["namespace=ns,pod=a 1"]);
}
