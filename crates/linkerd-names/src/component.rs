//! Names of the control plane's components. A component's Deployment, Service and ServiceAccount
//! have its name.

/// Writes certificates.
pub const CA: &str = "linkerd-ca";
/// Answers proxies.
pub const DESTINATION: &str = "linkerd-destination";
/// Answers people.
pub const API: &str = "linkerd-api";
/// Adds the proxy to pods as they are created.
pub const INJECTOR: &str = "linkerd-injector";
/// Keeps the proxies' metrics.
pub const PROMETHEUS: &str = "linkerd-prometheus";

/// ConfigMap of the control-plane namespace with the values that the control plane was installed with.
pub const CONFIG: &str = "linkerd-config";

/// Secret of the control-plane namespace that holds the root: [`ROOT_CERTIFICATE_KEY`] and
/// [`ROOT_PRIVATE_KEY_KEY`].
pub const ROOT_SECRET: &str = "linkerd-ca-root";
/// Key in [`ROOT_SECRET`]: the root certificate, PEM.
pub const ROOT_CERTIFICATE_KEY: &str = "ca.crt";
/// Key in [`ROOT_SECRET`]: the root's private key, PKCS#8 PEM.
pub const ROOT_PRIVATE_KEY_KEY: &str = "ca.key";

/// Secret of the control-plane namespace with the serving certificate of [`INJECTOR`]:
/// [`INJECTOR_CERTIFICATE_KEY`] and [`INJECTOR_PRIVATE_KEY_KEY`]. `linkerd-ca` writes it.
pub const INJECTOR_SECRET: &str = "linkerd-injector-tls";
/// Key in [`INJECTOR_SECRET`]: the certificate, PEM.
pub const INJECTOR_CERTIFICATE_KEY: &str = "tls.crt";
/// Key in [`INJECTOR_SECRET`]: the certificate's private key, PKCS#8 PEM.
pub const INJECTOR_PRIVATE_KEY_KEY: &str = "tls.key";

/// Name of the MutatingWebhookConfiguration of the control plane in this namespace: such objects have
/// none themselves.
pub fn injector_webhook_configuration(control_plane_namespace: &str) -> String {
    format!("linkerd-{control_plane_namespace}-injector")
}

/// The host name by which the API server reaches [`INJECTOR`], and which its certificate is for.
pub fn injector_host(control_plane_namespace: &str) -> String {
    format!("{INJECTOR}.{control_plane_namespace}.svc")
}

/// Namespaces whose pods are never meshed by annotation: nothing of a cluster's own must wait for us.
pub const NAMESPACES_NEVER_INJECTED: [&str; 1] = ["kube-system"];

/// Name of the Lease by which replicas of `linkerd-ca` choose their leader.
pub const CA_LEASE: &str = "linkerd-ca";

/// ConfigMap in every namespace with a workload of the mesh.
pub const TRUST_BUNDLE_CONFIG_MAP: &str = "linkerd-ca-bundle";
/// Key in [`TRUST_BUNDLE_CONFIG_MAP`]: PEM, one or more root certificates.
pub const TRUST_BUNDLE_KEY: &str = "trust-anchors.pem";
/// Key in a workload's Secret: the leaf certificate, DER.
pub const CERTIFICATE_KEY: &str = "certificate.crt";
/// Key in a workload's Secret: the leaf's private key, PKCS#8 DER.
pub const PRIVATE_KEY_KEY: &str = "private-key.p8";

/// Name of the volume with the token for the identity service.
pub const IDENTITY_TOKEN_VOLUME: &str = "linkerd-identity-token";
/// Name of the token's file in [`IDENTITY_TOKEN_VOLUME`].
pub const IDENTITY_TOKEN_KEY: &str = "token";
/// Audience of the tokens that the identity service accepts, and of no others: what proxies of Linkerd
/// ask for, so that they can use the service as well.
pub const IDENTITY_TOKEN_AUDIENCE: &str = "identity.l5d.io";
/// How long such a token is valid: the shortest time that Kubernetes allows.
pub const IDENTITY_TOKEN_SECONDS: u32 = 600;

/// Name of the sidecar container.
pub const PROXY_CONTAINER: &str = "linkerd-proxy";
/// Name of the proxy's container port at which it takes the pod's connections.
pub const INBOUND_PORT_NAME: &str = "linkerd-proxy";
/// Name of the proxy's container port with its metrics.
pub const METRICS_PORT_NAME: &str = "linkerd-metrics";
/// Name of the container port with the metrics of a process of the control plane.
pub const ADMIN_PORT_NAME: &str = "admin-http";
/// Name of the init container.
pub const INIT_CONTAINER: &str = "linkerd-init";
/// Name of the volume with [`TRUST_BUNDLE_CONFIG_MAP`].
pub const TRUST_ANCHORS_VOLUME: &str = "linkerd-trust-anchors";
/// Name of the volume with the workload's Secret.
pub const IDENTITY_VOLUME: &str = "linkerd-secrets";
