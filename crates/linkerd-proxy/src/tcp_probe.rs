//! Connects to the application for kubelet, whose own connection the proxy would accept, whoever listens
//! behind it. Entry: [`connect`].

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

use crate::tcp;

/// Kubelet hangs up when its timeout is over; the answer is to be there before.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// Finds out whether somebody listens on `address`, which is one of the pod's own. The rules of
/// `linkerd-init` leave the proxy's connections alone.
///
/// # Errors
/// Why not, in one line.
pub(crate) async fn connect(address: SocketAddr, kubelet_timeout: Duration) -> Result<(), String> {
    let bound = kubelet_timeout.saturating_sub(ANSWER_TIME);
    match timeout(bound, tcp::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot connect to {address}: {error}")),
        Err(_) => Err(format!("{address} has not accepted within {bound:?}")),
    }
}
