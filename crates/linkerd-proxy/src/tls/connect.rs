//! Connects to an endpoint: mutual TLS when it can be had, else plaintext with the reason.
//! Entry: [`connect`]. A peer that proves to be somebody else is never spoken to.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use linkerd_names::{Identity, NoTls, Tls};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage};
use rustls_pki_types::ServerName;
use tokio::{io::AsyncBufRead, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::{debug, info};

use super::{Offer, REQUESTS, Shares, Verdict, credentials::Credentials, headed, sessions::Ticket};
use crate::{
    endpoint::Endpoint,
    io::{Socket, Transport},
    metrics::Direction,
    mux::{self, Waited},
    shared::Shared,
    tcp,
};

/// A connection to an endpoint, and what became of TLS on it.
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    pub(crate) tls: Tls,
    /// The credentials' generation; 0 = none were there.
    pub(crate) generation: u64,
    /// TLS is worth another attempt after this; none when the outcome is for good.
    pub(crate) retry_tls_at: Option<Instant>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect: {0}")]
    Tcp(#[source] io::Error),
    #[error("cannot connect: no answer in time")]
    Timeout,
    #[error("the endpoint is not {0}: it proved another identity")]
    NotThePeer(Identity),
    #[error("the endpoint has gone")]
    Gone,
    #[error("the endpoint is this proxy itself")]
    Loop,
}

enum HandshakeError {
    /// Somebody else is there.
    NotThePeer,
    /// Plaintext may do.
    Failed {
        reason: NoTls,
        error: String,
        /// The peer sent something else than TLS: perhaps the greeting of its application, because
        /// our ClientHello was late.
        met_plaintext: bool,
    },
}

/// Connects to `endpoint` and announces `verdict` to a proxy of ours.
///
/// # Errors
/// [`ConnectError`]; never because of TLS alone, unless the peer is not the one it should be.
pub(crate) async fn connect(
    shared: &Shared,
    direction: Direction,
    endpoint: &Endpoint,
    verdict: Verdict,
) -> Result<Connected, ConnectError> {
    let opened = Instant::now();
    let connected = match &endpoint.identity {
        Some(identity) if verdict.may_share() => {
            share_or_dial(shared, endpoint, identity, verdict).await?
        }
        _ => dial(shared, endpoint, verdict, Offer::One).await?,
    };
    Ok(metered(shared, direction, endpoint, opened, connected))
}

/// A way for requests of HTTP/2.
pub(crate) enum ForRequests {
    /// A stream for one request; what became of TLS below it.
    Stream(mux::Stream, Tls),
    /// A connection on which to speak HTTP/2.
    Connection(Connected),
}

/// Connects to `endpoint` for requests of HTTP/2: to a proxy of ours, by a stream of a shared connection.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn for_requests(
    shared: &Shared,
    direction: Direction,
    endpoint: &Endpoint,
) -> Result<ForRequests, ConnectError> {
    let opened = Instant::now();
    let connected = match &endpoint.identity {
        Some(identity) => share_or_dial(shared, endpoint, identity, REQUESTS).await?,
        None => dial(shared, endpoint, REQUESTS, Offer::One).await?,
    };
    let tls = connected.tls.clone();
    Ok(match connected.socket.into_stream() {
        Ok(stream) => ForRequests::Stream(stream, tls),
        Err(socket) => {
            let connected = Connected {
                socket,
                ..connected
            };
            let connected = metered(shared, direction, endpoint, opened, connected);
            ForRequests::Connection(connected)
        }
    })
}

/// A stream for one request of HTTP/2 on a connection that is there already.
pub(crate) fn request_stream(shared: &Shared, endpoint: &Endpoint) -> Option<(mux::Stream, Tls)> {
    let identity = endpoint.identity.as_ref()?;
    let generation = shared.credentials.as_ref()?.current()?.generation;
    let stream = endpoint.shared.stream(REQUESTS, generation)?;
    Some((stream, Tls::On(identity.clone())))
}

fn metered(
    shared: &Shared,
    direction: Direction,
    endpoint: &Endpoint,
    opened: Instant,
    connected: Connected,
) -> Connected {
    let series = shared.metrics.tcp.to_endpoint(
        direction,
        &endpoint.labels.rendered,
        (&connected.tls).into(),
    );
    Connected {
        socket: connected.socket.metered(series, opened),
        ..connected
    }
}

/// A stream on a shared connection, or a new connection. A burst of clients makes one; but when that
/// cannot be shared, or cannot be made, nobody waits for the attempt of a second one.
async fn share_or_dial(
    shared: &Shared,
    endpoint: &Endpoint,
    identity: &Identity,
    verdict: Verdict,
) -> Result<Connected, ConnectError> {
    loop {
        let Some(credentials) = shared
            .credentials
            .as_ref()
            .and_then(|store| store.current())
        else {
            // Nothing can be shared without, so nobody waits for anybody.
            return dial(shared, endpoint, verdict, Offer::Streams).await;
        };
        let generation = credentials.generation;
        if let Some(stream) = endpoint.shared.stream(verdict, generation) {
            return Ok(Connected {
                socket: Socket::new(Transport::Shared(stream)),
                tls: Tls::On(identity.clone()),
                generation,
                retry_tls_at: None,
            });
        }
        // Held across the dial on purpose; every step of it has a time limit.
        match endpoint.shared.turn().await {
            Waited::Turn(turn) => {
                let connected = dial(shared, endpoint, verdict, Offer::Streams).await;
                turn.end();
                return connected;
            }
            Waited::InVain => return dial(shared, endpoint, verdict, Offer::Streams).await,
            Waited::Made => {}
        }
    }
}

/// Makes a connection.
async fn dial(
    shared: &Shared,
    endpoint: &Endpoint,
    verdict: Verdict,
    offer: Offer,
) -> Result<Connected, ConnectError> {
    if let Some(connected) = headed::dial(shared, endpoint, verdict).await {
        return Ok(connected);
    }
    let stream = dial_tcp(shared, endpoint).await?;
    let (identity, credentials) = match plan(shared, endpoint, &stream) {
        Plan::Plain(reason, retry_tls_at, generation) => {
            return Ok(plain(stream, reason, retry_tls_at, generation));
        }
        Plan::Handshake(identity, credentials) => (identity, credentials),
    };
    let generation = credentials.generation;
    let config = credentials.client(verdict, offer);
    let mut shaken = handshake(shared, endpoint, &identity, &credentials, &config, stream).await;
    if let Err(HandshakeError::Failed {
        met_plaintext: true,
        ..
    }) = shaken
    {
        debug!(endpoint = %endpoint.address, "met plaintext: handshaking once more");
        let stream = dial_tcp(shared, endpoint).await?;
        shaken = handshake(shared, endpoint, &identity, &credentials, &config, stream).await;
    }
    match shaken {
        Ok(stream) => {
            endpoint.handshake.succeeded(generation);
            if stream.get_ref().1.alpn_protocol().is_none() {
                endpoint.handshake.met_foreigner();
                if let Some(connected) = headed::dial(shared, endpoint, verdict).await {
                    return Ok(connected);
                }
            }
            let transport = encrypted(shared, endpoint, stream, verdict, generation);
            Ok(Connected {
                socket: Socket::new(transport),
                tls: Tls::On(identity),
                generation,
                retry_tls_at: None,
            })
        }
        Err(HandshakeError::NotThePeer) => {
            info!(endpoint = %endpoint.address, expected = %identity, "another identity");
            Err(ConnectError::NotThePeer(identity))
        }
        Err(HandshakeError::Failed {
            reason,
            error,
            met_plaintext: _,
        }) => {
            let limits = &shared.config.limits;
            let retry_at = endpoint.handshake.failed(
                limits.handshake_backoff_min,
                limits.handshake_backoff_max,
                Instant::now(),
            );
            info!(endpoint = %endpoint.address, %identity, reason = reason.as_str(), %error,
                "no TLS: falling back to plaintext");
            if endpoint.is_gone() {
                return Err(ConnectError::Gone);
            }
            let stream = dial_tcp(shared, endpoint).await?;
            Ok(plain(stream, reason, Some(retry_at), generation))
        }
    }
}

/// What the handshake has agreed on: a connection to share, or one for this client alone.
fn encrypted(
    shared: &Shared,
    endpoint: &Endpoint,
    stream: TlsStream<TcpStream>,
    verdict: Verdict,
    generation: u64,
) -> Transport {
    let (tcp, session) = stream.into_inner();
    let carries = Shares::from_alpn(session.alpn_protocol());
    let stream = super::stream::TlsStream::new(tcp, session, BytesMut::new());
    let Some(carries) = carries else {
        return Transport::Tls(Box::new(stream));
    };
    let limits = &shared.config.limits;
    let (connection, stream) = mux::Connection::new(
        stream,
        endpoint.address,
        carries,
        limits.shared_streams_max,
        limits.shared_idle,
        verdict,
    );
    if !endpoint.is_gone() {
        endpoint.shared.keep(connection, generation);
    }
    Transport::Shared(stream)
}

enum Plan {
    Plain(NoTls, Option<Instant>, u64),
    Handshake(Identity, Arc<Credentials>),
}

fn plan(shared: &Shared, endpoint: &Endpoint, stream: &TcpStream) -> Plan {
    let Some(identity) = &endpoint.identity else {
        return Plan::Plain(endpoint.no_identity, None, 0);
    };
    if is_own_pod(stream) {
        return Plan::Plain(NoTls::Loopback, None, 0);
    }
    let Some(store) = &shared.credentials else {
        return Plan::Plain(NoTls::Disabled, None, 0);
    };
    let Some(credentials) = store.current() else {
        return Plan::Plain(NoTls::NoCredentials, None, 0);
    };
    match endpoint.handshake.paused_until() {
        Some(until) => Plan::Plain(NoTls::HandshakeBackoff, Some(until), credentials.generation),
        None => Plan::Handshake(identity.clone(), credentials),
    }
}

/// A connection to one of the pod's own addresses does not pass the inbound proxy.
fn is_own_pod(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip(),
        _ => false,
    }
}

fn plain(
    stream: TcpStream,
    reason: NoTls,
    retry_tls_at: Option<Instant>,
    generation: u64,
) -> Connected {
    let socket = Socket::new(Transport::Tcp(stream));
    Connected {
        socket,
        tls: Tls::Off(reason),
        generation,
        retry_tls_at,
    }
}

async fn dial_tcp(shared: &Shared, endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
    if shared.is_own_listener(endpoint.address) {
        return Err(ConnectError::Loop);
    }
    let stream = timeout(
        endpoint.connect_timeout(&shared.config.limits),
        tcp::connect(endpoint.address),
    )
    .await
    .map_err(|_| ConnectError::Timeout)?
    .map_err(ConnectError::Tcp)?;
    // The pod's own application does not vanish without a word.
    if endpoint.no_identity != NoTls::Loopback {
        tcp::keep_alive(&stream);
    }
    Ok(stream)
}

async fn handshake(
    shared: &Shared,
    endpoint: &Endpoint,
    identity: &Identity,
    credentials: &Credentials,
    config: &Arc<ClientConfig>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let bound = shared.config.limits.handshake_timeout;
    match timeout(
        bound,
        shake_hands(endpoint, identity, credentials, config, stream),
    )
    .await
    {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(classify(&error)),
        Err(_) => Err(HandshakeError::Failed {
            reason: NoTls::HandshakeTimeout,
            error: format!("{bound:?} passed"),
            met_plaintext: false,
        }),
    }
}

async fn shake_hands(
    endpoint: &Endpoint,
    identity: &Identity,
    credentials: &Credentials,
    config: &Arc<ClientConfig>,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(identity.as_str().to_owned()).map_err(io::Error::other)?;
    if endpoint.handshake.was_accepted(credentials.generation) {
        let connector = TlsConnector::from(config.clone());
        return connector.connect(name, stream).await;
    }
    let (ticket, config) = Ticket::awaited(&credentials.sessions, config);
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    let is_ours = stream.get_ref().1.alpn_protocol().is_some();
    if is_ours {
        accepted(&mut stream, &ticket).await?;
        debug!(endpoint = %endpoint.address, "the peer has accepted our certificate");
    }
    Ok(stream)
}

/// Waits for the ticket by which a proxy of ours says that it has verified our certificate. Needed
/// once an endpoint and generation: without it a refusal would come only after the first request.
async fn accepted(stream: &mut TlsStream<TcpStream>, ticket: &Ticket) -> io::Result<()> {
    poll_fn(|cx| match Pin::new(&mut *stream).poll_fill_buf(cx) {
        Poll::Ready(Ok([])) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending if ticket.has_come() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}

fn classify(error: &io::Error) -> HandshakeError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (reason, met_plaintext) = match inner {
        Some(
            rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)
            | rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ),
        ) => return HandshakeError::NotThePeer,
        Some(rustls::Error::InvalidCertificate(_)) => (NoTls::CertificateInvalid, false),
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            (NoTls::HandshakeFailed, true)
        }
        _ => (NoTls::HandshakeFailed, false),
    };
    HandshakeError::Failed {
        reason,
        error: error.to_string(),
        met_plaintext,
    }
}

/// A pause between handshakes that fail, doubled each time, with up to a quarter of jitter.
pub(crate) fn backoff(failures: u32, min: Duration, max: Duration) -> Duration {
    let pause = min.saturating_mul(1 << failures.min(16)).min(max);
    pause.mul_f64(rand::random_range(0.75..=1.0))
}
