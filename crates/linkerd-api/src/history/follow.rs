//! Asks every proxy for its metrics, again and again. Entry: [`History::follow`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Uri, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, warn};

use super::{History, INTERVAL, millis};
use crate::{
    cluster::Cluster,
    targets::{Target, proxies},
};

/// A proxy answers within milliseconds; one that does not is asked again in the next interval.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(8);
/// Answers that are read at once, so that their bytes have a limit.
const SCRAPES_AT_ONCE: usize = 32;
/// The metrics of a proxy with all the routes that it may have are shorter.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// In a large cluster pods change all the time; a new one is seen that late at most.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

impl History {
    /// Keeps the history of all proxies of this control plane, for ever.
    pub async fn follow(&self, cluster: &Cluster, control_plane_namespace: &str) {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(SCRAPE_TIMEOUT));
        // A proxy ends connections that rest about as long as the interval: a request on one that is just
        // being ended would fail.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        let turns = Arc::new(Semaphore::new(SCRAPES_AT_ONCE));
        let mut observers = JoinSet::new();
        let mut observed: BTreeMap<Target, AbortHandle> = BTreeMap::new();
        loop {
            let targets = proxies(cluster, control_plane_namespace);
            let targets: BTreeSet<Target> = targets.into_iter().collect();
            observed.retain(|target, observer| {
                let stays = targets.contains(target);
                if !stays {
                    observer.abort();
                }
                stays
            });
            self.set_targets(&targets);
            for target in targets {
                observed.entry(target.clone()).or_insert_with(|| {
                    let (history, client, turns) = (self.clone(), client.clone(), turns.clone());
                    observers.spawn(history.observe(target, client, turns))
                });
            }
            while observers.try_join_next().is_some() {}
            sleep(FOLLOW_INTERVAL).await;
        }
    }

    fn set_targets(&self, targets: &BTreeSet<Target>) {
        let mut store = self.store.write();
        store.set_targets(targets, millis(SystemTime::now()));
        self.counts.series.set(number(store.series()));
        self.counts.targets.set(number(store.targets()));
    }

    async fn observe(self, target: Target, client: HttpClient, turns: Arc<Semaphore>) {
        let [address] = target.targets;
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            let answer = match timeout(SCRAPE_TIMEOUT, scrape(&client, address)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!(
                    "{address} did not answer within {SCRAPE_TIMEOUT:?}"
                )),
            };
            let (history, target) = (self.clone(), target.clone());
            // A large answer takes a while.
            let taken = tokio::task::spawn_blocking(move || history.take(&target, answer));
            if taken.await.is_err() {
                warn!(%address, "metrics were lost");
            }
        }
    }

    /// Notes an answer with the time at which it is noted: what is asked about a time before finds no more of it
    /// later than at once.
    pub(super) fn take(&self, target: &Target, answer: Result<Bytes, String>) {
        self.counts.scrapes.inc();
        match answer {
            Ok(body) => {
                let text = String::from_utf8_lossy(&body);
                let mut store = self.store.write();
                let dropped = store.record(target, millis(SystemTime::now()), &text);
                drop(store);
                if dropped > 0 && self.counts.dropped.inc_by(dropped as u64) == 0 {
                    warn!(
                        "there are more series than the history may keep: set --history-series-max, or \
                         use Prometheus"
                    );
                }
            }
            Err(reason) => {
                debug!(reason, "no metrics");
                self.counts.failures.inc();
                let mut store = self.store.write();
                store.miss(target, millis(SystemTime::now()), reason);
            }
        }
    }
}

async fn scrape(client: &HttpClient, address: SocketAddr) -> Result<Bytes, String> {
    let uri: Uri = format!("http://{address}/metrics")
        .parse()
        .map_err(|error| format!("{address}: {error}"))?;
    let response = client.get(uri).await;
    let response = response.map_err(|error| format!("cannot reach {address}: {error}"))?;
    if !response.status().is_success() {
        return Err(format!("{address} answered {}", response.status()));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await;
    let body = body.map_err(|error| format!("the answer of {address} broke off: {error}"))?;
    Ok(body.to_bytes())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
