//! Bytes that are not HTTP: ends, resets, TLS of the application's own, both families of addresses.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    common::{
        self, Authority, Endpoint, PATIENCE, SERVICE, client_hello, config, destination, identity,
        mesh, start, with_control, with_tls,
    },
    talk::{End, OK, Peer, Talk, Way, on_each_way, pause},
};

/// No text protocol begins like this.
const OPENING: &str = "\0\x01";

/// How a TLS server's answer to a ClientHello begins.
const HANDSHAKE: [u8; 3] = [22, 3, 3];

async fn opened(talk: &mut Talk) -> (Peer, Peer) {
    let (client, mut server) = talk.open(OPENING).await;
    server.expect(OPENING).await;
    (client, server)
}

#[tokio::test]
async fn each_side_may_end_first_while_the_other_goes_on() {
    on_each_way(async |mut talk| {
        for client_first in [true, false] {
            let (client, server) = opened(&mut talk).await;
            let (mut first, mut last) = if client_first {
                (client, server)
            } else {
                (server, client)
            };
            first.send("last words").await;
            first.finish().await;
            last.expect("last words").await;
            last.ends().await;
            last.send("some more").await;
            pause().await;
            last.send(" and more").await;
            drop(last);
            first.expect("some more and more").await;
            first.ends().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_reset_of_either_side_is_a_reset_to_the_other() {
    on_each_way(async |mut talk| {
        for client_first in [true, false] {
            for half_closed in [false, true] {
                let (client, server) = opened(&mut talk).await;
                let (first, mut last) = if client_first {
                    (client, server)
                } else {
                    (server, client)
                };
                if half_closed {
                    last.finish().await;
                    let mut first = first;
                    first.ends().await;
                    first.reset();
                } else {
                    first.reset();
                }
                let end = last.rest().await;
                assert_eq!(
                    end,
                    (Vec::new(), End::Reset),
                    "{client_first} {half_closed}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_of_nobody_is_reset() {
    let nobody = "127.0.0.2:1".parse().unwrap();
    let mesh = mesh(nobody).await;
    let talk = async |entrance| {
        let mut client = Peer::connect(entrance).await;
        client.send(OPENING).await;
        assert_eq!(client.rest().await, (Vec::new(), End::Reset));
    };
    talk(mesh.client.outbound).await;
    talk(mesh.server.inbound).await;
    mesh.destination.set(SERVICE, &[Endpoint::plain(nobody)]);
    talk(mesh.client.outbound).await;
}

#[tokio::test]
async fn what_was_said_before_a_reset_is_heard() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = opened(&mut talk).await;
        server.send("go away").await;
        client.expect("go away").await;
        server.reset();
        assert_eq!(client.rest().await, (Vec::new(), End::Reset));
    })
    .await;
}

#[tokio::test]
async fn what_was_said_before_a_reset_is_heard_by_a_client_that_goes_on_talking() {
    on_each_way(async |mut talk| {
        let (client, mut server) = opened(&mut talk).await;
        let (mut read, mut write) = client.stream.into_split();
        let flood =
            tokio::spawn(async move { while write.write_all(&[1; 64 * 1024]).await.is_ok() {} });
        server.bytes(1 << 20).await;
        server.send("go away").await;
        server.reset();
        let mut heard = Vec::new();
        // The flood may be told of the reset, which is told once.
        let _ = timeout(PATIENCE, read.read_to_end(&mut heard))
            .await
            .unwrap();
        assert_eq!(heard.escape_ascii().to_string(), "go away");
        flood.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn large_streams_pass_each_other() {
    let data: Vec<u8> = (0..8 << 20)
        .map(|at: usize| (at * 31 + at / 251) as u8)
        .collect();
    on_each_way(async |mut talk| {
        let (client, server) = opened(&mut talk).await;
        let exchange = async |peer: Peer| {
            let (mut read, mut write) = peer.stream.into_split();
            let send = async {
                write.write_all(&data).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let ((), read) = tokio::join!(send, read.read_to_end(&mut received));
            read.unwrap();
            received
        };
        let both = async { tokio::join!(exchange(client), exchange(server)) };
        let (one, other) = timeout(PATIENCE, both).await.unwrap();
        assert!(one == data && other == data);
    })
    .await;
}

#[tokio::test]
async fn a_client_hello_of_the_application_may_come_in_pieces() {
    let hello = client_hello(&format!("{}.example.com", "a-long-name".repeat(5)));
    assert!(hello.len() > 1500, "more than one segment: {}", hello.len());
    on_each_way(async |mut talk| {
        let mut client = talk.client().await;
        for byte in &hello {
            client.send([*byte]).await;
        }
        let mut server = talk.server().await;
        server.expect(&hello).await;
        server.send("answer").await;
        client.expect("answer").await;

        let mut client = talk.client().await;
        client.send(&hello[..1400]).await;
        pause().await;
        client.send(&hello[1400..]).await;
        talk.server().await.expect(&hello).await;
    })
    .await;
}

#[tokio::test]
async fn a_mesh_client_hello_may_come_in_two_segments() {
    let talk = Talk::start(Way::Inbound).await;
    let hello = client_hello(identity("server").as_str());
    let mut client = talk.client().await;
    client.send(&hello[..1400]).await;
    pause().await;
    client.send(&hello[1400..]).await;
    client.expect(HANDSHAKE).await;
}

#[tokio::test]
async fn tls_of_the_application_goes_through_ours() {
    let authority = Authority::new();
    let name = "app.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
    let leaf = authority.leaf("app");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let anchors = authority.root.trust_bundle().to_pem();
    for anchor in rustls_pki_types::pem::PemObject::pem_slice_iter(anchors.as_bytes()) {
        let anchor: CertificateDer<'_> = anchor.unwrap();
        roots.add(anchor).unwrap();
    }
    let chain = vec![CertificateDer::from(leaf.leaf.as_der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.as_pkcs8_der().to_vec()));
    let server_config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(server_config));
    let connector = TlsConnector::from(Arc::new(client_config));
    let app = common::app::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let (mut read, mut write) = tokio::io::split(acceptor.accept(stream).await.unwrap());
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        }
    })
    .await;
    let mesh = mesh(app).await;
    let stream = TcpStream::connect(mesh.client.outbound).await.unwrap();
    let conversation = async {
        let mut tls = connector
            .connect(name.try_into().unwrap(), stream)
            .await
            .unwrap();
        tls.write_all(b"a secret within a secret").await.unwrap();
        tls.shutdown().await.unwrap();
        let mut echo = String::new();
        tls.read_to_string(&mut echo).await.unwrap();
        assert_eq!(echo, "a secret within a secret");
    };
    timeout(PATIENCE, conversation).await.unwrap();
    let ours = [
        "tcp_open_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    mesh.client.metric_reaches(&ours, 1.0).await;
}

#[tokio::test]
async fn both_sides_may_be_silent_and_either_may_break_the_silence() {
    for client_first in [true, false] {
        for way in [Way::Both, Way::Outbound, Way::Inbound] {
            let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
            let app = listener.local_addr().unwrap();
            let mesh = mesh(app).await;
            if way == Way::Outbound {
                mesh.destination.set(SERVICE, &[Endpoint::plain(app)]);
            }
            let entrance = match way {
                Way::Inbound => mesh.server.inbound,
                Way::Both | Way::Outbound => mesh.client.outbound,
            };
            let mut client = Peer::connect(entrance).await;
            let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            let mut server = Peer::new(stream);
            pause().await;
            if client_first {
                client.send(OPENING).await;
                server.expect(OPENING).await;
                server.send("welcome").await;
                client.expect("welcome").await;
            } else {
                server.send("welcome").await;
                client.expect("welcome").await;
                client.send(OPENING).await;
                server.expect(OPENING).await;
            }
        }
    }
}

#[tokio::test]
async fn ipv6_is_like_ipv4() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: there is no IPv6 here");
        return;
    };
    let app = listener.local_addr().unwrap();
    let service = "[fd00::10]:80";
    let authority = Authority::new();
    let destination = destination::start().await;
    let mut both = with_tls(config(), &authority.issue("server"), &identity("server"));
    both.inbound_listener = "[::1]:0".parse().unwrap();
    both.inbound_forward = Some(app);
    both.outbound_listener = "[::1]:0".parse().unwrap();
    both.outbound_forward = Some(service.parse().unwrap());
    let both = start(with_control(both, destination.address));
    both.ready().await;
    destination.set(service, &[Endpoint::plain(app)]);
    for entrance in [both.outbound, both.inbound] {
        for opening in [OPENING, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"] {
            let mut client = Peer::connect(entrance).await;
            client.send(opening).await;
            let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            let mut server = Peer::new(stream);
            server.expect(opening).await;
            server.send(OK).await;
            assert_eq!(client.response("GET").await.body, b"ok");
        }
    }
    let mut client = Peer::connect(both.inbound).await;
    client.send(client_hello(identity("server").as_str())).await;
    client.expect(HANDSHAKE).await;
}
