//! Environment variables of the proxy: the names of Linkerd v18.8, and ours where it had none.
//! `linkerd-inject` writes them, `linkerd-proxy/src/config.rs` reads them.

/// Log filter, for example `warn,linkerd=info`.
pub const LOG: &str = "LINKERD2_PROXY_LOG";
/// Bound on finding and reaching an endpoint for one request, for example `10s`.
pub const BIND_TIMEOUT: &str = "LINKERD2_PROXY_BIND_TIMEOUT";
/// The destination service, `tcp://host:port`; a host `localhost.` is reached without TLS.
pub const CONTROL_URL: &str = "LINKERD2_PROXY_CONTROL_URL";
/// Tap and control listener, `tcp://0.0.0.0:4190`.
pub const CONTROL_LISTENER: &str = "LINKERD2_PROXY_CONTROL_LISTENER";
/// Metrics listener, `tcp://0.0.0.0:4191`.
pub const METRICS_LISTENER: &str = "LINKERD2_PROXY_METRICS_LISTENER";
/// Outbound listener, `tcp://127.0.0.1:4140`.
pub const PRIVATE_LISTENER: &str = "LINKERD2_PROXY_PRIVATE_LISTENER";
/// Inbound listener, `tcp://0.0.0.0:4143`.
pub const PUBLIC_LISTENER: &str = "LINKERD2_PROXY_PUBLIC_LISTENER";
/// Inbound destination where the socket has no original destination (tests without iptables).
pub const PRIVATE_FORWARD: &str = "LINKERD2_PROXY_PRIVATE_FORWARD";
/// Outbound destination where the socket has no original destination (tests without iptables).
pub const PUBLIC_FORWARD: &str = "LINKERD2_PROXY_PUBLIC_FORWARD";
/// Namespace of the pod.
pub const POD_NAMESPACE: &str = "LINKERD2_PROXY_POD_NAMESPACE";
/// Name of the pod.
pub const POD_NAME: &str = "LINKERD2_PROXY_POD_NAME";
/// The trust bundle's path.
pub const TLS_TRUST_ANCHORS: &str = "LINKERD2_PROXY_TLS_TRUST_ANCHORS";
/// The leaf certificate's path.
pub const TLS_CERT: &str = "LINKERD2_PROXY_TLS_CERT";
/// The private key's path.
pub const TLS_PRIVATE_KEY: &str = "LINKERD2_PROXY_TLS_PRIVATE_KEY";
/// The workload's identity; may contain the literal text [`POD_NAMESPACE_TOKEN`], which the proxy replaces.
pub const TLS_POD_IDENTITY: &str = "LINKERD2_PROXY_TLS_POD_IDENTITY";
/// Literal text in [`TLS_POD_IDENTITY`] that stands for the value of [`POD_NAMESPACE`].
pub const POD_NAMESPACE_TOKEN: &str = "$LINKERD2_PROXY_POD_NAMESPACE";
/// Namespace of the control plane.
pub const CONTROLLER_NAMESPACE: &str = "LINKERD2_PROXY_CONTROLLER_NAMESPACE";
/// Identity of the destination service.
pub const TLS_CONTROLLER_IDENTITY: &str = "LINKERD2_PROXY_TLS_CONTROLLER_IDENTITY";
/// The identity service, `tcp://host:port`. It is reached with TLS only, and has to prove
/// [`TLS_CONTROLLER_IDENTITY`]; takes the place of [`TLS_CERT`] and [`TLS_PRIVATE_KEY`].
pub const IDENTITY_URL: &str = "LINKERD2_PROXY_IDENTITY_URL";
/// Path of the ServiceAccount token that the identity service is shown.
pub const IDENTITY_TOKEN_FILE: &str = "LINKERD2_PROXY_IDENTITY_TOKEN_FILE";
/// Original-destination ports whose inbound traffic is never parsed, comma-separated numbers and ranges: `25,3000-3010`.
pub const INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION: &str =
    "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION";
/// The same of outbound traffic.
pub const OUTBOUND_PORTS_DISABLE_PROTOCOL_DETECTION: &str =
    "LINKERD2_PROXY_OUTBOUND_PORTS_DISABLE_PROTOCOL_DETECTION";
/// Ports that kubelet's TCP probes ask the proxy about, each with the probe's timeout, for example
/// `5432=1s,8080=5s`. The proxy connects to no other at a client's wish.
pub const TCP_PROBES: &str = "LINKERD2_PROXY_TCP_PROBES";
/// How many outbound targets are remembered at once.
pub const OUTBOUND_ROUTER_CAPACITY: &str = "LINKERD2_PROXY_OUTBOUND_ROUTER_CAPACITY";
/// Threads of the proxy's data path; 1 unless set.
pub const CORES: &str = "LINKERD2_PROXY_CORES";
