//! Label keys on Kubernetes objects.

/// On pods and pod templates: the namespace of the control plane that meshed the pod.
pub const CONTROL_PLANE_NAMESPACE: &str = "linkerd.io/control-plane-ns";

/// On objects of the control plane: which component they belong to.
pub const CONTROL_PLANE_COMPONENT: &str = "linkerd.io/control-plane-component";

/// On pods and pod templates that `inject --tls=…` marked: the TLS mode, [`TLS_MODE_OPTIONAL`].
///
/// Without this mark no certificate is issued for the workload and nobody is told that it speaks
/// TLS (linkerd2#1274, linkerd2#2371). The name is not `linkerd.io/tls`: a Prometheus that turns
/// `linkerd.io/<x>` into a label `<x>`, as Linkerd's does, would hide the proxy's own `tls` label.
pub const TLS_MODE: &str = "linkerd.io/tls-mode";

/// Value of [`TLS_MODE`]: TLS wherever it can be had, plaintext otherwise.
pub const TLS_MODE_OPTIONAL: &str = "optional";

/// On pods and pod templates that `inject --identity=service` marked: [`IDENTITY_MODE_SERVICE`].
///
/// With this mark the proxy asks the identity service for its certificate, and no Secret is written.
pub const IDENTITY_MODE: &str = "linkerd.io/identity-mode";

/// Value of [`IDENTITY_MODE`]: the private key is made in the pod and stays there.
pub const IDENTITY_MODE_SERVICE: &str = "service";

/// Prefix of the owner labels on pods: `linkerd.io/proxy-deployment: web`.
/// See [`crate::OwnerKind::pod_label`].
pub const PROXY_OWNER_PREFIX: &str = "linkerd.io/proxy-";

/// A label value may have at most this many characters (Kubernetes, RFC 1123 label).
pub const VALUE_LENGTH_MAX: usize = 63;
