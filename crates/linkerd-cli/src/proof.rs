//! Proves to `linkerd-api` who asks, without showing it any credentials. Entry: [`prove`].

use anyhow::anyhow;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use linkerd_issuer::NewRequest;
use linkerd_names::{CONTROL_PLANE_NAMESPACE_DEFAULT, Identity, OwnerKind, tap};
use rustls::crypto::aws_lc_rs;
use sha2::{Digest as _, Sha256};

use crate::control_plane::{CallError, Kubernetes, no_permission, within};

/// Has the API server write down who asks, and returns the secret that belongs to it.
///
/// # Errors
/// When the user may not make CertificateSigningRequests, or Kubernetes does not answer.
pub(crate) async fn prove(kubernetes: &Kubernetes) -> anyhow::Result<Vec<u8>> {
    let mut secret = vec![0; tap::SECRET_BYTES];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut secret)
        .map_err(|_| anyhow!("the system has no random numbers"))?;
    let name = tap::proof_name(&Sha256::digest(&secret));
    let proof = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request()?.into_bytes()),
            signer_name: tap::SIGNER.to_owned(),
            usages: Some(vec!["client auth".to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let proofs: Api<CertificateSigningRequest> = Api::all(kubernetes.client.clone());
    let params = PostParams::default();
    within(proofs.create(&params, &proof))
        .await
        .map_err(|error: CallError| {
            if error.is_forbidden() {
                return anyhow!(no_permission("create", "certificatesigningrequests", None));
            }
            anyhow!("cannot prove who you are: {}", kubernetes.explain(&error))
        })?;
    Ok(secret)
}

/// A request as Kubernetes wants it; nobody ever signs it, and its key is forgotten.
fn request() -> anyhow::Result<String> {
    let namespace = CONTROL_PLANE_NAMESPACE_DEFAULT;
    let nobody = Identity::new("tap", OwnerKind::Pod, namespace, namespace)
        .map_err(|error| anyhow!("{error}"))?;
    let NewRequest { der, .. } = NewRequest::generate(&nobody)?;
    // The JSON form of bytes is base64, which is all that PEM is.
    let text = serde_json::to_value(ByteString(der))?;
    let text = text.as_str().unwrap_or_default();
    let mut pem = "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE REQUEST-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use x509_parser::{
        certification_request::X509CertificationRequest, pem::Pem, prelude::FromDer as _,
    };

    use super::*;

    #[test]
    fn the_request_is_one_that_kubernetes_takes() {
        let text = request().expect("made");
        let (pem, _) = Pem::read(std::io::Cursor::new(text.as_bytes())).expect("PEM");
        assert_eq!(pem.label, "CERTIFICATE REQUEST");
        assert!(text.lines().all(|line| line.len() <= 64));
        let (rest, request) = X509CertificationRequest::from_der(&pem.contents).expect("PKCS#10");
        assert!(rest.is_empty());
        // Kubernetes checks the signature.
        request.verify_signature().expect("signed with its key");
    }
}
