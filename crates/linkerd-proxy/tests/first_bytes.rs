//! Nobody waits for anybody: neither a server that speaks first, nor a client behind silent ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use common::{
    Authority, Endpoint, PATIENCE, Running, SERVICE, app, config, get, identity, mesh, start,
    with_tls,
};
use http::Response;
use linkerd_proxy::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const GREETING: &[u8] = b"220 hello\r\n";
/// What a test machine under load may take; the time limits of detection are far longer.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Time until the server's greeting has come, by a client that says nothing.
async fn greeted(address: SocketAddr) -> Duration {
    let started = Instant::now();
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut greeting = [0; GREETING.len()];
    timeout(PATIENCE, client.read_exact(&mut greeting))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(greeting, GREETING);
    let took = started.elapsed();
    client.write_all(b"EHLO me\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"EHLO me\r\n");
    took
}

fn server(authority: &Authority, app: SocketAddr) -> Running {
    start(Config {
        inbound_forward: Some(app),
        ..with_tls(config(), &authority.issue("server"), &identity("server"))
    })
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once_through_mutual_tls() {
    let mesh = mesh(app::greeter().await).await;
    greeted(mesh.client.outbound).await;
    for _ in 0..20 {
        let took = greeted(mesh.client.outbound).await;
        assert!(took < AT_ONCE, "{took:?}");
    }
    let parts = [
        "tcp_open_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    mesh.client.metric_reaches(&parts, 21.0).await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once_in_plaintext() {
    let app = app::greeter().await;
    let mesh = mesh(app).await;
    mesh.destination.set(SERVICE, &[Endpoint::plain(app)]);
    greeted(mesh.client.outbound).await;
    for _ in 0..20 {
        // A client that is not meshed, and a server that is not.
        for address in [mesh.server.inbound, mesh.client.outbound] {
            let took = greeted(address).await;
            assert!(took < AT_ONCE, "{took:?}");
        }
    }
}

/// #1880: silent connections (a load balancer's probes) starved the handshakes of others.
#[tokio::test]
async fn silent_connections_delay_nobody() {
    // A TLS server of the application's own: the first bytes of both sides pass through.
    let app = app::tcp(|mut stream| async move {
        let mut hello = [0; 2048];
        if let Ok(n @ 1..) = stream.read(&mut hello).await {
            let _ = stream.write_all(&hello[..n.min(16)]).await;
        }
    })
    .await;
    let authority = Authority::new();
    let server = server(&authority, app);
    server.ready().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.inbound).await.unwrap());
    }
    let hello = common::client_hello("shop.example.com");
    for _ in 0..20 {
        let started = Instant::now();
        let mut client = TcpStream::connect(server.inbound).await.unwrap();
        client.write_all(&hello).await.unwrap();
        let mut answer = [0; 16];
        timeout(PATIENCE, client.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer, hello[..16]);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    }
    drop(silent);
}

/// Other meshes give up detection after 10 s and count what follows as opaque; a busy machine makes
/// clients as late as that.
#[tokio::test]
async fn http_is_http_however_late_and_however_many_its_clients_are() {
    const CLIENTS: usize = 100;
    let mesh = mesh(app::http1(|_| async { Response::new(app::full("hello")) }).await).await;
    let late = (0..CLIENTS).map(|_| async {
        let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.ends_with(b"hello"), "{answer:?}");
    });
    futures::future::join_all(late).await;
    for (proxy, direction) in [(&mesh.client, "outbound"), (&mesh.server, "inbound")] {
        let direction = format!("direction=\"{direction}\"");
        let parts = ["request_total{", &direction, "tls=\"true\""];
        proxy.metric_reaches(&parts, CLIENTS as f64).await;
    }
}

#[tokio::test]
async fn a_client_hello_of_the_application_arrives_as_it_was_sent() {
    let app = app::echo().await;
    let authority = Authority::new();
    let server = server(&authority, app);
    server.ready().await;
    let hello = common::client_hello("shop.example.com");
    assert_eq!(common::exchange(server.inbound, &hello).await, hello);
}

#[tokio::test]
async fn a_mesh_handshake_may_come_byte_by_byte() {
    let authority = Authority::new();
    let app = app::http1(|_| async { Response::new(app::full("hello")) }).await;
    let server = server(&authority, app);
    server.ready().await;
    // The wire delivers every byte alone.
    let wire = common::wire::slow_to(server.inbound).await;
    let destination = common::destination::start().await;
    destination.set(SERVICE, &[Endpoint::meshed(wire, &identity("server"))]);
    // The wire is slower than any network; the claim is about bytes, not about time.
    let mut patient = with_tls(config(), &authority.issue("client"), &identity("client"));
    patient.limits.handshake_timeout = PATIENCE;
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..common::with_control(patient, destination.address)
    });
    client.ready().await;
    assert_eq!(get(client.outbound, "/").await, (200, "hello".to_owned()));
    client
        .metric_reaches(&["response_total", "tls=\"true\""], 1.0)
        .await;
}

#[tokio::test]
async fn what_only_looks_like_http_reaches_its_server_in_time() {
    let mesh = mesh(app::echo().await).await;
    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    // Could become a request; the client waits for an answer before it goes on.
    client.write_all(b"GET ").await.unwrap();
    let mut answer = [0; 4];
    timeout(PATIENCE, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"GET ");
}

#[tokio::test]
async fn a_client_that_only_listens_is_told_when_the_server_ends() {
    let app = app::tcp(|mut stream| async move {
        let _ = stream.shutdown().await;
    })
    .await;
    let mesh = mesh(app).await;
    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    let mut nothing = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut nothing))
        .await
        .unwrap()
        .unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_silent_client_learns_that_nobody_listens() {
    let mesh = mesh("127.0.0.2:1".parse().unwrap()).await;
    for address in [mesh.client.outbound, mesh.server.inbound] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut nothing = Vec::new();
        let end = timeout(PATIENCE, client.read_to_end(&mut nothing)).await;
        let error = end.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(nothing.is_empty());
    }
}

/// A server of HTTP/2 sends SETTINGS as soon as it is connected, and a busy machine may delay the
/// ClientHello of the peer's proxy until after that.
#[tokio::test]
async fn a_late_client_hello_is_answered_with_tls_although_the_server_has_spoken() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (spoken, mut has_spoken) = tokio::sync::mpsc::channel(1);
    let app = app::tcp(move |mut stream| {
        let spoken = spoken.clone();
        async move {
            stream.write_all(SETTINGS).await.unwrap();
            // Nobody listens any more once the test has seen what it wants.
            let _ = spoken.send(()).await;
            let _ = stream.read(&mut [0; 1]).await;
        }
    })
    .await;
    let authority = Authority::new();
    let server = server(&authority, app);
    server.ready().await;
    let mut client = TcpStream::connect(server.inbound).await.unwrap();
    timeout(PATIENCE, has_spoken.recv()).await.unwrap().unwrap();
    // What the server said is not for a client that may still turn out to be a proxy.
    let mut first = [0; 1];
    timeout(AT_ONCE, client.read(&mut first)).await.unwrap_err();
    let hello = common::client_hello(identity("server").as_str());
    client.write_all(&hello).await.unwrap();
    let n = timeout(PATIENCE, client.read(&mut first)).await.unwrap();
    assert_eq!((n.unwrap(), first), (1, [22]), "a TLS handshake record");
}
