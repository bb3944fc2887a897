//! Clients that begin and do not go on: each is ended or handed on within a limit of the proxy, and
//! many of them hold up nobody.

use std::time::Duration;

use linkerd_proxy::{Config, Limits};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::timeout,
};

use crate::{
    common::{Authority, PATIENCE, Running, client_hello, config, identity, start, with_tls},
    h2talk::{END_STREAM, HEADERS, frame, get_head},
    talk::{End, OK, Peer, get, on_each_way},
};

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(100);
/// What a client of HTTP/2 says first.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HALF_HEAD: &str = "GET / HTTP/1.1\r\nHost: web.ns\r\nX-Ha";
const HALF_PREFACE: &str = "PRI * HTTP/2.0\r\n\r\n";

/// A server's proxy with other limits, and the application behind it.
async fn limited(change: impl FnOnce(&mut Limits)) -> (Running, TcpListener, Authority) {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let authority = Authority::new();
    let mut config = Config {
        inbound_forward: Some(listener.local_addr().unwrap()),
        ..with_tls(config(), &authority.issue("server"), &identity("server"))
    };
    change(&mut config.limits);
    let server = start(config);
    server.ready().await;
    (server, listener, authority)
}

async fn accepted(listener: &TcpListener) -> Peer {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    Peer::new(stream)
}

#[tokio::test]
async fn half_a_head_is_ended() {
    let (server, _app, _authority) = limited(|limits| limits.h1_partial_head_timeout = SHORT).await;
    let mut client = Peer::connect(server.inbound).await;
    client.send(HALF_HEAD).await;
    let (answer, _) = client.rest().await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        answer.escape_ascii()
    );
}

#[tokio::test]
async fn a_head_in_two_pieces_has_its_time_however_long_the_client_was_silent_before() {
    let (server, app, _authority) =
        limited(|limits| limits.h1_partial_head_timeout = 10 * SHORT).await;
    let mut client = Peer::connect(server.inbound).await;
    client.send(get("/1")).await;
    let mut application = accepted(&app).await;
    application.request().await;
    application.send(OK).await;
    assert_eq!(client.response("GET").await.body, b"ok");
    tokio::spawn(application.answer_with_paths());
    tokio::spawn(async move { accepted(&app).await.answer_with_paths().await });
    tokio::time::sleep(12 * SHORT).await;
    client.send(HALF_HEAD).await;
    tokio::time::sleep(SHORT).await;
    client.send("lf: 1\r\n\r\n").await;
    assert_eq!(client.response("GET").await.body, b"/");
}

#[tokio::test]
async fn a_client_of_http2_that_answers_nothing_is_ended() {
    let (server, _app, _authority) = limited(|limits| {
        limits.h2_ping_interval = SHORT;
        limits.h2_ping_timeout = SHORT;
    })
    .await;
    for begun in ["", "half a frame"] {
        let mut client = Peer::connect(server.inbound).await;
        client
            .send([PREFACE.as_bytes(), &frame(4, 0, 0, &[])].concat())
            .await;
        if !begun.is_empty() {
            client
                .send(&frame(HEADERS, END_STREAM, 1, &get_head())[..12])
                .await;
        }
        client.rest().await;
    }
}

#[tokio::test]
async fn half_a_preface_of_http2_is_for_the_application_to_judge() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(HALF_PREFACE).await;
        server.expect(HALF_PREFACE).await;
        drop(server);
        assert_eq!(client.rest().await, (Vec::new(), End::Clean));
    })
    .await;
}

#[tokio::test]
async fn half_a_client_hello_is_for_the_application_to_judge() {
    let (server, app, _authority) = limited(|limits| limits.client_hello_timeout = SHORT).await;
    let hello = client_hello("shop.example.com");
    let mut client = Peer::connect(server.inbound).await;
    client.send(&hello[..100]).await;
    let mut application = accepted(&app).await;
    application.expect(&hello[..100]).await;
    application.send("no").await;
    client.expect("no").await;
}

#[tokio::test]
async fn a_handshake_that_stops_is_ended() {
    let (server, _app, _authority) = limited(|limits| limits.accept_timeout = SHORT).await;
    let mut client = Peer::connect(server.inbound).await;
    client.send(client_hello(identity("server").as_str())).await;
    let (answer, _) = client.rest().await;
    assert_eq!(answer[..3], [22, 3, 3], "it was answered");
}

#[tokio::test]
async fn many_that_do_not_go_on_hold_up_nobody() {
    on_each_way(async |mut talk| {
        let hello = client_hello("shop.example.com");
        let begun = [
            HALF_HEAD.as_bytes(),
            HALF_PREFACE.as_bytes(),
            PREFACE.as_bytes(),
            &hello[..100],
            b"GET /",
            b"",
        ];
        let mut crowd = Vec::new();
        for n in 0..240 {
            let mut client = talk.client().await;
            client.send(begun[n % begun.len()]).await;
            crowd.push(client);
        }
        let mut client = talk.client().await;
        client.send(get("/through-the-crowd")).await;
        // Some of the crowd are heard by the server too.
        loop {
            let mut server = talk.server().await;
            assert_eq!(server.more().await, None);
            if server.seen.starts_with(b"GET /through") {
                server.send(OK).await;
                break;
            }
            tokio::spawn(async move { server.rest().await });
        }
        assert_eq!(client.response("GET").await.body, b"ok");
    })
    .await;
}

#[tokio::test]
async fn one_address_cannot_keep_the_others_from_the_metrics_port() {
    let (server, _app, _authority) = limited(|_| {}).await;
    let mut crowd = Vec::new();
    let mut refused = loop {
        let peer = Peer::connect(server.admin).await;
        let closed = timeout(SHORT, peer.stream.readable()).await;
        match closed {
            Ok(_) => break peer,
            Err(_) => crowd.push(peer),
        }
        assert!(crowd.len() < 100);
    };
    assert_eq!(refused.rest().await.0, b"");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let mut other = Peer::new(socket.connect(server.admin).await.unwrap());
    other.send(get("/metrics")).await;
    assert_eq!(other.response("GET").await.status(), 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let (server, app, _authority) = limited(|limits| limits.connections_max = 2).await;
    let mut first = Peer::connect(server.inbound).await;
    first.send("\0first").await;
    accepted(&app).await.expect("\0first").await;
    let mut second = Peer::connect(server.inbound).await;
    second.send("\0second").await;
    let mut serving_second = accepted(&app).await;
    serving_second.expect("\0second").await;
    let mut third = Peer::connect(server.inbound).await;
    third.send("\0third").await;
    drop((second, serving_second));
    accepted(&app).await.expect("\0third").await;
}
