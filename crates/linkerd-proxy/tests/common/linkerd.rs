//! The wire of a proxy of Linkerd, as a client and as a server: its TLS, and its header in front of a connection.

use std::{net::SocketAddr, path::Path, sync::Arc};

use linkerd_proto::transport::{Header, SessionProtocol, session_protocol::Kind};
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, client::WebPkiServerVerifier,
    crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier, version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Authority;

pub(crate) const ALPN: &[u8] = b"transport.l5d.io/v1";

pub(crate) type Client = tokio_rustls::client::TlsStream<TcpStream>;

/// The credentials in a folder, as kubelet projects them.
struct Credentials {
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    fn read(folder: &Path) -> Self {
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&read("trust-anchors.pem")) {
            roots.add(root.unwrap()).unwrap();
        }
        Self {
            roots: roots.into(),
            certificates: vec![read("certificate.crt").into()],
            key: PrivatePkcs8KeyDer::from(read("private-key.p8")).into(),
        }
    }
}

/// A finished handshake of the workload whose credentials are in `folder` with the workload `server`
/// at `address`.
pub(crate) async fn connect(folder: &Path, address: SocketAddr, alpn: &[&[u8]]) -> Client {
    let Credentials {
        roots,
        certificates,
        key,
    } = Credentials::read(folder);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, default_provider().into())
        .build()
        .unwrap();
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
    folder: &Path,
    address: SocketAddr,
    port: u16,
    protocol: Option<Kind>,
) -> Client {
    let mut client = connect(folder, address, &[ALPN]).await;
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

/// The inbound side of such a proxy with the identity of `server`.
pub(crate) struct Server {
    /// Where connections are redirected to it; it knows none of our ALPN names, and listens to the
    /// application only when the client has spoken.
    pub(crate) address: SocketAddr,
    /// Its own port, for connections with a header.
    pub(crate) inbound_port: u16,
}

/// The TLS of `server`, which insists on a client's certificate.
fn server_config(authority: &Authority) -> ServerConfig {
    let Credentials {
        roots,
        certificates,
        key,
    } = Credentials::read(&authority.issue("server"));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, default_provider().into())
        .build()
        .unwrap();
    ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .unwrap()
}

/// Ends the TLS of `server` in front of `app` and passes the bytes on. Of the ALPN names that it knows, the
/// best first, clients are to agree on the last.
pub(crate) async fn passes_bytes(
    authority: &Authority,
    known: &[&[u8]],
    app: SocketAddr,
) -> SocketAddr {
    let mut config = server_config(authority);
    config.alpn_protocols = known.iter().map(|name| name.to_vec()).collect();
    let expected = known.last().map(|name| name.to_vec());
    listen(config, move |mut client| {
        assert_eq!(client.get_ref().1.alpn_protocol(), expected.as_deref());
        async move {
            let mut app = TcpStream::connect(app).await.unwrap();
            // Either side may close at any time.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
        }
    })
    .await
}

/// Starts one in front of `app`. It insists on TLS and on a client's certificate.
pub(crate) async fn server(authority: &Authority, app: SocketAddr) -> Server {
    let mut config = server_config(authority);
    let address = listen(config.clone(), move |mut client| async move {
        let mut first = [0; 16];
        let read = client.read(&mut first).await.unwrap_or(0);
        let mut app = TcpStream::connect(app).await.unwrap();
        app.write_all(&first[..read]).await.unwrap();
        // Either side may close at any time.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
    })
    .await;
    config.alpn_protocols = vec![ALPN.to_vec()];
    let expected = header(&Header {
        port: address.port().into(),
        name: String::new(),
        session_protocol: None,
    });
    let inbound = listen(config, move |mut client| {
        let expected = expected.clone();
        async move {
            let mut header = vec![0; expected.len()];
            client.read_exact(&mut header).await.unwrap();
            assert_eq!(header, expected);
            let mut app = TcpStream::connect(app).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
        }
    })
    .await;
    Server {
        address,
        inbound_port: inbound.port(),
    }
}

async fn listen<F, S>(config: ServerConfig, serve: S) -> SocketAddr
where
    S: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    super::app::tcp(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            // A client may look for words that we do not know, and go.
            if let Ok(client) = acceptor.accept(stream).await {
                serve(client).await;
            }
        }
    })
    .await
}
