//! The whole way without Prometheus: proxies that are asked for their metrics, the history, gRPC.

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request, routing::get};
use http_body_util::BodyExt as _;
use linkerd_api::{Cluster, History, Metrics, Pod, SERIES_MAX_DEFAULT, Workload, dashboard};
use linkerd_proto::public::{
    CheckResult, CheckStatus, EdgesRequest, ListPodsRequest, Resource, ResourceSelection,
    SelfCheckRequest, StatSummaryRequest, api_client::ApiClient, stat_summary_response::Response,
    stat_table::Table,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use support::{kubernetes, serve, service};
use tokio::net::TcpListener;
use tonic::{Code, transport::Channel};
use tower::ServiceExt as _;

/// What the proxy of `web` says: one peer over mutual TLS, with two open connections.
const WEB: &str = r#"# TYPE response_total counter
response_total{direction="outbound",dst_namespace="shop",dst_pod="db-1",tls="true",classification="success"} 7
tcp_open_total{direction="outbound",peer="dst",dst_namespace="shop",dst_pod="db-1",tls="true"} 3
tcp_open_connections{direction="outbound",peer="dst",dst_namespace="shop",dst_pod="db-1",tls="true"} 2
process_start_time_seconds 1795921200.5
identity_cert_expiration_timestamp_seconds 1795999999
identity_cert_renewal_timestamp_seconds 1795950000
identity_trust_anchor_expiration_timestamp_seconds{name="Root",serial="0A1B"} 2100000000
"#;

/// The proxy of a pod, which says `text`.
async fn proxy(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let router = Router::new().route("/metrics", get(move || async move { text }));
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn selection(kind: &str) -> Option<ResourceSelection> {
    Some(ResourceSelection {
        resource: Some(Resource {
            namespace: "shop".into(),
            r#type: kind.into(),
            name: String::new(),
        }),
        label_selector: String::new(),
    })
}

fn edges_request(window: &str) -> EdgesRequest {
    EdgesRequest {
        selector: selection("pod"),
        time_window: window.into(),
        other_selectors: Vec::new(),
    }
}

/// A client of a service that follows one pod, `web-1`, whose proxy is at `address`.
async fn api(address: SocketAddr) -> ApiClient<Channel> {
    let (cluster, metrics) = following(address);
    serve(cluster, metrics, kubernetes()).await
}

/// A cluster with one pod, `web-1`, whose proxy is at `address`, and the history of that.
fn following(address: SocketAddr) -> (Arc<Cluster>, Metrics) {
    let cluster = Arc::new(Cluster::default());
    let mut pod = Pod {
        phase: "Running".into(),
        ip: address.ip().to_string(),
        metrics_port: Some(address.port()),
        ..Pod::default()
    };
    let label = ("linkerd.io/control-plane-ns".into(), "linkerd".into());
    pod.labels.extend([label]);
    cluster.pods.insert(("shop".into(), "web-1".into()), pod);
    let namespace = (String::new(), "shop".to_owned());
    cluster.namespaces.insert(namespace, Workload::default());
    let history = History::new(SERIES_MAX_DEFAULT, &mut Registry::default());
    let (followed, following) = (cluster.clone(), history.clone());
    // Ends with the test's runtime.
    tokio::spawn(async move { following.follow(&followed, "linkerd").await });
    (cluster, Metrics::History(history))
}

async fn check(client: &mut ApiClient<Channel>) -> CheckResult {
    let answer = client.self_check(SelfCheckRequest {}).await;
    let results = answer.expect("an answer").into_inner().results;
    let history = results
        .into_iter()
        .find(|it| it.subsystem_name == "history");
    history.expect("a row")
}

/// Asks until the answer is there.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until_there = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), until_there).await;
    answer.expect("in time")
}

#[tokio::test]
async fn what_proxies_say_is_what_people_see() {
    let mut client = api(proxy(WEB).await).await;
    let edges = eventually(async || {
        let answer = client.edges(edges_request("10m")).await;
        let edges = answer.expect("an answer").into_inner().edges;
        (!edges.is_empty()).then_some(edges)
    })
    .await;
    let [edge] = edges.as_slice() else {
        panic!("{edges:?}");
    };
    let names = [&edge.src, &edge.dst].map(|end| end.as_ref().map(|it| it.name.as_str()));
    assert_eq!(names, [Some("web-1"), Some("db-1")]);
    let counts = (edge.responses, edge.connections, edge.open_connections);
    assert_eq!((counts, edge.tls.as_str()), ((7, 3, 2), "true"));

    let pods = client.list_pods(ListPodsRequest::default()).await;
    let pods = pods.expect("an answer").into_inner();
    assert_eq!(pods.metrics_error, "");
    assert!(pods.pods.iter().all(|pod| pod.added), "{pods:?}");
    assert_eq!(check(&mut client).await.status(), CheckStatus::Ok);
}

/// The dashboard's answer to `GET path`.
async fn page(cluster: &Arc<Cluster>, metrics: &Metrics, path: &str) -> Value {
    let service = service(cluster.clone(), metrics.clone(), kubernetes());
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Body::empty()).expect("valid");
    let answer = dashboard(service).oneshot(request).await.expect("answered");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn certificates_edges_and_the_past_need_no_prometheus() {
    let (cluster, metrics) = following(proxy(WEB).await);
    let certificates = eventually(async || {
        let certificates = page(&cluster, &metrics, "/api/certificates/shop").await;
        certificates.get("web-1").is_some().then_some(certificates)
    })
    .await;
    let anchor = json!({"name": "Root", "serial": "0A1B", "ends_at": 2_100_000_000});
    assert_eq!(
        certificates,
        json!({"web-1": {
            "ends_at": 1_795_999_999, "renewal_at": 1_795_950_000, "trust_anchor": anchor,
        }})
    );
    let graph = page(&cluster, &metrics, "/api/edges").await;
    let [edge] = graph["edges"].as_array().expect("a list").as_slice() else {
        panic!("{graph:#}");
    };
    let end = |name| json!({"namespace": "shop", "kind": "pod", "name": name});
    assert_eq!((&edge["src"], &edge["dst"]), (&end("web-1"), &end("db-1")));
    assert_eq!(edge["responses"], 7);
    // Nothing came in, and the history is some milliseconds long: there is no past yet.
    let past = page(&cluster, &metrics, "/api/history/shop/pod/web-1").await;
    assert_eq!(past, json!({"step_seconds": 60, "rows": []}));
}

#[tokio::test]
async fn longer_windows_need_prometheus_and_the_error_says_so() {
    let mut client = api(proxy("").await).await;
    let error = client.edges(edges_request("90m")).await;
    let error = error.expect_err("too long");
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(
        error.message(),
        "a window of 90m needs Prometheus: without it the control plane remembers one hour. Ask for at \
         most 1h (-t 1h), or install with `--set prometheus.enabled=true` or `--prometheus-url URL`"
    );
    let stat = |window: &str| StatSummaryRequest {
        selector: selection("pod"),
        time_window: window.into(),
        ..StatSummaryRequest::default()
    };
    let error = client.stat_summary(stat("2h")).await;
    assert_eq!(
        error.expect_err("too long").code(),
        Code::FailedPrecondition
    );
    let answer = client.stat_summary(stat("1h")).await.expect("an hour");
    // The history is as old as this test.
    let Some(Response::Ok(ok)) = answer.into_inner().response else {
        panic!("no answer");
    };
    let tables = ok.stat_tables.into_iter().filter_map(|it| it.table);
    let rows = tables.flat_map(|Table::PodGroup(group)| group.rows);
    let millis = |window: &str| -> u64 {
        let (number, unit) = match window.strip_suffix("ms") {
            Some(number) => (number, 1),
            None => (window.strip_suffix('s').expect("seconds"), 1000),
        };
        number.parse::<u64>().expect("a number") * unit
    };
    let windows: Vec<u64> = rows.map(|row| millis(&row.time_window)).collect();
    assert!(matches!(windows[..], [1_000..60_000]), "{windows:?}");
}

#[tokio::test]
async fn proxies_that_do_not_answer_are_told_of() {
    // Nobody listens there, and no other test is given the port.
    let mut client = api(SocketAddr::from(([127, 0, 0, 1], 1))).await;
    let row = eventually(async || {
        let row = check(&mut client).await;
        (row.status() != CheckStatus::Ok).then_some(row)
    })
    .await;
    let text = row.friendly_message_to_user;
    assert!(
        text.starts_with(
            "None of 1 proxies could be asked for its metrics: cannot reach 127.0.0.1:"
        ),
        "{text}"
    );
}
