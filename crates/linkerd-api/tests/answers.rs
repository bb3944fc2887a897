//! The whole way of an answer: gRPC client, service, HTTP, a Prometheus that says what the test wants.

mod support;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request, routing::get};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use linkerd_api::{Cluster, Pod, Workload};
use linkerd_proto::public::{
    BasicStats, CheckStatus, Empty, Resource, ResourceSelection, SelfCheckRequest,
    StatSummaryRequest, TcpStats,
    api_client::ApiClient,
    stat_summary_request::Outbound,
    stat_summary_response::Response,
    stat_table::{Table, pod_group::Row},
};
use serde_json::{Value, json};
use support::{FakePrometheus, api, series, vector};
use tokio::net::TcpListener;
use tonic::{Code, transport::Channel};

const NO_PEER: Outbound = Outbound::None(Empty {});

fn resource(kind: &str, namespace: &str, name: &str) -> Resource {
    Resource {
        namespace: namespace.into(),
        r#type: kind.into(),
        name: name.into(),
    }
}

fn request(target: Resource, outbound: Outbound) -> StatSummaryRequest {
    StatSummaryRequest {
        selector: Some(ResourceSelection {
            resource: Some(target),
            label_selector: String::new(),
        }),
        time_window: "1m".into(),
        outbound: Some(outbound),
        tcp_stats: false,
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

/// A running pod of `app`, meshed by this control plane or not at all.
fn pod(app: &str, meshed: bool) -> Pod {
    let mut pod = Pod {
        phase: "Running".into(),
        ..Pod::default()
    };
    pod.labels.insert("app".into(), app.into());
    if meshed {
        pod.labels
            .insert("linkerd.io/control-plane-ns".into(), "linkerd".into());
    }
    pod
}

/// Deployment web with one meshed, one other and one failed pod; deployment idle without pods.
fn cluster() -> Arc<Cluster> {
    let cluster = Cluster::default();
    cluster
        .namespaces
        .insert(key("", "emojivoto"), Workload::default());
    for name in ["web", "idle"] {
        let labels = [("app".to_owned(), name.to_owned())].into();
        let workload = Workload::by_labels(ObjectMeta::default(), Some(labels));
        cluster.deployments.insert(key("emojivoto", name), workload);
    }
    cluster
        .pods
        .insert(key("emojivoto", "web-1"), pod("web", true));
    cluster
        .pods
        .insert(key("emojivoto", "web-2"), pod("web", false));
    cluster.pods.insert(
        key("emojivoto", "web-3"),
        Pod {
            phase: "Failed".into(),
            ..pod("web", true)
        },
    );
    Arc::new(cluster)
}

async fn rows(client: &mut ApiClient<Channel>, request: StatSummaryRequest) -> Vec<Row> {
    let answer = client.stat_summary(request).await.expect("an answer");
    let answer = answer.into_inner();
    let Some(Response::Ok(ok)) = answer.response else {
        panic!("not ok: {answer:?}")
    };
    let tables = ok.stat_tables.into_iter().filter_map(|table| table.table);
    tables
        .flat_map(|Table::PodGroup(group)| group.rows)
        .collect()
}

#[tokio::test]
async fn a_row_joins_figures_with_pods() {
    let labels = |more: &[(&str, &str)]| {
        let mut labels = vec![("namespace", "emojivoto"), ("deployment", "web")];
        labels.extend(more);
        labels
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect::<Vec<_>>()
    };
    let prometheus = FakePrometheus::start(move |query| {
        if query.starts_with("sum(increase(response_total{") {
            let success = ("classification", "success");
            let plain = [
                success,
                ("tls", "no_proxy_tls"),
                ("no_tls_reason", "peer_sent_plaintext"),
            ];
            return vector(&[
                series(&labels(&[success, ("tls", "true")]), "90.4"),
                series(&labels(&plain), "9.4"),
                series(
                    &labels(&[("classification", "failure"), ("tls", "true")]),
                    "20.2",
                ),
            ]);
        }
        match query.split_once(", sum(irate(response_latency_ms_bucket{") {
            Some(("histogram_quantile(0.5", _)) => vector(&[series(&labels(&[]), "0.5")]),
            Some(("histogram_quantile(0.95", _)) => vector(&[series(&labels(&[]), "NaN")]),
            Some(("histogram_quantile(0.99", _)) => vector(&[series(&labels(&[]), "9.6")]),
            _ => panic!("unexpected question: {query}"),
        }
    })
    .await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let request = request(resource("deployment", "emojivoto", ""), NO_PEER);
    let rows = rows(&mut client, request).await;
    let names: Vec<_> = rows
        .iter()
        .map(|row| row.resource.clone().expect("set").name)
        .collect();
    assert_eq!(names, ["idle", "web"]);
    assert_eq!((&rows[0].stats, rows[0].running_pod_count), (&None, 0));
    let web = &rows[1];
    let counts = (
        web.meshed_pod_count,
        web.running_pod_count,
        web.failed_pod_count,
    );
    assert_eq!(counts, (1, 2, 1));
    assert_eq!(
        web.stats,
        Some(BasicStats {
            success_count: 100,
            failure_count: 20,
            latency_ms_p50: 1,
            latency_ms_p95: 0,
            latency_ms_p99: 10,
            tls_request_count: 111,
            no_tls_reasons: [("peer_sent_plaintext".to_owned(), 9)].into(),
        })
    );
}

#[tokio::test]
async fn all_is_tls_where_nothing_was_plaintext_however_it_is_rounded() {
    let prometheus = FakePrometheus::start(|query| {
        let labels = |classification: &str| {
            [
                ("namespace", "emojivoto"),
                ("deployment", "web"),
                ("classification", classification),
                ("tls", "true"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        if !query.starts_with("sum(") {
            return vector(&[]);
        }
        vector(&[
            series(&labels("success"), "43.5"),
            series(&labels("failure"), "7.5"),
        ])
    })
    .await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let request = request(resource("deployment", "emojivoto", "web"), NO_PEER);
    let rows = rows(&mut client, request).await;
    let stats = rows[0].stats.clone().expect("traffic");
    let counts = (
        stats.success_count,
        stats.failure_count,
        stats.tls_request_count,
    );
    assert_eq!(counts, (43, 8, 51));
}

#[tokio::test]
async fn requests_that_reached_no_endpoint_are_neither_tls_nor_plaintext() {
    let prometheus = FakePrometheus::start(|query| {
        if !query.starts_with("sum(") {
            return vector(&[]);
        }
        let labels = |more: &[(&str, &str)]| {
            let row = [("dst_namespace", "emojivoto"), ("dst_service", "web-svc")];
            let all: Vec<_> = row.iter().chain(more).collect();
            all.into_iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<Vec<_>>()
        };
        vector(&[
            series(&labels(&[("classification", "failure")]), "37.4"),
            series(
                &labels(&[("classification", "success"), ("tls", "true")]),
                "10.4",
            ),
        ])
    })
    .await;
    let shop = cluster();
    let service = ("emojivoto".to_owned(), "web-svc".to_owned());
    shop.services.insert(service, Workload::default());
    let mut client = api(shop, &prometheus.url()).await;
    let request = request(resource("service", "emojivoto", "web-svc"), NO_PEER);
    let rows = rows(&mut client, request).await;
    let stats = rows[0].stats.clone().expect("traffic");
    let counts = (
        stats.success_count,
        stats.failure_count,
        stats.tls_request_count,
    );
    assert_eq!(counts, (11, 37, 11));
    assert_eq!(stats.no_tls_reasons, [("not_sent".to_owned(), 37)].into());
}

#[tokio::test]
async fn rows_from_a_peer_are_those_with_traffic_and_the_right_name() {
    let prometheus = FakePrometheus::start(|query| {
        if !query.starts_with("sum(") {
            return vector(&[]);
        }
        let labels = |name: &str| {
            [("dst_namespace", "emojivoto"), ("dst_deployment", name)]
                .into_iter()
                .chain([("classification", "success"), ("tls", "true")])
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect::<Vec<_>>()
        };
        vector(&[series(&labels("web"), "5"), series(&labels("gone"), "5")])
    })
    .await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let from = || Outbound::FromResource(resource("pod", "emojivoto", "web-1"));
    for (name, expected) in [("", &["web"][..]), ("idle", &[])] {
        let request = request(resource("deployment", "emojivoto", name), from());
        let rows = rows(&mut client, request).await;
        let names: Vec<_> = rows
            .into_iter()
            .filter_map(|row| Some(row.resource?.name))
            .collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn rare_requests_have_the_latency_of_the_whole_window() {
    let prometheus = FakePrometheus::start(|query| {
        let labels = [
            ("namespace", "emojivoto"),
            ("deployment", "web"),
            ("classification", "success"),
            ("tls", "true"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        match query {
            q if q.starts_with("sum(") => vector(&[series(&labels, "3")]),
            q if q.contains("sum(irate(") => vector(&[series(&labels, "NaN")]),
            q if q.contains("sum(rate(") => vector(&[series(&labels, "7")]),
            q => panic!("unexpected question: {q}"),
        }
    })
    .await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let request = request(resource("deployment", "emojivoto", "web"), NO_PEER);
    let rows = rows(&mut client, request).await;
    let stats = rows[0].stats.clone().expect("traffic");
    assert_eq!((stats.latency_ms_p50, stats.latency_ms_p99), (7, 7));
}

#[tokio::test]
async fn connections_are_counted_when_asked_for() {
    let prometheus = FakePrometheus::start(|query| {
        let labels = |tls: &str| {
            [
                ("namespace", "emojivoto"),
                ("deployment", "web"),
                ("tls", tls),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        let mut plain = labels("no_proxy_tls").to_vec();
        plain.push(("no_tls_reason".into(), "peer_sent_plaintext".into()));
        match query {
            q if q.contains("tcp_open_connections") => {
                vector(&[series(&labels("true"), "3"), series(&plain, "2")])
            }
            q if q.contains("tcp_read_bytes_total") => vector(&[series(&labels(""), "10")]),
            q if q.contains("tcp_write_bytes_total") => vector(&[series(&labels(""), "20")]),
            _ => vector(&[]),
        }
    })
    .await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let mut request = request(resource("deployment", "emojivoto", "web"), NO_PEER);
    request.tcp_stats = true;
    let rows = rows(&mut client, request).await;
    let expected = TcpStats {
        open_connections: 5,
        tls_open_connections: 3,
        read_bytes: 10,
        write_bytes: 20,
        no_tls_reasons: [("peer_sent_plaintext".to_owned(), 2)].into(),
    };
    assert_eq!(rows[0].tcp_stats, Some(expected));
}

#[tokio::test]
async fn all_has_a_table_for_each_type() {
    let prometheus = FakePrometheus::start(|_| vector(&[])).await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let request = request(resource("all", "emojivoto", ""), NO_PEER);
    let kinds: Vec<_> = rows(&mut client, request)
        .await
        .into_iter()
        .filter_map(|row| Some(row.resource?.r#type))
        .collect();
    assert_eq!(kinds, ["deployment", "deployment", "pod", "pod"]);
}

#[tokio::test]
async fn labels_select_rows() {
    let cluster = Cluster::default();
    for (name, tier) in [("web", "front"), ("db", "back")] {
        let metadata = ObjectMeta {
            labels: Some([("tier".to_owned(), tier.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let workload = Workload::by_labels(metadata, None);
        cluster.deployments.insert(key("emojivoto", name), workload);
    }
    cluster.pods.insert(key("emojivoto", "x"), pod("x", true));
    let prometheus = FakePrometheus::start(|_| vector(&[])).await;
    let mut client = api(Arc::new(cluster), &prometheus.url()).await;
    for (selector, expected) in [
        ("tier=front", &["web"][..]),
        ("tier in (front,back)", &["db", "web"]),
        ("!tier", &["x"]),
    ] {
        let mut request = request(resource("all", "emojivoto", ""), NO_PEER);
        let selection = request.selector.as_mut().expect("set");
        selection.label_selector = selector.into();
        let names: Vec<_> = rows(&mut client, request)
            .await
            .into_iter()
            .filter_map(|row| Some(row.resource?.name))
            .collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn an_unknown_object_is_not_found_and_nonsense_is_said_in_the_answer() {
    let prometheus = FakePrometheus::start(|_| vector(&[])).await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let unknown = request(resource("deployment", "emojivoto", "x"), NO_PEER);
    let status = client
        .stat_summary(unknown)
        .await
        .expect_err("nothing there");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "deployment.apps \"x\" not found")
    );
    for (peer, message) in [
        (
            Outbound::ToResource(resource("service", "emojivoto", "nope")),
            "service \"nope\" not found",
        ),
        (
            Outbound::FromResource(resource("pod", "emojivoto", "nope")),
            "pod \"nope\" not found",
        ),
        (
            Outbound::ToResource(resource("namespace", "", "nope")),
            "namespace \"nope\" not found",
        ),
    ] {
        let request = request(resource("deployment", "emojivoto", ""), peer);
        let status = client.stat_summary(request).await.expect_err("no peer");
        assert_eq!((status.code(), status.message()), (Code::NotFound, message));
    }
    // It exists, has no pod, and nobody has asked for the authority.
    for peer in [
        resource("deployment", "emojivoto", "idle"),
        resource("authority", "emojivoto", "nope:80"),
    ] {
        let peer = Outbound::ToResource(peer);
        let request = request(resource("deployment", "emojivoto", ""), peer);
        assert_eq!(rows(&mut client, request).await, []);
    }
    let nonsense = Outbound::FromResource(resource("service", "emojivoto", ""));
    let nonsense = request(resource("deployment", "emojivoto", ""), nonsense);
    let answer = client
        .stat_summary(nonsense)
        .await
        .expect("an answer")
        .into_inner();
    assert!(
        matches!(answer.response, Some(Response::Error(_))),
        "{answer:?}"
    );
    let no_type = request(resource("node", "", ""), NO_PEER);
    let status = client
        .stat_summary(no_type)
        .await
        .expect_err("no such type");
    assert_eq!(status.message(), "unimplemented resource type: node");
}

#[tokio::test]
async fn all_questions_of_stat_are_about_one_time() {
    let prometheus = FakePrometheus::start_at(|| 1_700_000_000.123, |_| vector(&[])).await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let mut request = request(resource("all", "emojivoto", ""), NO_PEER);
    request.tcp_stats = true;
    rows(&mut client, request).await;
    let times = prometheus.times();
    assert!(times.len() > 7, "{times:?}");
    let expected = Some("1699999999.623".to_owned());
    assert!(times.iter().all(|time| *time == expected), "{times:?}");
}

/// A Prometheus that takes so long for each question, but knows what time it is. Requests are so rare that latencies are asked for twice.
async fn slow(pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let labels = [
        ("namespace", "emojivoto"),
        ("deployment", "web"),
        ("classification", "success"),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (_, one) = vector(&[series(&labels, "7")]);
    let (_, none) = vector(&[]);
    let (_, time) = vector(&[series(&[], "1800000000")]);
    let answer = move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default();
        let is_count = query.contains("increase") && query.contains("response_total");
        let answer = if is_count { one.clone() } else { none.clone() };
        let time = query.starts_with("query=vector").then(|| time.clone());
        async move {
            if let Some(time) = time {
                return time;
            }
            tokio::time::sleep(pause).await;
            answer
        }
    };
    let router = Router::new().route("/api/v1/query", get(answer));
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(start_paused = true)]
async fn all_questions_together_take_no_longer_than_one_may() {
    for (seconds, in_time) in [(3, true), (4, false)] {
        let url = slow(Duration::from_secs(seconds)).await;
        let mut client = api(cluster(), &url).await;
        let begin = tokio::time::Instant::now();
        let mut request = request(resource("deployment", "emojivoto", ""), NO_PEER);
        request.tcp_stats = true;
        let answer = client.stat_summary(request).await;
        let taken = begin.elapsed().as_secs();
        if in_time {
            answer.expect("an answer");
            // Two turns.
            assert_eq!(taken, 6);
            continue;
        }
        let status = answer.expect_err("too late");
        let words = format!("Prometheus at {url} did not answer within 7s");
        assert_eq!(
            (status.code(), status.message(), taken),
            (Code::Unavailable, words.as_str(), 7)
        );
    }
}

/// A Prometheus with fields beside its answers.
async fn remarking(fields: Value) -> FakePrometheus {
    FakePrometheus::start(move |_| {
        let (status, text) = vector(&[]);
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        let fields = fields.as_object().expect("fields").clone();
        answer.as_object_mut().expect("an object").extend(fields);
        (status, answer.to_string())
    })
    .await
}

#[tokio::test]
async fn remarks_about_a_question_are_no_errors() {
    let prometheus = remarking(json!({
        "warnings": [
            "PromQL info: metric might not be a counter, name does not end in _total",
            "PromQL warning: quantile value should be between 0 and 1",
            "12 more warning annotations omitted",
        ],
        "infos": ["anything"],
        "isPartial": false,
    }))
    .await;
    let mut client = api(cluster(), &prometheus.url()).await;
    let request = request(resource("deployment", "emojivoto", ""), NO_PEER);
    assert_eq!(rows(&mut client, request).await.len(), 2);
}

#[tokio::test]
async fn a_prometheus_that_is_not_there_or_refuses_is_named() {
    let closed = support::closed_url();
    let refusing = FakePrometheus::start(|_| {
        (
            400,
            r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(),
        )
    })
    .await;
    let silent = FakePrometheus::start(|_| (502, String::new())).await;
    let broken = FakePrometheus::start(|_| (502, "<html>bad gateway".to_owned())).await;
    let foreign = FakePrometheus::start(|_| (200, "{}".to_owned())).await;
    let thanos = remarking(json!({"warnings": ["receive series from store-1: unavailable"]})).await;
    let victoria = remarking(json!({"isPartial": true})).await;
    for (url, words) in [
        (
            thanos.url(),
            "has only a part of the answer: receive series from store-1: unavailable",
        ),
        (
            victoria.url(),
            "has only a part of the answer: some of its storage did not answer (isPartial)",
        ),
        (closed, "cannot reach Prometheus at "),
        (refusing.url(), "answered 400 Bad Request: parse error"),
        (silent.url(), "answered 502 Bad Gateway, without a word"),
        (broken.url(), "answered 502 Bad Gateway: <html>bad gateway"),
        (foreign.url(), "sent an answer that is none"),
    ] {
        let mut client = api(cluster(), &url).await;
        let request = request(resource("deployment", "emojivoto", ""), NO_PEER);
        let status = client.stat_summary(request).await.expect_err("no figures");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(
            status.message().contains(words) && status.message().contains(&url),
            "{status}"
        );
        assert!(!status.message().ends_with(": "), "{status}");
        let checks = client
            .self_check(SelfCheckRequest {})
            .await
            .expect("an answer")
            .into_inner();
        let checks: Vec<_> = checks
            .results
            .iter()
            .map(|it| (it.subsystem_name.as_str(), it.status()))
            .collect();
        assert_eq!(
            checks,
            [
                ("kubernetes", CheckStatus::Ok),
                ("prometheus", CheckStatus::Error)
            ]
        );
    }
}
