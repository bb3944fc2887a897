//! What `linkerd tap` asks of Kubernetes: the rights of a user, and the proof of who that is.

/// API group of the rights to tap: `watch` on `deployments/tap`, as in Linkerd's own roles.
pub const GROUP: &str = "tap.linkerd.io";

/// Subresource of the rights to tap.
pub const SUBRESOURCE: &str = "tap";

/// Signer of the CertificateSigningRequests that prove who a user is. It signs nothing: the API server
/// writes into each who has made it, and `linkerd-api` reads that.
pub const SIGNER: &str = "linkerd.io/tap";

/// Length of the secret behind a proof.
pub const SECRET_BYTES: usize = 32;

/// Name of the CertificateSigningRequest that belongs to the secret with this SHA-256. Whoever can list
/// these objects learns no secret.
pub fn proof_name(digest: &[u8]) -> String {
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("linkerd-tap-{digits}")
}
