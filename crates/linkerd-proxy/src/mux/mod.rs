//! Many connections between two proxies over one mTLS connection: what an application's connection
//! costs between them is a frame instead of a handshake, and the requests of all clients share
//! records and system calls. Entry: [`Connection::open`] as the client, [`serve`] as the server.
//!
//! Both proxies have agreed to it in ALPN. A connection belongs to one endpoint (pod and port), to
//! one identity at either end and to one generation of credentials, and so do its streams.

mod driver;
mod frame;
mod hub;
mod pool;
mod stream;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use frame::{Reason, Reset};
pub(crate) use pool::{Pool, Waited};
pub(crate) use stream::Stream;

use crate::tls::{Shares, Verdict, stream::TlsStream};
use driver::{Driver, Side};
use frame::Kind;
use hub::{Hub, Idle};

/// Streams that a server takes on one connection; ours open far fewer.
const SERVER_STREAMS_MAX: usize = 1_024;
/// So long a server that leaves still takes streams that were under way when it said so.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The client's end: opens streams as long as it is open.
pub(crate) struct Connection {
    hub: Arc<Hub>,
    shares: Shares,
    streams_max: usize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.release();
    }
}

impl Connection {
    /// Takes over a connection whose handshake has agreed on multiplexing, and opens its first stream.
    pub(crate) fn new(
        tls: TlsStream,
        peer: SocketAddr,
        shares: Shares,
        streams_max: usize,
        idle_max: Duration,
        verdict: Verdict,
    ) -> (Self, Stream) {
        let hub = Hub::new(Some(peer));
        // Before the driver can hear that the peer has gone.
        let first = hub.open(verdict, usize::MAX);
        let first = first.expect("a connection that nobody drives takes a stream");
        let first = Stream::new(hub.clone(), first);
        let driver = Driver::new(tls, hub.clone(), Client { idle_max });
        // Ends with the connection, with idleness, or once it is released and without streams.
        tokio::spawn(async move {
            if let Err(error) = driver.run().await {
                debug!(%peer, %error, "a multiplexed connection has ended");
            }
        });
        let connection = Self {
            hub,
            shares,
            streams_max,
        };
        (connection, first)
    }

    /// A new stream, at once; none when this connection takes no more, or none of this kind.
    pub(crate) fn open(&self, verdict: Verdict) -> Option<Stream> {
        if !self.shares.take(verdict) {
            return None;
        }
        let number = self.hub.open(verdict, self.streams_max)?;
        Some(Stream::new(self.hub.clone(), number))
    }

    /// Whether it takes streams, now or once others have ended.
    pub(crate) fn is_open(&self) -> bool {
        self.hub.is_open()
    }
}

struct Client {
    idle_max: Duration,
}

impl Side for Client {
    fn opened(&mut self, _: Stream, _: Verdict) -> bool {
        false
    }

    fn streams_max(&self) -> usize {
        usize::MAX
    }

    fn is_done(&self, idle: &Idle) -> bool {
        idle.is_left || idle.since.elapsed() >= self.idle_max
    }
}

/// Serves a client's streams, each given to `opened`, until the client closes; after `drain` until
/// those that are open have ended.
///
/// # Errors
/// What has broken the connection.
pub(crate) async fn serve(
    tls: TlsStream,
    peer: Option<SocketAddr>,
    drain: &CancellationToken,
    opened: impl FnMut(Stream, Verdict),
) -> io::Result<()> {
    let hub = Hub::new(peer);
    let side = Server {
        opened,
        drain: drain.clone(),
    };
    let driver = Driver::new(tls, hub.clone(), side).run();
    let mut driver = std::pin::pin!(driver);
    tokio::select! {
        result = &mut driver => return result,
        () = drain.cancelled() => hub.put(0, Kind::GoAway, &[]),
    }
    loop {
        tokio::select! {
            result = &mut driver => return result,
            () = tokio::time::sleep(LAST_CALL) => {}
        }
    }
}

struct Server<F> {
    opened: F,
    drain: CancellationToken,
}

impl<F: FnMut(Stream, Verdict)> Side for Server<F> {
    fn opened(&mut self, stream: Stream, verdict: Verdict) -> bool {
        (self.opened)(stream, verdict);
        true
    }

    fn streams_max(&self) -> usize {
        SERVER_STREAMS_MAX
    }

    fn is_done(&self, idle: &Idle) -> bool {
        self.drain.is_cancelled() && idle.since.elapsed() >= LAST_CALL
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::SystemTime};

    use bytes::BytesMut;
    use linkerd_issuer::Root;
    use linkerd_names::Identity;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use rustls_pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject,
    };
    use socket2::SockRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpSocket, TcpStream},
    };
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;
    use crate::detect::Protocol;

    const NAME: &str = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
    /// Less than waits in the hub and more than the kernel takes.
    const BYTES: usize = 200 * 1024;

    /// Both ends of a connection whose kernel holds little.
    async fn narrow() -> (TlsStream, client::TlsStream<TcpStream>) {
        let root = Root::generate(SystemTime::now()).unwrap();
        let name: Identity = NAME.parse().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let leaf = root.issue_leaf(&name, day, SystemTime::now()).unwrap();
        let chain = vec![CertificateDer::from(leaf.leaf.as_der().to_vec())];
        let key = PrivatePkcs8KeyDer::from(leaf.key.as_pkcs8_der().to_vec());
        let mut roots = RootCertStore::empty();
        for anchor in CertificateDer::pem_slice_iter(root.trust_bundle().to_pem().as_bytes()) {
            roots.add(anchor.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        let (there, here) = tokio::join!(
            socket.connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let (here, _) = here.unwrap();
        SockRef::from(&here).set_send_buffer_size(4 * 1024).unwrap();
        let (acceptor, connector) = (
            TlsAcceptor::from(Arc::new(server)),
            TlsConnector::from(Arc::new(client)),
        );
        let name = ServerName::try_from(NAME).unwrap();
        let (server, client) = tokio::join!(
            acceptor.accept(here),
            connector.connect(name, there.unwrap())
        );
        let (tcp, session) = server.unwrap().into_inner();
        let server = TlsStream::new(tcp, session, BytesMut::new());
        (server, client.unwrap())
    }

    #[tokio::test]
    async fn a_server_that_leaves_sends_what_it_has_before() {
        let (tls, mut client) = narrow().await;
        let drain = CancellationToken::new();
        let leaves = drain.clone();
        let server = tokio::spawn(async move {
            serve(tls, None, &drain, |stream, _| {
                tokio::spawn(async move {
                    let mut sent = 0;
                    while sent < BYTES {
                        let rest = vec![7; BYTES - sent];
                        sent += poll_fn(|cx| stream.poll_put(cx, &rest)).await.unwrap();
                    }
                    stream.end();
                });
            })
            .await
        });
        let mut frames = Vec::new();
        let opaque = [Verdict::Known(Protocol::Opaque).byte()];
        frame::put(&mut frames, 0, Kind::Open, &opaque);
        frame::put(&mut frames, 0, Kind::End, &[]);
        client.write_all(&frames).await.unwrap();
        client.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        leaves.cancel();
        // It would leave now, but the kernel has not taken all.
        tokio::time::sleep(2 * LAST_CALL + LAST_CALL / 2).await;
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        drop(client);
        assert!(all.iter().filter(|byte| **byte == 7).count() >= BYTES);
        server.await.unwrap().unwrap();
    }
}
