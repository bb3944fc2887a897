//! The proxy's certificate, key and trust: checked together, published whole. Entry: [`Watch`] when
//! they are files; `renewal.rs` publishes those of the identity service. Old credentials stay in force when new ones are bad.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use linkerd_issuer::{Anchor, Leaf};
use linkerd_names::Identity;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zeroize::Zeroize;

use super::{
    Offer, REQUESTS, Shares, Verdict,
    files::{self, Contents, ReadError},
    provider,
    sessions::Sessions,
    verify::{self, ExactName},
};
use crate::{
    config::TlsFiles,
    metrics::{Metrics, ReloadStatus},
    transport_header,
};

/// One generation of credentials: everything that a handshake needs.
pub(crate) struct Credentials {
    /// Counts up with every reload.
    pub(crate) generation: u64,
    /// For handshakes as the server.
    pub(crate) server: Arc<ServerConfig>,
    /// The same for ports that are never parsed: no requests of HTTP/2, but the bytes that carry them.
    pub(crate) opaque: Arc<ServerConfig>,
    /// For handshakes at the proxy's own ports, which take one client's bytes and nothing around them.
    pub(super) own_ports: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; Verdict::ALL.len()],
    /// For requests of HTTP/2.
    requests: Arc<ClientConfig>,
    /// For handshakes as the client with a header behind them.
    pub(super) headed: Arc<ClientConfig>,
    pub(super) sessions: Arc<Sessions>,
    not_after: SystemTime,
}

impl Credentials {
    /// The settings of a handshake that announces `verdict`; the offer counts for HTTP/2 alone.
    pub(super) fn client(&self, verdict: Verdict, offer: Offer) -> Arc<ClientConfig> {
        let config = match (verdict, offer) {
            (REQUESTS, Offer::Streams) => &self.requests,
            _ => &self.clients[verdict.index()],
        };
        config.clone()
    }
}

/// Looks at the files of credentials.
pub(crate) struct Watch {
    store: Arc<Store>,
    files: TlsFiles,
    metrics: Arc<Metrics>,
    last: Last,
}

impl Watch {
    pub(crate) fn new(store: Arc<Store>, files: TlsFiles, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            files,
            metrics,
            last: Last::default(),
        }
    }

    /// Polls the files and publishes every valid change, until `shutdown`.
    pub(crate) async fn run(mut self, poll: Duration, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(poll) => self.look().await,
            }
        }
    }

    /// Reads the files once and publishes what is new and valid.
    pub(crate) async fn look(&mut self) {
        let paths = self.files.clone();
        match tokio::task::spawn_blocking(move || files::read(&paths)).await {
            Ok(read) => self.store.consider(read, &mut self.last, &self.metrics),
            Err(error) => warn!(%error, "cannot read the credentials"),
        }
    }
}

/// Where the current credentials are found.
pub(crate) struct Store {
    identity: Identity,
    current: ArcSwapOption<Credentials>,
    /// Told of every generation.
    published: watch::Sender<()>,
    generation: AtomicU64,
}

/// Why credentials were refused. The old ones stay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = .0.path.display(), source = .0.source)]
    Read(ReadError),
    /// The bundle holds no certificate that can be trusted.
    #[error("the trust anchors hold no valid certificate")]
    NoTrustAnchors,
    /// The key is no PKCS#8 key of a known kind.
    #[error("the private key is not valid")]
    InvalidKey,
    /// Key and certificate are not a pair.
    #[error("the private key does not fit the certificate")]
    WrongKey,
    /// The chain, the name or the time is wrong.
    #[error("the certificate is not valid for {identity}: {source}")]
    InvalidCertificate {
        /// Whose it should be.
        identity: Identity,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl Store {
    pub(crate) fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            identity,
            current: ArcSwapOption::empty(),
            published: watch::Sender::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// Whose credentials these are.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The credentials for the next handshake; none before the first are loaded, and after they expired.
    pub(crate) fn current(&self) -> Option<Arc<Credentials>> {
        self.current
            .load_full()
            .filter(|credentials| SystemTime::now() < credentials.not_after)
    }

    /// The generation of the credentials in force; 0 = none yet.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Returns once there are credentials for a handshake: at once when they are there, else with the next
    /// ones. Those that have expired are none.
    pub(crate) async fn loaded(&self) {
        let mut published = self.published.subscribe();
        let are_there = |_: &()| self.current().is_some();
        // The sender lives in self, so it cannot be gone.
        drop(published.wait_for(are_there).await);
    }

    fn consider(&self, read: Result<Contents, ReadError>, last: &mut Last, metrics: &Metrics) {
        let changed = read
            .as_ref()
            .is_ok_and(|contents| last.contents.as_ref() != Some(contents));
        // Bad contents are judged again and again: time alone can make them good.
        if read.is_ok() && !changed && last.error.is_none() {
            return;
        }
        let result = match read {
            Ok(contents) => {
                let result = self.publish(&contents, metrics);
                last.contents = Some(contents);
                result
            }
            Err(error) => Err(ReloadError::Read(error)),
        };
        match result {
            Ok(()) => last.error = None,
            Err(error) => {
                let text = error.to_string();
                if changed {
                    last.error = None;
                }
                if last.error.as_ref() != Some(&text) {
                    metrics.tls.reload(error.status());
                }
                self.tell_failure(&text, &mut last.error);
            }
        }
    }

    /// Checks new credentials and puts them in force, whole.
    ///
    /// # Errors
    /// [`ReloadError`]; the old ones stay in force then.
    pub(super) fn publish(
        &self,
        contents: &Contents,
        metrics: &Metrics,
    ) -> Result<(), ReloadError> {
        let credentials = self.load(contents)?;
        metrics.tls.reload(ReloadStatus::Reloaded);
        // What is accepted and is not of our shape works, and nobody knows when it is renewed.
        if let Ok(leaf) = Leaf::parse(&contents.certificate) {
            let anchors = CertificateDer::pem_slice_iter(&contents.trust_anchors);
            let anchor = Anchor::of(&leaf, anchors.filter_map(Result::ok));
            metrics.tls.in_use(&leaf, anchor);
        }
        let generation = credentials.generation;
        let valid_for = credentials.not_after.duration_since(SystemTime::now());
        let hours = valid_for.unwrap_or_default().as_secs() / 3_600;
        self.current.store(Some(Arc::new(credentials)));
        self.generation.store(generation, Relaxed);
        self.published.send_replace(());
        info!(identity = %self.identity, generation, valid_for_hours = hours, "loaded credentials");
        Ok(())
    }

    /// Logs why there are no new credentials, unless `told` says the same.
    pub(super) fn tell_failure(&self, text: &str, told: &mut Option<String>) {
        if told.as_deref() == Some(text) {
            return;
        }
        if self.current.load().is_some() {
            warn!(
                error = text,
                "cannot load new credentials; the old ones stay in force"
            );
        } else {
            info!(reason = text, "no credentials yet");
        }
        *told = Some(text.to_owned());
    }

    fn load(&self, contents: &Contents) -> Result<Credentials, ReloadError> {
        let provider = provider();
        let roots = Arc::new(trust_anchors(&contents.trust_anchors)?);
        let invalid = |source| ReloadError::InvalidCertificate {
            identity: self.identity.clone(),
            source,
        };
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|_| ReloadError::NoTrustAnchors)?;
        let servers = Arc::new(ExactName(servers));
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .clear_root_hint_subjects()
            .build()
            .map_err(|_| ReloadError::NoTrustAnchors)?;

        let certificate = CertificateDer::from(contents.certificate.clone());
        let now = UnixTime::now();
        let name = ServerName::try_from(self.identity.as_str().to_owned())
            .map_err(|error| invalid(rustls::Error::General(error.to_string())))?;
        servers
            .verify_server_cert(&certificate, &[], &name, &[], now)
            .map_err(invalid)?;
        clients
            .verify_client_cert(&certificate, &[], now)
            .map_err(invalid)?;
        let not_after = not_after(&certificate)
            .ok_or_else(|| invalid(rustls::CertificateError::BadEncoding.into()))?;

        let mut key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(contents.private_key.to_vec()));
        let signer = provider.key_provider.load_private_key(key.clone_key());
        key.zeroize();
        let signer = signer.map_err(|_| ReloadError::InvalidKey)?;
        let pair = CertifiedKey::new(vec![certificate], signer);
        pair.keys_match().map_err(|_| ReloadError::WrongKey)?;
        let pair = Arc::new(SingleCertAndKey::from(pair));

        let sessions = Sessions::new();
        let client = |alpn: &mut dyn Iterator<Item = &[u8]>| {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("the provider has suites of TLS 1.3")
                .dangerous()
                .with_custom_certificate_verifier(servers.clone())
                .with_client_cert_resolver(pair.clone());
            config.alpn_protocols = alpn.map(<[u8]>::to_vec).collect();
            config.resumption = Resumption::store(sessions.clone());
            Arc::new(config)
        };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_cert_resolver(pair.clone());
        // One ticket is enough to say "accepted" and to resume once; each costs a hash and a write.
        server.send_tls13_tickets = 1;
        server.alpn_protocols = Verdict::ALL.map(|verdict| verdict.alpn().to_vec()).into();
        let own_ports = server.clone();
        server.alpn_protocols.push(transport_header::ALPN.to_vec());
        // The server's order counts: who can share a connection does.
        let mut opaque = server.clone();
        opaque
            .alpn_protocols
            .insert(0, Shares::Bytes.alpn().to_vec());
        let shares = Shares::ALL.map(|shares| shares.alpn().to_vec());
        server.alpn_protocols.splice(0..0, shares);
        Ok(Credentials {
            generation: self.generation() + 1,
            server: Arc::new(server),
            opaque: Arc::new(opaque),
            own_ports: Arc::new(own_ports),
            clients: Verdict::ALL.map(|verdict| {
                let shares = Shares::ALL.into_iter().filter(|_| verdict.may_share());
                client(&mut shares.map(Shares::alpn).chain([verdict.alpn()]))
            }),
            requests: client(&mut [Shares::Requests.alpn(), REQUESTS.alpn()].into_iter()),
            headed: client(&mut [transport_header::ALPN].into_iter()),
            sessions,
            not_after,
        })
    }
}

#[derive(Default)]
struct Last {
    contents: Option<Contents>,
    error: Option<String>,
}

impl ReloadError {
    pub(super) fn status(&self) -> ReloadStatus {
        match self {
            Self::Read(error) => ReloadStatus::io_error(error.path.display(), &error.source),
            Self::NoTrustAnchors => ReloadStatus::InvalidTrustAnchors,
            Self::InvalidKey | Self::WrongKey => ReloadStatus::InvalidPrivateKey,
            Self::InvalidCertificate { .. } => ReloadStatus::InvalidEndEntityCertificate,
        }
    }
}

/// Certificates that cannot be roots are left out with a warning; one good one is enough.
pub(super) fn trust_anchors(pem: &[u8]) -> Result<RootCertStore, ReloadError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        if let Err(error) = added {
            warn!(%error, "skipping a trust anchor that is not valid");
        }
    }
    if roots.is_empty() {
        Err(ReloadError::NoTrustAnchors)
    } else {
        Ok(roots)
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The identity that the peer of a finished handshake has proved.
pub(super) fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<Identity> {
    verify::identity(certificates?.first()?)
}
