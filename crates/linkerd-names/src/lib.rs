//! Every string and number that two processes of the mesh must agree on.
//! Labels, annotations, owners, identities, ports, environment names, paths and the words for TLS.
//! No I/O and no dependency: whoever needs one of these names takes it from here.

pub mod annotations;
pub mod component;
pub mod dashboard;
pub mod discovery;
pub mod env;
pub mod identity;
pub mod labels;
pub mod log_filter;
pub mod owner;
pub mod paths;
pub mod ports;
pub mod probe;
pub mod resource;
pub mod tap;
pub mod tls;

pub use identity::{Identity, InvalidIdentity};
pub use owner::{Owner, OwnerKind, UnknownKind};
pub use resource::ResourceType;
pub use tls::{NoTls, Tls};

/// Namespace of the control plane unless a flag says otherwise.
pub const CONTROL_PLANE_NAMESPACE_DEFAULT: &str = "linkerd";

/// The DNS zone of a cluster unless a flag says otherwise.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Field manager of every object that we write by server-side apply.
pub const FIELD_MANAGER: &str = "linkerd-ca";

/// User id of the proxy; `linkerd-init` exempts its traffic from redirection.
pub const PROXY_UID: u32 = 2102;

/// The registry in front of every image name unless `--registry` says otherwise. The local cluster
/// has these images loaded; other clusters name a registry of their own.
pub const REGISTRY_DEFAULT: &str = "localhost/linkerd";

/// Version of this build: image tags, `linkerd version` and the `created-by` annotation.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
