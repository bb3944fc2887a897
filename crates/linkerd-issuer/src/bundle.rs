//! The roots that a proxy trusts, as one PEM text.
//! Several roots are normal while one replaces another.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use zeroize::Zeroizing;

use crate::{Root, leaf::parse_one};

/// One or more root certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle(Vec<CertificateDer<'static>>);

/// Why a text is not a trust bundle.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBundle {
    /// Broken PEM, or a certificate that does not parse.
    #[error("not PEM certificates")]
    NotPem,
    /// No certificate at all.
    #[error("no certificate in it")]
    Empty,
    /// A certificate that may not issue certificates.
    #[error("certificate {0} is not a certificate authority's")]
    NotAnAuthority(usize),
}

/// Why a certificate is not accepted, in the verifier's word.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?}")]
pub struct Untrusted(webpki::Error);

impl TrustBundle {
    /// The bundle with `root` alone.
    pub fn of(root: &Root) -> Self {
        Self(vec![root.certificate_der().clone()])
    }

    /// Reads one or more PEM certificates of certificate authorities. Text around them is ignored.
    ///
    /// # Errors
    /// [`InvalidBundle`]; the number in it counts from 1.
    pub fn from_pem(text: &str) -> Result<Self, InvalidBundle> {
        let certificates = certificates_in(text)?;
        if certificates.is_empty() {
            return Err(InvalidBundle::Empty);
        }
        for (index, certificate) in certificates.iter().enumerate() {
            let parsed = parse_one(certificate).ok_or(InvalidBundle::NotPem)?;
            if !is_authority(&parsed) {
                return Err(InvalidBundle::NotAnAuthority(index + 1));
            }
        }
        Ok(Self(certificates))
    }

    /// The bundle as PEM: the same certificates give the same text.
    pub fn to_pem(&self) -> String {
        self.0
            .iter()
            .map(|certificate| to_pem("CERTIFICATE", certificate))
            .collect()
    }

    /// The certificates, DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The bundle with these roots, which must be certificates of certificate authorities; each once.
    pub fn of_all(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
        for root in roots {
            if !certificates.contains(&root) {
                certificates.push(root);
            }
        }
        Self(certificates)
    }

    /// Decides as a client does that trusts this bundle and no other, and is shown a server's certificate `der`
    /// at `at`. Whom the certificate is for does not matter.
    ///
    /// # Errors
    /// [`Untrusted`] with the first thing that is wrong.
    pub fn verify_server(&self, der: &[u8], at: SystemTime) -> Result<(), Untrusted> {
        verify_server(&self.0, der, at)
    }
}

/// [`TrustBundle::verify_server`] with these roots. It is what a proxy does: the same verifier with the same
/// algorithms, and what cannot be a root is passed over. Ours are all ECDSA P-256, others' are not.
pub(crate) fn verify_server(
    roots: &[CertificateDer<'_>],
    der: &[u8],
    at: SystemTime,
) -> Result<(), Untrusted> {
    let der = CertificateDer::from(der);
    let leaf = EndEntityCert::try_from(&der).map_err(Untrusted)?;
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .filter_map(|root| anchor_from_trusted_cert(root).ok())
        .collect();
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        &[],
        at,
        KeyUsage::server_auth(),
        None,
        None,
    )
    .map(drop)
    .map_err(Untrusted)
}

/// Every certificate in a PEM text.
pub(crate) fn certificates_in(text: &str) -> Result<Vec<CertificateDer<'static>>, InvalidBundle> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| InvalidBundle::NotPem)
}

/// Whether the certificate says that it may issue others.
pub(crate) fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    certificate.is_ca()
        && match certificate.key_usage() {
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        }
}

/// Writes one PEM block. The capacity is right from the start, so that no half-written copy of a key
/// is left behind in memory.
pub(crate) fn to_pem(label: &str, der: &[u8]) -> String {
    /// RFC 7468: the longest line.
    const LINE_LENGTH: usize = 64;
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(der));
    let lines = encoded.len().div_ceil(LINE_LENGTH);
    let mut text = String::with_capacity(encoded.len() + lines + 2 * (label.len() + 17));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_LENGTH));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
