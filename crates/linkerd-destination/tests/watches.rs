//! What is asked of the Kubernetes API, and when the process counts as ready.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::stream;
use http::{Request, Response, StatusCode, header::ACCEPT};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use kube::{Client, client::Body};
use linkerd_destination::{cluster::Sizes, index::Index, metrics::Metrics, watch::watch_cluster};
use linkerd_process::Readiness;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tokio::{sync::Notify, time::error::Elapsed};

type Bytes = hyper::body::Bytes;

/// An API server with one object of each kind, whose list of Jobs waits for a permit.
#[derive(Default)]
struct ApiServer {
    requests: Mutex<Vec<String>>,
    jobs_permitted: AtomicBool,
    jobs_refused: AtomicUsize,
    job_asked: Notify,
}

impl ApiServer {
    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let response = server.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        Client::new(service, "default")
    }

    fn respond(&self, request: &Request<Body>) -> Response<BoxBody<Bytes, Infallible>> {
        let query = request.uri().query().unwrap_or_default();
        if query.contains("watch=true") {
            return Response::new(StreamBody::new(stream::pending()).boxed());
        }
        let path = request.uri().path();
        let accept = request
            .headers()
            .get(ACCEPT)
            .map_or("", |value| value.to_str().unwrap());
        let metadata_only = if accept.contains("PartialObjectMetadata") {
            " metadata only"
        } else {
            ""
        };
        let selector = query
            .split('&')
            .find(|part| part.starts_with("labelSelector"));
        let selector = selector
            .map(|selector| format!(" {selector}"))
            .unwrap_or_default();
        self.requests
            .lock()
            .unwrap()
            .push(format!("{path}{selector}{metadata_only}"));

        let (status, body) =
            if path.ends_with("/jobs") && !self.jobs_permitted.load(Ordering::SeqCst) {
                self.jobs_refused.fetch_add(1, Ordering::SeqCst);
                self.job_asked.notify_one();
                (StatusCode::FORBIDDEN, refusal())
            } else {
                (StatusCode::OK, list_of_one())
            };
        let body = Full::new(Bytes::from(body.to_string())).boxed();
        Response::builder().status(status).body(body).unwrap()
    }
}

fn list_of_one() -> Value {
    json!({
        "kind": "List",
        "apiVersion": "v1",
        "metadata": { "resourceVersion": "1" },
        "items": [{ "metadata": { "name": "a", "namespace": "ns", "resourceVersion": "1" },
                    "addressType": "IPv4", "endpoints": [] }],
    })
}

fn refusal() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403,
        "reason": "Forbidden", "message": "jobs.batch is forbidden",
    })
}

/// Of the paused clock: passes in no time when nothing else happens.
async fn within_a_minute<T>(event: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::time::timeout(Duration::from_secs(60), event).await
}

fn metrics_text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn the_process_is_ready_only_when_every_kind_has_been_listed() {
    let server = Arc::new(ApiServer::default());
    let index = Index::new("linkerd");
    let mut registry = Registry::default();
    let metrics = Metrics::register(&index, &mut registry);
    let readiness = Readiness::default();
    let watches = watch_cluster(server.client(), index.clone(), metrics, readiness.clone());
    let watches = tokio::spawn(watches);

    let refused = async {
        while server.jobs_refused.load(Ordering::SeqCst) < 3 {
            server.job_asked.notified().await;
        }
    };
    within_a_minute(refused).await.unwrap();
    let one_of_each = Sizes {
        services: 1,
        slices: 1,
        pods: 1,
        nodes: 1,
        links: 1,
    };
    assert_eq!(index.sizes(), one_of_each);
    assert!(!readiness.is_ready());
    let complete = within_a_minute(index.wait_complete()).await;
    assert!(complete.is_err(), "complete without the Jobs");
    let text = metrics_text(&registry);
    assert!(
        !text.contains("destination_watch_errors_total{kind=\"jobs\"} 0"),
        "{text}"
    );
    assert!(
        text.contains("destination_watch_errors_total{kind=\"pods\"} 0"),
        "{text}"
    );

    server.jobs_permitted.store(true, Ordering::SeqCst);
    within_a_minute(index.wait_complete()).await.unwrap();
    tokio::task::yield_now().await;
    assert!(readiness.is_ready());
    assert_eq!(
        index.sizes(),
        Sizes {
            links: 2,
            ..one_of_each
        }
    );
    assert!(!watches.is_finished());
    watches.abort();

    let mut asked = server.requests.lock().unwrap().clone();
    asked.sort();
    asked.dedup();
    assert_eq!(
        asked,
        [
            "/api/v1/nodes",
            "/api/v1/pods",
            "/api/v1/services",
            "/apis/apps/v1/replicasets metadata only",
            "/apis/batch/v1/jobs metadata only",
            "/apis/discovery.k8s.io/v1/endpointslices labelSelector=kubernetes.io%2Fservice-name",
        ]
    );
}
