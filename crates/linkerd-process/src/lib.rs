//! What every long-running process of the mesh does: logs, accepting connections, `/live` `/ready` `/metrics`,
//! and an orderly end on SIGTERM. Entry: [`serve_admin`]. Knows nothing of Kubernetes and of the mesh.

mod admin;
mod connections;
mod logs;
mod metrics;
mod shares;
mod shutdown;

pub use admin::{Readiness, render_metrics, respond, serve_admin, serve_admin_connection};
pub use connections::{ConnectionLimits, client_address, serve_connections};
pub use logs::{init_logs, init_logs_at};
pub use metrics::register_process_metrics;
pub use shares::{Share, Shares};
pub use shutdown::shutdown_on_signal;

/// Makes aws-lc-rs the process's provider of cryptography. The first call of every `main`.
///
/// Does nothing when a provider is already there.
pub fn install_crypto_provider() {
    // An error says that one is there, perhaps since this very moment.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
