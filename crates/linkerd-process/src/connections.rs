//! Accepting connections: so many at once, until the process ends. Entry: [`serve_connections`].
//! Knows nothing of what is spoken on them.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Pause when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs `serve` for each connection until `shutdown`. More than `connections_max` wait in the kernel's
/// backlog. A failing accept is logged and tried again: it never ends the server.
///
/// Connections that are open at the shutdown may end within `drain_timeout`; at the return none is.
pub async fn serve_connections<F>(
    listener: TcpListener,
    connections_max: usize,
    drain_timeout: Duration,
    shutdown: CancellationToken,
    mut serve: impl FnMut(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            // A panic ends its own connection only, and has printed itself.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < connections_max => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer));
                }
                Err(error) => {
                    let address = listener.local_addr().ok();
                    warn!(?address, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(drain_timeout, drained).await.is_err() {
        debug!("connections were cut off");
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::mpsc,
    };

    use super::*;

    #[tokio::test]
    async fn one_more_than_the_limit_waits_until_one_has_ended_and_a_panic_is_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (began, mut beginnings) = mpsc::channel(2);
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_connections(
            listener,
            1,
            Duration::ZERO,
            shutdown.clone(),
            move |mut stream, peer| {
                let began = began.clone();
                async move {
                    began.send(peer).await.expect("the test listens");
                    stream.read_u8().await.expect("a byte");
                    panic!("a byte has come");
                }
            },
        ));
        let mut first = TcpStream::connect(address).await.expect("the backlog");
        let mut second = TcpStream::connect(address).await.expect("the backlog");
        assert_eq!(beginnings.recv().await, first.local_addr().ok());
        tokio::task::yield_now().await;
        assert!(beginnings.try_recv().is_err());
        first.write_u8(0).await.expect("open");
        assert_eq!(beginnings.recv().await, second.local_addr().ok());
        shutdown.cancel();
        server.await.expect("ends by itself");
        assert!(second.read_u8().await.is_err());
    }
}
