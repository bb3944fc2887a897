//! Connects to the application for kubelet, whose own connection the proxy would accept, whoever listens
//! behind it. Entry: [`connect`].

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

/// Kubelet hangs up when its timeout is over; the answer is to be there before.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// Finds out whether somebody listens on `address`, which is one of the pod's own. The rules of
/// `linkerd-init` leave the proxy's connections alone.
///
/// # Errors
/// Why not, in one line.
pub(crate) async fn connect(address: SocketAddr, kubelet_timeout: Duration) -> Result<(), String> {
    let bound = kubelet_timeout.saturating_sub(ANSWER_TIME);
    match timeout(bound, TcpStream::connect(address)).await {
        // When the system has taken this very port for our end, the connection leads to itself.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|own| own == address) => {
            Err(format!("nobody listens on {address}"))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot connect to {address}: {error}")),
        Err(_) => Err(format!("{address} has not accepted within {bound:?}")),
    }
}
