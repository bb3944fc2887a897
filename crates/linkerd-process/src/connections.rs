//! Accepting connections: so many at once, until the process ends. Entry: [`serve_connections`].
//! Knows nothing of what is spoken on them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Shares;

/// How many connections are open at once.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// More wait in the kernel's backlog.
    pub in_all: usize,
    /// More from one address are closed at once, so that it does not take the place of the others.
    pub per_address: usize,
}

/// Pause when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs `serve` for each connection until `shutdown`. A failing accept is logged and tried again: it never
/// ends the server.
///
/// Connections that are open at the shutdown may end within `drain_timeout`; at the return none is.
pub async fn serve_connections<F>(
    listener: TcpListener,
    limits: ConnectionLimits,
    drain_timeout: Duration,
    shutdown: CancellationToken,
    mut serve: impl FnMut(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let shares = Shares::new(limits.per_address);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            // A panic ends its own connection only, and has printed itself.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits.in_all => match accepted {
                Ok((stream, peer)) => {
                    let share = client_address(&stream, peer).map(|address| shares.take(address));
                    if let Some(None) = share {
                        debug!(%peer, "closed a connection: its address has too many");
                        continue;
                    }
                    let served = serve(stream, peer);
                    connections.spawn(async move {
                        served.await;
                        drop(share);
                    });
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

/// Where the one client at the other end of `stream` is. None when that is this pod's own address: its proxy
/// connects from there, for as many as there are.
pub fn client_address(stream: &TcpStream, peer: SocketAddr) -> Option<IpAddr> {
    let address = peer.ip().to_canonical();
    let own = stream.local_addr().ok()?.ip().to_canonical();
    (address != own).then_some(address)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
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
            ConnectionLimits {
                in_all: 1,
                per_address: 1,
            },
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

    #[tokio::test]
    async fn one_address_takes_its_share_and_this_pods_proxy_what_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let server = listener.local_addr().expect("bound");
        let (began, mut beginnings) = mpsc::channel(4);
        let limits = ConnectionLimits {
            in_all: 5,
            per_address: 1,
        };
        let serve = move |mut stream: TcpStream, peer: SocketAddr| {
            let began = began.clone();
            async move {
                began.send(peer).await.expect("the test listens");
                // Ends with its client.
                stream.read_u8().await.ok();
            }
        };
        let shutdown = CancellationToken::new();
        let serving = serve_connections(listener, limits, Duration::ZERO, shutdown, serve);
        let serving = tokio::spawn(serving);
        let connect = |from: [u8; 4]| async move {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((from, 0).into()).expect("loopback");
            socket.connect(server).await.expect("the backlog")
        };
        let first = connect([127, 0, 0, 2]).await;
        let mut too_many = connect([127, 0, 0, 2]).await;
        let closed = timeout(Duration::from_secs(10), too_many.read_u8()).await;
        assert!(closed.expect("closed at once").is_err());
        let other = connect([127, 0, 0, 3]).await;
        let own = [connect([127, 0, 0, 1]).await, connect([127, 0, 0, 1]).await];
        for served in [&first, &other, &own[0], &own[1]] {
            assert_eq!(beginnings.recv().await, served.local_addr().ok());
        }
        drop(first);
        // Until the server has seen the end.
        let again = loop {
            let mut again = connect([127, 0, 0, 2]).await;
            tokio::select! {
                closed = again.read_u8() => assert!(closed.is_err()),
                began = beginnings.recv() => break (began, again.local_addr().ok()),
            }
        };
        assert_eq!(again.0, again.1);
        serving.abort();
    }
}
