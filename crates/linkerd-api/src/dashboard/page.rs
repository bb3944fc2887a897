//! The page's files, embedded when this crate was compiled. Entries: [`index`], [`asset`].
//! `cargo xtask dashboard` builds them into `dashboard/dist`. Without them the program compiles as well, and
//! says on its page how to get them.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use include_dir::{Dir, include_dir};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../dashboard/dist");

/// Shown by a program that was compiled without the page's files.
const NOT_BUILT: &str = "<!doctype html><html lang=en><title>Linkerd dashboard</title>\
    <h1>This page was not built</h1><p>linkerd-api was compiled without the dashboard's page. Build it with \
    <code>cargo xtask dashboard</code>, which needs Node 20 and npm, and then linkerd-api again. \
    The figures are there all the same: <a href=/api/overview>/api/overview</a>, \
    <a href=/api/edges>/api/edges</a>.";

/// The page. Which part of it is shown the page decides by its URL.
pub(super) async fn index() -> Response {
    match FILES.get_file("index.html") {
        Some(file) => Html(file.contents()).into_response(),
        None => (StatusCode::NOT_IMPLEMENTED, Html(NOT_BUILT)).into_response(),
    }
}

/// A script or style of the page.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let content_type = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => return not_found().await,
    };
    match FILES.get_file(format!("assets/{name}")) {
        Some(file) => ([(header::CONTENT_TYPE, content_type)], file.contents()).into_response(),
        None => not_found().await,
    }
}

/// The answer to every other path.
pub(super) async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "There is no such page.\n").into_response()
}
