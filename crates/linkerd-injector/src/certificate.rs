//! The serving certificate, as `linkerd-ca` keeps it. Entry: [`follow`].
//! It comes from a mounted Secret: this process has no permission to read Secrets by the API, and nothing
//! restarts when a new one is written.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use linkerd_names::component::{INJECTOR_CERTIFICATE_KEY, INJECTOR_PRIVATE_KEY_KEY};
use linkerd_process::Readiness;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio::sync::watch;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::metrics::Metrics;

/// How often the files are compared with what is loaded. Kubelet takes a minute to write them.
const POLL: Duration = Duration::from_secs(1);

/// A private key that is wiped on drop.
type Key = Zeroizing<PrivateKeyDer<'static>>;

/// Why the files give no certificate. An older one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or holds something else.
    #[error("{path} is not PEM with what it should hold: {source}")]
    Pem {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key are of different pairs, or the TLS library refuses them.
    #[error("cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Polls the folder and publishes what it holds whenever that changes; ready is who has a certificate.
/// Never returns; a certificate that is bad or gone leaves the old one in force.
pub async fn follow(
    folder: PathBuf,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    readiness: Readiness,
    metrics: Metrics,
) {
    let mut loaded: Option<CertificateDer<'static>> = None;
    let mut told = None;
    loop {
        let path = folder.clone();
        let read = tokio::task::spawn_blocking(move || read(&path))
            .await
            .expect("reading two files does not panic");
        let result = read.and_then(|(certificate, key)| {
            if loaded.as_ref() == Some(&certificate) {
                return Ok(None);
            }
            let config = server_config(certificate.clone(), &key)?;
            Ok(Some((certificate, config)))
        });
        match result {
            Ok(None) => told = None,
            Ok(Some((certificate, config))) => {
                told = None;
                info!("loaded the serving certificate");
                loaded = Some(certificate);
                metrics.certificate_loaded();
                tls.send_replace(Some(Arc::new(config)));
                readiness.set_ready(true);
            }
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    warn!(
                        error = text,
                        has_one = loaded.is_some(),
                        "cannot load the serving certificate"
                    );
                }
                told = Some(text);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Kubelet swaps both files at once, but not between two reads of ours: a certificate and a key that do not
/// fit are refused, and read again a moment later.
fn read(folder: &Path) -> Result<(CertificateDer<'static>, Key), CertificateError> {
    let certificate = parse(&folder.join(INJECTOR_CERTIFICATE_KEY))?;
    let key = parse(&folder.join(INJECTOR_PRIVATE_KEY_KEY)).map(Key::new)?;
    Ok((certificate, key))
}

fn parse<T: PemObject>(path: &Path) -> Result<T, CertificateError> {
    let bytes =
        std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|source| CertificateError::Read {
                path: path.to_owned(),
                source,
            })?;
    T::from_pem_slice(&bytes).map_err(|source| CertificateError::Pem {
        path: path.to_owned(),
        source,
    })
}

fn server_config(
    certificate: CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let pair = CertifiedKey::new(vec![certificate], aws_lc_rs::sign::any_ecdsa_type(key)?);
    pair.keys_match()?;
    let mut tls = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use linkerd_issuer::{LEAF_LIFETIME_DEFAULT, Root};

    use super::*;

    #[test]
    fn a_certificate_and_a_key_of_different_pairs_are_refused() {
        let now = SystemTime::now();
        let root = Root::generate(now).expect("a root");
        let issue = || {
            root.issue_webhook("linkerd-injector", "linkerd", LEAF_LIFETIME_DEFAULT, now)
                .expect("a certificate")
        };
        let (one, other) = (issue(), issue());
        let pem = one.certificate.to_pem();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let with = |key: &str| {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            server_config(certificate.clone(), &key)
        };
        assert!(with(&one.key_pem()).is_ok());
        assert!(with(&other.key_pem()).is_err());
    }
}
