//! A proxy of Linkerd and ours, both ways: its conventions are understood, and none of ours is needed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;
#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "common/linkerd.rs"]
mod linkerd;

use std::net::SocketAddr;

use common::{
    Authority, Endpoint, PATIENCE, Running, SERVICE, app, config, destination, exchange, get,
    identity, start, with_control, with_tls,
};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use linkerd_proto::transport::{
    Header,
    session_protocol::{Http1, Http2, Kind},
};
use linkerd_proxy::Config;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A proxy of ours with the identity `server`; in front of `app`, or only what headers name.
fn server(authority: &Authority, app: Option<SocketAddr>) -> Running {
    start(Config {
        inbound_forward: app,
        ..with_tls(config(), &authority.issue("server"), &identity("server"))
    })
}

async fn http2_over<T>(io: T) -> http2::SendRequest<app::Body>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

fn carried(method: Method, uri: &str, original: &str, body: app::Body) -> Request<app::Body> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("l5d-orig-proto", original)
        .body(body)
        .unwrap()
}

/// Status is always 200: what is left is the headers and the body.
async fn answer(response: Response<Incoming>) -> (HeaderMap, String) {
    assert_eq!(response.status(), 200, "{:?}", response.headers());
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// Answers in chunks with what has arrived.
async fn tell(request: Request<Incoming>) -> Response<app::Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        let value = parts.headers.get(name).map(|value| value.to_str().unwrap());
        value.unwrap_or("-").to_owned()
    };
    let text = format!(
        "{:?} {} {} host={} orig={} body={}",
        parts.version,
        parts.method,
        parts.uri,
        header("host"),
        header("l5d-orig-proto"),
        String::from_utf8_lossy(&body)
    );
    Response::new(app::frames(&[&text], &[]))
}

#[tokio::test]
async fn http1_inside_http2_arrives_as_http1() {
    let authority = Authority::new();
    let app = app::http1(tell).await;
    let server = server(&authority, Some(app));
    server.ready().await;
    let mut client =
        http2_over(linkerd::connect(&authority.issue("client"), server.inbound, &[]).await).await;

    let uri = "http://web.shop:8080/a?b=c";
    for (method, body, expected) in [
        (
            Method::GET,
            "",
            "GET /a?b=c host=web.shop:8080 orig=- body=",
        ),
        (
            Method::POST,
            "vote",
            "POST /a?b=c host=web.shop:8080 orig=- body=vote",
        ),
    ] {
        // One with the length of its body, one without.
        for body in [app::full(body), app::frames(&[body], &[])] {
            let request = carried(method.clone(), uri, "HTTP/1.1", body);
            let (headers, text) = answer(client.send_request(request).await.unwrap()).await;
            assert_eq!(text, format!("HTTP/1.1 {expected}"));
            assert_eq!(headers["l5d-orig-proto"], "HTTP/1.1");
            assert!(!headers.contains_key("transfer-encoding"));
        }
    }
    let request = carried(Method::GET, uri, "HTTP/1.1; absolute-form", app::full(""));
    let (_, text) = answer(client.send_request(request).await.unwrap()).await;
    assert_eq!(
        text,
        "HTTP/1.1 GET http://web.shop:8080/a?b=c host=web.shop:8080 orig=- body="
    );
    let parts = [
        "response_total{",
        "direction=\"inbound\",tls=\"true\",classification=\"success\"",
    ];
    server.metric_reaches(&parts, 5.0).await;
}

#[tokio::test]
async fn http1_inside_http2_has_the_limits_of_http1() {
    let authority = Authority::new();
    let app = app::http1(|_| async {
        let mut response = Response::new(app::full("many"));
        for n in 0..300 {
            let cookie = format!("c{n}=1").parse().unwrap();
            response.headers_mut().append("set-cookie", cookie);
        }
        response
    })
    .await;
    let server = server(&authority, Some(app));
    server.ready().await;
    let mut client =
        http2_over(linkerd::connect(&authority.issue("client"), server.inbound, &[]).await).await;
    let get = || carried(Method::GET, "http://web/", "HTTP/1.1", app::full(""));
    let (headers, text) = answer(client.send_request(get()).await.unwrap()).await;
    assert_eq!(text, "many");
    assert_eq!(headers.get_all("set-cookie").iter().count(), 300);
    let mut request = get();
    for host in ["web", "other"] {
        let host = host.parse().unwrap();
        request.headers_mut().append("host", host);
    }
    client.send_request(request).await.unwrap_err();
}

#[tokio::test]
async fn a_proxy_is_told_why_its_carried_request_has_no_answer() {
    let authority = Authority::new();
    let nobody = app::tcp(|stream| async { drop(stream) }).await;
    let server = server(&authority, Some(nobody));
    server.ready().await;
    let mut client =
        http2_over(linkerd::connect(&authority.issue("client"), server.inbound, &[]).await).await;
    let request = carried(Method::GET, "http://web/", "HTTP/1.1", app::full(""));
    let response = client.send_request(request).await.unwrap();
    assert!(response.status().is_server_error());
    assert!(response.headers().contains_key("l5d-proxy-error"));
}

#[tokio::test]
async fn http2_of_the_application_stays_http2() {
    let authority = Authority::new();
    let app = app::http2(tell).await;
    let server = server(&authority, Some(app));
    server.ready().await;
    let mut client =
        http2_over(linkerd::connect(&authority.issue("client"), server.inbound, &[]).await).await;
    let request = Request::get("http://web/a").body(app::full("")).unwrap();
    let (headers, text) = answer(client.send_request(request).await.unwrap()).await;
    assert_eq!(text, "HTTP/2.0 GET http://web/a host=- orig=- body=");
    assert!(!headers.contains_key("l5d-orig-proto"));
}

#[tokio::test]
async fn a_client_without_a_proxy_cannot_claim_to_carry_http1() {
    let authority = Authority::new();
    let app = app::http2(tell).await;
    let server = server(&authority, Some(app));
    server.ready().await;
    let mut client = app::http2_client(server.inbound).await;
    let request = carried(Method::GET, "http://web/a", "HTTP/1.1", app::full(""));
    let (headers, text) = answer(client.send_request(request).await.unwrap()).await;
    assert_eq!(text, "HTTP/2.0 GET http://web/a host=- orig=- body=");
    assert!(!headers.contains_key("l5d-orig-proto"));
}

#[tokio::test]
async fn a_header_names_the_port_behind_the_proxys_own() {
    let authority = Authority::new();
    let http1 = app::http1(tell).await;
    let http2 = app::http2(tell).await;
    let greeter = app::greeter().await;
    // Connections to the proxy's own port were not redirected; no target stands in for them.
    let server = server(&authority, None);
    server.ready().await;
    let open = async |app: SocketAddr, protocol| {
        linkerd::connect_through(
            &authority.issue("client"),
            server.inbound,
            app.port(),
            protocol,
        )
        .await
    };

    let mut client = open(http1, Some(Kind::Http1(Http1 {}))).await;
    let request = b"GET /a HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut text = String::new();
    let _ = client.read_to_string(&mut text).await;
    assert!(text.contains("HTTP/1.1 GET /a host=web"), "{text}");

    let mut client = http2_over(open(http1, Some(Kind::Http2(Http2 {}))).await).await;
    let request = carried(Method::GET, "http://web/a", "HTTP/1.1", app::full(""));
    let (_, text) = answer(client.send_request(request).await.unwrap()).await;
    assert_eq!(text, "HTTP/1.1 GET /a host=web orig=- body=");

    let mut client = http2_over(open(http2, Some(Kind::Http2(Http2 {}))).await).await;
    let request = Request::get("http://web/a").body(app::full("")).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let (_, text) = answer(response).await;
    assert_eq!(text, "HTTP/2.0 GET http://web/a host=- orig=- body=");

    // Bytes of which nothing is known, and the server is the first to speak.
    let mut client = open(greeter, None).await;
    let mut greeting = [0; 11];
    let read = timeout(PATIENCE, client.read_exact(&mut greeting)).await;
    read.expect("a greeting in time").unwrap();
    assert_eq!(&greeting, b"220 hello\r\n");
    // Bytes that look like HTTP are not read as such.
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut echo = [0; 16];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"GET / HTTP/1.1\r\n");
    let parts = ["tcp_open_total{direction=\"inbound\",peer=\"src\",tls=\"true\"}"];
    server.metric_reaches(&parts, 4.0).await;
}

#[tokio::test]
async fn a_header_is_heeded_on_redirected_connections_too() {
    let authority = Authority::new();
    let wrong = app::tcp(|stream| async { drop(stream) }).await;
    let echo = app::echo().await;
    let server = server(&authority, Some(wrong));
    server.ready().await;
    let mut client = linkerd::connect_through(
        &authority.issue("client"),
        server.inbound,
        echo.port(),
        None,
    )
    .await;
    client.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn no_header_leads_to_the_proxy_itself() {
    let authority = Authority::new();
    let server = server(&authority, None);
    server.ready().await;
    for address in [
        server.inbound,
        server.control,
        server.admin,
        server.outbound,
    ] {
        let port = address.port();
        let mut client =
            linkerd::connect_through(&authority.issue("client"), server.inbound, port, None).await;
        let _ = client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, client.read_to_end(&mut answer))
            .await
            .expect("an end");
        assert_eq!(answer, b"", "{address}");
    }
}

#[tokio::test]
async fn what_is_no_header_ends_the_connection() {
    let authority = Authority::new();
    let server = server(&authority, Some(app::greeter().await));
    server.ready().await;
    let named = linkerd::header(&Header {
        port: 80,
        name: "web.shop.svc.cluster.local".to_owned(),
        session_protocol: None,
    });
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"transport.l5d.io/v1\r\n\r\n\xff\xff\xff\xff".to_vec(),
        named,
    ] {
        let mut client =
            linkerd::connect(&authority.issue("client"), server.inbound, &[linkerd::ALPN]).await;
        client.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, client.read_to_end(&mut answer))
            .await
            .expect("an end");
        assert_eq!(answer, b"", "{bytes:?}");
    }
}

#[tokio::test]
async fn only_mesh_tls_with_a_header_may_come_to_the_proxys_own_port() {
    let authority = Authority::new();
    let server = server(&authority, None);
    server.ready().await;
    let foreign = common::client_hello("web.example");
    for bytes in [b"GET / HTTP/1.1\r\n\r\n", &foreign[..], b"\x16\x03\x01"] {
        assert_eq!(exchange(server.inbound, bytes).await, b"", "{bytes:?}");
    }
    let mut client = linkerd::connect(&authority.issue("client"), server.inbound, &[]).await;
    let _ = client.write_all(b"\0hello").await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut answer))
        .await
        .expect("an end");
    assert_eq!(answer, b"");
}

/// A proxy of ours that knows `endpoint` as [`SERVICE`].
async fn client(authority: &Authority, endpoint: Endpoint) -> (Running, destination::Destination) {
    let destination = destination::start().await;
    destination.set(SERVICE, &[endpoint]);
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    });
    client.ready().await;
    (client, destination)
}

#[tokio::test]
async fn a_proxy_that_knows_none_of_our_words_is_reached_with_tls() {
    let authority = Authority::new();
    for (app, is_http) in [(app::http1(tell).await, true), (app::echo().await, false)] {
        let server = linkerd::server(&authority, app).await;
        let endpoint = Endpoint::meshed(server.address, &identity("server"));
        let (client, _destination) = client(&authority, endpoint).await;
        for _ in 0..3 {
            if is_http {
                let (status, body) = get(client.outbound, "/a").await;
                assert_eq!(status, 200, "{body}");
                assert!(body.contains("HTTP/1.1 GET /a host=web.ns"), "{body}");
            } else {
                assert_eq!(exchange(client.outbound, b"\0hello").await, b"\0hello");
            }
        }
        let parts = [
            "tcp_open_total{direction=\"outbound\"",
            "peer=\"dst\",tls=\"true\"}",
        ];
        client.metric_reaches(&parts, 1.0).await;
    }
}

/// The greeting of the server behind `outbound`, and what comes back for a word.
async fn greeted(outbound: SocketAddr) -> String {
    let mut client = TcpStream::connect(outbound).await.unwrap();
    let conversation = async {
        let mut greeting = [0; 11];
        client.read_exact(&mut greeting).await.unwrap();
        client.write_all(b"EHLO\r\n").await.unwrap();
        let mut echo = [0; 6];
        client.read_exact(&mut echo).await.unwrap();
        [&greeting[..], &echo].concat()
    };
    let text = timeout(PATIENCE, conversation).await.expect("in time");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_server_that_speaks_first_behind_such_a_proxy_is_reached_by_a_header() {
    let authority = Authority::new();
    let server = linkerd::server(&authority, app::greeter().await).await;
    let endpoint = Endpoint {
        inbound_port: Some(server.inbound_port),
        ..Endpoint::meshed(server.address, &identity("server"))
    };
    let (client, _destination) = client(&authority, endpoint).await;
    for _ in 0..3 {
        assert_eq!(greeted(client.outbound).await, "220 hello\r\nEHLO\r\n");
    }
    let parts = [
        "tcp_open_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    client.metric_reaches(&parts, 3.0).await;
}

#[tokio::test]
async fn a_header_that_is_not_taken_costs_nothing_but_an_attempt() {
    let authority = Authority::new();
    let server = linkerd::server(&authority, app::echo().await).await;
    let endpoint = Endpoint {
        // It takes connections, and knows nothing of headers.
        inbound_port: Some(server.address.port()),
        ..Endpoint::meshed(server.address, &identity("server"))
    };
    let (client, _destination) = client(&authority, endpoint).await;
    for _ in 0..3 {
        assert_eq!(exchange(client.outbound, b"\0hello").await, b"\0hello");
    }
    let parts = [
        "tcp_open_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    client.metric_reaches(&parts, 3.0).await;
}

#[tokio::test]
async fn two_of_ours_need_no_header() {
    let authority = Authority::new();
    let server = server(&authority, Some(app::greeter().await));
    server.ready().await;
    let endpoint = Endpoint {
        // Nobody is there.
        inbound_port: Some(1),
        ..Endpoint::meshed(server.inbound, &identity("server"))
    };
    let (client, _destination) = client(&authority, endpoint).await;
    assert_eq!(greeted(client.outbound).await, "220 hello\r\nEHLO\r\n");
}
