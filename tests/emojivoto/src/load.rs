//! A steady stream of requests that counts the failed ones. Entry: [`run`].
//! Requests start at their own times whether or not earlier ones were answered, so that a stall is
//! seen as slow requests and not as fewer.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use http::{HeaderName, HeaderValue, Uri};
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    http_client::{Connections, HttpClient, parse_header},
    proxy_metrics,
};

/// Requests under way at once; one more is a failure (`too many under way`).
const UNDER_WAY_MAX: usize = 512;
/// Kinds of failure that are counted apart.
const REASONS_MAX: usize = 16;
/// How often the totals are printed.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Bound on asking the proxy beside us.
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Milliseconds for which requests go on after SIGTERM
    #[arg(long, default_value = "0")]
    after_sigterm_ms: u64,
    /// The metrics of this pod's proxy, which is asked at the end what was over TLS
    #[arg(long)]
    metrics: Option<Uri>,
    /// A file for the last line, for example kubelet's /dev/termination-log
    #[arg(long)]
    totals: Option<PathBuf>,
}

/// What became of one request.
struct Answer {
    took: Duration,
    outcome: Result<(), String>,
    after_sigterm: bool,
}

/// What became of the requests so far.
#[derive(Debug, Default)]
struct Totals {
    ok: u64,
    failed: u64,
    /// Of the answered ones, those that were begun after SIGTERM.
    ok_after_sigterm: u64,
    /// What the proxy says of all requests of this pod; none without `--metrics`.
    tls: Option<proxy_metrics::Outbound>,
    slowest: Duration,
    reasons: BTreeMap<String, u64>,
}

/// Sends requests until `shutdown` or until `count` is reached, and waits for the last answers.
///
/// # Errors
/// When the totals cannot be written; failed requests are counted.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        url,
        rate,
        count,
        fresh,
        header,
        timeout_ms,
        after_sigterm_ms,
        metrics,
        totals,
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
    let mut end = std::pin::pin!(async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_millis(after_sigterm_ms)).await;
    });
    for sent in 0.. {
        if count.is_some_and(|count| sent >= count) {
            break;
        }
        tokio::select! {
            () = end.as_mut() => break,
            _ = starts.tick() => {}
        }
        let after_sigterm = shutdown.is_cancelled();
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            let answer = Answer {
                took: Duration::ZERO,
                outcome: Err("too many under way".to_owned()),
                after_sigterm,
            };
            results.send(answer).await?;
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
            let answer = Answer {
                took: started.elapsed(),
                outcome,
                after_sigterm,
            };
            // The reporter lives until the last sender is gone.
            drop(results.send(answer).await);
            drop(permit);
        });
    }
    drop(results);
    tasks.close();
    tasks.wait().await;
    let mut last = reporter.await?;
    if let Some(metrics) = metrics {
        let client = HttpClient::new(METRICS_TIMEOUT, Connections::Fresh);
        let (_, text) = client.get(&metrics, &[]).await?;
        last.tls = Some(proxy_metrics::outbound(&String::from_utf8_lossy(&text)));
    }
    let line = last.line(true).to_string();
    println!("{line}");
    if let Some(path) = totals {
        std::fs::write(&path, line).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Adds up and prints; returns the sums once nobody answers any more.
async fn report(mut answers: mpsc::Receiver<Answer>) -> Totals {
    let mut totals = Totals::default();
    let mut lines = tokio::time::interval(REPORT_INTERVAL);
    loop {
        tokio::select! {
            answer = answers.recv() => match answer {
                Some(answer) => totals.add(answer),
                None => return totals,
            },
            _ = lines.tick() => println!("{}", totals.line(false)),
        }
    }
}

impl Totals {
    fn add(&mut self, answer: Answer) {
        let Answer {
            took,
            outcome,
            after_sigterm,
        } = answer;
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(()) => {
                self.ok += 1;
                self.ok_after_sigterm += u64::from(after_sigterm);
            }
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
            "ok_after_sigterm": self.ok_after_sigterm,
            "tls": self.tls.map(|tls| tls.over_tls),
            "plaintext": self.tls.map(|tls| tls.in_plaintext),
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
        let answer = |ms, outcome| Answer {
            took: Duration::from_millis(ms),
            outcome,
            after_sigterm: false,
        };
        totals.add(answer(3, Ok(())));
        for n in 0..100 {
            totals.add(answer(n, Err(format!("reason {n}"))));
        }
        totals.add(answer(0, Err("reason 0".into())));
        totals.add(Answer {
            after_sigterm: true,
            ..answer(0, Ok(()))
        });
        assert_eq!((totals.ok, totals.failed), (2, 101));
        assert_eq!(totals.ok_after_sigterm, 1);
        assert_eq!(totals.slowest, Duration::from_millis(99));
        assert_eq!(totals.reasons["reason 0"], 2);
        assert_eq!(totals.reasons.len(), REASONS_MAX + 1);
        assert_eq!(totals.reasons["others"], 84);
    }
}
