//! Who a certificate is for. Identities are compared whole: a wildcard never matches.

use std::sync::Arc;

use linkerd_names::Identity;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Verifies the chain as WebPKI does, and the name by equality.
#[derive(Debug)]
pub(super) struct ExactName(pub(super) Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ExactName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.0.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let ServerName::DnsName(expected) = server_name else {
            return Err(CertificateError::NotValidForName.into());
        };
        match names(end_entity).as_slice() {
            [name] if name.eq_ignore_ascii_case(expected.as_ref()) => Ok(verified),
            _ => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The one identity that a verified certificate is for; none when it has several names, or none of ours.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    match names(certificate).as_slice() {
        [name] => name.parse().ok(),
        _ => None,
    }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    webpki::EndEntityCert::try_from(certificate)
        .map(|certificate| certificate.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}
