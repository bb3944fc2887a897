//! The gRPC server of this process. Entry: [`serve`].

use std::{net::SocketAddr, pin::pin, time::Duration};

use hyper::{
    Request, body::Incoming, server::conn::http2, service::Service as _, service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use linkerd_process::{ConnectionLimits, client_address, serve_connections};
use linkerd_proto::{
    destination::destination_server::DestinationServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::outbound_policies_server::OutboundPoliciesServer,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::server::Connected as _};
use tracing::debug;

use crate::destination::DestinationService;

/// Proxies without one of ours between: 10,000 pods, and each keeps a connection or two. A node may hide its
/// pods behind its own address.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    in_all: 20_000,
    per_address: 1_000,
};

/// A peer that vanished without a word is noticed after these two together, and its streams with it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of one connection; our own proxy before us puts those of many proxies into one.
const STREAMS_PER_CONNECTION_MAX: u32 = 10_000;

/// Streams end by themselves on shutdown; whoever does not read that is cut off after this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `service` on `listener` until `shutdown`, and a little longer for streams to end in order.
pub async fn serve(
    listener: TcpListener,
    service: DestinationService,
    shutdown: CancellationToken,
) {
    let ending = shutdown.clone();
    let serve = move |socket, peer| connection(socket, peer, service.clone(), ending.clone());
    serve_connections(listener, CONNECTIONS, DRAIN_TIMEOUT, shutdown, serve).await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    service: DestinationService,
    shutdown: CancellationToken,
) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "a connection is gone already");
        return;
    }
    let info = socket.connect_info();
    let service = DestinationService {
        streams: service.streams.of(client_address(&socket, peer)),
        ..service
    };
    let routes = Routes::new(DestinationServer::new(service.clone()))
        .add_service(OutboundPoliciesServer::new(service.clone()))
        .add_service(InboundServerPoliciesServer::new(service))
        .prepare();
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        routes.call(request)
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection broke");
    }
}
