//! The certificate by which a webhook proves itself to the API server, read and checked.
//! Entry: [`WebhookCertificate`]. It is for one Service's host name, for servers only, and never an identity:
//! a [`crate::Leaf`] it cannot be.

use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::{
    CLOCK_SKEW_MAX, IssuedWebhook, Root, TrustBundle, bundle, key,
    leaf::{self, parse_one},
    time,
};

/// A certificate with the shape of those that we issue for webhooks. It says nothing about who issued it:
/// ask [`WebhookCertificate::issued_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookCertificate {
    der: Vec<u8>,
    host: String,
    serial: Vec<u8>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a certificate is not a webhook's of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidWebhookCertificate {
    /// Not one certificate, or more than that.
    #[error("not a certificate")]
    NotACertificate,
    /// A certificate authority's, or not for TLS servers alone.
    #[error("certificate is not for TLS servers alone")]
    WrongUsage,
    /// No subject alternative name, several, or one that is no DNS name.
    #[error("certificate does not name exactly one host")]
    WrongName,
    /// Validity before 1970, or it ends before it begins.
    #[error("certificate has an impossible validity")]
    ImpossibleValidity,
}

impl WebhookCertificate {
    /// Reads a DER certificate: no CA, usable for TLS servers alone, exactly one DNS name.
    ///
    /// # Errors
    /// [`InvalidWebhookCertificate`] with the first thing that is wrong.
    pub fn parse(der: &[u8]) -> Result<Self, InvalidWebhookCertificate> {
        let certificate = parse_one(der).ok_or(InvalidWebhookCertificate::NotACertificate)?;
        let usage = certificate.extended_key_usage().ok().flatten();
        let for_servers =
            usage.is_some_and(|usage| usage.value.server_auth && !usage.value.client_auth);
        if certificate.is_ca() || !for_servers {
            return Err(InvalidWebhookCertificate::WrongUsage);
        }
        let names = certificate.subject_alternative_name().ok().flatten();
        let host = match names.map(|names| names.value.general_names.as_slice()) {
            Some([GeneralName::DNSName(host)]) => (*host).to_owned(),
            _ => return Err(InvalidWebhookCertificate::WrongName),
        };
        let validity = certificate.validity();
        let (not_before, not_after) = time::from_x509(validity.not_before)
            .zip(time::from_x509(validity.not_after))
            .filter(|(not_before, not_after)| not_before < not_after)
            .ok_or(InvalidWebhookCertificate::ImpossibleValidity)?;
        let serial = certificate.raw_serial().to_vec();
        Ok(Self {
            der: der.to_vec(),
            host,
            serial,
            not_before,
            not_after,
        })
    }

    /// Reads one PEM certificate.
    ///
    /// # Errors
    /// As [`WebhookCertificate::parse`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, InvalidWebhookCertificate> {
        let mut certificates = CertificateDer::pem_slice_iter(pem);
        match (certificates.next(), certificates.next()) {
            (Some(Ok(der)), None) => Self::parse(&der),
            _ => Err(InvalidWebhookCertificate::NotACertificate),
        }
    }

    /// The certificate, PEM.
    pub fn to_pem(&self) -> String {
        bundle::to_pem("CERTIFICATE", &self.der)
    }

    /// The host name that it is for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// When it was issued.
    pub fn issued_at(&self) -> SystemTime {
        (self.not_before + CLOCK_SKEW_MAX).min(self.not_after)
    }

    /// First moment at which it is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Last moment at which it is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When to replace it: as [`crate::Leaf::renew_at`].
    pub fn renew_at(&self) -> SystemTime {
        leaf::renew_at(self.not_before, self.not_after, &self.serial)
    }

    /// Whether `root` is the issuer, by name and by signature. The time does not matter.
    pub fn issued_by(&self, root: &Root) -> bool {
        root.verifies(&self.der, self.not_before)
    }

    /// Whether a client that trusts `bundle` and asks for this certificate's host accepts it at `now`.
    pub fn is_trusted_by(&self, bundle: &TrustBundle, now: SystemTime) -> bool {
        self.not_before <= now
            && now <= self.not_after
            && bundle.verify_server(&self.der, now).is_ok()
    }

    /// Whether the PEM text holds the private key of this certificate.
    pub fn key_fits(&self, key_pem: &[u8]) -> bool {
        match key::from_pem(key_pem).as_deref() {
            Some(PrivateKeyDer::Pkcs8(key)) => leaf::key_fits(&self.der, key.secret_pkcs8_der()),
            _ => false,
        }
    }
}

impl IssuedWebhook {
    /// The private key, PKCS#8 PEM. Whoever copies the text has to wipe the copy.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(bundle::to_pem("PRIVATE KEY", self.key.as_pkcs8_der()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{InvalidLeaf, IssueError, Leaf};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn root() -> Root {
        Root::generate(now()).expect("a root")
    }

    #[test]
    fn a_webhooks_certificate_is_for_its_service_and_no_identity() {
        let root = root();
        let issued = root
            .issue_webhook("linkerd-injector", "linkerd", DAY, now())
            .expect("a certificate");
        let certificate = &issued.certificate;
        assert_eq!(certificate.host(), "linkerd-injector.linkerd.svc");
        assert_eq!(certificate.issued_at(), now());
        assert!(certificate.issued_by(&root) && certificate.key_fits(issued.key_pem().as_bytes()));
        assert_eq!(
            WebhookCertificate::from_pem(certificate.to_pem().as_bytes()).as_ref(),
            Ok(certificate)
        );
        assert_eq!(Leaf::parse(&certificate.der), Err(InvalidLeaf::WrongUsage));
    }

    #[test]
    fn a_leaf_is_not_taken_for_a_webhooks_certificate() {
        let identity = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local"
            .parse()
            .expect("a name");
        let issued = root().issue_leaf(&identity, DAY, now()).expect("a leaf");
        assert_eq!(
            WebhookCertificate::parse(issued.leaf.as_der()),
            Err(InvalidWebhookCertificate::WrongUsage)
        );
        assert_eq!(
            WebhookCertificate::parse(root().certificate_der()),
            Err(InvalidWebhookCertificate::WrongUsage)
        );
    }

    #[test]
    fn only_the_name_of_a_service_in_a_namespace_can_be_certified() {
        for (service, namespace) in [
            ("web.deployment", "ns"),
            ("", "ns"),
            ("web", "ns.linkerd-managed.linkerd"),
            ("*", "ns"),
        ] {
            let refused = root().issue_webhook(service, namespace, DAY, now());
            assert!(
                matches!(refused, Err(IssueError::NotALabel(_))),
                "{service}.{namespace}"
            );
        }
    }

    #[test]
    fn a_bundle_trusts_it_while_one_of_its_roots_has_issued_it_and_it_is_valid() {
        let (ours, other) = (root(), root());
        let issued = ours
            .issue_webhook("linkerd-injector", "linkerd", DAY, now())
            .expect("a certificate");
        let both = TrustBundle::of_all([
            other.certificate_der().clone(),
            ours.certificate_der().clone(),
        ]);
        let trusted = |bundle: &TrustBundle, at| issued.certificate.is_trusted_by(bundle, at);
        assert!(trusted(&ours.trust_bundle(), now()));
        assert!(trusted(&both, now()));
        assert!(!trusted(&other.trust_bundle(), now()));
        assert!(!trusted(&both, now() + 2 * DAY));
        assert!(!trusted(&both, now() - DAY));
    }
}
