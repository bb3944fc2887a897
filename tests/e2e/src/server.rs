//! A meshed HTTP server, for tests of clients. Entry: [`start_server`].

use anyhow::Result;

use crate::{Namespace, Workload, service};

/// Starts a meshed front end, which answers at `http://server:8080/`, with an emoji service behind
/// it, and waits until they are ready.
///
/// # Errors
/// When a command fails, or a pod does not become ready.
pub fn start_server(namespace: &Namespace) -> Result<()> {
    let image = &namespace.cluster.image;
    let emoji = Workload {
        port: Some(8080),
        ..Workload::new("emoji", image, &["emoji"])
    };
    let args = ["web", "--emoji-host", "emoji:8080"];
    let server = Workload {
        port: Some(8080),
        ..Workload::new("server", image, &args)
    };
    namespace.apply_meshed(&emoji.deployment())?;
    namespace.apply_meshed(&server.deployment())?;
    namespace.apply(&service("emoji", "emoji", 8080, 8080))?;
    namespace.apply(&service("server", "server", 8080, 8080))?;
    namespace.wait_until_ready(&["emoji", "server"])
}
