//! A cluster for tests: one namespace `shop`, one Deployment `web`, and a webhook that asks them.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod api_server;

use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use kube::{Client, client::Body};
use linkerd_inject::{Options, options::TlsMode};
use linkerd_injector::{
    cluster::Cluster, events::Report, judge::Judge, metrics::Metrics, webhook::Webhook,
};
use linkerd_process::render_metrics;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A webhook, and what it leaves behind.
pub(crate) struct Bench {
    pub(crate) webhook: Webhook,
    pub(crate) events: mpsc::Receiver<Report>,
    pub(crate) metrics: Metrics,
    registry: Registry,
}

impl Bench {
    /// A cluster whose namespace `shop` has these annotations.
    pub(crate) fn new(namespace_annotations: Value) -> Self {
        Self::with(move |path| match path {
            "/api/v1/namespaces/shop" => Some(json!({
                "metadata": {"name": "shop", "annotations": namespace_annotations},
            })),
            "/apis/apps/v1/namespaces/shop/replicasets/web-5d4f" => Some(json!({
                "metadata": {
                    "name": "web-5d4f", "namespace": "shop",
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d",
                        "controller": true,
                    }],
                },
            })),
            _ => None,
        })
    }

    /// A cluster that answers like this; none is an error of the server.
    pub(crate) fn with(answer: impl Fn(&str) -> Option<Value> + Send + Sync + 'static) -> Self {
        let answer = std::sync::Arc::new(answer);
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(respond(answer(request.uri().path()))) }
        });
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (sender, events) = mpsc::channel(8);
        let webhook = Webhook {
            judge: Judge {
                cluster: Cluster::new(Client::new(service, "default")),
                options: options(),
            },
            metrics: metrics.clone(),
            events: sender,
        };
        Self {
            webhook,
            events,
            metrics,
            registry,
        }
    }

    /// The answer to a review, as the API server reads it.
    pub(crate) async fn review(&self, review: &Value) -> Value {
        let body = serde_json::to_vec(review).expect("json");
        let answer = self.webhook.review(&body).await.expect("a review");
        let answer = serde_json::to_value(&answer).expect("json");
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = &answer["response"];
        assert_eq!(response["uid"], review["request"]["uid"]);
        assert_eq!(response["allowed"], true, "a pod is never stopped");
        response.clone()
    }

    /// The pod after the answer's patch; none when there is no patch.
    pub(crate) async fn pod_after(&self, review: &Value) -> Option<Value> {
        let response = self.review(review).await;
        // Kube writes the bytes as numbers; the API server takes that like base64.
        let patch = response.get("patch")?;
        assert_eq!(response["patchType"], "JSONPatch");
        let patch: Vec<u8> = serde_json::from_value(patch.clone()).expect("bytes");
        let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
        let mut pod = review["request"]["object"].clone();
        json_patch::patch(&mut pod, &patch).expect("it fits");
        Some(pod)
    }

    /// Whether `/metrics` has this line.
    pub(crate) fn has_metric(&self, line: &str) -> bool {
        render_metrics(&self.registry)
            .lines()
            .any(|found| found == line)
    }
}

/// What pods get.
pub(crate) fn options() -> Options {
    Options {
        tls: TlsMode::Optional,
        ..Options::default()
    }
}

fn respond(answer: Option<Value>) -> Response<Body> {
    let (status, body) = match answer {
        Some(body) => (StatusCode::OK, body),
        None => (
            StatusCode::FORBIDDEN,
            json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "forbidden",
                "reason": "Forbidden", "code": 403,
            }),
        ),
    };
    let body = serde_json::to_vec(&body).expect("json");
    Response::builder()
        .status(status)
        .body(Body::from(body))
        .expect("a response")
}

/// A pod of the Deployment `web`, as the API server sends it.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-5d4f-", "namespace": "shop",
            "creationTimestamp": null,
            "labels": {"app": "web", "pod-template-hash": "5d4f"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "r",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "containers": [{
                "name": "app", "image": "shop/web:1",
                "aFieldOfTomorrow": {"kept": [1, 2.5, "3"]},
            }],
            "volumes": [{"name": "kube-api-access", "projected": {"sources": []}}],
        },
        "status": {},
    })
}

/// The question whether `pod` may be created.
pub(crate) fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}
