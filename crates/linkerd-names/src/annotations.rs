//! Annotation keys on Kubernetes objects.

/// Who made the object: `linkerd/cli 0.1.0`.
pub const CREATED_BY: &str = "linkerd.io/created-by";

/// Version of the injected proxy.
pub const PROXY_VERSION: &str = "linkerd.io/proxy-version";

/// Whether to inject: [`INJECT_ENABLED`] or [`INJECT_DISABLED`]. On a pod (or a pod template) it wins over
/// that of the namespace.
pub const INJECT: &str = "linkerd.io/inject";
/// Value of [`INJECT`]: `linkerd-injector` adds the proxy when the pod is created.
pub const INJECT_ENABLED: &str = "enabled";
/// Value of [`INJECT`]: nobody adds the proxy.
pub const INJECT_DISABLED: &str = "disabled";

/// Kubelet's, on what it shows of a static pod: that runs as its node's file says.
pub const STATIC_POD: &str = "kubernetes.io/config.mirror";

/// What the keys of all annotations begin with that configure the proxy of a pod.
pub const CONFIG_PREFIX: &str = "config.linkerd.io/";

/// Ports (comma-separated numbers and ranges `a-b`) whose inbound traffic does not enter the proxy.
pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";

/// Ports whose outbound traffic does not enter the proxy.
pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";

/// What [`SKIP_INBOUND_PORTS`] was before injection added ports of its flags; empty when it was not there.
pub const SKIP_INBOUND_PORTS_BEFORE: &str = "linkerd.io/skip-inbound-ports-before";

/// Likewise for [`SKIP_OUTBOUND_PORTS`].
pub const SKIP_OUTBOUND_PORTS_BEFORE: &str = "linkerd.io/skip-outbound-ports-before";

/// What `spec.resources` of the pod was before injection raised it, as JSON.
pub const POD_RESOURCES_BEFORE: &str = "linkerd.io/pod-resources-before";

/// Ports whose traffic is never parsed as HTTP.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";

/// Image of the proxy, without tag.
pub const PROXY_IMAGE: &str = "config.linkerd.io/proxy-image";

/// Tag of the images of the proxy and of the init container.
pub const PROXY_IMAGE_VERSION: &str = "config.linkerd.io/proxy-version";

/// Image of the init container, without tag.
pub const INIT_IMAGE: &str = "config.linkerd.io/init-image";

/// When both images are pulled: `Always`, `IfNotPresent` or `Never`.
pub const IMAGE_PULL_POLICY: &str = "config.linkerd.io/image-pull-policy";

/// User id of the proxy.
pub const PROXY_UID: &str = "config.linkerd.io/proxy-uid";

/// Log filter of the proxy.
pub const PROXY_LOG_LEVEL: &str = "config.linkerd.io/proxy-log-level";

/// How long the proxy tries to reach an endpoint.
pub const PROXY_OUTBOUND_CONNECT_TIMEOUT: &str = "config.linkerd.io/proxy-outbound-connect-timeout";

/// Port on which the proxy can be tapped.
pub const CONTROL_PORT: &str = "config.linkerd.io/control-port";

/// Port on which the proxy shows its metrics.
pub const ADMIN_PORT: &str = "config.linkerd.io/admin-port";

/// Port of the proxy for connections to the application.
pub const INBOUND_PORT: &str = "config.linkerd.io/inbound-port";

/// Port of the proxy for connections of the application.
pub const OUTBOUND_PORT: &str = "config.linkerd.io/outbound-port";

/// Whether the proxy is a native sidecar: `true` or `false`.
pub const PROXY_ENABLE_NATIVE_SIDECAR: &str = "config.linkerd.io/proxy-enable-native-sidecar";

/// Processor time that is kept for the proxy, a quantity of Kubernetes.
pub const PROXY_CPU_REQUEST: &str = "config.linkerd.io/proxy-cpu-request";

/// Most processor time of the proxy, a quantity of Kubernetes.
pub const PROXY_CPU_LIMIT: &str = "config.linkerd.io/proxy-cpu-limit";

/// Memory that is kept for the proxy, a quantity of Kubernetes.
pub const PROXY_MEMORY_REQUEST: &str = "config.linkerd.io/proxy-memory-request";

/// Most memory of the proxy, a quantity of Kubernetes.
pub const PROXY_MEMORY_LIMIT: &str = "config.linkerd.io/proxy-memory-limit";
