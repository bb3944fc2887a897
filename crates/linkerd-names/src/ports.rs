//! TCP ports.

/// Proxy: connections of the application, redirected by `linkerd-init`. Bound to 127.0.0.1.
pub const PROXY_OUTBOUND: u16 = 4140;
/// Proxy: connections to the application, redirected by `linkerd-init`.
pub const PROXY_INBOUND: u16 = 4143;
/// Proxy: tap and control (gRPC).
pub const PROXY_CONTROL: u16 = 4190;
/// Proxy: `/metrics`, `/live`, `/ready`, `/probe/tcp/<port>`.
pub const PROXY_METRICS: u16 = 4191;

/// `linkerd-api`: HTTP, what Prometheus is to scrape.
pub const API_HTTP: u16 = 8084;
/// `linkerd-api`: gRPC for the CLI.
pub const API: u16 = 8085;
/// `linkerd-api`: HTTP, the dashboard. Bound to 127.0.0.1: only a port-forward reaches it.
pub const DASHBOARD: u16 = 8087;
/// `linkerd-destination`: gRPC for the proxies, endpoints and policies.
pub const DESTINATION: u16 = 8086;
/// `linkerd-destination`: the identity service.
pub const IDENTITY: u16 = 8080;
/// `linkerd-injector`: HTTPS for the API server.
pub const INJECTOR: u16 = 8443;
/// Prometheus.
pub const PROMETHEUS: u16 = 9090;

/// Admin port of `linkerd-ca`.
pub const ADMIN_CA: u16 = 9990;
/// Admin port of `linkerd-destination`.
pub const ADMIN_DESTINATION: u16 = 9991;
/// Admin port of `linkerd-api`.
pub const ADMIN_API: u16 = 9992;
/// Admin port of `linkerd-injector`.
pub const ADMIN_INJECTOR: u16 = 9993;
