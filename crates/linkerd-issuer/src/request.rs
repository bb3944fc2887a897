//! Signing requests: made where the key stays, read and checked where the certificate is issued.
//! Entry: [`NewRequest::generate`] and [`SigningRequest::parse`].

use linkerd_names::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SubjectPublicKeyInfo,
};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{IssueError, PrivateKey, key::SecretKeyPair};

/// A new key, and the request by which somebody else can certify it without ever seeing it.
#[derive(Debug)]
pub struct NewRequest {
    /// The private key.
    pub key: PrivateKey,
    /// PKCS#10, DER: the public key and the name, signed with the private key.
    pub der: Vec<u8>,
}

/// What a signing request asks for: one identity and the public key of somebody who has the private one.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    identity: Identity,
    public_key: SubjectPublicKeyInfo,
}

/// Why a signing request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// Not one DER signing request, or more than that.
    #[error("not a DER signing request")]
    NotASigningRequest,
    /// Whoever sent the request does not have its private key.
    #[error("signing request has a wrong signature")]
    WrongSignature,
    /// Another kind of key than ECDSA on P-256.
    #[error("signing request is for a key that is not ECDSA P-256")]
    WrongKeyKind,
    /// No subject alternative name, several, or one that is no DNS name of ours; or a common name that
    /// differs from it.
    #[error("signing request does not name exactly one identity")]
    WrongName,
}

impl NewRequest {
    /// Makes a key and a request for `identity`.
    ///
    /// # Errors
    /// [`IssueError::Crypto`].
    pub fn generate(identity: &Identity) -> Result<Self, IssueError> {
        let key = SecretKeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(identity.as_str().try_into()?)];
        params.distinguished_name = DistinguishedName::new();
        let der = params.serialize_request(&key)?.der().to_vec();
        Ok(Self {
            key: key.into_private_key(),
            der,
        })
    }
}

impl SigningRequest {
    /// Reads a DER signing request and checks its signature, its kind of key and its name. Whatever else
    /// it asks for is ignored.
    ///
    /// # Errors
    /// [`InvalidRequest`] with the first thing that is wrong.
    pub fn parse(der: &[u8]) -> Result<Self, InvalidRequest> {
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(InvalidRequest::NotASigningRequest);
        };
        let info = &request.certification_request_info;
        let public_key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .ok()
            .filter(|key| key.algorithm() == &PKCS_ECDSA_P256_SHA256)
            .ok_or(InvalidRequest::WrongKeyKind)?;
        request
            .verify_signature()
            .map_err(|_| InvalidRequest::WrongSignature)?;
        let identity = identity_of(&request).ok_or(InvalidRequest::WrongName)?;
        let mut common_names = info.subject.iter_common_name();
        let fits = common_names.all(|name| {
            let name = name.as_str().ok();
            name.is_some_and(|name| name.is_empty() || name.eq_ignore_ascii_case(identity.as_str()))
        });
        fits.then_some(Self {
            identity,
            public_key,
        })
        .ok_or(InvalidRequest::WrongName)
    }

    /// Whom the certificate is asked for. It proves nothing: anybody can write any name.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

/// The one name in all of the request's extensions, if it is one and a possible identity.
fn identity_of(request: &X509CertificationRequest<'_>) -> Option<Identity> {
    let attributes = request.certification_request_info.iter_attributes();
    let mut names = attributes
        .filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(&requested.extensions),
            _ => None,
        })
        .flatten()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten();
    match (names.next(), names.next()) {
        (Some(GeneralName::DNSName(name)), None) => name.parse().ok(),
        _ => None,
    }
}
