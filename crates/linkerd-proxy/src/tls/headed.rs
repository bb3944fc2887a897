//! Connects to the port of a peer's proxy itself, with a header that names the application's. Entry: [`dial`].
//!
//! Only for bytes that are no HTTP, and only where the peer is a proxy of Linkerd: at the application's
//! port that would wait for the client to speak, whoever is to speak first.

use std::{io, net::SocketAddr};

use bytes::BytesMut;
use linkerd_names::{Identity, Tls};
use rustls_pki_types::ServerName;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::{Verdict, connect::Connected, credentials::Credentials, stream::TlsStream};
use crate::{
    detect::Protocol,
    endpoint::Endpoint,
    io::{Socket, Transport},
    shared::Shared,
    tcp, transport_header,
};

/// Makes the connection where it is better than one to the application's port, and can be made. A
/// failure is remembered.
pub(super) async fn dial(
    shared: &Shared,
    endpoint: &Endpoint,
    verdict: Verdict,
) -> Option<Connected> {
    let port = port(endpoint, verdict)?;
    if endpoint.handshake.paused_until().is_some() {
        return None;
    }
    let identity = endpoint.identity.as_ref()?;
    let credentials = shared.credentials.as_ref()?.current()?;
    let address = SocketAddr::new(endpoint.address.ip(), port);
    let limits = &shared.config.limits;
    let bound = endpoint.connect_timeout(limits) + limits.handshake_timeout;
    let shaken = timeout(
        bound,
        shake_hands(endpoint, address, identity, &credentials),
    )
    .await;
    match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some(Connected {
            socket: Socket::new(Transport::Tls(Box::new(stream))),
            tls: Tls::On(identity.clone()),
            generation: credentials.generation,
            retry_tls_at: None,
        }),
        Err(error) => {
            debug!(endpoint = %endpoint.address, %address, %error, "no connection by header");
            endpoint.handshake.refuses_header();
            None
        }
    }
}

fn port(endpoint: &Endpoint, verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::Detect | Verdict::Known(Protocol::Opaque) => endpoint
            .inbound_port
            .filter(|_| endpoint.handshake.takes_header()),
        Verdict::Known(Protocol::Http1 | Protocol::Http2) => None,
    }
}

async fn shake_hands(
    endpoint: &Endpoint,
    address: SocketAddr,
    identity: &Identity,
    credentials: &Credentials,
) -> io::Result<TlsStream> {
    let stream = tcp::connect(address).await?;
    tcp::keep_alive(&stream);
    let name = ServerName::try_from(identity.as_str().to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(credentials.headed.clone());
    let mut stream = connector.connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(transport_header::ALPN) {
        return Err(io::Error::other("the peer takes no header"));
    }
    let header = transport_header::opaque(endpoint.address.port());
    stream.write_all(&header).await?;
    stream.flush().await?;
    let (tcp, session) = stream.into_inner();
    Ok(TlsStream::new(tcp, session, BytesMut::new()))
}
