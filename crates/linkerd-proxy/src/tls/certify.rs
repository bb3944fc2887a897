//! Asks the identity service for one certificate. Entry: [`certify`].
//! The token goes to whoever proves to be the service, over TLS, and to nobody else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use linkerd_proto::identity::{CertifyRequest, identity_client::IdentityClient};
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{provider, stream::TlsStream, verify::ExactName};
use crate::{
    config::{Limits, TlsService},
    control::absolute,
    grpc::Channel,
    http::http2::{Http2, Pings},
    io::{Socket, Transport},
};

/// An answer has about 1 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// None: the whole question has a limit in time.
const PINGS: Pings = Pings {
    interval: Duration::from_secs(3600),
    timeout: Duration::from_secs(3600),
    when_idle: false,
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertifyError {
    #[error("cannot resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("cannot resolve {host}: it has no address")]
    NoAddress { host: String },
    #[error("cannot connect to the identity service at {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the identity service's name or the trust anchors are not usable: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the connection to the identity service broke: {0}")]
    Http(#[from] h2::Error),
    #[error("the identity service closed the connection")]
    Closed,
    #[error("the identity service refused: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    #[error("the identity service did not answer within {0:?}")]
    Timeout(Duration),
}

/// Returns the certificate, DER, that the service issues for `request`; it is not checked here.
///
/// # Errors
/// [`CertifyError`]; within [`Limits::certify_timeout`].
pub(super) async fn certify(
    service: &TlsService,
    roots: Arc<RootCertStore>,
    token: &[u8],
    request: Vec<u8>,
    limits: &Limits,
) -> Result<Bytes, CertifyError> {
    let bound = limits.certify_timeout;
    let asked = async {
        let socket = connect(service, roots, limits.connect_timeout).await?;
        ask(service, socket, token, request, limits).await
    };
    timeout(bound, asked)
        .await
        .map_err(|_| CertifyError::Timeout(bound))?
}

/// Connects to the first address that proves to be the service.
async fn connect(
    service: &TlsService,
    roots: Arc<RootCertStore>,
    connect_timeout: Duration,
) -> Result<Socket, CertifyError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ExactName(verifier)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(service.server.as_str().to_owned())
        .map_err(|error| rustls::Error::General(error.to_string()))?;

    let host = absolute(&service.host);
    let addresses = tokio::net::lookup_host((host.as_str(), service.port)).await;
    let addresses = addresses.map_err(|source| CertifyError::Resolve {
        host: host.clone(),
        source,
    })?;
    let mut last = CertifyError::NoAddress { host: host.clone() };
    for address in addresses {
        let connected = match timeout(connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => connector.connect(name.clone(), socket).await,
            Ok(Err(source)) => Err(source),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match connected {
            Ok(stream) => {
                let (tcp, session) = stream.into_inner();
                let stream = TlsStream::new(tcp, session, BytesMut::new());
                return Ok(Socket::new(Transport::Tls(Box::new(stream))));
            }
            Err(source) => last = CertifyError::Connect { address, source },
        }
    }
    Err(last)
}

async fn ask(
    service: &TlsService,
    socket: Socket,
    token: &[u8],
    request: Vec<u8>,
    limits: &Limits,
) -> Result<Bytes, CertifyError> {
    let (sender, connection) = Http2::over(socket, limits, Some(PINGS)).await?;
    let origin = format!("http://{}:{}", service.host, service.port);
    let origin = origin
        .parse()
        .unwrap_or_else(|_| http::Uri::from_static("http://identity"));
    let mut client = IdentityClient::with_origin(Channel(sender), origin)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    let question = CertifyRequest {
        identity: service.identity.to_string(),
        token: Bytes::copy_from_slice(token.trim_ascii()),
        certificate_signing_request: request.into(),
    };
    // The connection is driven here, so that it is gone when this function is left.
    tokio::select! {
        answer = client.certify(question) => match answer {
            Ok(answer) => Ok(answer.into_inner().leaf_certificate),
            Err(status) => Err(CertifyError::Refused(Box::new(status))),
        },
        ended = connection => {
            ended?;
            Err(CertifyError::Closed)
        }
    }
}
