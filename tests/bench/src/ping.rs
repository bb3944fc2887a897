//! The gRPC service of the benchmark. Entry: [`serve`].

use anyhow::Result;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use generated::ping_server::{Ping, PingServer};
pub(crate) use generated::{PingMessage, ping_client::PingClient};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    tonic::include_proto!("linkerd.bench");
}

struct Echo;

#[tonic::async_trait]
impl Ping for Echo {
    async fn ping(&self, request: Request<PingMessage>) -> Result<Response<PingMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// Serves until the process ends.
///
/// # Errors
/// The listener's.
pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(PingServer::new(Echo))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
