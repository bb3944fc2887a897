//! The HTTP server on one client connection. Entry: [`serve`].

use std::sync::Arc;

use hyper::{server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    forward::{Destination, Forward},
    h1,
};
use crate::{
    detect::Protocol,
    io::{Connection, Socket},
};

/// Serves requests until the client closes, or after `drain` until those under way are done.
pub(crate) fn serve(socket: Socket, forward: Forward, drain: CancellationToken) -> Connection {
    match forward.protocol {
        Protocol::Http2 => Box::pin(http2(socket, forward, drain)),
        Protocol::Http1 | Protocol::Opaque => Box::pin(h1::serve(socket, forward, drain)),
    }
}

async fn http2(socket: Socket, forward: Forward, drain: CancellationToken) {
    let limits = forward.shared.config.limits.clone();
    let is_inbound = matches!(forward.destination, Destination::Application(..));
    let forward = Arc::new(forward);
    let service = service_fn(move |request| {
        let forward = forward.clone();
        async move { Box::pin(forward.handle(request)).await }
    });
    let connection = conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .enable_connect_protocol()
        .keep_alive_interval(is_inbound.then_some(limits.h2_ping_interval))
        .keep_alive_timeout(limits.h2_ping_timeout)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_list_bytes_max)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a client connection has ended");
    }
}
