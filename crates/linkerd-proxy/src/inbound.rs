//! The life of a connection to the application: mesh TLS for this pod, or the very bytes as they
//! came; then HTTP requests or bytes. Entry: [`Inbound::serve`]. No discovery, no DNS.

mod headed;
mod opaque;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use linkerd_names::{Identity, NoTls, Tls};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    detect::{Protocol, detect},
    discovery::Habit,
    endpoint::{Endpoint, Labels},
    first::{Bounds, First, who_speaks},
    http::{
        forward::{Destination, Forward},
        http2, pool, server,
    },
    io::{Connection, Socket, Transport},
    listener::original_destination,
    metrics::{Direction, Peer},
    mux,
    quiet::tell,
    shared::Shared,
    tls::{
        REQUESTS, Verdict,
        accept::{Alert, Carries, Judgement, accept, judge, refuse},
        client_hello::{Hello, server_name},
        connect::{ConnectError, Connected},
        stream::TlsStream,
    },
};

use opaque::Opaque;

/// A pod has few ports; a client that scans them all must not grow this without end.
const PORTS_MAX: usize = 1_024;

/// What serves connections to the application.
pub(crate) struct Inbound {
    shared: Arc<Shared>,
    ports: Mutex<HashMap<SocketAddr, Arc<Port>>>,
}

/// One address of the application.
struct Port {
    endpoint: Arc<Endpoint>,
    /// Of connections as they arrive.
    habit: Habit,
    /// Of what mesh TLS carries without a verdict.
    inner_habit: Habit,
}

/// What a client's first bytes are.
enum Opening {
    Mesh(String),
    Plain(Protocol),
}

impl Inbound {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            ports: Mutex::default(),
        })
    }

    /// Serves one connection.
    pub(crate) fn serve(
        self: Arc<Self>,
        client: Socket,
        drain: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let begun = Box::pin(self.begin(client, drain));
        async move {
            if let Some(rest) = begun.await {
                rest.await;
            }
        }
    }

    /// Finds out what the client speaks; none when that was the end of it.
    async fn begin(
        self: Arc<Self>,
        mut client: Socket,
        drain: CancellationToken,
    ) -> Option<Connection> {
        let opened = Instant::now();
        let shared = &self.shared;
        let forward = shared.config.inbound_forward;
        let Some(address) = original_destination(&client, shared, forward) else {
            return Box::pin(self.direct(client, opened, drain)).await;
        };
        let port = self.port(address);
        let limits = &shared.config.limits;
        let opaque = self.is_opaque(address);
        let opening = |bytes: &[u8]| match server_name(bytes, limits.client_hello_bytes_max) {
            Hello::Incomplete => None,
            Hello::Name(name) if Identity::is_mesh_name(&name) => Some(Opening::Mesh(name)),
            Hello::Name(_) | Hello::NoName if opaque => Some(Opening::Plain(Protocol::Opaque)),
            Hello::Name(_) | Hello::NoName => {
                detect(bytes, limits.detect_bytes_max).map(Opening::Plain)
            }
        };
        let bounds = Bounds {
            bytes_max: limits.client_hello_bytes_max,
            partial_timeout: limits.detect_partial_timeout,
            hello_timeout: limits.client_hello_timeout,
            dial_delay: port.habit.dial_delay(limits.early_dial_delay),
            unreachable_grace: limits.unreachable_grace,
            hello_grace: match shared.credentials {
                Some(_) => limits.hello_grace,
                None => Duration::ZERO,
            },
            http2_grace: limits.http2_grace,
        };
        let first = who_speaks(&mut client, opening, self.dial(&port), &bounds).await;
        let plain = Tls::Off(match shared.credentials {
            Some(_) => NoTls::PeerSentPlaintext,
            None => NoTls::Disabled,
        });
        match first {
            Ok(First::Client {
                verdict: Some(Opening::Mesh(name)),
                server,
            }) => {
                port.habit.client_first();
                // A server that was dialled for a silent client and has not spoken is of no use now.
                drop(server);
                Box::pin(self.mesh(client, &name, port, opened, drain)).await
            }
            Ok(First::Client {
                verdict: Some(Opening::Plain(protocol)),
                server,
            }) => {
                port.habit.client_first();
                let client = self.metered(client, &plain, opened);
                Some(self.forward(client, protocol, port, plain, server, drain))
            }
            Ok(First::Client {
                verdict: None,
                server,
            }) => {
                let client = self.metered(client, &plain, opened);
                Some(self.forward(client, Protocol::Opaque, port, plain, server, drain))
            }
            Ok(First::Server(server)) => {
                port.habit.server_first();
                let client = self.metered(client, &plain, opened);
                Some(self.opaque(client, port, &plain).copy(server))
            }
            Ok(First::Unreachable(error)) => {
                let opaque = self.opaque(client, port, &plain);
                // Nobody has counted it, so nobody else knows.
                Opaque { opened, ..opaque }.refuse(&error);
                None
            }
            Err(error) => {
                debug!(%address, %error, "the client has gone");
                None
            }
        }
    }

    /// A client that opens a mesh handshake.
    async fn mesh(
        self: &Arc<Self>,
        mut client: Socket,
        name: &str,
        port: Arc<Port>,
        opened: Instant,
        drain: CancellationToken,
    ) -> Option<Connection> {
        let address = port.endpoint.address;
        let credentials = match judge(name, self.shared.credentials.as_deref()) {
            Judgement::Accept(credentials) => credentials,
            Judgement::NoCredentials => {
                debug!(%address, name, "no credentials for a mesh handshake");
                refuse(&mut client, Alert::HandshakeFailure).await;
                return None;
            }
            Judgement::NotUs => {
                tell!(self.shared.refusals, %address, name, "mesh handshake for another workload: refused");
                refuse(&mut client, Alert::UnrecognizedName).await;
                return None;
            }
        };
        let limits = &self.shared.config.limits;
        // Requests cannot be taken for what is not to be parsed.
        let config = match self.is_opaque(address) {
            true => &credentials.opaque,
            false => &credentials.server,
        };
        let accepted = match accept(client, config.clone(), limits.accept_timeout).await {
            Ok(accepted) => accepted,
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tell!(self.shared.refusals, %address, %error, source, "mesh handshake not completed");
                return None;
            }
        };
        let tls = Tls::On(accepted.peer);
        match accepted.carries {
            Carries::Headed => {
                let socket = Socket::new(Transport::Tls(Box::new(accepted.stream)));
                let client = self.metered(socket, &tls, opened);
                self.headed(client, address, tls, drain).await
            }
            _ if headed::is_own(address, &self.shared.own) => {
                tell!(self.shared.refusals, %address, "inbound connection to the proxy itself: refused");
                None
            }
            Carries::One(verdict) => {
                let socket = Socket::new(Transport::Tls(Box::new(accepted.stream)));
                let client = self.metered(socket, &tls, opened);
                self.carried(client, verdict, port, tls, drain).await
            }
            Carries::Streams => {
                let streams = self.clone().streams(accepted.stream, port, tls, drain);
                Some(Box::pin(streams))
            }
        }
    }

    /// A connection of a peer's proxy that carries the streams of many clients.
    async fn streams(
        self: Arc<Self>,
        connection: TlsStream,
        port: Arc<Port>,
        tls: Tls,
        drain: CancellationToken,
    ) {
        let peer = connection.tcp().peer_addr().ok();
        let canonical = |peer: SocketAddr| SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let requests = http2::Streams::new(Forward {
            shared: self.shared.clone(),
            protocol: Protocol::Http2,
            client: peer.map(canonical),
            destination: Destination::Application(port.endpoint.clone(), tls.clone()),
        });
        let served = mux::serve(connection, peer, &drain, |stream, verdict| {
            // Where nothing is to be parsed, this was not offered.
            if verdict == REQUESTS && !self.is_opaque(port.endpoint.address) {
                let served = Box::pin(requests.clone().serve(stream));
                self.shared.tasks.spawn(served);
                return;
            }
            let (this, port, tls, drain) = (self.clone(), port.clone(), tls.clone(), drain.clone());
            let socket = Socket::new(Transport::Shared(stream));
            let client = self.metered(socket, &tls, Instant::now());
            let begun =
                Box::pin(async move { this.carried(client, verdict, port, tls, drain).await });
            self.shared.tasks.spawn(async move {
                if let Some(rest) = begun.await {
                    rest.await;
                }
            });
        });
        if let Err(error) = served.await {
            debug!(address = %port.endpoint.address, %error, "a shared connection broke");
        }
    }

    /// One client's bytes, out of mesh TLS.
    async fn carried(
        &self,
        mut client: Socket,
        verdict: Verdict,
        port: Arc<Port>,
        tls: Tls,
        drain: CancellationToken,
    ) -> Option<Connection> {
        let address = port.endpoint.address;
        let limits = &self.shared.config.limits;
        let protocol = match verdict {
            _ if self.is_opaque(address) => Protocol::Opaque,
            Verdict::Known(protocol) => protocol,
            Verdict::Detect => {
                let bounds = Bounds {
                    bytes_max: limits.detect_bytes_max,
                    partial_timeout: limits.detect_partial_timeout,
                    hello_timeout: limits.client_hello_timeout,
                    dial_delay: port.inner_habit.dial_delay(limits.early_dial_delay),
                    unreachable_grace: limits.unreachable_grace,
                    hello_grace: Duration::ZERO,
                    http2_grace: limits.http2_grace,
                };
                let judge = |bytes: &[u8]| detect(bytes, limits.detect_bytes_max);
                match who_speaks(&mut client, judge, self.dial(&port), &bounds).await {
                    Ok(First::Client { verdict, server }) => {
                        port.inner_habit.client_first();
                        let protocol = verdict.unwrap_or(Protocol::Opaque);
                        return Some(self.forward(client, protocol, port, tls, server, drain));
                    }
                    Ok(First::Server(server)) => {
                        port.inner_habit.server_first();
                        return Some(self.opaque(client, port, &tls).copy(server));
                    }
                    Ok(First::Unreachable(error)) => {
                        self.opaque(client, port, &tls).refuse(&error);
                        return None;
                    }
                    Err(error) => {
                        debug!(%address, %error, "the client has gone");
                        return None;
                    }
                }
            }
        };
        Some(self.forward(client, protocol, port, tls, None, drain))
    }

    /// Requests or bytes to the application; `server` was dialled already.
    fn forward(
        &self,
        client: Socket,
        protocol: Protocol,
        port: Arc<Port>,
        tls: Tls,
        server: Option<Connected>,
        drain: CancellationToken,
    ) -> Connection {
        match (protocol, server) {
            (Protocol::Http1 | Protocol::Http2, server) => {
                let unused = server.filter(|server| server.socket.seen().is_empty());
                if let (Protocol::Http1, Some(server)) = (protocol, unused) {
                    pool::adopt(&self.shared, &port.endpoint, server);
                }
                let destination = Destination::Application(port.endpoint.clone(), tls);
                let forward = Forward {
                    shared: self.shared.clone(),
                    protocol,
                    client: client.peer(),
                    destination,
                };
                server::serve(client, forward, drain)
            }
            (Protocol::Opaque, Some(server)) => self.opaque(client, port, &tls).copy(server),
            (Protocol::Opaque, None) => Box::pin(self.opaque(client, port, &tls).dial_and_copy()),
        }
    }

    fn is_opaque(&self, address: SocketAddr) -> bool {
        let ports = &self.shared.config.inbound_opaque_ports;
        ports.contains(&address.port())
    }

    fn opaque(&self, client: Socket, port: Arc<Port>, tls: &Tls) -> Opaque {
        Opaque {
            opened: client.opened().unwrap_or_else(Instant::now),
            client,
            shared: self.shared.clone(),
            port,
            tls: tls.into(),
        }
    }

    async fn dial(&self, port: &Port) -> Result<Connected, ConnectError> {
        opaque::dial(&self.shared, port).await
    }

    fn metered(&self, client: Socket, tls: &Tls, opened: Instant) -> Socket {
        let metrics = &self.shared.metrics.tcp;
        client.metered(
            metrics.series(Direction::Inbound, Peer::Source, tls.into()),
            opened,
        )
    }

    fn port(&self, address: SocketAddr) -> Arc<Port> {
        let mut ports = self.ports.lock();
        if let Some(port) = ports.get(&address) {
            return port.clone();
        }
        if ports.len() >= PORTS_MAX {
            ports.retain(|_, port| Arc::strong_count(port) > 1);
        }
        let port = Arc::new(Port {
            endpoint: Endpoint::new(
                address,
                None,
                NoTls::Loopback,
                Labels::default(),
                self.shared.ejections.clone(),
            ),
            habit: Habit::default(),
            inner_habit: Habit::default(),
        });
        if ports.len() < PORTS_MAX {
            ports.insert(address, port.clone());
        }
        port
    }
}
