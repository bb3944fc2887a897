//! The certificate of one workload, read and checked.
//! Entry: [`Leaf::parse`]; whether it is still good is for the caller to decide.

use std::time::{Duration, SystemTime};

use linkerd_names::Identity;
use rcgen::PublicKeyData;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{CLOCK_SKEW_MAX, Root, key::SecretKeyPair, time};

/// A certificate with the shape of our leafs. It says nothing about who issued it: ask
/// [`Leaf::issued_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    der: Vec<u8>,
    identity: Identity,
    serial: Vec<u8>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a certificate is not a leaf of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidLeaf {
    /// Not one DER certificate, or more than that.
    #[error("not a DER certificate")]
    NotACertificate,
    /// A certificate authority's.
    #[error("certificate may issue certificates")]
    IsAuthority,
    /// Not usable for both sides of a TLS handshake.
    #[error("certificate is not for TLS servers and clients")]
    WrongUsage,
    /// No subject alternative name, several, or one that is no DNS name of ours.
    #[error("certificate does not name exactly one identity")]
    WrongName,
    /// Validity before 1970, or it ends before it begins.
    #[error("certificate has an impossible validity")]
    ImpossibleValidity,
}

impl Leaf {
    /// Reads a DER certificate and checks that it has the shape of a leaf: no CA, usable for TLS
    /// servers and clients, exactly one identity.
    ///
    /// # Errors
    /// [`InvalidLeaf`] with the first thing that is wrong.
    pub fn parse(der: &[u8]) -> Result<Self, InvalidLeaf> {
        let certificate = parse_one(der).ok_or(InvalidLeaf::NotACertificate)?;
        if certificate.is_ca() {
            return Err(InvalidLeaf::IsAuthority);
        }
        let usage = certificate.extended_key_usage().ok().flatten();
        if !usage.is_some_and(|usage| usage.value.server_auth && usage.value.client_auth) {
            return Err(InvalidLeaf::WrongUsage);
        }
        let identity = identity_of(&certificate).ok_or(InvalidLeaf::WrongName)?;
        let validity = certificate.validity();
        let (not_before, not_after) = time::from_x509(validity.not_before)
            .zip(time::from_x509(validity.not_after))
            .filter(|(not_before, not_after)| not_before < not_after)
            .ok_or(InvalidLeaf::ImpossibleValidity)?;
        let serial = certificate.raw_serial().to_vec();
        Ok(Self {
            der: der.to_vec(),
            identity,
            serial,
            not_before,
            not_after,
        })
    }

    /// The certificate, DER.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whom the certificate is for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// First moment at which the certificate is valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Last moment at which the certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// When to replace the certificate: at two thirds of its life, counted from its issue, or up to a
    /// twentieth of the life before that.
    ///
    /// How much before follows from the serial number, which is random: certificates that were issued
    /// together are not renewed together, and one certificate always has the same answer.
    pub fn renew_at(&self) -> SystemTime {
        renew_at(self.not_before, self.not_after, &self.serial)
    }

    /// How long it is valid from the moment it was issued.
    pub fn lifetime(&self) -> Duration {
        life(self.not_before, self.not_after).1
    }

    /// Whether `root` is the issuer, by name and by signature. The time does not matter.
    pub fn issued_by(&self, root: &Root) -> bool {
        root.verifies(&self.der, self.not_before)
    }

    /// Whether `pkcs8_der` is the private key of this certificate.
    pub fn key_fits(&self, pkcs8_der: &[u8]) -> bool {
        key_fits(&self.der, pkcs8_der)
    }
}

/// See [`Leaf::renew_at`].
pub(crate) fn renew_at(not_before: SystemTime, not_after: SystemTime, serial: &[u8]) -> SystemTime {
    let (issued_at, life) = life(not_before, not_after);
    let random = serial.last().copied().unwrap_or_default();
    let early = (life / 20).mul_f64(f64::from(random) / f64::from(u8::MAX));
    issued_at + (life * 2 / 3).saturating_sub(early)
}

/// When a certificate was issued, and how long it is valid from then on.
fn life(not_before: SystemTime, not_after: SystemTime) -> (SystemTime, Duration) {
    let issued_at = (not_before + CLOCK_SKEW_MAX).min(not_after);
    let life = not_after.duration_since(issued_at).unwrap_or_default();
    (issued_at, life)
}

/// Whether `pkcs8_der` is the private key of the DER certificate.
pub(crate) fn key_fits(certificate_der: &[u8], pkcs8_der: &[u8]) -> bool {
    let Ok(key) = SecretKeyPair::from_pkcs8_der(pkcs8_der) else {
        return false;
    };
    parse_one(certificate_der)
        .is_some_and(|certificate| certificate.public_key().raw == key.subject_public_key_info())
}

/// Reads exactly one certificate; bytes after it make it invalid.
pub(crate) fn parse_one(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// The one name in the certificate, if it is one and a possible identity.
fn identity_of(certificate: &X509Certificate<'_>) -> Option<Identity> {
    let names = &certificate
        .subject_alternative_name()
        .ok()
        .flatten()?
        .value
        .general_names;
    match names.as_slice() {
        [GeneralName::DNSName(name)] => name.parse().ok(),
        _ => None,
    }
}
