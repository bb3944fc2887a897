//! Credentials from the identity service: a key that is made here and never leaves, with a certificate
//! that is renewed in time. Entry: [`Renewal::run`]. Every certificate has a key of its own; the trust
//! anchors come from a file and are followed. Old credentials stay in force when new ones are bad.

use std::{path::Path, sync::Arc, time::SystemTime};

use linkerd_issuer::{InvalidLeaf, IssueError, Leaf, NewRequest};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::{
    certify::{CertifyError, certify},
    connect::backoff,
    credentials::{ReloadError, Store, trust_anchors},
    files::{Contents, ReadError, read_file},
};
use crate::{
    config::{Limits, TlsService},
    metrics::{Metrics, ReloadStatus},
};

/// Keeps the store's credentials fresh.
pub(crate) struct Renewal {
    pub(crate) store: Arc<Store>,
    pub(crate) service: TlsService,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
}

/// What is in force, and until when it is kept.
struct Held {
    contents: Contents,
    renew_at: SystemTime,
}

/// Why there are no new credentials.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("cannot read {path}: {source}", path = .0.path.display(), source = .0.source)]
    Read(ReadError),
    #[error("cannot make a key: {0}")]
    Key(#[from] IssueError),
    #[error(transparent)]
    Certify(#[from] CertifyError),
    #[error("the identity service's answer is not a certificate of the mesh: {0}")]
    Shape(#[from] InvalidLeaf),
    #[error(transparent)]
    Refused(#[from] ReloadError),
}

impl Renewal {
    /// Asks for a certificate at once and whenever one is due, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let (min, max) = self.limits.certify_backoff;
        let mut failures = 0;
        let mut due_at_once = 0;
        let mut told = None;
        loop {
            match self.renew().await {
                Ok(held) if SystemTime::now() < held.renew_at => {
                    failures = 0;
                    due_at_once = 0;
                    told = None;
                    self.hold(held).await;
                }
                Ok(_) => {
                    if due_at_once == 0 {
                        warn!(
                            "the new certificate is to be renewed at once: this clock is ahead of its issuer's"
                        );
                    }
                    told = None;
                    sleep(backoff(due_at_once, min, max)).await;
                    due_at_once += 1;
                }
                Err(error) => {
                    // Files that kubelet has not written yet are looked for often, and counted once.
                    let is_read = matches!(error, RenewalError::Read(_));
                    let text = error.to_string();
                    if !is_read || told.as_ref() != Some(&text) {
                        self.metrics.tls.reload(error.status());
                    }
                    self.store.tell_failure(&text, &mut told);
                    let pause = if is_read {
                        self.limits.credentials_poll
                    } else {
                        backoff(failures, min, max)
                    };
                    failures += 1;
                    sleep(pause).await;
                }
            }
        }
    }

    /// Makes a key, has it certified, and publishes both; or leaves everything as it is.
    async fn renew(&self) -> Result<Held, RenewalError> {
        let service = &self.service;
        let anchors = read(&service.trust_anchors).await?;
        let token = Zeroizing::new(read(&service.token).await?);
        let roots = Arc::new(trust_anchors(&anchors)?);
        let NewRequest { key, der } = NewRequest::generate(&service.identity)?;
        let certificate = certify(service, roots, &token, der, &self.limits).await?;
        let renew_at = Leaf::parse(&certificate)?.renew_at();
        let contents = Contents {
            trust_anchors: anchors,
            certificate: certificate.to_vec(),
            private_key: Zeroizing::new(key.as_pkcs8_der().to_vec()),
        };
        self.store.publish(&contents, &self.metrics)?;
        Ok(Held { contents, renew_at })
    }

    /// Returns when the certificate is due, or is not one of the trust anchors' any more. The clock on the
    /// wall is looked at often, because it may jump.
    async fn hold(&self, mut held: Held) {
        while SystemTime::now() < held.renew_at {
            sleep(self.limits.credentials_poll).await;
            let anchors = match read(&self.service.trust_anchors).await {
                Ok(anchors) if anchors != held.contents.trust_anchors => anchors,
                Ok(_) => continue,
                Err(error) => {
                    debug!(%error, "cannot read the trust anchors; the old ones stay in force");
                    continue;
                }
            };
            held.contents.trust_anchors = anchors;
            if let Err(error) = self.store.publish(&held.contents, &self.metrics) {
                warn!(%error, "the trust anchors have changed: asking for another certificate");
                return;
            }
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, RenewalError> {
    let path = path.to_path_buf();
    tokio::task::spawn_blocking(move || read_file(&path))
        .await
        .expect("reading a file does not panic")
        .map_err(RenewalError::Read)
}

impl RenewalError {
    fn status(&self) -> ReloadStatus {
        match self {
            Self::Read(error) => ReloadStatus::io_error(error.path.display(), &error.source),
            Self::Key(_) => ReloadStatus::InvalidPrivateKey,
            Self::Certify(_) => ReloadStatus::CertifyFailed,
            Self::Shape(_) => ReloadStatus::InvalidEndEntityCertificate,
            Self::Refused(error) => error.status(),
        }
    }
}
