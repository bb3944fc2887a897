//! Connections that tell by a header which port they are for. Proxies of Linkerd make them to our own
//! port instead of having them redirected there.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use linkerd_names::{Identity, Tls};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Inbound;
use crate::{
    io::{Connection, Socket},
    listener,
    quiet::tell,
    tls::{
        Verdict,
        client_hello::{Hello, server_name},
    },
    transport_header,
};

impl Inbound {
    /// A connection to the proxy itself: only mesh TLS may come here, and only with a header behind it,
    /// because without one the port that it is for is our own.
    pub(super) async fn direct(
        self: Arc<Self>,
        mut client: Socket,
        opened: Instant,
        drain: CancellationToken,
    ) -> Option<Connection> {
        let bound = self.shared.config.limits.client_hello_timeout;
        let name = match timeout(bound, self.mesh_name(&mut client)).await {
            Ok(Some(name)) => name,
            Ok(None) | Err(_) => {
                tell!(
                    self.shared.refusals,
                    "inbound connection to the proxy itself: refused"
                );
                return None;
            }
        };
        let Some(address) = listener::arrived_at(&client) else {
            debug!("the client has gone");
            return None;
        };
        let port = self.port(address);
        self.mesh(client, &name, port, opened, drain).await
    }

    async fn mesh_name(&self, client: &mut Socket) -> Option<String> {
        let bytes_max = self.shared.config.limits.client_hello_bytes_max;
        loop {
            match server_name(client.seen(), bytes_max) {
                Hello::Name(name) => return Identity::is_mesh_name(&name).then_some(name),
                Hello::NoName => return None,
                Hello::Incomplete => {}
            }
            // An error is an end too: nobody is there to be told.
            if !matches!(client.fill().await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Bytes behind a header, out of mesh TLS; `arrived_at` is the pod's address and any port.
    pub(super) async fn headed(
        &self,
        mut client: Socket,
        arrived_at: SocketAddr,
        tls: Tls,
        drain: CancellationToken,
    ) -> Option<Connection> {
        let bound = self.shared.config.limits.accept_timeout;
        let header = match transport_header::read(&mut client, bound).await {
            Ok(header) => header,
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tell!(self.shared.refusals, %arrived_at, %error, source, "a transport header is not valid");
                return None;
            }
        };
        let address = SocketAddr::new(arrived_at.ip(), header.port);
        // Whoever comes from within the pod may do more, and through us everybody would.
        if is_own(address, &self.shared.own) {
            tell!(self.shared.refusals, %address, "inbound connection to the proxy itself: refused");
            return None;
        }
        let port = self.port(address);
        let verdict = Verdict::Known(header.protocol);
        self.carried(client, verdict, port, tls, drain).await
    }
}

/// Whether the proxy itself, which has bound `own`, listens at an address of the pod.
pub(super) fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tap trusts whoever comes from within the pod, and what a header leads to comes from there.
    #[test]
    fn the_proxys_ports_are_its_own_at_every_address_of_the_pod() {
        let own: Vec<SocketAddr> = [
            "127.0.0.1:4140",
            "0.0.0.0:4143",
            "0.0.0.0:4190",
            "[::]:4190",
        ]
        .map(|address| address.parse().unwrap())
        .into();
        for (address, expected) in [
            ("10.1.0.1:4143", true),
            ("10.1.0.1:4190", true),
            ("[fd00::1]:4190", true),
            ("127.0.0.1:4140", true),
            ("10.1.0.1:4140", false),
            ("10.1.0.1:8080", false),
        ] {
            assert_eq!(
                is_own(address.parse().unwrap(), &own),
                expected,
                "{address}"
            );
        }
    }
}
