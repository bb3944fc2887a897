//! Accepts connections and finds out where they were going. Entry: [`Listener::run`].
//! Every connection is a task of its own: nothing that a client does or omits delays the next accept.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    io::{Socket, Transport},
    shared::Shared,
    tcp::keep_alive,
};

/// Accept fails like this for want of file descriptors or memory; they may be back after it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the kernel completes while we are busy.
const BACKLOG: i32 = 1024;

/// A bound listener of the data path.
pub(crate) struct Listener {
    name: &'static str,
    listener: TcpListener,
    /// The same port of the IPv6 address that means the same: `linkerd-init` redirects both families.
    sibling: Option<TcpListener>,
}

impl Listener {
    /// Binds `address`, and with `0.0.0.0` and `127.0.0.1` also `[::]` and `[::1]` where the pod has
    /// IPv6. A port that the system is to choose is bound once.
    ///
    /// # Errors
    /// The system's, with the name and the address in the text.
    pub(crate) fn bind(name: &'static str, address: SocketAddr) -> io::Result<Self> {
        let told = |error: io::Error, address| {
            let text = format!("cannot bind {name} {address}: {error}");
            io::Error::new(error.kind(), text)
        };
        let listener = listen(address, Clients::Any).map_err(|error| told(error, address))?;
        let sibling = sibling(address);
        let sibling = match sibling.map(|sibling| (sibling, listen(sibling, Clients::Ipv6Only))) {
            None => None,
            Some((_, Ok(listener))) => Some(listener),
            Some((sibling, Err(error))) if is_without_ipv6(&error) => {
                debug!(name, %sibling, %error, "no IPv6");
                None
            }
            Some((sibling, Err(error))) => return Err(told(error, sibling)),
        };
        Ok(Self {
            name,
            listener,
            sibling,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Every address that is listened on.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        [Some(&self.listener), self.sibling.as_ref()]
            .into_iter()
            .flatten()
            .map(TcpListener::local_addr)
            .collect()
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.sibling {
            None => self.listener.accept().await,
            Some(sibling) => tokio::select! {
                accepted = self.listener.accept() => accepted,
                accepted = sibling.accept() => accepted,
            },
        }
    }

    /// Runs `serve` for every connection, until `stop`.
    pub(crate) async fn run<S, F>(self, shared: Arc<Shared>, stop: CancellationToken, serve: S)
    where
        S: Fn(Socket) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(shared.config.limits.connections_max));
        loop {
            let accept = async {
                let slot = slots.clone().acquire_owned().await;
                (self.accept().await, slot)
            };
            let (accepted, slot) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(listener = self.name, %peer, %error, "the client has gone");
                        continue;
                    }
                    let connection = serve(Socket::new(Transport::Tcp(stream)));
                    shared.tasks.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(listener = self.name, %error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What the clients of an IPv6 listener speak.
enum Clients {
    Any,
    Ipv6Only,
}

fn listen(address: SocketAddr, clients: Clients) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if let Clients::Ipv6Only = clients {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Who comes over loopback is in this pod, and its end is heard of.
    if !address.ip().is_loopback() {
        keep_alive(&socket);
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn sibling(address: SocketAddr) -> Option<SocketAddr> {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv6Addr::UNSPECIFIED,
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST,
        _ => return None,
    };
    (address.port() != 0).then(|| SocketAddr::from((ip, address.port())))
}

/// Whether the kernel has no IPv6, or it is disabled in this pod.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

/// Where the client was going before it was redirected here; `forward` stands in for clients that
/// were not. None when it was going to this proxy itself.
pub(crate) fn original_destination(
    socket: &Socket,
    shared: &Shared,
    forward: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let stream = socket.tcp()?;
    redirected_from(stream)
        .filter(|address| !shared.is_own_listener(*address) && Some(*address) != own(stream))
        .or(forward)
}

/// The address at which a connection has arrived; none when it is broken already.
pub(crate) fn arrived_at(socket: &Socket) -> Option<SocketAddr> {
    own(socket.tcp()?)
}

fn own(stream: &TcpStream) -> Option<SocketAddr> {
    stream.local_addr().ok().map(canonical)
}

fn redirected_from(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let is_v4 = canonical(stream.local_addr().ok()?).is_ipv4();
    // An IPv4 client of a listener on [::] is known to the IPv4 half of the system only.
    let address = if is_v4 {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    address.ok()?.as_socket().map(canonical)
}

/// `::ffff:1.2.3.4` is `1.2.3.4`.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_are_listened_on() {
        for (address, sibling) in [("127.0.0.1:0", "[::1]:0"), ("0.0.0.0:0", "[::1]:0")] {
            let mut free: SocketAddr = address.parse().expect("an address");
            let probe = std::net::TcpListener::bind(free).expect("a free port");
            free.set_port(probe.local_addr().expect("bound").port());
            drop(probe);
            let listener = Listener::bind("test", free).expect("both are free");
            if listener.sibling.is_none() {
                eprintln!("skipped: there is no IPv6 here");
                return;
            }
            let mut other: SocketAddr = sibling.parse().expect("an address");
            other.set_port(free.port());
            let client = TcpStream::connect(other).await.expect("listened on");
            let (_, peer) = listener.accept().await.expect("accepted");
            assert_eq!(Some(peer), client.local_addr().ok());
        }
    }

    #[tokio::test]
    async fn clients_of_other_pods_are_asked_whether_they_are_there() {
        for (address, asked) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
            let listener = Listener::bind("test", address.parse().expect("an address"));
            let listener = listener.expect("a free port");
            let port = listener.address().expect("bound").port();
            let _client = TcpStream::connect(("127.0.0.1", port)).await;
            let (accepted, _) = listener.accept().await.expect("accepted");
            let keepalive = SockRef::from(&accepted).keepalive();
            assert_eq!(keepalive.expect("read"), asked, "{address}");
        }
    }
}
