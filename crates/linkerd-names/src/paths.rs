//! Where the proxy's files are mounted.

/// Folder of the trust bundle.
pub const TRUST_ANCHORS_DIR: &str = "/var/linkerd-io/trust-anchors";
/// Folder of the workload's certificate and key.
pub const IDENTITY_DIR: &str = "/var/linkerd-io/identity";
/// Folder of the token for the identity service.
pub const IDENTITY_TOKEN_DIR: &str = "/var/linkerd-io/identity-token";
/// The token for the identity service: a JWT, written anew by kubelet before it ends.
pub const IDENTITY_TOKEN: &str = "/var/linkerd-io/identity-token/token";
/// Where `linkerd-destination` finds the root that the identity service signs with.
pub const ROOT_DIR: &str = "/var/linkerd-io/root";
/// Where `linkerd-injector` finds its serving certificate and key.
pub const INJECTOR_CERTIFICATE_DIR: &str = "/var/linkerd-io/injector-tls";
/// The trust bundle, PEM.
pub const TRUST_ANCHORS: &str = "/var/linkerd-io/trust-anchors/trust-anchors.pem";
/// The leaf certificate, DER.
pub const CERTIFICATE: &str = "/var/linkerd-io/identity/certificate.crt";
/// The private key, PKCS#8 DER.
pub const PRIVATE_KEY: &str = "/var/linkerd-io/identity/private-key.p8";
