//! The readiness probe. It runs in the pod and asks the application itself over the loopback
//! interface, so that it neither is traffic of the mesh nor is answered by a proxy.

use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Succeeds as soon as the address accepts a connection.
#[derive(clap::Args)]
pub struct Args {
    /// host:port, for example 127.0.0.1:8080
    addr: String,
    /// Milliseconds after which to give up
    #[arg(long, default_value = "800")]
    timeout_ms: u64,
}

/// Tries until it succeeds.
///
/// # Errors
/// When the address accepts no connection in time.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { addr, timeout_ms } = args;
    let connected = async {
        while TcpStream::connect(&addr).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(timeout_ms), connected)
        .await
        .with_context(|| format!("{addr} accepts no connection"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listening_address_is_ready_and_a_closed_one_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        run(Args {
            addr: addr.clone(),
            timeout_ms: 5000,
        })
        .await
        .unwrap();
        drop(listener);
        run(Args {
            addr,
            timeout_ms: 120,
        })
        .await
        .unwrap_err();
    }
}
