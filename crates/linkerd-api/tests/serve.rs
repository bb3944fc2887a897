//! The ports: when connections end.

use std::time::Duration;

use axum::{Router, routing::get};
use linkerd_api::serve_http;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A port with a page, until the token is cancelled, and a connection to it that is served.
async fn page() -> (TcpStream, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/", get(async || "the page"));
    let server = tokio::spawn(serve_http(listener, router, shutdown.clone()));
    let mut client = TcpStream::connect(address).await.expect("listening");
    client.write_all(REQUEST).await.expect("open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"the page") {
        client.read_buf(&mut answer).await.expect("an answer");
    }
    (client, shutdown, server)
}

#[tokio::test]
async fn a_shutdown_ends_the_server_while_a_client_is_half_way_through_a_request() {
    let (mut client, shutdown, server) = page().await;
    client.write_all(&REQUEST[..8]).await.expect("open");
    // No clock but the one that is set forward when nothing else happens.
    tokio::time::pause();
    shutdown.cancel();
    let ended = timeout(Duration::from_secs(6), server).await;
    ended.expect("within the drain").expect("no panic");
}

#[tokio::test]
async fn a_silent_client_is_left_after_half_a_minute() {
    let (mut client, _shutdown, _server) = page().await;
    tokio::time::pause();
    let end = timeout(Duration::from_secs(31), client.read_u8()).await;
    assert!(end.expect("closed").is_err());
}
