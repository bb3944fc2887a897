//! HTTP/1: who goes away, and when.

use std::collections::HashMap;

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    common::PATIENCE,
    message::{self, Stop},
    talk::{End, OK, Peer, Talk, Way, get, on_each_way, pause},
};

/// Asserts that the response that has begun is never taken for a whole one.
async fn is_broken(mut client: Peer) {
    let (bytes, end) = client.rest().await;
    let whole = message::response(&bytes, "GET", end == End::Clean);
    assert!(
        matches!(whole, Err(Stop::Incomplete)),
        "{whole:?} of {} and {end:?}",
        bytes.escape_ascii()
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    on_each_way(async |mut talk| {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n500\r\nbegun",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n0\r\nX-Trailer: 1\r\n",
        ] {
            for reset in [false, true] {
                let (mut client, mut server) = talk.open(get("/")).await;
                server.request().await;
                server.send(head).await;
                // What was said before a reset may be lost; the answer has begun.
                assert_eq!(client.more().await, None);
                if reset {
                    server.reset();
                } else {
                    drop(server);
                }
                is_broken(client).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_without_framing_that_breaks_off_is_not_taken_for_a_whole_one() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(get("/")).await;
        server.request().await;
        server.send("HTTP/1.1 200 OK\r\n\r\nbegun").await;
        assert_eq!(client.more().await, None);
        server.reset();
        let (bytes, end) = client.rest().await;
        let is_whole = end == End::Clean && message::response(&bytes, "GET", true).is_ok();
        assert!(!is_whole, "{}", bytes.escape_ascii());
    })
    .await;
}

#[tokio::test]
async fn a_server_that_ends_without_an_answer_is_an_error_of_the_proxy() {
    on_each_way(async |mut talk| {
        for begun in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
            let (mut client, mut server) = talk.open(get("/")).await;
            server.request().await;
            server.send(begun).await;
            drop(server);
            assert_eq!(client.response("GET").await.status(), 502);
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_learns_that_its_client_went_away_amid_the_answer() {
    on_each_way(async |mut talk| {
        for reset in [false, true] {
            let (mut client, mut server) = talk.open(get("/")).await;
            server.request().await;
            server
                .send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
                .await;
            client.head().await;
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            let gone = async { while server.stream.write_all(&[0; 10_000]).await.is_ok() {} };
            timeout(PATIENCE, gone).await.unwrap();
        }
    })
    .await;
}

/// A server that has nothing to say for long: a long poll, a stream of events.
#[tokio::test]
async fn a_silent_server_learns_that_its_client_went_away() {
    on_each_way(async |mut talk| {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n",
            "HTTP/1.1 200 OK\r\n\r\nevent",
        ] {
            for reset in [false, true] {
                let (mut client, mut server) = talk.open(get("/events")).await;
                server.request().await;
                server.send(answer).await;
                if !answer.is_empty() {
                    while !client.seen.windows(5).any(|window| window == b"event") {
                        assert_eq!(client.more().await, None);
                    }
                }
                if reset {
                    client.reset();
                } else {
                    drop(client);
                }
                let (bytes, _) = server.rest().await;
                assert!(bytes.is_empty(), "{}", bytes.escape_ascii());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_comes_behind_a_request_amid_its_answer_is_kept() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(get("/1")).await;
        server.request().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
            .await;
        client.head().await;
        client.send(get("/2")).await;
        client.finish().await;
        pause().await;
        // The end belongs behind the second request.
        server.send("lf").await;
        client.expect("half").await;
        assert_eq!(talk.request(&mut server).await.line, "GET /2 HTTP/1.1");
        assert_eq!(server.more().await, Some(End::Clean));
        server.send(OK).await;
        assert_eq!(client.response("GET").await.body, b"ok");
        client.ends().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_learns_that_its_client_went_away_amid_the_request() {
    on_each_way(async |mut talk| {
        for begun in [
            "Content-Length: 100\r\n\r\nbegun",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        ] {
            for reset in [false, true] {
                let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{begun}");
                let (client, mut server) = talk.open(request).await;
                server.head().await;
                while !server.seen.windows(5).any(|window| window == b"begun") {
                    assert_eq!(server.more().await, None);
                }
                if reset {
                    client.reset();
                } else {
                    drop(client);
                }
                let (bytes, _) = server.rest().await;
                assert!(!bytes.ends_with(b"0\r\n\r\n"), "{}", bytes.escape_ascii());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_its_server_has_closed_is_not_used_again() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(get("/1")).await;
        server.request().await;
        server.send(OK).await;
        assert_eq!(client.response("GET").await.body, b"ok");
        let (proxy, connection) = match talk.way {
            Way::Outbound => (&talk.mesh.client, "peer_not_meshed"),
            Way::Both | Way::Inbound => (&talk.mesh.server, "direction=\"inbound\""),
        };
        drop(server);
        let open = ["tcp_open_connections", "peer=\"dst\"", connection];
        let closed = async { while proxy.metric(&open).await != Some(0.0) {} };
        timeout(PATIENCE, closed).await.expect("it is noticed");
        // Not even a request that must not be sent twice fails.
        client
            .send("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            .await;
        let mut server = talk.server().await;
        assert_eq!(server.request().await.body, b"x");
        server.send(OK).await;
        assert_eq!(client.response("POST").await.body, b"ok");
    })
    .await;
}

/// A server that closes after its answer, while the next request is already under way.
#[tokio::test]
async fn no_request_is_sent_twice_to_a_server_that_closes_under_its_hands() {
    for way in [Way::Both, Way::Outbound, Way::Inbound] {
        let mut talk = Talk::start(way).await;
        let mut client = talk.client().await;
        let mut heard: HashMap<String, usize> = HashMap::new();
        let (tell, mut told) = tokio::sync::mpsc::channel(1000);
        let entrance = talk.entrance;
        let requests = tokio::spawn(async move {
            for n in 0..200 {
                client
                    .send(format!(
                        "POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                    ))
                    .await;
                let status = client.response("POST").await.status();
                tell.send((format!("/{n}"), status)).await.unwrap();
            }
            entrance
        });
        let serve = async {
            loop {
                let mut server = talk.server().await;
                let request = server.request().await;
                *heard.entry(request.line).or_default() += 1;
                server.send(OK).await;
            }
        };
        tokio::select! {
            () = serve => {}
            done = requests => { done.unwrap(); }
        }
        assert!(heard.values().all(|n| *n == 1), "{way:?}: {heard:?}");
        while let Ok((path, status)) = told.try_recv() {
            let heard = heard.contains_key(&format!("POST {path} HTTP/1.1"));
            assert!(
                status == 502 || (status == 200 && heard),
                "{way:?} {path} {status}"
            );
        }
    }
}
