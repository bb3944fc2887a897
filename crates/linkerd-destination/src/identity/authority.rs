//! The root that signs, as `linkerd-ca` keeps it, and the TLS server's own certificate. Entry: [`follow`].
//! The root comes from a mounted Secret: this process has no permission to read Secrets by the API.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use linkerd_issuer::{InvalidRoot, IssueError, LEAF_LIFETIME_DEFAULT, Root};
use linkerd_names::{
    Identity,
    component::{ROOT_CERTIFICATE_KEY, ROOT_PRIVATE_KEY_KEY},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::metrics::IdentityMetrics;

/// How often the files are compared with what is loaded. Kubelet takes a minute to write them.
const POLL: Duration = Duration::from_secs(1);

/// The root in force, and how this process proves itself to those who trust it.
pub struct Authority {
    /// Signs.
    pub root: Root,
    /// For handshakes as the server; clients have no certificate yet, so none is asked for.
    pub tls: Arc<ServerConfig>,
    /// When the certificate in `tls` is due.
    renew_at: SystemTime,
}

/// Why the files give no authority. An older one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key do not make a root.
    #[error(transparent)]
    Root(#[from] InvalidRoot),
    /// The root cannot issue our own certificate.
    #[error("cannot issue the identity service's own certificate: {0}")]
    Issue(#[from] IssueError),
    /// The TLS library refuses the certificate.
    #[error("cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The two PEM texts; the key is wiped on drop.
#[derive(PartialEq, Eq)]
struct Pem {
    certificate: String,
    key: Zeroizing<String>,
}

/// Polls the root's folder and publishes an authority for `own` whenever the root changes or the own
/// certificate is due. Never returns; a root that is bad or gone leaves the old one in force.
pub async fn follow(
    folder: PathBuf,
    own: Identity,
    authority: watch::Sender<Option<Arc<Authority>>>,
    metrics: IdentityMetrics,
) {
    let mut loaded = None;
    let mut told = None;
    loop {
        let path = folder.clone();
        let now = SystemTime::now();
        let read = tokio::task::spawn_blocking(move || read(&path))
            .await
            .expect("reading two files does not panic");
        let result = read.and_then(|pem| {
            let is_due = |held: &Arc<Authority>| held.renew_at <= now;
            if loaded.as_ref() == Some(&pem) && !authority.borrow().as_ref().is_none_or(is_due) {
                return Ok(None);
            }
            let next = Authority::new(&pem.certificate, &pem.key, &own, now)?;
            Ok(Some((pem, next)))
        });
        match result {
            Ok(None) => told = None,
            Ok(Some((pem, next))) => {
                told = None;
                if loaded.as_ref() != Some(&pem) {
                    info!(root_not_after = ?next.root.not_after(), "loaded the root");
                }
                loaded = Some(pem);
                metrics.set_root_not_after(next.root.not_after());
                authority.send_replace(Some(Arc::new(next)));
            }
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    let has_root = authority.borrow().is_some();
                    warn!(error = text, has_root, "cannot load the root");
                }
                told = Some(text);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Authority {
    /// Reads the root, and issues with it this process' own certificate, whose key stays in memory.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn new(
        certificate_pem: &str,
        key_pem: &str,
        own: &Identity,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let root = Root::from_pem(certificate_pem, key_pem, now)?;
        let issued = root.issue_leaf(own, LEAF_LIFETIME_DEFAULT, now)?;
        let renew_at = issued.leaf.renew_at();
        let chain = vec![CertificateDer::from(issued.leaf.as_der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.as_pkcs8_der()));
        let pair = CertifiedKey::new(chain, aws_lc_rs::sign::any_ecdsa_type(&key)?);
        let mut tls = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        // Nobody comes back before its certificate is due.
        tls.send_tls13_tickets = 0;
        Ok(Self {
            root,
            tls: Arc::new(tls),
            renew_at,
        })
    }
}

/// Kubelet swaps both files at once, but not between two reads of ours: a certificate and a key that
/// do not fit are refused by [`Root::from_pem`], and read again a moment later.
fn read(folder: &Path) -> Result<Pem, AuthorityError> {
    let text = |name| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|source| AuthorityError::Read { path, source })
    };
    Ok(Pem {
        certificate: text(ROOT_CERTIFICATE_KEY)?,
        key: Zeroizing::new(text(ROOT_PRIVATE_KEY_KEY)?),
    })
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}
