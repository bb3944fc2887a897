//! A Prometheus and a Kubernetes that say what a test wants, and the service in front of them.
//! Everything on loopback.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use linkerd_api::{ApiService, Cluster, Metrics, Prometheus, Taps, serve_grpc};
use linkerd_proto::public::api_client::ApiClient;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Status and body of an answer.
pub(crate) type Answer = (u16, String);

/// The question for the time.
pub(crate) const TIME: &str = "vector(time())";

/// A server that ends with the test.
pub(crate) struct FakePrometheus {
    address: SocketAddr,
    server: JoinHandle<()>,
    /// About which time it was asked each question, as it was written.
    times: Arc<Mutex<Vec<Option<String>>>>,
}

impl FakePrometheus {
    /// Starts a server that answers each query by `answer`. It knows what time it is.
    pub(crate) async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(now, answer).await
    }

    /// As [`FakePrometheus::start`], with a clock of its own, in seconds since 1970.
    pub(crate) async fn start_at(
        clock: fn() -> f64,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(answer);
        let times: Arc<Mutex<Vec<_>>> = Arc::default();
        let asked = times.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, asked) = (answer.clone(), asked.clone());
                let service = service_fn(move |request: Request<_>| {
                    let (answer, asked) = (answer.clone(), asked.clone());
                    async move {
                        let parameters = parameters(request).await;
                        let (status, body) = match query(&parameters).as_str() {
                            TIME => vector(&[series(&[], &clock().to_string())]),
                            query => {
                                asked.lock().expect("whole").push(time(&parameters));
                                answer(query)
                            }
                        };
                        let response = Response::builder().status(status);
                        let response = response.body(Full::new(Bytes::from(body)));
                        Ok::<_, Infallible>(response.expect("valid"))
                    }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.expect("served") });
            }
        });
        Self {
            address,
            server,
            times,
        }
    }

    /// About which times it was asked since it was last asked for them.
    pub(crate) fn times(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.times.lock().expect("whole"))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FakePrometheus {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What a request asks, which is in its address, or long and a form.
async fn parameters(request: Request<Incoming>) -> String {
    let path = request.uri().path();
    assert!(
        ["/api/v1/query", "/api/v1/query_range"].contains(&path),
        "{path}"
    );
    if let Some(parameters) = request.uri().query() {
        return parameters.to_owned();
    }
    let form = request.into_body().collect().await.expect("a body");
    String::from_utf8(form.to_bytes().to_vec()).expect("UTF-8")
}

/// The question in parameters, decoded.
fn query(parameters: &str) -> String {
    let encoded = parameters.strip_prefix("query=").expect("first");
    let encoded = encoded.split('&').next().expect("a value");
    let mut bytes = Vec::new();
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().expect("hex"), rest.next().expect("hex")];
        let digits = std::str::from_utf8(&digits).expect("hex");
        bytes.push(u8::from_str_radix(digits, 16).expect("hex"));
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// The time in parameters: that of the question, or the last of several.
fn time(parameters: &str) -> Option<String> {
    let parameters = parameters.split('&');
    let mut values = parameters.filter_map(|it| it.split_once('='));
    let time = values.find(|(name, _)| ["time", "end"].contains(name));
    time.map(|(_, value)| value.to_owned())
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

/// A good answer with these series.
pub(crate) fn vector(series: &[Value]) -> Answer {
    let answer = json!({"status": "success", "data": {"resultType": "vector", "result": series}});
    (200, answer.to_string())
}

/// One series of an answer.
pub(crate) fn series(labels: &[(String, String)], value: &str) -> Value {
    let metric: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({"metric": metric, "value": [1_800_000_000.123, value]})
}

/// A good answer to a question about several times: each series has the values at the last of them.
pub(crate) fn matrix(labels: &[(String, String)], step: f64, values: &[&str]) -> Answer {
    let now = now();
    let ago = (0..values.len())
        .rev()
        .map(|steps| now - step * steps as f64);
    let values: Vec<Value> = ago
        .zip(values)
        .map(|(at, value)| json!([at, value]))
        .collect();
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let series = json!([{"metric": labels, "values": values}]);
    let answer = json!({"status": "success", "data": {"resultType": "matrix", "result": series}});
    (200, answer.to_string())
}

/// The URL of a port where nobody listens.
pub(crate) fn closed_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    format!("http://{}", listener.local_addr().expect("bound"))
}

/// A Kubernetes API that knows its version and nothing else.
pub(crate) fn kubernetes() -> kube::Client {
    kubernetes_that(|_, _, _| {
        let version = json!({
            "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        });
        (200, version.to_string())
    })
}

/// A Kubernetes API that answers method, path and body as a test wants.
pub(crate) fn kubernetes_that(
    answer: impl Fn(&str, &str, Value) -> Answer + Send + Sync + 'static,
) -> kube::Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (status, text) = answer(head.method.as_str(), head.uri.path(), body);
            let body = kube::client::Body::from(text.into_bytes());
            let response = http::Response::builder().status(status).body(body)?;
            Ok::<_, tower::BoxError>(response)
        }
    });
    kube::Client::new(service, "default")
}

/// The service, not yet served.
pub(crate) fn service(
    cluster: Arc<Cluster>,
    metrics: Metrics,
    kubernetes: kube::Client,
) -> ApiService {
    ApiService {
        cluster,
        metrics,
        kubernetes,
        control_plane_namespace: "linkerd".to_owned(),
        taps: Arc::new(Taps::default()),
        questions: Arc::default(),
    }
}

/// Serves the API over a cluster and a Prometheus, and returns a client.
pub(crate) async fn api(cluster: Arc<Cluster>, prometheus: &str) -> ApiClient<Channel> {
    api_with(cluster, prometheus, kubernetes()).await
}

/// As [`api`], with a Kubernetes API.
pub(crate) async fn api_with(
    cluster: Arc<Cluster>,
    prometheus: &str,
    kubernetes: kube::Client,
) -> ApiClient<Channel> {
    let prometheus = Prometheus::new(prometheus).expect("a URL");
    serve(
        cluster,
        Metrics::Prometheus(Box::new(prometheus)),
        kubernetes,
    )
    .await
}

/// Serves the API over a cluster and a source of metrics, and returns a client.
pub(crate) async fn serve(
    cluster: Arc<Cluster>,
    metrics: Metrics,
    kubernetes: kube::Client,
) -> ApiClient<Channel> {
    let service = service(cluster, metrics, kubernetes);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    // Ends with the test's runtime.
    tokio::spawn(serve_grpc(listener, service, CancellationToken::new()));
    ApiClient::connect(format!("http://{address}"))
        .await
        .expect("listening")
}
