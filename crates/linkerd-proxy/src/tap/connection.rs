//! One connection that carries no HTTP and that somebody watches, from when its server was reached to its
//! end. Entry: [`Connection`].

use std::{fmt::Display, io::ErrorKind, net::SocketAddr, sync::Arc, time::Instant};

use linkerd_proto::tap::tap_event::{
    Event, Tcp,
    tcp::{self, Close, End, Open, Protocol},
};

use super::{
    Taps,
    event::cut,
    session::Session,
    watch::{Ends, Origin, Watch, since},
};
use crate::{
    endpoint::Endpoint,
    io::Socket,
    join::{Broken, Carried},
    metrics::{Direction, Peer, TlsLabel},
    tls::{
        client_hello::{Hello, server_name},
        connect::Connected,
    },
};

/// First bytes of every ClientHello: a handshake record of SSL 3, and the kind of message.
const HANDSHAKE_RECORD: [u8; 2] = [22, 3];

/// A connection and those who watch it. Dropped before its end it is told as one that the proxy has ended.
pub(crate) struct Connection {
    ends: Ends,
    watches: Vec<Watch>,
    pub(crate) carried: Carried,
}

/// What is known of a connection when its server has been reached, or cannot be.
pub(crate) struct Facts<'a> {
    pub(crate) direction: Direction,
    pub(crate) client: &'a Socket,
    /// When the client has connected.
    pub(crate) began: Instant,
    /// What became of TLS on the client's connection.
    pub(crate) client_tls: TlsLabel,
    /// Where the client was going.
    pub(crate) address: SocketAddr,
    /// Where it came to.
    pub(crate) endpoint: Option<&'a Endpoint>,
    pub(crate) server: Option<&'a Connected>,
    pub(crate) hello_bytes_max: usize,
}

impl Connection {
    /// Lets everybody decide who watches; none when nobody does.
    pub(super) fn open(
        taps: &Taps,
        sessions: Vec<Arc<Session>>,
        facts: &Facts<'_>,
    ) -> Option<Box<Self>> {
        let Facts {
            direction,
            client,
            began,
            client_tls,
            address,
            endpoint,
            server,
            hello_bytes_max,
        } = facts;
        let mut ends = Ends::new(Origin {
            direction: *direction,
            source: client.peer(),
            tls: *client_tls,
            began: *began,
        });
        ends.destination = Some(*address);
        ends.to(*endpoint, server.map(|server| (&server.tls).into()));
        let server_seen = server.map_or(&[][..], |server| server.socket.seen());
        let (protocol, server_name) = protocol(client.seen(), server_seen, *hello_bytes_max);
        let sessions = sessions.into_iter();
        let watches: Vec<Watch> = sessions
            .filter_map(|session| ends.decide(taps, session, None))
            .collect();
        for watch in &watches {
            let open = Open {
                id: Some(watch.id),
                protocol: protocol.into(),
                server_name: server_name.clone(),
            };
            watch.tell(&ends, tcp::Event::Open(open));
        }
        (!watches.is_empty()).then(|| {
            Box::new(Self {
                ends,
                watches,
                carried: Carried::default(),
            })
        })
    }

    /// The connection has ended.
    pub(crate) fn closed(mut self, result: &Result<(), Broken>) {
        let Err(Broken { by, error, .. }) = result else {
            return self.close(End::Clean, tcp::Peer::Nobody, String::new());
        };
        let by = match by {
            Peer::Source => tcp::Peer::Source,
            Peer::Destination => tcp::Peer::Destination,
        };
        match error.kind() {
            // The last is TLS without its orderly end.
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => self.close(End::Reset, by, String::new()),
            _ => self.close(End::Error, by, error.to_string()),
        }
    }

    /// There is no server for it.
    pub(crate) fn unreachable(mut self, error: &impl Display) {
        self.close(End::Error, tcp::Peer::Destination, error.to_string());
    }

    fn close(&mut self, end: End, ended_by: tcp::Peer, error: String) {
        let error = cut(&error);
        for watch in std::mem::take(&mut self.watches) {
            let close = Close {
                id: Some(watch.id),
                since_open: since(self.ends.origin.began),
                source_bytes: self.carried.from_client,
                destination_bytes: self.carried.from_server,
                end: end.into(),
                error: error.clone(),
                ended_by: ended_by.into(),
            };
            watch.tell(&self.ends, tcp::Event::Close(close));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let error = "the proxy has ended".to_owned();
        self.close(End::Error, tcp::Peer::Nobody, error);
    }
}

impl Watch {
    fn tell(&self, ends: &Ends, event: tcp::Event) {
        let tcp = Tcp { event: Some(event) };
        self.session.tell(ends.event(Event::Tcp(tcp)));
    }
}

/// What the first bytes of both sides are, and whom the client's own TLS asks for.
fn protocol(client: &[u8], server: &[u8], hello_bytes_max: usize) -> (Protocol, String) {
    if client.is_empty() && !server.is_empty() {
        return (Protocol::ServerFirst, String::new());
    }
    match server_name(client, hello_bytes_max) {
        Hello::Name(name) => (Protocol::Tls, cut(&name)),
        Hello::NoName | Hello::Incomplete if client.starts_with(&HANDSHAKE_RECORD) => {
            (Protocol::Tls, String::new())
        }
        Hello::NoName | Hello::Incomplete => (Protocol::Opaque, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_both_sides_name_the_protocol() {
        let named = |client: &[u8], server: &[u8]| protocol(client, server, 1024).0;
        assert_eq!(named(b"", b""), Protocol::Opaque);
        assert_eq!(named(b"", b"220 mail\r\n"), Protocol::ServerFirst);
        assert_eq!(named(b"PING\r\n", b""), Protocol::Opaque);
        assert_eq!(named(b"PING\r\n", b"+PONG\r\n"), Protocol::Opaque);
        assert_eq!(named(b"\x16\x03\x01\x02\x00\x01", b""), Protocol::Tls);
    }
}
