//! A client for protocols of lines, such as SMTP, that is told what to say. Entry: [`run`].

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Holds a conversation of lines, and fails when the server says something else; prints its lines.
#[derive(clap::Args)]
pub struct Args {
    /// host:port
    addr: String,
    /// `>TEXT` says a line; `<TEXT` reads lines until one begins so
    #[arg(required = true, value_parser = parse_step)]
    steps: Vec<Step>,
    /// Milliseconds that each step may take
    #[arg(long, default_value = "10000")]
    timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Say(String),
    Await(String),
}

/// Does all steps, unless `shutdown` comes first.
///
/// # Errors
/// When the server closes, or does not say what is awaited in time.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        addr,
        steps,
        timeout_ms,
    } = args;
    let timeout = Duration::from_millis(timeout_ms);
    let stream = TcpStream::connect(&addr)
        .await
        .with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    for step in &steps {
        tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped"),
            done = tokio::time::timeout(timeout, take(&mut stream, step)) => {
                done.context("timed out").flatten().with_context(|| format!("{step:?}"))?;
            }
        }
    }
    stream.shutdown().await.context("cannot close")
}

async fn take(stream: &mut BufReader<TcpStream>, step: &Step) -> anyhow::Result<()> {
    let begin = match step {
        Step::Say(line) => {
            stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            return Ok(());
        }
        Step::Await(begin) => begin,
    };
    loop {
        let mut line = String::new();
        let bytes = stream.take(LINE_BYTES_MAX).read_line(&mut line).await?;
        anyhow::ensure!(bytes > 0, "the server closed");
        println!("{}", line.trim_end());
        if line.starts_with(begin) {
            return Ok(());
        }
    }
}

fn parse_step(text: &str) -> Result<Step, String> {
    match text.split_at_checked(1) {
        Some((">", line)) => Ok(Step::Say(line.to_owned())),
        Some(("<", begin)) => Ok(Step::Await(begin.to_owned())),
        _ => Err("a step begins with > or <".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp_server::{self, Greeting};

    #[tokio::test]
    async fn what_is_awaited_must_come() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let greeting = Greeting::Banner("220 hi".into());
        let server = tokio::spawn(tcp_server::serve(listener, greeting, stop.clone()));
        let args = |steps: &[&str]| Args {
            addr: addr.clone(),
            steps: steps.iter().map(|step| parse_step(step).unwrap()).collect(),
            timeout_ms: 200,
        };
        let steps = ["<220 ", ">EHLO me", "<EHLO"];
        run(args(&steps), stop.clone()).await.unwrap();
        let error = run(args(&["<220 ", ">EHLO me", "<250"]), stop.clone()).await;
        assert!(format!("{:#}", error.unwrap_err()).contains("timed out"));
        assert!(parse_step("EHLO").is_err());
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
