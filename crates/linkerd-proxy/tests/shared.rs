//! Connections of many clients share one mTLS connection between two proxies, and do not feel it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Endpoint, Mesh, PATIENCE, SERVICE, app, config, identity, mesh, start, wire, with_tls,
};
use futures::future::join_all;
use http::Response;
use linkerd_proxy::Config;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A mesh whose connections between the proxies can be counted.
async fn counted(app: std::net::SocketAddr) -> (Mesh, wire::Wire) {
    let mesh = mesh(app).await;
    let wire = wire::to(mesh.server.inbound).await;
    mesh.destination.set(
        SERVICE,
        &[Endpoint::meshed(wire.address, &identity("server"))],
    );
    (mesh, wire)
}

/// Sends opaque bytes and reads as many back.
async fn echo(client: &mut TcpStream, bytes: &[u8]) {
    let (mut read, mut write) = client.split();
    let mut answer = vec![0; bytes.len()];
    let both = async { tokio::try_join!(write.write_all(bytes), read.read_exact(&mut answer)) };
    timeout(PATIENCE, both).await.unwrap().unwrap();
    assert_eq!(answer, bytes);
}

async fn opaque_client(mesh: &Mesh) -> TcpStream {
    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    echo(&mut client, b"\0\x01").await;
    client
}

#[tokio::test]
async fn a_burst_of_opaque_clients_makes_one_connection() {
    let (mesh, wire) = counted(app::echo().await).await;
    let clients = (0..100_u8).map(|i| {
        let mesh = &mesh;
        async move {
            let mut client = opaque_client(mesh).await;
            let bytes: Vec<u8> = (0..50_000).map(|n| (n as u8) ^ i).collect();
            echo(&mut client, &bytes).await;
            client.shutdown().await.unwrap();
            assert_eq!(
                client.read(&mut [0]).await.unwrap(),
                0,
                "the end comes back"
            );
        }
    });
    join_all(clients).await;
    assert_eq!(wire.connections(), 1);
    let opened = ["tcp_open_total{direction=\"inbound\",peer=\"src\",tls=\"true\"}"];
    mesh.server.metric_reaches(&opened, 100.0).await;
    let closed = [
        "tcp_open_connections{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    let wait = async {
        while mesh.client.metric(&closed).await != Some(0.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("all streams have ended");
}

#[tokio::test]
async fn requests_of_many_clients_share_a_connection_too() {
    let app = app::http1(|_| async { Response::new(app::full("hello")) }).await;
    let (mesh, wire) = counted(app).await;
    let clients = (0..50).map(|_| common::get(mesh.client.outbound, "/"));
    for answer in join_all(clients).await {
        assert_eq!(answer, (200, "hello".to_owned()));
    }
    assert_eq!(wire.connections(), 1);
}

#[tokio::test]
async fn more_clients_than_a_connection_takes_make_another() {
    let (mesh, wire) = counted(app::echo().await).await;
    let clients = join_all((0..300).map(|_| opaque_client(&mesh))).await;
    assert!(
        (3..=5).contains(&wire.connections()),
        "{}",
        wire.connections()
    );
    drop(clients);
}

#[tokio::test]
async fn a_reader_that_stalls_bounds_its_sender_and_halts_nobody() {
    // Sends without end to whoever begins with a 2; echoes to others.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = client.split();
                let first = read.read_u8().await?;
                if first == 2 {
                    let flood = vec![7; 64 * 1024];
                    while write.write_all(&flood).await.is_ok() {}
                } else {
                    write.write_u8(first).await?;
                    tokio::io::copy(&mut read, &mut write).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    let (mesh, wire) = counted(app).await;
    let mut stalled = TcpStream::connect(mesh.client.outbound).await.unwrap();
    stalled.write_all(b"\x02\0").await.unwrap();
    let flooded = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = wire.bytes();
            if now == before && now > 100_000 {
                return now;
            }
            before = now;
        }
    };
    let bytes = timeout(PATIENCE, flooded).await.expect("the flood ends");
    // The kernel's buffers on the client's side take up to 10 MB, the stream's window is far less.
    assert!(bytes < 32 * 1024 * 1024, "{bytes}");
    let mut other = TcpStream::connect(mesh.client.outbound).await.unwrap();
    echo(&mut other, &[0; 100_000]).await;
    assert_eq!(wire.connections(), 1);

    // And it goes on where it was.
    let mut more = vec![0; 20 * 1024 * 1024];
    timeout(PATIENCE, stalled.read_exact(&mut more))
        .await
        .unwrap()
        .unwrap();
    assert!(more.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn new_credentials_make_a_new_connection_and_old_streams_go_on() {
    let (mesh, wire) = counted(app::echo().await).await;
    let mut old = opaque_client(&mesh).await;
    mesh.authority.issue("client");
    let wait = async {
        loop {
            drop(opaque_client(&mesh).await);
            if wire.connections() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("a connection with the new credentials");
    echo(&mut old, b"still here").await;
}

#[tokio::test]
async fn a_server_that_leaves_lets_streams_end() {
    let (mesh, _wire) = counted(app::echo().await).await;
    let mut client = opaque_client(&mesh).await;
    mesh.server.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    echo(&mut client, b"a last word").await;
    drop(client);
    timeout(PATIENCE, mesh.server.task)
        .await
        .expect("it has drained")
        .unwrap();
}

/// As in a rollout: a pod is told to end while requests are on their way to it.
#[tokio::test]
async fn a_request_that_a_leaving_server_has_not_looked_at_goes_elsewhere() {
    const CLIENTS: usize = 12;
    // How far the requests have come when it leaves.
    for steps in 0..8 {
        let app = app::http1(|_| async { Response::new(app::full("hello")) }).await;
        let mesh = mesh(app).await;
        let other = start(Config {
            inbound_forward: Some(app),
            ..with_tls(
                config(),
                &mesh.authority.issue("server"),
                &identity("server"),
            )
        });
        other.ready().await;
        let endpoints = [&mesh.server, &other]
            .map(|server| Endpoint::meshed(server.inbound, &identity("server")));
        mesh.destination.set(SERVICE, &endpoints);
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(TcpStream::connect(mesh.client.outbound).await.unwrap());
        }
        for _ in 0..3 {
            for client in &mut clients {
                client.write_all(GET).await.unwrap();
            }
            join_all(clients.iter_mut().map(hello)).await;
        }
        for client in &mut clients {
            client.write_all(GET).await.unwrap();
        }
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        mesh.server.shutdown.cancel();
        join_all(clients.iter_mut().map(hello)).await;
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web.ns\r\n\r\n";

/// Reads a whole answer, which has to be a good one.
async fn hello(client: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let read = timeout(PATIENCE, client.read_buf(&mut answer))
            .await
            .unwrap();
        assert!(matches!(read, Ok(1..)), "{}", answer.escape_ascii());
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            answer.escape_ascii()
        );
    }
}

#[tokio::test]
async fn a_broken_connection_is_a_broken_connection_for_each_stream() {
    let (mesh, wire) = counted(app::echo().await).await;
    let mut clients = join_all((0..5).map(|_| opaque_client(&mesh))).await;
    wire.cut();
    for client in &mut clients {
        let end = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
        assert!(!matches!(end, Ok(1..)), "{end:?}");
    }
    let mut next = opaque_client(&mesh).await;
    echo(&mut next, b"a new one").await;
}

/// A peer's proxy that opens streams beyond the limit, each of which is refused, and reads no refusal.
#[tokio::test]
async fn a_peer_that_reads_no_answers_is_cut_off() {
    const FRAMES: usize = 64 * 1024;
    let mesh = mesh(app::echo().await).await;
    let socket = TcpSocket::new_v4().unwrap();
    // The kernel between us takes little.
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let stream = socket.connect(mesh.server.inbound).await.unwrap();
    let mut peer = mesh_tls(&mesh, stream, b"linkerd/mux2").await;
    let mut stream = 0_u32;
    let flood = async {
        loop {
            let mut batch = Vec::new();
            for _ in 0..FRAMES {
                // Open, one byte: the verdict is that the bytes are no HTTP.
                batch.extend_from_slice(&stream.to_be_bytes());
                batch.extend_from_slice(&[1, 0, 0, 1, 3]);
                stream += 1;
            }
            if peer.write_all(&batch).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, flood).await.expect("it is cut off");
    let mut other = opaque_client(&mesh).await;
    echo(&mut other, b"still here").await;
}

/// A handshake with the server's proxy as the client's proxy makes it.
async fn mesh_tls(mesh: &Mesh, stream: TcpStream, alpn: &[u8]) -> TlsStream<TcpStream> {
    let leaf = mesh.authority.leaf("client");
    let chain = vec![CertificateDer::from(leaf.leaf.as_der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.as_pkcs8_der().to_vec()));
    let mut roots = RootCertStore::empty();
    let anchors = mesh.authority.root.trust_bundle().to_pem();
    for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
        roots.add(anchor.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = identity("server").as_str().to_owned().try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let tls = connector.connect(name, stream).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn));
    tls
}
