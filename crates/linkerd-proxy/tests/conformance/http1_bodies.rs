//! HTTP/1: bodies, and messages that have none.

use crate::talk::{End, Peer, Talk, get, on_each_way, pause};

/// Larger than every buffer on the way.
const LARGE_BYTES: usize = 8 << 20;

/// A client and a server that has heard its request, which had no body.
async fn asked(talk: &mut Talk, method: &str) -> (Peer, Peer) {
    let head = format!("{method} / HTTP/1.1\r\nHost: web.ns\r\n\r\n");
    let (client, mut server) = talk.open(head).await;
    server.request().await;
    (client, server)
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test]
async fn bodies_with_a_length_arrive_both_ways() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        for length in [0, 1, 4095, 70_000] {
            let body = pattern(length);
            let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            client.send([head.as_bytes(), &body].concat()).await;
            let request = server.request().await;
            assert_eq!(request.body, body);
            assert_eq!(request.value("content-length"), Some(&*length.to_string()));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            server.send([head.as_bytes(), &body].concat()).await;
            let response = client.response("PUT").await;
            assert_eq!(response.body, body);
            assert_eq!(response.value("content-length"), Some(&*length.to_string()));
        }
    })
    .await;
}

#[tokio::test]
async fn chunks_arrive_both_ways_as_they_come() {
    on_each_way(async |mut talk| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        assert!(server.head().await.starts_with("POST / HTTP/1.1\r\n"));
        // Each is heard before the next is said: nobody waits for a whole body.
        for text in ["one", "two", "three"] {
            client.send(format!("{:x}\r\n{text}\r\n", text.len())).await;
            server
                .expect(format!("{:x}\r\n{text}\r\n", text.len()))
                .await;
        }
        client.send("0\r\n\r\n").await;
        server.expect("0\r\n\r\n").await;
        server
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        for text in ["four", "five"] {
            server.send(format!("4\r\n{text}\r\n")).await;
            client.expect(format!("4\r\n{text}\r\n")).await;
        }
        server.send("0\r\n\r\n").await;
        client.expect("0\r\n\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn chunk_sizes_may_have_extensions_and_zeros_and_either_case() {
    on_each_way(async |mut talk| {
        let chunks = "0003;name=value\r\nabc\r\nA;flag\r\n0123456789\r\na;q=\"x\"\r\n9876543210\r\n000\r\n\r\n";
        let body = b"abc01234567899876543210";
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (mut client, mut server) = talk.open([head, chunks].concat()).await;
        assert_eq!(server.request().await.body, body);
        server.send(["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks].concat()).await;
        assert_eq!(client.response("POST").await.body, body);
    })
    .await;
}

#[tokio::test]
async fn trailers_arrive_both_ways() {
    on_each_way(async |mut talk| {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\n\
            Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n";
        let (mut client, mut server) = talk.open(request).await;
        let request = server.request().await;
        assert_eq!(request.body, b"a");
        let [(name, value)] = &request.trailers[..] else {
            panic!("{request:?}");
        };
        assert_eq!((&*name.to_ascii_lowercase(), &value[..]), ("x-sum", &b"1"[..]));
        server.send("HTTP/1.1 200 OK\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n\
            1\r\nb\r\n0\r\nX-Check: 2\r\n\r\n").await;
        let response = client.response("POST").await;
        assert_eq!(response.body, b"b");
        let [(name, value)] = &response.trailers[..] else {
            panic!("{response:?}");
        };
        assert_eq!((&*name.to_ascii_lowercase(), &value[..]), ("x-check", &b"2"[..]));
    })
    .await;
}

#[tokio::test]
async fn trailers_may_be_many_and_come_byte_by_byte() {
    let lines = |n: usize| (0..n).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    on_each_way(async |mut talk| {
        let mut client = talk.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for byte in ["1\r\na\r\n0\r\n", &lines(3), "\r\n", &get("/next")]
            .concat()
            .bytes()
        {
            client.send([byte]).await;
        }
        let mut server = talk.server().await;
        assert_eq!(server.request().await.trailers.len(), 3);
        server
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            .await;
        server.send([&lines(500), "\r\n"].concat()).await;
        assert_eq!(client.response("POST").await.trailers.len(), 500);
        // Without trailers the end is an empty line, which may come in pieces too.
        assert_eq!(talk.request(&mut server).await.line, "GET /next HTTP/1.1");
        server
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            .await;
        for byte in "\r\n".bytes() {
            pause().await;
            server.send([byte]).await;
        }
        assert_eq!(client.response("GET").await.body, b"");
    })
    .await;
}

#[tokio::test]
async fn large_bodies_pass_each_other() {
    let body = pattern(LARGE_BYTES);
    let chunks = [
        format!("{LARGE_BYTES:x}\r\n").as_bytes(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    for (framing, framed) in [
        (format!("Content-Length: {LARGE_BYTES}"), &body),
        ("Transfer-Encoding: chunked".to_owned(), &chunks),
    ] {
        on_each_way(async |mut talk| {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let (mut client, mut server) = talk.open(head).await;
            server.head().await;
            // The server answers before it has read: both bodies are under way at once.
            server
                .send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))
                .await;
            client.head().await;
            let (one, other) = tokio::join!(exchange(client, framed), exchange(server, framed));
            assert!(one == body && other == body);
        })
        .await;
    }
}

/// Sends a framed body while the other's is read; returns that one without its framing.
async fn exchange(peer: Peer, framed: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Peer { stream, mut seen } = peer;
    let (mut read, mut write) = stream.into_split();
    let send = async { write.write_all(framed).await.unwrap() };
    let receive = async {
        loop {
            if !framed.ends_with(b"0\r\n\r\n") {
                if seen.len() == LARGE_BYTES {
                    return seen;
                }
            } else if seen.ends_with(b"\r\n0\r\n\r\n") {
                return unchunked(&seen);
            }
            assert_ne!(read.read_buf(&mut seen).await.unwrap(), 0);
        }
    };
    let both = async { tokio::join!(send, receive) };
    let ((), body) = tokio::time::timeout(crate::common::PATIENCE, both)
        .await
        .unwrap();
    body
}

fn unchunked(bytes: &[u8]) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let message = crate::message::response(&[head, bytes].concat(), "GET", true);
    message.unwrap().0.body
}

#[tokio::test]
async fn a_length_may_be_told_where_no_body_follows() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified")] {
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            server.request().await;
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n");
            server.send(head).await;
            let response = client.response(method).await;
            let length = response.value("content-length");
            // hyper drops that of a 304, which says nothing new.
            let may_lack = method == "GET" && length.is_none();
            assert!(may_lack || length == Some("1234"), "{response:?}");
        }
        // The next message is not taken for a body.
        client.send(get("/next")).await;
        tokio::spawn(server.answer_with_paths());
        assert_eq!(client.response("GET").await.body, b"/next");
    })
    .await;
}

#[tokio::test]
async fn an_answer_to_head_may_be_chunked() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = asked(&mut talk, "HEAD").await;
        server
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        assert_eq!(client.response("HEAD").await.status(), 200);
        client.send(get("/next")).await;
        tokio::spawn(server.answer_with_paths());
        assert_eq!(client.response("GET").await.body, b"/next");
    })
    .await;
}

#[tokio::test]
async fn no_content_is_no_content() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        for head in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
        ] {
            client.send(get("/")).await;
            server.request().await;
            server.send(head).await;
            let response = client.response("GET").await;
            assert_eq!(response.body, b"");
            assert_eq!(response.value("transfer-encoding"), None, "{response:?}");
        }
        client.send(get("/next")).await;
        tokio::spawn(server.answer_with_paths());
        assert_eq!(client.response("GET").await.body, b"/next");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_arrives_whole() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = asked(&mut talk, "GET").await;
        let body = pattern(100_000);
        server
            .send([b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat())
            .await;
        drop(server);
        assert_eq!(client.response("GET").await.body, body);

        let (mut client, mut server) = talk.open("GET / HTTP/1.0\r\n\r\n").await;
        server.request().await;
        server
            .send([b"HTTP/1.0 200 OK\r\n\r\n", &body[..]].concat())
            .await;
        drop(server);
        assert_eq!(client.response("GET").await.body, body);
        client.ends().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_with_get_may_have_a_body() {
    on_each_way(async |mut talk| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nquery";
        let (mut client, mut server) = talk.open(request).await;
        assert_eq!(server.request().await.body, b"query");
        server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.response("GET").await.status(), 204);
    })
    .await;
}

#[tokio::test]
async fn who_expects_100_continue_gets_it_and_then_the_answer() {
    on_each_way(async |mut talk| {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        let head = server.head().await.to_ascii_lowercase();
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.any_response("PUT").await.status(), 100);
        client.send("body").await;
        server.expect("body").await;
        server
            .send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert_eq!(client.any_response("PUT").await.status(), 201);
    })
    .await;
}

#[tokio::test]
async fn who_expects_100_continue_may_be_refused_at_once() {
    on_each_way(async |mut talk| {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        server.head().await;
        server
            .send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
            .await;
        let response = client.response("PUT").await;
        assert_eq!((response.status(), &response.body[..]), (417, &b"no"[..]));
    })
    .await;
}

#[tokio::test]
async fn who_expects_100_continue_may_lose_patience() {
    on_each_way(async |mut talk| {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        server.head().await;
        client.send("body").await;
        server.expect("body").await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.response("PUT").await.body, b"ok");
    })
    .await;
}

#[tokio::test]
async fn informational_answers_come_before_the_answer() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = asked(&mut talk, "GET").await;
        server
            .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
            .await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.response("GET").await.body, b"ok");
    })
    .await;
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    on_each_way(async |mut talk| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        let (mut client, mut server) = talk.open(head).await;
        server.head().await;
        client.send(vec![0; 50_000]).await;
        server
            .send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
            .await;
        let response = client.response("POST").await;
        assert_eq!((response.status(), &response.body[..]), (413, &b"no"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_client_may_end_its_side_and_still_hear_the_answer() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = asked(&mut talk, "GET").await;
        client.finish().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir")
            .await;
        pause().await;
        server.send("st!").await;
        assert_eq!(client.response("GET").await.body, b"first!");
        assert_eq!(client.rest().await, (Vec::new(), End::Clean));
    })
    .await;
}
