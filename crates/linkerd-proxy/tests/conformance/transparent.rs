//! What other proxies change on the way and ours does not.

use crate::talk::{End, OK, get, on_each_way};

#[tokio::test]
async fn http_1_0_with_keep_alive_stays_open() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        on_each_way(async |mut talk| {
            let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
            let (mut client, mut server) = talk.open(request).await;
            server.request().await;
            let head = "200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
            server.send(format!("{version} {head}")).await;
            let response = client.response("GET").await;
            assert_eq!(response.body, b"ok");
            let connection = response.value("connection").unwrap_or_default();
            assert!(
                connection.eq_ignore_ascii_case("keep-alive"),
                "{response:?}"
            );
            client.send(get("/next")).await;
            let next = talk.request(&mut server).await;
            assert_eq!(next.line, "GET /next HTTP/1.1");
        })
        .await;
    }
}

#[tokio::test]
async fn a_304_keeps_the_length_it_tells() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        client.send(get("/")).await;
        server.request().await;
        server
            .send("HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n")
            .await;
        assert_eq!(
            client.response("GET").await.value("content-length"),
            Some("1234")
        );
    })
    .await;
}

#[tokio::test]
async fn informational_answers_go_on() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        client.send(get("/")).await;
        server.request().await;
        server
            .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
            .await;
        let hints = client.any_response("GET").await;
        assert_eq!(
            (hints.status(), hints.value("link")),
            (103, Some("</a.css>; rel=preload"))
        );
        server.send("HTTP/1.1 102 Processing\r\n\r\n").await;
        assert_eq!(client.any_response("GET").await.status(), 102);
        server.send(OK).await;
        assert_eq!(client.any_response("GET").await.body, b"ok");
    })
    .await;
}

#[tokio::test]
async fn only_the_server_says_continue() {
    on_each_way(async |mut talk| {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        server.head().await;
        server
            .send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
            .await;
        assert_eq!(client.any_response("PUT").await.status(), 417);
    })
    .await;
}

#[tokio::test]
async fn an_early_answer_arrives_although_its_server_closes_at_once() {
    on_each_way(async |mut talk| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        server.head().await;
        client.send(vec![0; 50_000]).await;
        server
            .send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
            .await;
        server.finish().await;
        let response = client.response("POST").await;
        assert_eq!((response.status(), &response.body[..]), (413, &b"no"[..]));
    })
    .await;
}

#[tokio::test]
async fn trailers_need_no_announcement() {
    on_each_way(async |mut talk| {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n";
        let (mut client, mut server) = talk.open(request).await;
        let request = server.request().await;
        assert_eq!(request.trailers, [("X-Sum".to_owned(), b"1".to_vec())]);
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nX-Check: 2\r\n\r\n").await;
        let response = client.response("POST").await;
        assert_eq!(response.trailers, [("X-Check".to_owned(), b"2".to_vec())]);
    })
    .await;
}

#[tokio::test]
async fn a_head_may_have_a_thousand_lines() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        let lines: String = (0..1000).map(|n| format!("X-{n}: {n}\r\n")).collect();
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
            .await;
        assert_eq!(server.request().await.headers.len(), 1001);
        server
            .send(format!(
                "HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response("GET").await.headers.len(), 1001);
    })
    .await;
}

#[tokio::test]
async fn headers_keep_their_exact_order() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        let lines = "Cookie: a=1\r\nX-Id: 7\r\ncookie: b=2\r\nAccept: x\r\nCOOKIE: c=3\r\n";
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
            .await;
        assert_eq!(
            server.head().await,
            format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
        );
        server
            .send(format!(
                "HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(
            client.head().await,
            format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n")
        );
    })
    .await;
}

#[tokio::test]
async fn the_reset_of_a_tunnel_is_a_reset() {
    on_each_way(async |mut talk| {
        let (client, mut server) = talk
            .open("CONNECT db.ns:5432 HTTP/1.1\r\nHost: db.ns:5432\r\n\r\n")
            .await;
        server.head().await;
        server.send("HTTP/1.1 200 OK\r\n\r\n").await;
        let mut client = client;
        client.head().await;
        client.reset();
        assert_eq!(server.rest().await, (Vec::new(), End::Reset));
    })
    .await;
}
