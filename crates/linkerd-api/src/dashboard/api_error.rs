//! What the dashboard's routes under `/api/` say where they have no answer. Entry: [`as_json`].
//! Not every one of these answers is ours: a method that is not allowed, or a path that cannot be read, the
//! router has refused.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use serde_json::json;

/// Refusals are sentences.
const TEXT_BYTES_MAX: usize = 4096;

/// Makes `{"error": "why"}` of every answer under `/api/` that is none.
pub(super) async fn as_json(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = path == "/api" || path.starts_with("/api/");
    let response = next.run(request).await;
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|it| it == "application/json");
    if !is_api || is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let text = to_bytes(body, TEXT_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let why = match text.trim() {
        "" => status.canonical_reason().unwrap_or("refused"),
        text => text,
    };
    let json = json!({ "error": why }).to_string();
    head.headers.remove(header::CONTENT_LENGTH);
    let content_type = HeaderValue::from_static("application/json");
    head.headers.insert(header::CONTENT_TYPE, content_type);
    Response::from_parts(head, Body::from(json))
}
