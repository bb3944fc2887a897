//! The certificate authority: one self-signed certificate and its key.
//! Entry: [`Root::generate`], and [`Root::from_pem`] for what was stored or what a user made.

use std::{fmt, time::SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::{
    CLOCK_SKEW_MAX, ROOT_LIFETIME, TrustBundle,
    bundle::{self, certificates_in},
    key::{self, SecretKeyPair},
    leaf::parse_one,
    signing::{IssueError, random_serial},
    time,
};

/// Common name of the roots that we make; Linkerd v18.8 used the same one.
const COMMON_NAME: &str = "Cluster-local Managed Pod CA";

/// A root that can issue. Never printed, its key is wiped on drop.
pub struct Root {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, SecretKeyPair>,
    key_kind: KeyKind,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// How the key is written down.
#[derive(Clone, Copy)]
enum KeyKind {
    Pkcs8,
    Sec1,
}

/// Why a certificate and a key do not make a root.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRoot {
    /// The PEM text holds no certificate, several, or one that does not parse.
    #[error("the root certificate is not exactly one PEM certificate")]
    Certificate,
    /// The PEM text holds no ECDSA P-256 key.
    #[error("the root key is not an ECDSA P-256 key in PEM, PKCS#8 or SEC1")]
    Key,
    /// The certificate does not say that it may issue certificates.
    #[error("the root certificate is not a certificate authority's")]
    NotAnAuthority,
    /// Issued by somebody else, so it could not be the end of a chain.
    #[error("the root certificate is not self-signed")]
    NotSelfSigned,
    /// Certificate and key are of different pairs.
    #[error("the root key does not belong to the root certificate")]
    KeyDoesNotFit,
    /// Too late to issue with it.
    #[error("the root certificate has expired")]
    Expired,
    /// Too early to issue with it.
    #[error("the root certificate is not valid yet")]
    NotYetValid,
    /// Validity that is no time, for example before 1970.
    #[error("the root certificate has an impossible validity")]
    ImpossibleValidity,
    /// Leafs would not name this certificate as their issuer, byte by byte.
    #[error("the root certificate has a subject or key identifier that cannot be reproduced")]
    UnsupportedSubject,
    /// The crypto library refused.
    #[error("cannot build the root certificate")]
    Crypto(#[from] rcgen::Error),
    /// The clock is impossible.
    #[error("cannot issue with the root")]
    Issue(#[from] IssueError),
}

impl Root {
    /// Makes a new root: ECDSA P-256, self-signed, valid from [`CLOCK_SKEW_MAX`] before `now` until
    /// [`ROOT_LIFETIME`] after it, for leafs only (no intermediate authorities).
    ///
    /// # Errors
    /// [`InvalidRoot::ImpossibleValidity`] when `now` is before 1970 or after 9989, otherwise
    /// [`InvalidRoot::Crypto`].
    pub fn generate(now: SystemTime) -> Result<Self, InvalidRoot> {
        let not_before = now.checked_sub(CLOCK_SKEW_MAX).and_then(time::to_x509);
        let not_after = now.checked_add(ROOT_LIFETIME).and_then(time::to_x509);
        let mut params = CertificateParams::default();
        params.not_before = not_before.ok_or(InvalidRoot::ImpossibleValidity)?;
        params.not_after = not_after.ok_or(InvalidRoot::ImpossibleValidity)?;
        params.serial_number = Some(random_serial());
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, COMMON_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

        let key = SecretKeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Self::new(certificate, key, KeyKind::Pkcs8, now)
    }

    /// Reads a root: one PEM certificate and its PEM key (PKCS#8 or SEC1). Everything that would make
    /// its leafs worthless is checked here.
    ///
    /// # Errors
    /// [`InvalidRoot`] with the first thing that is wrong.
    pub fn from_pem(
        certificate_pem: &str,
        key_pem: &str,
        now: SystemTime,
    ) -> Result<Self, InvalidRoot> {
        let certificates =
            certificates_in(certificate_pem).map_err(|_| InvalidRoot::Certificate)?;
        let [certificate] =
            <[_; 1]>::try_from(certificates).map_err(|_| InvalidRoot::Certificate)?;
        let key_der = key::from_pem(key_pem.as_bytes()).ok_or(InvalidRoot::Key)?;
        let kind = match &*key_der {
            PrivateKeyDer::Pkcs8(_) => KeyKind::Pkcs8,
            PrivateKeyDer::Sec1(_) => KeyKind::Sec1,
            _ => return Err(InvalidRoot::Key),
        };
        let key = SecretKeyPair::from_der(&key_der).map_err(|_| InvalidRoot::Key)?;
        Self::new(certificate, key, kind, now)
    }

    fn new(
        certificate: CertificateDer<'static>,
        key: SecretKeyPair,
        key_kind: KeyKind,
        now: SystemTime,
    ) -> Result<Self, InvalidRoot> {
        let parsed = parse_one(&certificate).ok_or(InvalidRoot::Certificate)?;
        if !bundle::is_authority(&parsed) {
            return Err(InvalidRoot::NotAnAuthority);
        }
        if parsed.issuer().as_raw() != parsed.subject().as_raw()
            || parsed.verify_signature(None).is_err()
        {
            return Err(InvalidRoot::NotSelfSigned);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(InvalidRoot::KeyDoesNotFit);
        }
        let (not_before, not_after) = time::from_x509(parsed.validity().not_before)
            .zip(time::from_x509(parsed.validity().not_after))
            .ok_or(InvalidRoot::ImpossibleValidity)?;
        if now >= not_after {
            return Err(InvalidRoot::Expired);
        }
        if now < not_before {
            return Err(InvalidRoot::NotYetValid);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| InvalidRoot::UnsupportedSubject)?;
        let root = Self {
            certificate,
            issuer,
            key_kind,
            not_before,
            not_after,
        };
        root.check_that_leafs_chain(now)?;
        Ok(root)
    }

    /// Issues one leaf on trial: a subject of a kind that we cannot write again shows here, and not in
    /// every proxy.
    fn check_that_leafs_chain(&self, now: SystemTime) -> Result<(), InvalidRoot> {
        let identity = "trial.pod.trial.linkerd-managed.linkerd.svc.cluster.local"
            .parse()
            .expect("a DNS name");
        let trial = self.issue_leaf(&identity, CLOCK_SKEW_MAX, now)?;
        if trial.leaf.issued_by(self) {
            Ok(())
        } else {
            Err(InvalidRoot::UnsupportedSubject)
        }
    }

    /// The certificate, DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        bundle::to_pem("CERTIFICATE", &self.certificate)
    }

    /// The private key, PEM. Whoever copies the text has to wipe the copy.
    pub fn private_key_pem(&self) -> Zeroizing<String> {
        let label = match self.key_kind {
            KeyKind::Pkcs8 => "PRIVATE KEY",
            KeyKind::Sec1 => "EC PRIVATE KEY",
        };
        Zeroizing::new(bundle::to_pem(label, self.issuer.key().serialized_der()))
    }

    /// What proxies need to trust this root and no other.
    pub fn trust_bundle(&self) -> TrustBundle {
        TrustBundle::of(self)
    }

    /// First moment at which the root is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Last moment at which the root is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, SecretKeyPair> {
        &self.issuer
    }

    /// Whether a proxy that trusts this root and no other accepts the DER certificate at `at`, so that
    /// what we keep is never something that they refuse.
    pub(crate) fn verifies(&self, der: &[u8], at: SystemTime) -> bool {
        bundle::verify_server(std::slice::from_ref(&self.certificate), der, at).is_ok()
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
