//! gRPC load: connections with streams, each of which sends its next call when the last is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::ping::{PingClient, PingMessage};
use crate::{MARKER, answer};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the service is
    server: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Streams of each connection
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// How long
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Answer {
    requests: u64,
    errors: u64,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let Args {
        server,
        connections,
        streams,
        seconds,
    } = args;
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(5));
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let channel = endpoint.connect().await.context("cannot connect")?;
        for _ in 0..streams {
            tasks.spawn(stream(channel.clone(), end));
        }
    }
    let (mut latencies, mut errors) = (Vec::new(), 0);
    while let Some(stream) = tasks.join_next().await {
        let (some, failed) = stream?;
        latencies.extend(some);
        errors += failed;
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    answer(&Answer {
        requests: latencies.len() as u64,
        errors,
        seconds,
        p50_us: crate::rate::percentile_us(&latencies, 0.5),
        p99_us: crate::rate::percentile_us(&latencies, 0.99),
    })
}

async fn stream(channel: Channel, end: Instant) -> (Vec<Duration>, u64) {
    let mut client = PingClient::new(channel);
    let (mut latencies, mut errors) = (Vec::new(), 0);
    loop {
        let started = Instant::now();
        if started >= end {
            return (latencies, errors);
        }
        let message = PingMessage {
            payload: MARKER.into(),
        };
        match client.ping(message).await {
            Ok(_) => latencies.push(started.elapsed()),
            Err(_) => errors += 1,
        }
    }
}
