//! Issues leafs, with a key of ours or for the public key in a signing request, and the certificate of a
//! webhook. Entry: [`Root::issue_leaf`], [`Root::issue_from_request`] and [`Root::issue_webhook`].

use std::time::{Duration, SystemTime};

use linkerd_names::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::{
    CLOCK_SKEW_MAX, Leaf, PrivateKey, Root, SigningRequest, WebhookCertificate, key::SecretKeyPair,
    time,
};

/// A new certificate and its key. Whoever stores one stores both.
#[derive(Debug)]
pub struct IssuedLeaf {
    /// The certificate.
    pub leaf: Leaf,
    /// The certificate's private key.
    pub key: PrivateKey,
}

/// A new certificate of a webhook and its key. Whoever stores one stores both.
#[derive(Debug)]
pub struct IssuedWebhook {
    /// The certificate.
    pub certificate: WebhookCertificate,
    /// The certificate's private key.
    pub key: PrivateKey,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The root ends before `now`.
    #[error("the root certificate has expired")]
    RootExpired,
    /// The root begins after `now`: a clock was wrong when it was made, or is now.
    #[error("the root certificate is not valid yet")]
    RootNotYetValid,
    /// Nobody could use the certificate.
    #[error("a lifetime of less than a second is not possible")]
    LifetimeTooShort,
    /// `now` is not a time that a certificate can hold.
    #[error("the clock shows a time before 1970 or after 9999")]
    ImpossibleTime,
    /// A Service or a namespace cannot have this name.
    #[error("{0:?} is not the name of a Service or a namespace")]
    NotALabel(String),
    /// The crypto library refused.
    #[error("cannot build the certificate")]
    Crypto(#[from] rcgen::Error),
}

impl Root {
    /// Issues a certificate for `identity` with a new key, valid from [`CLOCK_SKEW_MAX`] before `now`
    /// until `lifetime` after it, but never longer than the root.
    ///
    /// # Errors
    /// [`IssueError::RootExpired`], [`IssueError::RootNotYetValid`], [`IssueError::LifetimeTooShort`],
    /// [`IssueError::ImpossibleTime`], or [`IssueError::Crypto`].
    pub fn issue_leaf(
        &self,
        identity: &Identity,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<IssuedLeaf, IssueError> {
        let key = SecretKeyPair::generate()?;
        let leaf = self.sign(&key, identity, lifetime, now)?;
        Ok(IssuedLeaf {
            leaf,
            key: key.into_private_key(),
        })
    }

    /// Issues a certificate for the identity and the public key of a signing request. Nothing else of the
    /// request is used. Whether the sender has that identity is for the caller to find out before.
    ///
    /// # Errors
    /// As [`Root::issue_leaf`].
    pub fn issue_from_request(
        &self,
        request: &SigningRequest,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Leaf, IssueError> {
        self.sign(request.public_key(), request.identity(), lifetime, now)
    }

    /// Issues a certificate with a new key by which the Service `service` in `namespace` proves itself to
    /// the API server as `<service>.<namespace>.svc`, valid as [`Root::issue_leaf`] says.
    ///
    /// It names no identity and is for servers only: no proxy takes it for a workload's.
    ///
    /// # Errors
    /// As [`Root::issue_leaf`], and [`IssueError::NotALabel`].
    pub fn issue_webhook(
        &self,
        service: &str,
        namespace: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<IssuedWebhook, IssueError> {
        for label in [service, namespace] {
            // A dot would let the name say something else than a Service in a namespace.
            if label.is_empty()
                || !label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            {
                return Err(IssueError::NotALabel(label.to_owned()));
            }
        }
        let host = format!("{service}.{namespace}.svc");
        let key = SecretKeyPair::generate()?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let der = self.certify(&key, &host, usages, lifetime, now)?;
        Ok(IssuedWebhook {
            certificate: WebhookCertificate::parse(&der)
                .expect("what was just built is a webhook's certificate"),
            key: key.into_private_key(),
        })
    }

    fn sign(
        &self,
        public_key: &impl PublicKeyData,
        identity: &Identity,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Leaf, IssueError> {
        let usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let der = self.certify(public_key, identity.as_str(), usages, lifetime, now)?;
        Ok(Leaf::parse(&der).expect("what was just built is a leaf"))
    }

    fn certify(
        &self,
        public_key: &impl PublicKeyData,
        host: &str,
        usages: Vec<ExtendedKeyUsagePurpose>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, IssueError> {
        if now >= self.not_after() {
            return Err(IssueError::RootExpired);
        }
        if now < self.not_before() {
            return Err(IssueError::RootNotYetValid);
        }
        if lifetime < Duration::from_secs(1) {
            return Err(IssueError::LifetimeTooShort);
        }
        // Also when the root is younger than that. Whoever reads the certificate counts from here when it was issued
        // (`leaf::life`), and verifiers ask of root and leaf alone whether each of them is valid now.
        let not_before = now.checked_sub(CLOCK_SKEW_MAX).unwrap_or(now);
        let not_after = now
            .checked_add(lifetime)
            .unwrap_or(self.not_after())
            .min(self.not_after());

        let mut params = CertificateParams::default();
        params.not_before = time::to_x509(not_before).ok_or(IssueError::ImpossibleTime)?;
        params.not_after = time::to_x509(not_after).ok_or(IssueError::ImpossibleTime)?;
        params.serial_number = Some(random_serial());
        params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
        // The name is in the subject alternative name alone; a common name has at most 64 characters.
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(public_key, self.issuer())?.der().clone())
    }
}

/// A positive serial number of exactly 128 bits: 126 of them are random, so that nobody can foresee
/// it and two are never the same; the top bits 01 keep it positive and its length constant.
pub(crate) fn random_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = (bytes[0] & 0b0011_1111) | 0b0100_0000;
    SerialNumber::from_slice(&bytes)
}
