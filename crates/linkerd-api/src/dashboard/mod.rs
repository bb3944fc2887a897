//! The dashboard: a page, and what it asks for as JSON. Entry: [`dashboard`].
//! Read only. It asks the same questions as the CLI does, and knows nothing of how they are answered. Only a port-forward reaches it, so who may see it Kubernetes has decided.

mod api_error;
mod certificates;
mod graph;
mod guard;
mod overview;
mod page;
mod past;
mod pods;

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::json;
use tonic::{Code, Status};

use crate::ApiService;

/// Longer than any answer takes; Prometheus has given up by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What the routes share.
#[derive(Clone)]
struct Dashboard {
    service: ApiService,
}

/// A question without an answer: a status code, and `{"error": "why"}`.
struct Failure(Status);

/// Which control plane answers.
#[derive(Serialize)]
struct Version {
    version: &'static str,
    control_plane_namespace: String,
}

/// Serves the page and `/api/...`, to whoever names the server by `localhost` or by an address.
pub fn dashboard(service: ApiService) -> Router {
    let page = get(page::index);
    Router::new()
        .route("/", page.clone())
        .route("/graph", page.clone())
        .route("/unencrypted", page.clone())
        .route("/namespaces/{namespace}", page.clone())
        .route("/namespaces/{namespace}/{kind}/{name}", page)
        .route("/assets/{file}", get(page::asset))
        .route("/api/version", get(version))
        .route("/api/overview", get(overview))
        .route("/api/edges", get(edges))
        .route("/api/pods/{namespace}", get(pods::pods))
        .route(
            "/api/certificates/{namespace}",
            get(certificates::certificates),
        )
        .route("/api/history", get(past::all))
        .route(
            "/api/history/{namespace}/{kind}/{name}",
            get(past::of_workload),
        )
        .fallback(page::not_found)
        .layer(middleware::from_fn(guard::guard))
        .layer(middleware::from_fn(api_error::as_json))
        .with_state(Dashboard { service })
}

async fn version(State(dashboard): State<Dashboard>) -> Json<Version> {
    Json(Version {
        version: linkerd_names::VERSION,
        control_plane_namespace: dashboard.service.control_plane_namespace,
    })
}

async fn overview(State(dashboard): State<Dashboard>) -> Result<Json<overview::Overview>, Failure> {
    let question = overview::overview(&dashboard.service);
    dashboard.answer(question).await
}

async fn edges(State(dashboard): State<Dashboard>) -> Result<Json<graph::Graph>, Failure> {
    let question = graph::graph(&dashboard.service);
    dashboard.answer(question).await
}

impl Dashboard {
    /// Waits for an answer, but not for ever, and with a bound on the questions under way.
    async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, Status>>,
    ) -> Result<Json<T>, Failure> {
        let _turn = self.service.questions.turn().await.map_err(Failure)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, question).await {
            Ok(Ok(answer)) => Ok(Json(answer)),
            Ok(Err(status)) => Err(Failure(status)),
            Err(_) => {
                let late = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                Err(Failure(Status::deadline_exceeded(late)))
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status) = self;
        let code = match status.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, Json(json!({ "error": status.message() }))).into_response()
    }
}
