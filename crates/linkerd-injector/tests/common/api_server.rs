//! An API server that remembers: namespaces, pods, who has made them, and Events; it can be watched and can refuse.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::channel::mpsc;
use http::{Method, Request, Response, StatusCode, header::ACCEPT};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// Changes that a watch has not taken yet.
const CHANGES_MAX: usize = 64;

/// A piece of a watch's body.
type Chunk = Result<Frame<Bytes>, Infallible>;

/// The server; a test is its only user.
#[derive(Default)]
pub(crate) struct ApiServer(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    /// By path: `/api/v1/namespaces/shop/pods/web-1`.
    objects: BTreeMap<String, Value>,
    watches: Vec<(String, mpsc::Sender<Chunk>)>,
    /// Events by name.
    pub(crate) events: BTreeMap<String, Value>,
    /// Attempts to write one.
    pub(crate) event_calls: usize,
    /// What was asked, with the query and what is accepted.
    pub(crate) requests: Vec<String>,
    /// Requests whose path begins like this are refused.
    pub(crate) refused: Option<&'static str>,
}

impl ApiServer {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                Ok::<_, Infallible>(server.state().respond(&parts, &body))
            }
        });
        Client::new(service, "default")
    }

    /// Makes or changes a namespace.
    pub(crate) fn set_namespace(&self, name: &str, metadata: &Value) {
        let mut metadata = metadata.clone();
        metadata["name"] = json!(name);
        metadata["resourceVersion"] = json!("2");
        let path = format!("/api/v1/namespaces/{name}");
        self.state()
            .set("/api/v1/namespaces", path, json!({"metadata": metadata}));
    }

    /// Makes or changes a pod.
    pub(crate) fn set_pod(&self, mut pod: Value) {
        pod["metadata"]["resourceVersion"] = json!("2");
        let path = pod_path(&pod);
        self.state().set("/api/v1/pods", path, pod);
    }

    /// Deletes a pod.
    pub(crate) fn delete_pod(&self, pod: &Value) {
        let mut state = self.state();
        let pod = state.objects.remove(&pod_path(pod)).expect("it is there");
        state.tell("/api/v1/pods", "DELETED", &pod);
    }

    /// Makes something else: `/apis/apps/v1/namespaces/shop/replicasets/web-1`.
    pub(crate) fn set(&self, path: &str, object: Value) {
        self.state().objects.insert(path.to_owned(), object);
    }
}

impl State {
    fn set(&mut self, list: &str, path: String, object: Value) {
        self.tell(list, "MODIFIED", &object);
        self.objects.insert(path, object);
    }

    fn tell(&mut self, list: &str, change: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": change, "object": object}));
        for (watched, sender) in &mut self.watches {
            if watched == list {
                // One that is gone is not watched any more.
                drop(sender.try_send(Ok(Frame::data(Bytes::from(line.clone())))));
            }
        }
    }

    fn respond(
        &mut self,
        request: &http::request::Parts,
        body: &[u8],
    ) -> Response<BoxBody<Bytes, Infallible>> {
        let path = request.uri.path();
        let query = request.uri.query().unwrap_or_default();
        let accept = request.headers.get(ACCEPT);
        let accept = accept.and_then(|it| it.to_str().ok()).unwrap_or_default();
        self.requests.push(format!("{path}?{query} {accept}"));
        if self
            .refused
            .is_some_and(|refused| path.starts_with(refused))
        {
            return answer(StatusCode::FORBIDDEN, &status(403, "Forbidden"));
        }
        if query.contains("watch=true") {
            let (sender, changes) = mpsc::channel(CHANGES_MAX);
            self.watches.push((path.to_owned(), sender));
            return Response::new(StreamBody::new(changes).boxed());
        }
        if request.method == Method::POST {
            return self.write_event(body);
        }
        let is_item = match path {
            "/api/v1/namespaces" => |path: &str| path.matches('/').count() == 4,
            "/api/v1/pods" => |path: &str| path.contains("/pods/"),
            _ => {
                return match self.objects.get(path) {
                    Some(object) => answer(StatusCode::OK, object),
                    None => answer(StatusCode::NOT_FOUND, &status(404, "NotFound")),
                };
            }
        };
        let items = self.objects.iter().filter(|(path, _)| is_item(path));
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        answer(StatusCode::OK, &list)
    }

    fn write_event(&mut self, body: &[u8]) -> Response<BoxBody<Bytes, Infallible>> {
        self.event_calls += 1;
        let event: Value = serde_json::from_slice(body).expect("an Event");
        let name = event["metadata"]["name"].as_str().expect("a name");
        if self.events.contains_key(name) {
            return answer(StatusCode::CONFLICT, &status(409, "AlreadyExists"));
        }
        self.events.insert(name.to_owned(), event.clone());
        answer(StatusCode::CREATED, &event)
    }
}

fn pod_path(pod: &Value) -> String {
    let text = |key: &str| pod["metadata"][key].as_str().expect("a text").to_owned();
    format!(
        "/api/v1/namespaces/{}/pods/{}",
        text("namespace"),
        text("name")
    )
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason,
        "reason": reason, "code": code,
    })
}

fn answer(status: StatusCode, body: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(body.to_string())).boxed())
        .expect("a response")
}
