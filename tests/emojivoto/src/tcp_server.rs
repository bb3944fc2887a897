//! A raw TCP server: says its banner at once, then echoes; or answers HTTP on the same port to clients
//! that speak first. Entry: [`run`].

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
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
/// So long a client may take to speak first where a banner and HTTP share the port.
const HTTP_PATIENCE: Duration = Duration::from_millis(20);

/// Speaks raw TCP: first its banner, then an echo of every byte.
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0:9000")]
    addr: SocketAddr,
    /// A line to send before the client has said anything; none unless given
    #[arg(long)]
    banner: Option<String>,
    /// Answer HTTP on the same port to clients that speak within 20 ms
    #[arg(long, requires = "banner")]
    or_http: bool,
}

/// What a connection begins with.
#[derive(Clone, Debug)]
pub enum Greeting {
    /// Silence, then an echo.
    Nothing,
    /// This line, then an echo.
    Banner(String),
    /// An answer over HTTP if the client speaks at once; otherwise this line, then an echo.
    BannerOrHttp(String),
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        addr,
        banner,
        or_http,
    } = args;
    let greeting = match banner {
        None => Greeting::Nothing,
        Some(line) if or_http => Greeting::BannerOrHttp(line),
        Some(line) => Greeting::Banner(line),
    };
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot bind {addr}"))?;
    tracing::info!(%addr, "listening");
    serve(listener, greeting, shutdown).await
}

/// Serves on one listener until `shutdown`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    greeting: Greeting,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let greeting = Arc::new(greeting);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted.context("cannot accept")?,
        };
        let greeting = Arc::clone(&greeting);
        // The task ends with its connection, at the latest after IDLE_MAX.
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &greeting).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, greeting: &Greeting) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match greeting {
        Greeting::Nothing => {}
        Greeting::Banner(line) => stream.write_all(format!("{line}\n").as_bytes()).await?,
        Greeting::BannerOrHttp(line) => {
            let spoken = tokio::time::timeout(HTTP_PATIENCE, stream.peek(&mut [0])).await;
            if spoken.is_ok() {
                return answer_http(stream).await;
            }
            stream.write_all(format!("{line}\n").as_bytes()).await?;
        }
    }
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = tokio::time::timeout(IDLE_MAX, stream.read(&mut buffer)).await??;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
    }
}

async fn answer_http(stream: TcpStream) -> std::io::Result<()> {
    let answer = |_: http::Request<hyper::body::Incoming>| async {
        let body = Full::new(Bytes::from_static(b"hello over HTTP\n"));
        Ok::<_, Infallible>(http::Response::new(body))
    };
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
        .map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_banner_and_http_share_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let greeting = Greeting::BannerOrHttp("220 hi".into());
        let server = tokio::spawn(serve(listener, greeting, stop.clone()));
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut banner = [0; 7];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"220 hi\n");
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("hello over HTTP\n"), "{answer}");
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
