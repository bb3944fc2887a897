//! The start of a connection to one of the proxy's own ports, which take plaintext and mesh TLS.
//! Entry: [`open`].

use std::time::Duration;

use linkerd_names::Identity;
use tokio::time::timeout;

use super::{
    accept::{Alert, Judgement, accept, judge, refuse},
    client_hello::{Hello, server_name},
};
use crate::{
    io::{Socket, Transport},
    shared::Shared,
};

/// A client that takes longer to tell which of both it speaks is cut off.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, and who is at its other end.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    /// None in plaintext.
    pub(crate) peer: Option<Identity>,
}

/// Answers a mesh handshake for us; any other connection stays as it is. None when it has ended.
pub(crate) async fn open(client: Socket, shared: &Shared) -> Option<Opened> {
    timeout(OPEN_TIMEOUT, open_unbounded(client, shared))
        .await
        .ok()
        .flatten()
}

async fn open_unbounded(mut client: Socket, shared: &Shared) -> Option<Opened> {
    let limits = &shared.config.limits;
    let name = loop {
        match server_name(client.seen(), limits.client_hello_bytes_max) {
            Hello::Incomplete => {
                if client.fill().await.ok()? == 0 {
                    return None;
                }
            }
            Hello::Name(name) if Identity::is_mesh_name(&name) => break name,
            Hello::Name(_) | Hello::NoName => {
                return Some(Opened {
                    socket: client,
                    peer: None,
                });
            }
        }
    };
    match judge(&name, shared.credentials.as_deref()) {
        Judgement::Accept(credentials) => {
            // Nothing else is offered than what carries one client's bytes.
            let config = credentials.own_ports.clone();
            let accepted = accept(client, config, limits.accept_timeout).await.ok()?;
            Some(Opened {
                socket: Socket::new(Transport::Tls(Box::new(accepted.stream))),
                peer: Some(accepted.peer),
            })
        }
        Judgement::NoCredentials => {
            refuse(&mut client, Alert::HandshakeFailure).await;
            None
        }
        Judgement::NotUs => {
            refuse(&mut client, Alert::UnrecognizedName).await;
            None
        }
    }
}
