//! The HTTP server on one client connection. Entry: [`serve`].

use tokio_util::sync::CancellationToken;

use super::{forward::Forward, h1, http2};
use crate::{
    detect::Protocol,
    io::{Connection, Socket},
};

/// Serves requests until the client closes, or after `drain` until those under way are done.
pub(crate) fn serve(socket: Socket, forward: Forward, drain: CancellationToken) -> Connection {
    match forward.protocol {
        Protocol::Http2 => Box::pin(http2::serve(socket, forward, drain)),
        Protocol::Http1 | Protocol::Opaque => Box::pin(h1::serve(socket, forward, drain)),
    }
}
