//! The last hour of the proxies' metrics, in memory: what answers when there is no Prometheus.
//! Entries: [`History::follow`] fills it, [`History::answer`] asks it. What it says is what Prometheus would
//! say about the same scrapes. It is lost when the process ends.

mod answer;
mod exposition;
mod follow;
mod functions;
mod points;
mod quantile;
mod store;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::query::{Course, Query, Sample, Steps};
use store::Store;

/// How far back it goes.
pub(crate) const HISTORY_LENGTH: Duration = Duration::from_secs(60 * 60);
/// How often each proxy is asked.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Series that are kept when nobody says otherwise. One that changes at every scrape takes 2 KB in an hour,
/// one that rests 0.2 KB, and a proxy has some hundreds.
pub const SERIES_MAX_DEFAULT: usize = 100_000;

/// The last hour. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct History {
    store: Arc<RwLock<Store>>,
    counts: Counts,
}

/// What the history says about itself.
#[derive(Clone, Debug, Default)]
struct Counts {
    series: Gauge,
    targets: Gauge,
    dropped: Counter,
    scrapes: Counter,
    failures: Counter,
}

impl History {
    /// Makes an empty history of at most `series_max` series, and registers what it says about itself.
    pub fn new(series_max: usize, registry: &mut Registry) -> Self {
        let counts = Counts::default();
        let Counts {
            series,
            targets,
            dropped,
            scrapes,
            failures,
        } = &counts;
        registry.register("api_history_series", "Series kept", series.clone());
        registry.register("api_history_targets", "Proxies asked", targets.clone());
        registry.register(
            "api_history_series_dropped",
            "Series that were forgotten early, or not kept, for want of room",
            dropped.clone(),
        );
        registry.register(
            "api_history_scrapes",
            "Times that a proxy was asked",
            scrapes.clone(),
        );
        registry.register(
            "api_history_scrape_failures",
            "Times that a proxy did not answer",
            failures.clone(),
        );
        Self {
            store: Arc::new(RwLock::new(Store::new(series_max))),
            counts,
        }
    }

    /// Answers a query about the time `at`, whose window is no longer than the history.
    pub(crate) fn answer(&self, query: &Query, at: SystemTime) -> Vec<Sample> {
        answer::answer(&self.store.read(), query, millis(at))
    }

    /// Answers a query at several times, the last of which is `last`. None of them is before the history.
    pub(crate) fn courses(&self, query: &Query, steps: Steps, last: SystemTime) -> Vec<Course> {
        let length = u64::try_from(steps.length.as_millis()).unwrap_or(u64::MAX);
        let ago = (0..steps.count as u64).rev();
        let times = ago.map(|steps| millis(last).saturating_sub(steps.saturating_mul(length)));
        let times: Vec<u64> = times.collect();
        answer::courses(&self.store.read(), query, &times)
    }

    /// How long ago the first proxy was heard then.
    pub(crate) fn age(&self, at: SystemTime) -> Duration {
        Duration::from_millis(self.store.read().age(millis(at)))
    }

    /// Whether proxies are heard of.
    ///
    /// # Errors
    /// When there are some and none has answered lately; says why the last one did not.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.store.read().check()
    }
}

/// Milliseconds since 1970, as Prometheus counts time.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
