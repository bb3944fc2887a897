//! The mesh handshake as the server. Entry: [`accept`]; what to do with a ClientHello says [`judge`].

use std::{io, sync::Arc, time::Duration};

use linkerd_names::Identity;
use rustls::ServerConfig;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{
    Shares, Verdict,
    credentials::{Credentials, Store, peer_identity},
    stream::TlsStream,
};
use crate::{io::Socket, transport_header};

/// What becomes of a connection whose ClientHello is for a mesh name.
pub(crate) enum Judgement {
    /// It is for us.
    Accept(Arc<Credentials>),
    /// It is for us, and we cannot answer yet: the peer may fall back to plaintext.
    NoCredentials,
    /// It is for another workload: whoever sent it must not deliver here.
    NotUs,
}

/// A finished handshake.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream,
    pub(crate) peer: Identity,
    pub(crate) carries: Carries,
}

/// What a connection is for.
pub(crate) enum Carries {
    /// One client's bytes.
    One(Verdict),
    /// The same behind a header, as proxies of Linkerd write it.
    Headed,
    /// Streams of many clients.
    Streams,
}

/// Why there is no handshake. The connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the handshake took too long")]
    Timeout,
    #[error("the peer's certificate is not for one mesh identity")]
    NoIdentity,
}

/// Decides about a ClientHello for the mesh name `name`. `store` is none when TLS is disabled.
pub(crate) fn judge(name: &str, store: Option<&Store>) -> Judgement {
    match store {
        None => Judgement::NoCredentials,
        Some(store) if store.identity().as_str() != name => Judgement::NotUs,
        Some(store) => store
            .current()
            .map_or(Judgement::NoCredentials, Judgement::Accept),
    }
}

/// Answers the handshake whose first bytes `socket` has seen, with the settings in `config`.
///
/// # Errors
/// [`AcceptError`]; the peer has been told by an alert where that was possible.
pub(crate) async fn accept(
    socket: Socket,
    config: Arc<ServerConfig>,
    bound: Duration,
) -> Result<Accepted, AcceptError> {
    let acceptor = TlsAcceptor::from(config);
    let stream = timeout(bound, acceptor.accept(socket.into_replay()))
        .await
        .map_err(|_| AcceptError::Timeout)?
        .map_err(AcceptError::Handshake)?;
    let (_, connection) = stream.get_ref();
    let peer = peer_identity(connection.peer_certificates()).ok_or(AcceptError::NoIdentity)?;
    let carries = match connection.alpn_protocol() {
        alpn if Shares::from_alpn(alpn).is_some() => Carries::Streams,
        Some(transport_header::ALPN) => Carries::Headed,
        alpn => Carries::One(Verdict::from_alpn(alpn)),
    };
    let (replay, session) = stream.into_inner();
    let (tcp, ahead) = replay.into_parts();
    Ok(Accepted {
        stream: TlsStream::new(tcp, session, ahead),
        peer,
        carries,
    })
}

/// Ends a handshake before it begins, so that the peer knows after one round trip.
pub(crate) async fn refuse(socket: &mut Socket, alert: Alert) {
    let record = [21, 3, 3, 0, 2, 2, alert as u8];
    let told = async {
        socket.write_all(&record).await?;
        socket.shutdown().await
    };
    if let Err(error) = told.await {
        debug!(%error, "the peer has gone before its handshake was refused");
    }
}

/// Fatal alerts, RFC 8446 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alert {
    /// We are the right one and have no certificate.
    HandshakeFailure = 40,
    /// We are not the one that the peer looks for.
    UnrecognizedName = 112,
}
