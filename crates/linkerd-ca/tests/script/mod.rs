//! An API server that follows a script: it expects these calls in this order, and no other.
#![allow(dead_code, reason = "each test binary uses its part")]

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::Serialize;
use serde_json::{Value, json};
use tower_test::mock;

/// One call as the server saw it.
pub(crate) struct Call {
    /// The part after the question mark.
    pub(crate) query: String,
    /// The header; empty when there is none.
    pub(crate) content_type: String,
    /// The JSON body; null when there is none.
    pub(crate) body: Value,
}

/// What the server answers.
pub(crate) struct Answer(StatusCode, Value);

struct Step<'a> {
    method: &'static str,
    path: &'static str,
    answer: Box<dyn FnOnce(&Call) -> Answer + 'a>,
    /// Whether the call may be left out.
    is_optional: bool,
}

/// The calls that are expected, in order.
#[derive(Default)]
pub(crate) struct Script<'a>(Vec<Step<'a>>);

impl<'a> Script<'a> {
    /// A script without a call.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Expects one more call.
    pub(crate) fn expect(
        mut self,
        method: &'static str,
        path: &'static str,
        answer: impl FnOnce(&Call) -> Answer + 'a,
    ) -> Self {
        self.0.push(Step {
            method,
            path,
            answer: Box::new(answer),
            is_optional: false,
        });
        self
    }

    /// One more call, which may be left out.
    pub(crate) fn maybe(
        mut self,
        method: &'static str,
        path: &'static str,
        answer: impl FnOnce(&Call) -> Answer + 'a,
    ) -> Self {
        self.0.push(Step {
            method,
            path,
            answer: Box::new(answer),
            is_optional: true,
        });
        self
    }

    /// Runs `work` against this server, which must see exactly the calls of the script.
    pub(crate) async fn run<T>(self, work: impl AsyncFnOnce(Client) -> T) -> T {
        let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "default");
        let (result, ()) = tokio::join!(work(client), self.serve(handle));
        result
    }

    async fn serve(self, mut handle: mock::Handle<Request<Body>, Response<Body>>) {
        let mut next = None;
        for Step {
            method,
            path,
            answer,
            is_optional,
        } in self.0
        {
            if next.is_none() {
                next = handle.next_request().await;
            }
            let is_this = next.as_ref().is_some_and(|(request, _)| {
                request.method().as_str() == method && request.uri().path() == path
            });
            if is_optional && !is_this {
                continue;
            }
            let (request, reply) = next.take().unwrap_or_else(|| panic!("no {method} {path}"));
            assert_eq!(
                (request.method().as_str(), request.uri().path()),
                (method, path)
            );
            let (parts, body) = request.into_parts();
            let content_type = parts.headers.get(http::header::CONTENT_TYPE);
            let body = body.collect().await.expect("a body").to_bytes();
            let Answer(status, body) = answer(&Call {
                query: parts
                    .uri
                    .query()
                    .unwrap_or_default()
                    .trim_matches('&')
                    .to_owned(),
                content_type: content_type
                    .map(|value| value.to_str().expect("ascii").to_owned())
                    .unwrap_or_default(),
                body: match body.is_empty() {
                    true => Value::Null,
                    false => serde_json::from_slice(&body).expect("json"),
                },
            });
            let bytes = serde_json::to_vec(&body).expect("json");
            let response = Response::builder().status(status).body(Body::from(bytes));
            reply.send_response(response.expect("a response"));
        }
        let more = match next {
            Some(more) => Some(more),
            None => handle.next_request().await,
        };
        if let Some((request, _)) = more {
            panic!("not expected: {} {}", request.method(), request.uri());
        }
    }
}

/// The object was created.
pub(crate) fn created(object: &Value) -> Answer {
    Answer(StatusCode::CREATED, object.clone())
}

/// This is the object.
pub(crate) fn found(object: &impl Serialize) -> Answer {
    Answer(StatusCode::OK, serde_json::to_value(object).expect("json"))
}

/// There is none.
pub(crate) fn not_found() -> Answer {
    failure(StatusCode::NOT_FOUND, "NotFound")
}

/// There is one already, or it has changed.
pub(crate) fn conflict(reason: &str) -> Answer {
    failure(StatusCode::CONFLICT, reason)
}

/// No permission.
pub(crate) fn refused() -> Answer {
    failure(StatusCode::FORBIDDEN, "Forbidden")
}

fn failure(status: StatusCode, reason: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": reason, "code": status.as_u16(),
    });
    Answer(status, body)
}
