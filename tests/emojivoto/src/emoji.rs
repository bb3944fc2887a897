//! The gRPC service that knows the emoji. Entry: [`run`].

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    api::{
        Emoji, FindRequest, ListRequest, ListResponse,
        emojis_server::{Emojis, EmojisServer},
    },
    catalogue, process,
};

/// Serves the list of emoji (gRPC).
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen; can be given several times
    #[arg(long, default_values = ["0.0.0.0:8080", "0.0.0.0:8888"])]
    addr: Vec<SocketAddr>,
}

/// The service without its listener.
#[derive(Clone, Copy)]
pub struct EmojiService;

/// Serves until `shutdown`.
///
/// # Errors
/// When an address cannot be bound, or a server fails.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args { addr } = args;
    let mut listeners = Vec::new();
    for addr in addr {
        let listener = TcpListener::bind(addr)
            .await
            .with_context(|| format!("cannot bind {addr}"))?;
        tracing::info!(%addr, "listening");
        listeners.push(listener);
    }
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        servers.spawn(serve(listener, shutdown.clone()));
    }
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Serves on one listener until `shutdown`.
///
/// # Errors
/// When the server fails.
pub async fn serve(listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let routes = tonic::service::Routes::new(EmojisServer::new(EmojiService));
    process::serve_grpc(listener, routes, shutdown).await
}

#[tonic::async_trait]
impl Emojis for EmojiService {
    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let emoji = catalogue::EMOJI
            .iter()
            .map(|(shortcode, unicode)| Emoji {
                shortcode: (*shortcode).to_owned(),
                unicode: (*unicode).to_owned(),
            })
            .collect();
        Ok(Response::new(ListResponse { emoji }))
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<Emoji>, Status> {
        let FindRequest { shortcode } = request.into_inner();
        match catalogue::unicode_of(&shortcode) {
            Some(unicode) => Ok(Response::new(Emoji {
                shortcode,
                unicode: unicode.to_owned(),
            })),
            None => Err(Status::not_found(format!(
                "there is no emoji {shortcode:?}"
            ))),
        }
    }
}
