//! The wire of a proxy of Linkerd, as a client and as a server: its TLS, and its header in front of a connection.

use std::{net::SocketAddr, sync::Arc};

use linkerd_proto::transport::{Header, SessionProtocol, session_protocol::Kind};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, client::WebPkiServerVerifier,
    crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier, version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Authority;

pub(crate) const ALPN: &[u8] = b"transport.l5d.io/v1";

pub(crate) type Client = tokio_rustls::client::TlsStream<TcpStream>;

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.certificate_der().clone()).unwrap();
    roots.into()
}

fn pair(
    authority: &Authority,
    name: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let issued = authority.leaf(name);
    let key = PrivatePkcs8KeyDer::from(issued.key.as_pkcs8_der().to_vec());
    let certificate = issued.leaf.as_der().to_vec().into();
    (vec![certificate], key.into())
}

/// A finished handshake of the workload `client` with the workload `server` at `address`.
pub(crate) async fn connect(authority: &Authority, address: SocketAddr, alpn: &[&[u8]]) -> Client {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(authority), default_provider().into())
            .build()
            .unwrap();
    let (certificates, key) = pair(authority, "client");
    let mut config = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(certificates, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = super::identity("server").as_str().to_owned();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name.try_into().unwrap(), stream)
        .await
        .unwrap()
}

/// A connection with a header for `port` in front.
pub(crate) async fn connect_through(
    authority: &Authority,
    address: SocketAddr,
    port: u16,
    protocol: Option<Kind>,
) -> Client {
    let mut client = connect(authority, address, &[ALPN]).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(ALPN));
    let bytes = header(&Header {
        port: port.into(),
        name: String::new(),
        session_protocol: protocol.map(|kind| SessionProtocol { kind: Some(kind) }),
    });
    client.write_all(&bytes).await.unwrap();
    client
}

pub(crate) fn header(header: &Header) -> Vec<u8> {
    let message = header.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [ALPN, b"\r\n\r\n", &length, &message].concat()
}

/// The inbound side of such a proxy with the identity of `server`, in front of `app`: it knows none
/// of our ALPN names, and insists on TLS and on a client's certificate.
pub(crate) async fn server(authority: &Authority, app: SocketAddr) -> SocketAddr {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(authority), default_provider().into())
            .build()
            .unwrap();
    let (certificates, key) = pair(authority, "server");
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(stream).await.expect("only mesh TLS");
                let mut app = TcpStream::connect(app).await.unwrap();
                // Either side may close at any time.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
            });
        }
    });
    address
}
