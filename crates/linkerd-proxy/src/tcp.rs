//! TCP as all connections of the proxy need it. Entries: [`connect`]; [`keep_alive`], by which the
//! kernel finds peers that have vanished without a word.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tracing::debug;

/// The keepalive of an application ends at the proxy beside it. Well below the four to six minutes after
/// which common NATs and load balancers forget an idle connection; one of 10,000 idle connections costs
/// a packet in half a minute. A peer that has gone is found after a minute.
///
/// No TCP_USER_TIMEOUT: it also ends the connection to a reader that has paused for so long and is well.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Has the kernel ask a silent peer whether it is there; what a listener accepts takes it over.
pub(crate) fn keep_alive<'a>(socket: impl Into<SockRef<'a>>) {
    if let Err(error) = socket.into().set_tcp_keepalive(&KEEP_ALIVE) {
        debug!(%error, "a connection without keepalive");
    }
}

/// Connects to `address`.
///
/// # Errors
/// The kernel's, and that nobody listens.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    connect_by(socket, address).await
}

async fn connect_by(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket.connect(address).await?;
    // When the kernel takes the very port that is dialled for our end, the connection leads to itself.
    if stream.local_addr()? == address {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_refused() {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = "127.0.0.1:0".parse().expect("an address");
        socket.bind(any).expect("a free port");
        let own = socket.local_addr().expect("bound");
        let refused = connect_by(socket, own).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_silent_peer_is_asked_whether_it_is_there() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let listener = std::net::TcpListener::bind(any).expect("a free port");
        let stream = connect(listener.local_addr().expect("bound"));
        let stream = stream.await.expect("listened on");
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().expect("read"));
        keep_alive(&stream);
        assert!(socket.keepalive().expect("read"));
        assert_eq!(socket.tcp_keepalive_time().expect("read").as_secs(), 30);
        assert_eq!(socket.tcp_keepalive_interval().expect("read").as_secs(), 10);
        assert_eq!(socket.tcp_keepalive_retries().expect("read"), 3);
    }
}
