//! The gRPC server of this process. Entry: [`serve`].

use std::time::Duration;

use linkerd_proto::{
    destination::destination_server::DestinationServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::outbound_policies_server::OutboundPoliciesServer,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use tracing::warn;

use crate::destination::DestinationService;

/// A peer that vanished without a word is noticed after these two together, and its streams with it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of one connection. A proxy opens one for each target that it remembers.
const STREAMS_PER_CONNECTION_MAX: u32 = 10_000;

/// Streams end by themselves on shutdown; whoever does not read that is cut off after this time.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `service` on `listener` until `shutdown`, and a little longer for streams to end in order.
///
/// # Errors
/// When the listener breaks; a single connection's failure is not one.
pub async fn serve(
    listener: TcpListener,
    service: DestinationService,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .add_service(DestinationServer::new(service.clone()))
        .add_service(OutboundPoliciesServer::new(service.clone()))
        .add_service(InboundServerPoliciesServer::new(service))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.clone().cancelled_owned(),
        );
    let cut_off = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        served = server => served,
        () = cut_off => {
            warn!("connections that did not end were cut off");
            Ok(())
        }
    }
}
