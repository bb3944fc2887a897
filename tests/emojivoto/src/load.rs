//! A steady stream of requests that counts the failed ones. Entry: [`run`].
//! Requests start at their own times whether or not earlier ones were answered, so that a stall is
//! seen as slow requests and not as fewer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http_client::{Connections, HttpClient, parse_header};

/// Requests under way at once; one more is a failure (`too many under way`).
const UNDER_WAY_MAX: usize = 512;
/// Kinds of failure that are counted apart.
const REASONS_MAX: usize = 16;
/// How often the totals are printed.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Sends requests at a steady rate; prints the totals as a line of JSON each second and at the end.
#[derive(clap::Args)]
pub struct Args {
    /// For example `http://web-svc.emojivoto:80/api/list`
    url: Uri,
    /// Requests a second
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Requests in all; without it, until SIGTERM
    #[arg(long)]
    count: Option<u64>,
    /// A new connection for each request
    #[arg(long)]
    fresh: bool,
    /// `name: value`; can be given several times
    #[arg(long, value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Milliseconds that one request may take
    #[arg(long, default_value = "5000")]
    timeout_ms: u64,
}

/// What became of the requests so far.
#[derive(Debug, Default)]
struct Totals {
    ok: u64,
    failed: u64,
    slowest: Duration,
    reasons: BTreeMap<String, u64>,
}

/// Sends requests until `shutdown` or until `count` is reached, and waits for the last answers.
///
/// # Errors
/// Never; failed requests are counted.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        url,
        rate,
        count,
        fresh,
        header,
        timeout_ms,
    } = args;
    let connections = if fresh {
        Connections::Fresh
    } else {
        Connections::Kept
    };
    let client = HttpClient::new(Duration::from_millis(timeout_ms), connections);
    let request = Arc::new((url, header));
    let (results, answers) = mpsc::channel(UNDER_WAY_MAX);
    let reporter = tokio::spawn(report(answers));
    let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let tasks = TaskTracker::new();
    let mut starts = tokio::time::interval(Duration::from_secs(1) / rate);
    starts.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for sent in 0.. {
        if count.is_some_and(|count| sent >= count) {
            break;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = starts.tick() => {}
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            results
                .send((Duration::ZERO, Err("too many under way".to_owned())))
                .await?;
            continue;
        };
        let (client, request, results) = (client.clone(), Arc::clone(&request), results.clone());
        tasks.spawn(async move {
            let started = Instant::now();
            let outcome = match client.get(&request.0, &request.1).await {
                Ok((status, _)) if status.as_u16() < 400 => Ok(()),
                Ok((status, _)) => Err(status.to_string()),
                Err(error) => Err(format!("{error:#}")),
            };
            // The reporter lives until the last sender is gone.
            drop(results.send((started.elapsed(), outcome)).await);
            drop(permit);
        });
    }
    drop(results);
    tasks.close();
    tasks.wait().await;
    reporter.await?;
    Ok(())
}

/// Adds up and prints.
async fn report(mut answers: mpsc::Receiver<(Duration, Result<(), String>)>) {
    let mut totals = Totals::default();
    let mut lines = tokio::time::interval(REPORT_INTERVAL);
    loop {
        tokio::select! {
            answer = answers.recv() => match answer {
                Some((took, outcome)) => totals.add(took, outcome),
                None => break,
            },
            _ = lines.tick() => println!("{}", totals.line(false)),
        }
    }
    println!("{}", totals.line(true));
}

impl Totals {
    fn add(&mut self, took: Duration, outcome: Result<(), String>) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(()) => self.ok += 1,
            Err(reason) => {
                self.failed += 1;
                let known = self.reasons.contains_key(&reason);
                let reason = if known || self.reasons.len() < REASONS_MAX {
                    reason
                } else {
                    "others".to_owned()
                };
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    fn line(&self, finished: bool) -> serde_json::Value {
        json!({
            "ok": self.ok,
            "failed": self.failed,
            "slowest_ms": u64::try_from(self.slowest.as_millis()).unwrap_or(u64::MAX),
            "reasons": self.reasons,
            "finished": finished,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_reason_and_reasons_are_bounded() {
        let mut totals = Totals::default();
        totals.add(Duration::from_millis(3), Ok(()));
        for n in 0..100 {
            totals.add(Duration::from_millis(n), Err(format!("reason {n}")));
        }
        totals.add(Duration::ZERO, Err("reason 0".into()));
        assert_eq!((totals.ok, totals.failed), (1, 101));
        assert_eq!(totals.slowest, Duration::from_millis(99));
        assert_eq!(totals.reasons["reason 0"], 2);
        assert_eq!(totals.reasons.len(), REASONS_MAX + 1);
        assert_eq!(totals.reasons["others"], 84);
    }
}
