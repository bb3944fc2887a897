//! A raw TCP client: reads a banner, says lines and checks their echo. Entry: [`run`].

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Speaks raw TCP: reads the banner, sends a line and checks its echo; prints a line of JSON for each.
#[derive(clap::Args)]
pub struct Args {
    /// host:port
    addr: String,
    /// Read a line before anything is sent
    #[arg(long)]
    banner: bool,
    /// Milliseconds of silence on both sides before the first line
    #[arg(long, default_value = "0")]
    silent_ms: u64,
    /// The line to send
    #[arg(long, default_value = "hello")]
    send: String,
    /// How often to send it, on the same connection; without it, until SIGTERM
    #[arg(long)]
    count: Option<u64>,
    /// Milliseconds between two lines
    #[arg(long, default_value = "100")]
    interval_ms: u64,
    /// Milliseconds that connecting and each answer may take
    #[arg(long, default_value = "5000")]
    timeout_ms: u64,
    /// Milliseconds for which connecting is tried again
    #[arg(long, default_value = "0")]
    retry_for_ms: u64,
}

/// Speaks until `count` or `shutdown` is reached.
///
/// # Errors
/// When the server does not answer in time, or answers something else than the echo.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        addr,
        banner,
        silent_ms,
        send,
        count,
        interval_ms,
        timeout_ms,
        retry_for_ms,
    } = args;
    let timeout = Duration::from_millis(timeout_ms);
    let give_up_at = Instant::now() + Duration::from_millis(retry_for_ms);
    let started = Instant::now();
    let stream = loop {
        let connected = tokio::time::timeout(timeout, TcpStream::connect(&addr)).await;
        match connected
            .context("timed out")
            .and_then(|stream| Ok(stream?))
        {
            Ok(stream) => break stream,
            Err(error) if Instant::now() >= give_up_at => {
                return Err(error.context(format!("cannot connect to {addr}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    if banner {
        let connected = Instant::now();
        let line = read_line(&mut stream, timeout).await.context("no banner")?;
        let connect_ms = (connected - started).as_millis();
        let banner_ms = connected.elapsed().as_millis();
        println!(
            "{}",
            json!({ "banner": line, "connect_ms": connect_ms, "banner_ms": banner_ms })
        );
    }
    if silent_ms > 0 {
        let silence = Duration::from_millis(silent_ms);
        if let Ok(said) = tokio::time::timeout(silence, stream.fill_buf()).await {
            anyhow::bail!("{} bytes came into the silence", said?.len());
        }
    }
    let mut lines = tokio::time::interval(Duration::from_millis(interval_ms.max(1)));
    let mut sent = 0;
    while count.is_none_or(|count| sent < count) {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = lines.tick() => {}
        }
        let asked = Instant::now();
        stream
            .write_all(format!("{send}\n").as_bytes())
            .await
            .context("cannot send")?;
        let line = read_line(&mut stream, timeout).await.context("no echo")?;
        anyhow::ensure!(line == send, "{line:?} came back for {send:?}");
        sent += 1;
        println!(
            "{}",
            json!({ "echo": sent, "echo_us": asked.elapsed().as_micros() })
        );
    }
    stream.shutdown().await.context("cannot close")
}

async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    timeout: Duration,
) -> anyhow::Result<String> {
    let mut line = String::new();
    let read = stream.take(LINE_BYTES_MAX);
    let mut read = std::pin::pin!(read);
    let bytes = tokio::time::timeout(timeout, read.read_line(&mut line)).await??;
    anyhow::ensure!(bytes > 0, "the server closed");
    Ok(line.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp_server::{self, Greeting};

    fn args(addr: String, banner: bool) -> Args {
        Args {
            addr,
            banner,
            silent_ms: 0,
            send: "marker".into(),
            count: Some(3),
            interval_ms: 1,
            timeout_ms: 500,
            retry_for_ms: 0,
        }
    }

    #[tokio::test]
    async fn the_banner_comes_first_and_lines_are_echoed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let server = tokio::spawn(tcp_server::serve(
            listener,
            Greeting::Banner("hi".into()),
            stop.clone(),
        ));
        run(args(addr.clone(), true), stop.clone()).await.unwrap();
        let error = run(args(addr, false), stop.clone()).await.unwrap_err();
        assert!(error.to_string().contains("\"hi\" came back"), "{error:#}");
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_server_without_a_banner_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let server = tokio::spawn(tcp_server::serve(listener, Greeting::Nothing, stop.clone()));
        let error = run(args(addr, true), stop.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "no banner");
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
