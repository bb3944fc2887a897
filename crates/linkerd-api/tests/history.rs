//! The whole way without Prometheus: proxies that are asked for their metrics, the history, gRPC.

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use linkerd_api::{Cluster, History, Metrics, Pod, SERIES_MAX_DEFAULT};
use linkerd_proto::public::{
    CheckResult, CheckStatus, EdgesRequest, ListPodsRequest, Resource, ResourceSelection,
    SelfCheckRequest, StatSummaryRequest, api_client::ApiClient,
};
use prometheus_client::registry::Registry;
use support::{kubernetes, serve};
use tokio::net::TcpListener;
use tonic::{Code, transport::Channel};

/// What the proxy of `web` says: one peer over mutual TLS, with two open connections.
const WEB: &str = r#"# TYPE response_total counter
response_total{direction="outbound",dst_namespace="shop",dst_pod="db-1",tls="true",classification="success"} 7
tcp_open_total{direction="outbound",peer="dst",dst_namespace="shop",dst_pod="db-1",tls="true"} 3
tcp_open_connections{direction="outbound",peer="dst",dst_namespace="shop",dst_pod="db-1",tls="true"} 2
process_start_time_seconds 1795921200.5
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
    let history = History::new(SERIES_MAX_DEFAULT, &mut Registry::default());
    let (followed, following) = (cluster.clone(), history.clone());
    // Ends with the test's runtime.
    tokio::spawn(async move { following.follow(&followed, "linkerd").await });
    serve(cluster, Metrics::History(history), kubernetes()).await
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
    client.stat_summary(stat("1h")).await.expect("an hour");
}

#[tokio::test]
async fn proxies_that_do_not_answer_are_told_of() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let mut client = api(address).await;
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
