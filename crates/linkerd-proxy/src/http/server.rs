//! The HTTP server on one client connection. Entry: [`serve`].

use std::sync::Arc;

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::forward::{Destination, Forward};
use crate::{detect::Protocol, io::Socket};

/// Serves requests until the client closes, or after `drain` until those under way are done.
pub(crate) async fn serve(socket: Socket, forward: Forward, drain: &CancellationToken) {
    let limits = forward.shared.config.limits.clone();
    let protocol = forward.protocol;
    let is_inbound = matches!(forward.destination, Destination::Application(..));
    let forward = Arc::new(forward);
    let service = service_fn(move |request| {
        let forward = forward.clone();
        async move { Box::pin(forward.handle(request)).await }
    });
    let io = TokioIo::new(socket);
    let result = if protocol == Protocol::Http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .enable_connect_protocol()
            .keep_alive_interval(is_inbound.then_some(limits.h2_ping_interval))
            .keep_alive_timeout(limits.h2_ping_timeout)
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(limits.h2_header_list_bytes_max)
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(is_inbound.then_some(limits.h1_head_timeout))
            .auto_date_header(false)
            .preserve_header_case(true)
            .half_close(true)
            .max_buf_size(limits.h1_head_bytes_max);
        let connection = builder.serve_connection(io, service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = result {
        debug!(%error, "a client connection has ended");
    }
}
