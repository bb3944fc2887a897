//! The ports: how many connections and questions there are at once, and when connections end.

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request, routing::get};
use futures::future::join_all;
use linkerd_api::{ApiService, Cluster, Metrics, Prometheus, dashboard, serve_grpc, serve_http};
use linkerd_proto::public::{
    Empty, ListPodsRequest, SelfCheckRequest, api_client::ApiClient, api_server::Api as _,
};
use support::{closed_url, kubernetes, service};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::ServiceExt as _;

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

fn api(prometheus: &str) -> ApiService {
    let prometheus = Prometheus::new(prometheus).expect("a URL");
    let metrics = Metrics::Prometheus(Box::new(prometheus));
    service(Arc::new(Cluster::default()), metrics, kubernetes())
}

/// The gRPC port, until the token is cancelled.
async fn grpc() -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let served = serve_grpc(listener, api(&closed_url()), shutdown.clone());
    (address, shutdown, tokio::spawn(served))
}

#[tokio::test]
async fn grpc_is_answered_until_the_shutdown_whatever_a_silent_client_does() {
    let (address, shutdown, server) = grpc().await;
    let client = ApiClient::connect(format!("http://{address}")).await;
    let mut client = client.expect("listening");
    let version = client.version(Empty {}).await.expect("an answer");
    assert!(!version.into_inner().release_version.is_empty());
    let _silent = TcpStream::connect(address).await.expect("listening");
    client.version(Empty {}).await.expect("an answer");
    tokio::time::pause();
    shutdown.cancel();
    let ended = timeout(Duration::from_secs(6), server).await;
    ended.expect("within the drain").expect("no panic");
}

#[tokio::test]
async fn one_address_takes_no_more_than_its_share_of_connections() {
    let (grpc, _shutdown, _server) = grpc().await;
    let (page, _of_page, _page) = page().await;
    for server in [grpc, page.peer_addr().expect("open")] {
        let mut open = Vec::new();
        for _ in 0..17 {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(([127, 0, 0, 2], 0).into()).expect("loopback");
            open.push(socket.connect(server).await.expect("listening"));
        }
        let mut one_too_many = open.pop().expect("17 connections");
        let end = timeout(Duration::from_secs(10), one_too_many.read_u8()).await;
        assert!(end.expect("closed at once").is_err(), "{server}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_and_commands_share_the_questions_that_are_under_way() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let api = api(&format!("http://{}", silent.local_addr().expect("bound")));
    let list = || api.list_pods(tonic::Request::new(ListPodsRequest::default()));
    let others = async {
        let page = Request::get("/api/edges").header("host", "localhost");
        let page = page.body(Body::empty()).expect("valid");
        let page = dashboard(api.clone())
            .oneshot(page)
            .await
            .expect("answered");
        assert_eq!(page.status(), 429);
        let command = list().await.map(drop);
        assert_eq!(
            command.map_err(|it| it.code()),
            Err(Code::ResourceExhausted)
        );
        let check = tonic::Request::new(SelfCheckRequest::default());
        let check = api.self_check(check).await.map(drop);
        assert_eq!(check.map_err(|it| it.code()), Err(Code::ResourceExhausted));
    };
    tokio::select! {
        // First of all these begin.
        biased;
        _ = join_all((0..16).map(|_| list())) => panic!("nobody answers them"),
        () = others => {}
    }
}

#[tokio::test]
async fn who_connects_for_grpc_and_never_asks_is_left() {
    let (address, _shutdown, _server) = grpc().await;
    let mut silent = TcpStream::connect(address).await.expect("listening");
    let client = ApiClient::connect(format!("http://{address}")).await;
    let version = client.expect("listening").version(Empty {}).await;
    version.expect("an answer");
    tokio::time::pause();
    let mut said = Vec::new();
    let end = timeout(Duration::from_secs(6 * 60), silent.read_to_end(&mut said)).await;
    end.expect("closed").ok();
}
