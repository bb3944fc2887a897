//! HTTP/1: connections that become something else, and those that were asked to and do not.

use crate::talk::{OK, Peer, Talk, on_each_way};

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const CONNECT: &str = "CONNECT db.ns:5432 HTTP/1.1\r\nHost: db.ns:5432\r\n\r\n";
const ESTABLISHED: &str = "HTTP/1.1 200 Connection Established\r\n\r\n";

/// Both ends after an upgrade.
async fn upgraded(talk: &mut Talk) -> (Peer, Peer) {
    let (mut client, mut server) = talk.open(UPGRADE).await;
    server.head().await;
    server.send(SWITCH).await;
    client.head().await;
    (client, server)
}

#[tokio::test]
async fn an_upgrade_goes_on_with_its_headers_and_then_bytes_both_ways() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(UPGRADE).await;
        let request = server.request().await;
        assert_eq!(request.value("upgrade"), Some("websocket"));
        assert_eq!(
            request.value("connection").map(str::to_ascii_lowercase),
            Some("upgrade".to_owned())
        );
        server.send(SWITCH).await;
        let response = client.response("GET").await;
        assert_eq!(response.status(), 101);
        assert_eq!(response.value("upgrade"), Some("websocket"));
        assert_eq!(
            response.value("connection").map(str::to_ascii_lowercase),
            Some("upgrade".to_owned())
        );
        for text in ["\x00\x01", "GET / HTTP/1.1\r\n\r\n", "last"] {
            client.send(text).await;
            server.expect(text).await;
            server.send(text).await;
            client.expect(text).await;
        }
        client.finish().await;
        server.ends().await;
        server.send("after the end").await;
        drop(server);
        client.expect("after the end").await;
        client.ends().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_may_end_its_side_of_an_upgraded_connection_first() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = upgraded(&mut talk).await;
        server.finish().await;
        client.ends().await;
        client.send("after the end").await;
        server.expect("after the end").await;
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_an_upgrade_request_arrive_behind_the_answer() {
    on_each_way(async |mut talk| {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut client, mut server) = talk.open([UPGRADE, smuggled].concat()).await;
        server.head().await;
        server.send([SWITCH, "hello"].concat()).await;
        client.head().await;
        client.expect("hello").await;
        server.expect(smuggled).await;
        server.send("bye").await;
        client.expect("bye").await;
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_leaves_http() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(UPGRADE).await;
        server.request().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
            .await;
        assert_eq!(client.response("GET").await.body, b"no");
        client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let request = talk.request(&mut server).await;
        assert_eq!(request.line, "GET /next HTTP/1.1");
    })
    .await;
}

#[tokio::test]
async fn connect_opens_a_tunnel_for_what_was_sent_with_it_too() {
    on_each_way(async |mut talk| {
        let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut client, mut server) = talk.open([CONNECT, early].concat()).await;
        assert_eq!(server.head().await, CONNECT);
        server.send([ESTABLISHED, "hello"].concat()).await;
        assert_eq!(client.response("CONNECT").await.status(), 200);
        client.expect("hello").await;
        server.expect(early).await;
        client.finish().await;
        server.ends().await;
        server.send("bye").await;
        drop(server);
        client.expect("bye").await;
        client.ends().await;
    })
    .await;
}

#[tokio::test]
async fn connect_may_be_refused() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(CONNECT).await;
        server.head().await;
        server
            .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            .await;
        let response = client.response("CONNECT").await;
        assert_eq!((response.status(), &response.body[..]), (403, &b"no"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_broken_tunnel_is_broken_on_its_other_side() {
    on_each_way(async |mut talk| {
        let (client, mut server) = upgraded(&mut talk).await;
        client.reset();
        server.rest().await;
        let (mut client, server) = upgraded(&mut talk).await;
        server.reset();
        client.rest().await;
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_to_http2_is_the_servers_to_grant() {
    on_each_way(async |mut talk| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
            Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        let (mut client, mut server) = talk.open(request).await;
        server.request().await;
        server.send(OK).await;
        assert_eq!(client.response("GET").await.body, b"ok");

        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.send(request).await;
        talk.request(&mut server).await;
        server
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
            .await;
        assert_eq!(client.response("GET").await.status(), 101);
        client.send(preface).await;
        server.expect(preface).await;
        drop(server);
        client.ends().await;
    })
    .await;
}
