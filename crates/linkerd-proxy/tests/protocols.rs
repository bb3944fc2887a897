//! What HTTP and TCP can do, they can do through two proxies.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{PATIENCE, SERVICE, app, config, exchange, mesh, start};
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use linkerd_proxy::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Upgrades to an echo.
async fn upgrade(mut request: Request<Incoming>) -> Response<app::Body> {
    let connect = request.method() == Method::CONNECT;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let (mut read, mut write) = tokio::io::split(&mut io);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    let mut response = Response::new(app::full(""));
    if !connect {
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        response
            .headers_mut()
            .insert("upgrade", "websocket".parse().unwrap());
    }
    response
}

/// Sends a head, reads one, then speaks through the tunnel.
async fn tunnel(head: &str, status: &str) {
    let mesh = mesh(app::http1(upgrade).await).await;
    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let conversation = async {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        for message in [b"ping one", b"ping two"] {
            client.write_all(message).await.unwrap();
            let mut echo = [0; 8];
            client.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, message);
        }
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    };
    timeout(PATIENCE, conversation).await.unwrap();
}

#[tokio::test]
async fn a_connection_can_become_a_websocket() {
    let head =
        "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    tunnel(head, "101").await;
}

#[tokio::test]
async fn connect_makes_a_tunnel() {
    tunnel(
        "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n",
        "200",
    )
    .await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let app = app::http1(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_10);
        Response::new(app::full("old"))
    })
    .await;
    let mesh = mesh(app).await;
    let answer = common::request(mesh.client.outbound, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nold"), "{answer}");
    let authority = format!("authority=\"{SERVICE}\"");
    mesh.client
        .metric_reaches(&["response_total", &authority], 1.0)
        .await;
}

#[tokio::test]
async fn chunks_and_trailers_arrive_both_ways() {
    let app = app::http1(|request: Request<Incoming>| async move {
        let sent = request.into_body().collect().await.unwrap();
        assert_eq!(sent.trailers().unwrap()["x-sum"], "3");
        assert_eq!(sent.to_bytes(), "onetwo");
        let mut response = Response::new(app::frames(&["a", "b"], &[("x-check", "ok")]));
        response
            .headers_mut()
            .insert("trailer", "x-check".parse().unwrap());
        response
    })
    .await;
    let mesh = mesh(app).await;
    let request = "POST / HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nConnection: close, TE\r\nTrailer: x-sum\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nx-sum: 3\r\n\r\n";
    let answer = common::request(mesh.client.outbound, request)
        .await
        .to_ascii_lowercase();
    assert!(
        answer.contains("\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nx-check: ok\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn heads_go_on_as_they_were_written() {
    // Shows the head as the application gets it.
    let app = app::tcp(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let length = head.len();
        let answer = format!("HTTP/1.1 200 Fine\r\nX-OdD: Yes\r\nContent-Length: {length}\r\n\r\n");
        stream
            .write_all(&[answer.as_bytes(), &head].concat())
            .await
            .unwrap();
    })
    .await;
    let mesh = mesh(app).await;
    let request = "GET http://web.ns/a%20b?c HTTP/1.1\r\nHost: web.ns\r\nX-CaSe: KePt\r\nl5d-client-id: me\r\nConnection: close\r\n\r\n";
    let answer = common::request(mesh.client.outbound, request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 Fine\r\nX-OdD: Yes\r\n"),
        "{head}"
    );
    assert!(!head.to_ascii_lowercase().contains("date:"), "{head}");
    assert_eq!(
        body,
        "GET http://web.ns/a%20b?c HTTP/1.1\r\nHost: web.ns\r\nX-CaSe: KePt\r\n\r\n"
    );
}

#[tokio::test]
async fn one_client_connection_carries_many_requests_also_pipelined() {
    let app = app::http1(|request: Request<Incoming>| async move {
        Response::new(app::full(request.uri().path()))
    })
    .await;
    let mesh = mesh(app).await;
    let requests = "GET /a HTTP/1.1\r\nHost: web\r\n\r\nHEAD /b HTTP/1.1\r\nHost: web\r\n\r\n\
        GET /c HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    let answer = common::request(mesh.client.outbound, requests).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert!(answer.ends_with("/c"), "{answer}");
    assert!(answer.contains("\r\n\r\n/aHTTP/1.1"), "{answer}");
    assert!(!answer.contains("/bHTTP"), "HEAD has no body: {answer}");
    let parts = [
        "tcp_open_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    assert_eq!(
        mesh.client.metric(&parts).await,
        Some(1.0),
        "one connection is reused"
    );
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let app = app::http1(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(app::full(std::str::from_utf8(&body).unwrap()))
    })
    .await;
    let mesh = mesh(app).await;
    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut answer = [0; 25];
    timeout(PATIENCE, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    timeout(PATIENCE, client.read_to_string(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(
        rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("body"),
        "{rest}"
    );
}

#[tokio::test]
async fn both_sides_of_a_grpc_stream_talk_at_once() {
    let app = app::http2(|request: Request<Incoming>| async move {
        // Every message comes back before the next one is sent.
        Response::new(
            request
                .into_body()
                .map_err(|error| unreachable!("{error}"))
                .boxed(),
        )
    })
    .await;
    let mesh = mesh(app).await;
    let mut client = app::http2_client(mesh.client.outbound).await;
    let (messages, receiver) = tokio::sync::mpsc::channel(1);
    let body =
        http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let request = Request::post("http://chat.ns/Talk")
        .body(BodyExt::boxed(body))
        .unwrap();
    let mut response = client.send_request(request).await.unwrap();
    for i in 0..100 {
        let text = format!("message {i}");
        messages
            .send(Ok(hyper::body::Frame::data(text.clone().into())))
            .await
            .unwrap();
        let frame = timeout(PATIENCE, response.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    drop(messages);
    let rest = timeout(PATIENCE, response.collect())
        .await
        .unwrap()
        .unwrap();
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn many_http2_requests_share_one_connection_to_the_endpoint() {
    let app = app::http2(|_| async { Response::new(app::full("x")) }).await;
    let mesh = mesh(app).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(app::http2_client(mesh.client.outbound).await);
    }
    let requests = clients.iter_mut().flat_map(|client| {
        (0..10)
            .map(|_| {
                client.send_request(Request::get("http://web.ns/").body(app::full("")).unwrap())
            })
            .collect::<Vec<_>>()
    });
    for response in futures::future::join_all(requests).await {
        assert_eq!(response.unwrap().status(), 200);
    }
    let parts = [
        "tcp_open_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    assert_eq!(mesh.client.metric(&parts).await, Some(1.0));
}

#[tokio::test]
async fn the_reset_of_a_stream_is_passed_on() {
    let app = app::http2(|request: Request<Incoming>| async move {
        let body = http_body_util::StreamBody::new(tokio_stream::iter(vec![Ok(
            hyper::body::Frame::data("begun".into()),
        )]));
        drop(request);
        // The body never ends: the client must be able to end it.
        let endless = futures::StreamExt::chain(body, futures::stream::pending());
        Response::new(BodyExt::boxed(http_body_util::StreamBody::new(endless)))
    })
    .await;
    let mesh = mesh(app).await;
    let mut client = app::http2_client(mesh.client.outbound).await;
    let request = Request::get("http://web.ns/").body(app::full("")).unwrap();
    let mut response = client.send_request(request).await.unwrap();
    assert!(
        timeout(PATIENCE, response.frame())
            .await
            .unwrap()
            .unwrap()
            .is_ok()
    );
    drop(response);
    mesh.server
        .metric_reaches(&["response_total", "direction=\"inbound\""], 1.0)
        .await;
}

#[tokio::test]
async fn one_side_can_end_while_the_other_goes_on() {
    // Answers only when the client has ended.
    let app = app::tcp(|mut stream| async move {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).await.is_ok() {
            let _ = stream
                .write_all(format!("{} bytes", all.len()).as_bytes())
                .await;
        }
    })
    .await;
    let mesh = mesh(app).await;
    assert_eq!(
        exchange(mesh.client.outbound, &[1; 1000]).await,
        b"1000 bytes"
    );
    assert_eq!(
        exchange(mesh.server.inbound, &[1; 1000]).await,
        b"1000 bytes"
    );
    assert_eq!(exchange(mesh.client.outbound, b"").await, b"0 bytes");
}

#[tokio::test]
async fn long_streams_beyond_a_servers_limit_get_another_connection() {
    // hyper's servers allow 200 streams a connection; these never end.
    let app = app::http2(|_| async {
        let endless = futures::stream::pending();
        Response::new(BodyExt::boxed(http_body_util::StreamBody::new(endless)))
    })
    .await;
    let mesh = mesh(app).await;
    let mut responses = Vec::new();
    for _ in 0..5 {
        let mut client = app::http2_client(mesh.client.outbound).await;
        for _ in 0..90 {
            let request = Request::get("http://watch.ns/")
                .body(app::full(""))
                .unwrap();
            let response = timeout(PATIENCE, client.send_request(request)).await;
            responses.push(response.expect("not held back").unwrap());
        }
    }
    let parts = ["tcp_open_total{direction=\"inbound\",peer=\"dst\""];
    mesh.server.metric_reaches(&parts, 3.0).await;
}

/// How many requests at once a server's proxy takes from one client of an application at `app`.
async fn streams_at(app: SocketAddr) -> usize {
    let server = start(Config {
        inbound_forward: Some(app),
        ..config()
    });
    let socket = TcpStream::connect(server.inbound).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let told = async {
        while requests.current_max_send_streams() == usize::MAX {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    let streams = requests.current_max_send_streams();
    connection.abort();
    streams
}

#[tokio::test]
async fn a_proxy_can_ask_the_destination_service_about_more_targets_than_it_could_send_requests() {
    let silent = |_| std::future::pending();
    assert_eq!(streams_at(app::tcp(silent).await).await, 1_024);
    // Of all ports the destination service's; of all addresses one that no other test has.
    let service = app::tcp_at("127.0.0.86:8086", silent).await;
    assert_eq!(streams_at(service).await, 10_000);
}
