//! A raw TCP server: says its banner at once, then echoes. Entry: [`run`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// Connections at once; more wait in the backlog.
const CONNECTIONS_MAX: usize = 1024;
/// A connection on which nothing is said for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Speaks raw TCP: first its banner, then an echo of every byte.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0:9000")]
    addr: SocketAddr,
    /// A line to send before the client has said anything; none unless given
    #[arg(long)]
    banner: Option<String>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args { addr, banner } = args;
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot bind {addr}"))?;
    tracing::info!(%addr, "listening");
    serve(listener, banner, shutdown).await
}

/// Serves on one listener until `shutdown`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    banner: Option<String>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let banner: Arc<str> = banner
        .map(|line| format!("{line}\n"))
        .unwrap_or_default()
        .into();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted.context("cannot accept")?,
        };
        let banner = Arc::clone(&banner);
        // The task ends with its connection, at the latest after IDLE_MAX.
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &banner).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, banner: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(banner.as_bytes()).await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = tokio::time::timeout(IDLE_MAX, stream.read(&mut buffer)).await??;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
    }
}
