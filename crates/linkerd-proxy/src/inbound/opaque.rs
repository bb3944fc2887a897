//! Connections whose bytes go to the application as they come. Entry: [`Opaque`].

use std::{sync::Arc, time::Instant};

use tracing::debug;

use super::Port;
use crate::{
    io::{Connection, Socket},
    join::join_tapped,
    metrics::{Direction, TlsLabel},
    shared::Shared,
    tap,
    tls::{
        Verdict,
        connect::{ConnectError, Connected, connect},
    },
};

/// A client that speaks no HTTP, or nothing.
pub(super) struct Opaque {
    pub(super) client: Socket,
    pub(super) shared: Arc<Shared>,
    pub(super) port: Arc<Port>,
    /// What became of TLS on the client's connection.
    pub(super) tls: TlsLabel,
    /// When the client has connected.
    pub(super) opened: Instant,
}

impl Opaque {
    /// Connects to the application first.
    pub(super) async fn dial_and_copy(self) {
        match Box::pin(dial(&self.shared, &self.port)).await {
            Ok(server) => self.copy(server).await,
            Err(error) => self.refuse(&error),
        }
    }

    /// Passes the bytes on, both ways.
    pub(super) fn copy(self, mut server: Connected) -> Connection {
        let tapped = self.tap(Some(&server));
        let (mut client, address) = (self.client, self.port.endpoint.address);
        Box::pin(async move {
            if let Err(error) = join_tapped(&mut client, &mut server.socket, tapped).await {
                debug!(%address, %error, "a connection broke");
            }
        })
    }

    /// Ends a connection that has no application, by a reset: the nearest to one that was refused.
    pub(super) fn refuse(self, error: &ConnectError) {
        let address = self.port.endpoint.address;
        debug!(%address, %error, "the application cannot be reached");
        self.client.lead_nowhere();
        if let Some(tapped) = self.tap(None) {
            tapped.unreachable(error);
        }
    }

    fn tap(&self, server: Option<&Connected>) -> Option<Box<tap::Connection>> {
        self.shared.taps.connection(|| tap::Facts {
            direction: Direction::Inbound,
            client: &self.client,
            began: self.opened,
            client_tls: self.tls,
            address: self.port.endpoint.address,
            endpoint: Some(&self.port.endpoint),
            server,
            hello_bytes_max: self.shared.config.limits.client_hello_bytes_max,
        })
    }
}

/// Connects to the application.
pub(super) async fn dial(shared: &Shared, port: &Port) -> Result<Connected, ConnectError> {
    let verdict = Verdict::Detect;
    connect(shared, Direction::Inbound, &port.endpoint, verdict).await
}
