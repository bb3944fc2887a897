//! Where the proxy's files are mounted.

/// Folder of the trust bundle.
pub const TRUST_ANCHORS_DIR: &str = "/var/linkerd-io/trust-anchors";
/// Folder of the workload's certificate and key.
pub const IDENTITY_DIR: &str = "/var/linkerd-io/identity";
/// The trust bundle, PEM.
pub const TRUST_ANCHORS: &str = "/var/linkerd-io/trust-anchors/trust-anchors.pem";
/// The leaf certificate, DER.
pub const CERTIFICATE: &str = "/var/linkerd-io/identity/certificate.crt";
/// The private key, PKCS#8 DER.
pub const PRIVATE_KEY: &str = "/var/linkerd-io/identity/private-key.p8";
