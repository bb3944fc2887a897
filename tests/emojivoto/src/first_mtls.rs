//! Measures how long a pod waits for its first request over mutual TLS. Entry: [`run`].
//! The application cannot see TLS; the proxy beside it says what became of each request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use http::Uri;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    http_client::{Connections, HttpClient},
    proxy_metrics,
};

/// How long to wait between two tries; also the precision of the figures.
const PAUSE: Duration = Duration::from_millis(20);
/// Bound on one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends requests until the proxy has counted one over TLS; prints the times as JSON.
#[derive(clap::Args)]
pub struct Args {
    /// A page of a meshed pod
    url: Uri,
    /// The metrics of this pod's proxy
    #[arg(long, default_value = "http://127.0.0.1:4191/metrics")]
    metrics: Uri,
    /// Stay until SIGTERM afterwards
    #[arg(long)]
    stay: bool,
}

/// Tries until it has seen TLS, or until `shutdown`.
///
/// # Errors
/// When it was told to stop before.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args { url, metrics, stay } = args;
    let client = HttpClient::new(REQUEST_TIMEOUT, Connections::Fresh);
    let started = unix_ms()?;
    let mut first_answer = None;
    let mut failed = 0_u64;
    let first_mtls = loop {
        match client.get(&url, &[]).await {
            Ok((status, _)) if status.is_success() => {
                let now = unix_ms()?;
                first_answer.get_or_insert(now);
                let (_, text) = client.get(&metrics, &[]).await?;
                if proxy_metrics::outbound(&String::from_utf8_lossy(&text)).over_tls > 0 {
                    break now;
                }
            }
            Ok(_) | Err(_) => failed += 1,
        }
        tokio::select! {
            () = shutdown.cancelled() => anyhow::bail!("stopped before the first request over TLS"),
            () = tokio::time::sleep(PAUSE) => {}
        }
    };
    let times = json!({
        "started_unix_ms": started,
        "first_answer_unix_ms": first_answer,
        "first_mtls_unix_ms": first_mtls,
        "failed": failed,
    });
    println!("{times}");
    if stay {
        shutdown.cancelled().await;
    }
    Ok(())
}

fn unix_ms() -> anyhow::Result<u64> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?;
    u64::try_from(now.as_millis()).context("the clock is too far on")
}
