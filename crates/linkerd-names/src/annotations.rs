//! Annotation keys on Kubernetes objects.

/// Who made the object: `linkerd/cli 0.1.0`.
pub const CREATED_BY: &str = "linkerd.io/created-by";

/// Version of the injected proxy.
pub const PROXY_VERSION: &str = "linkerd.io/proxy-version";

/// Whether to inject: `enabled` or `disabled`.
pub const INJECT: &str = "linkerd.io/inject";

/// Ports (comma-separated numbers and ranges `a-b`) whose inbound traffic does not enter the proxy.
pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";

/// Ports whose outbound traffic does not enter the proxy.
pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";

/// Ports whose traffic is never parsed as HTTP.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
