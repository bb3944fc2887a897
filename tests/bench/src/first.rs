//! Waits for the first success: tries a request on a fresh connection again and again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::client::{After, get, request};
use crate::{answer, clock};

/// Between two attempts: short against what is measured, long against what an attempt costs.
const PAUSE: Duration = Duration::from_micros(500);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the server is
    server: SocketAddr,
    /// When to give up
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Answer {
    /// The monotonic clock when the answer was there.
    answered_at_ns: u64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args { server, seconds } = args;
    let request = request(server, After::Close);
    let end = clock::now() + Duration::from_secs_f64(seconds);
    loop {
        match get(server, &request) {
            Ok(_) => {
                let answered_at_ns = u64::try_from(clock::now().as_nanos())?;
                return answer(&Answer { answered_at_ns });
            }
            Err(error) if clock::now() > end => bail!("no answer within {seconds} s: {error}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
