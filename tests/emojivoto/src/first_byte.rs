//! Measures how soon a server says something. Entry: [`run`].
//! Each connection is new: it is the beginning that a proxy could hold up.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Connects again and again and waits for the server's first byte each time; prints a line of JSON for
/// each address with the microseconds from the start of connecting.
#[derive(clap::Args)]
pub struct Args {
    /// `host:port`, or `host:port/hex` to send these bytes first
    #[arg(required = true, value_parser = parse_target)]
    targets: Vec<Target>,
    /// Connections to each address, in turns
    #[arg(long, default_value = "50")]
    count: usize,
    /// Milliseconds that one may take
    #[arg(long, default_value = "10000")]
    timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    addr: String,
    request: Vec<u8>,
}

/// Measures until `count` or `shutdown` is reached.
///
/// # Errors
/// When a server closes, or says nothing in time.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        targets,
        count,
        timeout_ms,
    } = args;
    let timeout = Duration::from_millis(timeout_ms);
    let mut times = vec![Vec::new(); targets.len()];
    for _ in 0..count {
        for (target, times) in targets.iter().zip(&mut times) {
            let took = tokio::select! {
                () = shutdown.cancelled() => anyhow::bail!("stopped"),
                took = tokio::time::timeout(timeout, first_byte(target)) => took,
            };
            let took = took
                .with_context(|| format!("{} said nothing in {timeout:?}", target.addr))?
                .with_context(|| target.addr.clone())?;
            times.push(took.as_micros());
        }
    }
    for (target, times) in targets.iter().zip(times) {
        println!("{}", json!({ "addr": target.addr, "us": times }));
    }
    Ok(())
}

async fn first_byte(target: &Target) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(&target.addr).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&target.request).await?;
    let mut byte = [0];
    let read = stream.read(&mut byte).await?;
    anyhow::ensure!(read == 1, "the server closed");
    Ok(started.elapsed())
}

fn parse_target(text: &str) -> Result<Target, String> {
    let (addr, hex) = text.split_once('/').unwrap_or((text, ""));
    let request = (0..hex.len())
        .step_by(2)
        .map(|at| {
            let pair = hex.get(at..at + 2).ok_or("an odd number of digits")?;
            u8::from_str_radix(pair, 16).map_err(|error| format!("{pair}: {error}"))
        })
        .collect::<Result<_, String>>()?;
    Ok(Target {
        addr: addr.to_owned(),
        request,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp_server::{self, Greeting};

    #[test]
    fn a_target_may_have_bytes_to_send() {
        let target = parse_target("a:1/50494e470a").unwrap();
        assert_eq!(
            (target.addr.as_str(), &*target.request),
            ("a:1", &b"PING\n"[..])
        );
        assert!(parse_target("a:1").unwrap().request.is_empty());
        assert!(parse_target("a:1/5").is_err());
        assert!(parse_target("a:1/zz").is_err());
    }

    #[tokio::test]
    async fn a_banner_and_an_answer_are_first_bytes_and_silence_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let server = tokio::spawn(tcp_server::serve(listener, Greeting::Nothing, stop.clone()));
        let args = |target: String| Args {
            targets: vec![parse_target(&target).unwrap()],
            count: 3,
            timeout_ms: 200,
        };
        run(args(format!("{addr}/50")), stop.clone()).await.unwrap();
        let error = run(args(addr), stop.clone()).await.unwrap_err();
        assert!(
            error.to_string().ends_with("said nothing in 200ms"),
            "{error:#}"
        );
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
