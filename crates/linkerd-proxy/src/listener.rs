//! Accepts connections and finds out where they were going. Entry: [`Listener::run`].
//! Every connection is a task of its own: nothing that a client does or omits delays the next accept.

use std::{
    io,
    net::{IpAddr, SocketAddr},
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
};

/// Accept fails like this for want of file descriptors or memory; they may be back after it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the kernel completes while we are busy.
const BACKLOG: i32 = 1024;

/// A bound listener of the data path.
pub(crate) struct Listener {
    name: &'static str,
    listener: TcpListener,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// The system's, with the name and the address in the text.
    pub(crate) fn bind(name: &'static str, address: SocketAddr) -> io::Result<Self> {
        let bind = || {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(address),
                socket2::Type::STREAM,
                None,
            )?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        let listener = bind().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot bind {name} {address}: {error}"),
            )
        })?;
        Ok(Self { name, listener })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
                (self.listener.accept().await, slot)
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

/// Where the client was going before it was redirected here; `forward` stands in for clients that
/// were not. None when it was going to this proxy itself.
pub(crate) fn original_destination(
    socket: &Socket,
    shared: &Shared,
    forward: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let stream = socket.tcp();
    redirected_from(stream)
        .filter(|address| !shared.is_own_listener(*address) && Some(*address) != own(stream))
        .or(forward)
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
