//! What the destination service tells our proxies in words of its own. Linkerd's read them as metric labels.

/// Metric label of a target or an endpoint whose port somebody has listed in [`crate::annotations::OPAQUE_PORTS`].
/// The hint of the protocol does not tell that: ports which nobody has listed have it too, for proxies of Linkerd.
pub const OPAQUE_PORTS_LABEL: &str = "opaque_ports";

/// Value of [`OPAQUE_PORTS_LABEL`].
pub const OPAQUE_PORTS_LISTED: &str = "listed";
