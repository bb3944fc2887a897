//! Sessions that a client can resume, of one generation of credentials.
//!
//! In TLS 1.3 a client has finished its handshake before the server has looked at the client's
//! certificate. The server's tickets come after it has, so they prove that we were accepted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use rustls::{
    ClientConfig, NamedGroup,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
};
use rustls_pki_types::ServerName;

/// Peers whose sessions are kept.
const SESSIONS_MAX: usize = 512;

/// The store. It goes with its credentials, so no session outlives a change of trust.
#[derive(Debug)]
pub(super) struct Sessions(ClientSessionMemoryCache);

impl Sessions {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(ClientSessionMemoryCache::new(SESSIONS_MAX)))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(server_name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

/// The store as one connection has it, which tells whether that connection got a ticket.
#[derive(Debug)]
pub(super) struct Ticket {
    sessions: Arc<Sessions>,
    has_come: AtomicBool,
}

impl Ticket {
    /// What tells of the ticket, and the settings of the one connection that it is about.
    pub(super) fn awaited(
        sessions: &Arc<Sessions>,
        config: &ClientConfig,
    ) -> (Arc<Self>, Arc<ClientConfig>) {
        let ticket = Arc::new(Self {
            sessions: sessions.clone(),
            has_come: AtomicBool::new(false),
        });
        let mut config = config.clone();
        config.resumption = Resumption::store(ticket.clone());
        (ticket, Arc::new(config))
    }

    pub(super) fn has_come(&self) -> bool {
        self.has_come.load(Relaxed)
    }
}

impl ClientSessionStore for Ticket {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(server_name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.has_come.store(true, Relaxed);
        self.sessions.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions.take_tls13_ticket(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use linkerd_issuer::Root;
    use linkerd_names::Identity;
    use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
    use zeroize::Zeroizing;

    use super::{
        super::{
            Offer, Verdict,
            credentials::{Credentials, Store},
            files::Contents,
        },
        *,
    };
    use crate::metrics::Metrics;

    fn credentials(identity: &Identity) -> Arc<Credentials> {
        let hour = Duration::from_secs(3_600);
        let now = SystemTime::now();
        let root = Root::generate(now).unwrap();
        let issued = root.issue_leaf(identity, hour, now).unwrap();
        let contents = Contents {
            trust_anchors: root.trust_bundle().to_pem().into_bytes(),
            certificate: issued.leaf.as_der().to_vec(),
            private_key: Zeroizing::new(issued.key.as_pkcs8_der().to_vec()),
        };
        let store = Store::new(identity.clone());
        store.publish(&contents, &Metrics::new(1, 1, hour)).unwrap();
        store.current().unwrap()
    }

    /// Both sides after they have said all that they have to say.
    fn shake_hands(
        config: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        name: &Identity,
    ) -> ClientConnection {
        let name = ServerName::try_from(name.as_str().to_owned()).unwrap();
        let mut client = ClientConnection::new(config, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut there = Vec::new();
            client.write_tls(&mut there).unwrap();
            server.read_tls(&mut there.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut back = Vec::new();
            server.write_tls(&mut back).unwrap();
            client.read_tls(&mut back.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        client
    }

    #[test]
    fn a_connection_knows_of_its_own_ticket_alone() {
        let name: Identity = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local"
            .parse()
            .unwrap();
        let credentials = credentials(&name);
        let config = credentials.client(Verdict::Detect, Offer::One);
        let awaited = || Ticket::awaited(&credentials.sessions, &config);

        let mut without = ServerConfig::clone(&credentials.server);
        without.send_tls13_tickets = 0;
        let (silent, silent_config) = awaited();
        let (ticket, ticket_config) = awaited();
        shake_hands(silent_config, Arc::new(without), &name);
        shake_hands(ticket_config, credentials.server.clone(), &name);
        assert!(ticket.has_come());
        assert!(!silent.has_come());

        // What one connection has got others resume.
        let client = shake_hands(config.clone(), credentials.server.clone(), &name);
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}
