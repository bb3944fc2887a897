//! A small `curl`: one page on stdout. Entry: [`run`].

use std::{io::Write as _, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use tokio_util::sync::CancellationToken;

use crate::http_client::{Connections, HttpClient, parse_header};

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Fetches a page: status on stderr, body on stdout.
#[derive(clap::Args)]
pub struct Args {
    /// For example `http://web-svc.emojivoto:80/api/list`
    url: Uri,
    /// `name: value`; can be given several times
    #[arg(long, value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Milliseconds that one try may take
    #[arg(long, default_value = "5000")]
    timeout_ms: u64,
    /// Milliseconds for which failures are tried again
    #[arg(long, default_value = "0")]
    retry_for_ms: u64,
}

/// Fetches the page.
///
/// # Errors
/// When there was no answer with a status below 400.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        url,
        header,
        timeout_ms,
        retry_for_ms,
    } = args;
    let client = HttpClient::new(Duration::from_millis(timeout_ms), Connections::Fresh);
    let give_up_at = tokio::time::Instant::now() + Duration::from_millis(retry_for_ms);
    loop {
        let error = match client.get(&url, &header).await {
            Ok((status, body)) if status.as_u16() < 400 => {
                eprintln!("{status}");
                std::io::stdout().write_all(&body)?;
                return Ok(());
            }
            Ok((status, _)) => anyhow::anyhow!("{url} answers {status}"),
            Err(error) => error,
        };
        let again_at = tokio::time::Instant::now() + PAUSE;
        if again_at > give_up_at {
            return Err(error);
        }
        eprintln!("{error:#}");
        tokio::select! {
            () = shutdown.cancelled() => return Err(error),
            () = tokio::time::sleep_until(again_at) => {}
        }
    }
}
