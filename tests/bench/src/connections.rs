//! New connections as fast as they can be made: each carries one request and is closed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::answer;
use crate::client::{After, get, request};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the server is
    server: SocketAddr,
    /// Clients; each has a thread
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Answer {
    requests: u64,
    errors: u64,
    seconds: f64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {
        server,
        clients,
        seconds,
    } = args;
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let threads: Vec<_> = (0..clients)
        .map(|_| std::thread::spawn(move || connect(server, end)))
        .collect();
    let (mut requests, mut errors) = (0, 0);
    for thread in threads {
        let (succeeded, failed) = thread.join().expect("a thread only counts");
        requests += succeeded;
        errors += failed;
    }
    answer(&Answer {
        requests,
        errors,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn connect(server: SocketAddr, end: Instant) -> (u64, u64) {
    let request = request(server, After::Close);
    let (mut succeeded, mut failed) = (0, 0);
    while Instant::now() < end {
        match get(server, &request) {
            Ok(_) => succeeded += 1,
            Err(_) => failed += 1,
        }
    }
    (succeeded, failed)
}
