//! An identity service that answers as it is told to, and remembers what it was asked.

use std::{path::Path, sync::Arc, time::Duration};

use linkerd_issuer::{Root, SigningRequest};
use linkerd_names::Identity;
use linkerd_proto::identity::{
    CertifyRequest, CertifyResponse,
    identity_server::{Identity as Service, IdentityServer},
};
use linkerd_proxy::{Config, Limits, TlsService, TlsSource};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// What it answers: the certificate for a request, or the refusal.
pub type Answer = Result<Vec<u8>, Status>;
pub type Rule = Box<dyn Fn(&SigningRequest) -> Answer + Send>;

#[derive(Clone)]
pub struct IdentityService {
    pub port: u16,
    asked: Arc<parking_lot::Mutex<Vec<CertifyRequest>>>,
    rule: Arc<parking_lot::Mutex<Rule>>,
}

/// The name that the service proves unless a test says otherwise.
pub fn own_name() -> Identity {
    super::identity("linkerd-destination")
}

/// Issues as the real service does.
pub fn honest(root: &Arc<Root>, lifetime: Duration) -> impl Fn(&SigningRequest) -> Answer + use<> {
    let root = root.clone();
    move |request| {
        let now = std::time::SystemTime::now();
        let leaf = root.issue_from_request(request, lifetime, now).unwrap();
        Ok(leaf.as_der().to_vec())
    }
}

/// Starts a service that proves `name` with a certificate of `root`.
pub async fn start(
    root: &Root,
    name: &Identity,
    rule: impl Fn(&SigningRequest) -> Answer + Send + 'static,
) -> IdentityService {
    let day = Duration::from_secs(24 * 3600);
    let own = root
        .issue_leaf(name, day, std::time::SystemTime::now())
        .unwrap();
    let key = PrivatePkcs8KeyDer::from(own.key.as_pkcs8_der().to_vec());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(own.leaf.as_der().to_vec())],
            PrivateKeyDer::Pkcs8(key),
        )
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = IdentityService {
        port: listener.local_addr().unwrap().port(),
        asked: Arc::default(),
        rule: Arc::new(parking_lot::Mutex::new(Box::new(rule))),
    };
    let server = IdentityServer::new(service.clone());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // A client that does not trust us goes away.
                let Ok(socket) = acceptor.accept(socket).await else {
                    return;
                };
                let executor = hyper_util::rt::TokioExecutor::new();
                let served = hyper::server::conn::http2::Builder::new(executor).serve_connection(
                    hyper_util::rt::TokioIo::new(socket),
                    hyper_util::service::TowerToHyperService::new(server),
                );
                drop(served.await);
            });
        }
    });
    service
}

impl IdentityService {
    /// The questions so far.
    pub fn asked(&self) -> Vec<CertifyRequest> {
        self.asked.lock().clone()
    }

    /// Changes what is answered from now on.
    pub fn answer(&self, rule: impl Fn(&SigningRequest) -> Answer + Send + 'static) {
        *self.rule.lock() = Box::new(rule);
    }

    /// A proxy that gets its certificates here; `folder` has its trust anchors and its token.
    pub fn configure(&self, mut config: Config, folder: &Path, identity: &Identity) -> Config {
        config.tls = Some(TlsSource::Service(TlsService {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            server: own_name(),
            token: folder.join("token"),
            trust_anchors: folder.join("trust-anchors.pem"),
            identity: identity.clone(),
        }));
        config.limits = Limits {
            certify_backoff: (Duration::from_millis(5), Duration::from_millis(50)),
            ..config.limits
        };
        config
    }
}

#[tonic::async_trait]
impl Service for IdentityService {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let question = request.into_inner();
        let request = SigningRequest::parse(&question.certificate_signing_request).unwrap();
        self.asked.lock().push(question);
        let leaf_certificate = (self.rule.lock())(&request)?.into();
        Ok(Response::new(CertifyResponse {
            leaf_certificate,
            ..CertifyResponse::default()
        }))
    }
}
