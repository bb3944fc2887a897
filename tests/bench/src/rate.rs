//! Load at a fixed rate that no slow answer slows down: every request has a time at which it is
//! due, and latency counts from then. A stall therefore counts for all requests that it delays.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::client::{After, Connection, get, request};
use crate::{answer, clock};

/// Connections are opened and threads started in this time.
const PREPARATION: Duration = Duration::from_millis(200);
/// Answers of this first time are not counted.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the server is
    server: SocketAddr,
    /// Requests a second, all connections together
    #[arg(long)]
    rate: f64,
    /// Connections; each has a thread
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// How long, after a second that is not counted
    #[arg(long, default_value_t = 12.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Answer {
    /// All that were sent, those of the warm-up too: CPU time is divided by these.
    requests: u64,
    errors: u64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

/// When requests are due and which of them count.
#[derive(Clone, Copy)]
struct Schedule {
    first: Duration,
    gap: Duration,
    counted_from: Duration,
    end: Duration,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {
        server,
        rate,
        connections,
        seconds,
    } = args;
    let start = clock::now() + PREPARATION;
    let gap = Duration::from_secs_f64(f64::from(connections) / rate);
    let threads: Vec<_> = (0..connections)
        .map(|index| {
            let schedule = Schedule {
                first: start + gap * index / connections,
                gap,
                counted_from: start + WARM_UP,
                end: start + WARM_UP + Duration::from_secs_f64(seconds),
            };
            std::thread::spawn(move || send(server, schedule))
        })
        .collect();
    let (mut latencies, mut requests, mut errors) = (Vec::new(), 0, 0);
    for thread in threads {
        let sent = thread.join().expect("a thread returns its errors")?;
        latencies.extend(sent.latencies);
        requests += sent.requests;
        errors += sent.errors;
    }
    latencies.sort_unstable();
    let percentile = |share| percentile_us(&latencies, share);
    answer(&Answer {
        requests,
        errors,
        p50_us: percentile(0.5),
        p90_us: percentile(0.9),
        p99_us: percentile(0.99),
        p999_us: percentile(0.999),
        max_us: percentile(1.0),
    })
}

#[derive(Default)]
struct Sent {
    latencies: Vec<Duration>,
    requests: u64,
    errors: u64,
}

fn send(server: SocketAddr, schedule: Schedule) -> Result<Sent> {
    // The kernel may wake us 50 us late to save power; here that would be measured as latency.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let request = request(server, After::KeepAlive);
    let mut connection = Connection::open(server).ok();
    let mut sent = Sent::default();
    let mut due = schedule.first;
    while due < schedule.end {
        clock::sleep_until(due)?;
        sent.requests += 1;
        let result = match connection.take() {
            Some(mut open) => open.exchange(&request).map(|()| open),
            None => get(server, &request),
        };
        match result {
            Ok(open) => {
                connection = Some(open);
                if due >= schedule.counted_from {
                    sent.latencies.push(clock::now() - due);
                }
            }
            Err(_) => sent.errors += 1,
        }
        due += schedule.gap;
    }
    Ok(sent)
}

/// The value below which `share` of the sorted values lie, in microseconds; 0 without values.
pub(crate) fn percentile_us(sorted: &[Duration], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    let value = sorted.get(index.min(sorted.len().saturating_sub(1)));
    value.map_or(0.0, |value| value.as_nanos() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(percentile_us(&sorted, 0.5), 51.0);
        assert_eq!(percentile_us(&sorted, 0.99), 100.0);
        assert_eq!(percentile_us(&sorted, 1.0), 100.0);
        assert_eq!(percentile_us(&[], 0.5), 0.0);
    }
}
