//! Where the proxies' metrics are asked for: Prometheus, or the own history. Entries: [`Metrics::at_once`], [`Snapshot`].

use std::time::{Duration, SystemTime};

use tonic::Status;

use crate::{
    history::{HISTORY_LENGTH, History},
    prometheus::{Prometheus, PrometheusError, QUERY_TIMEOUT},
    promql,
    query::{Course, Query, Sample, Steps},
};

/// What Prometheus knows so long after it happened does not change any more. A scrape bears the time at which it
/// began, and is seen when it has ended, some milliseconds later: at the very present a later question of the same
/// answer could see one more than an earlier one.
const SETTLED: Duration = Duration::from_millis(500);
/// The own history notes what it hears as it hears it: only the present millisecond may still change.
const PRESENT: Duration = Duration::from_millis(1);

/// Who answers questions about metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Metrics {
    /// A Prometheus that scrapes the proxies.
    Prometheus(Box<Prometheus>),
    /// What this process remembers.
    History(History),
}

/// The metrics as they were at one time, which is the present or just before. What one answer is made of is asked of
/// one snapshot: a scrape between two questions would make figures that never were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot<'a> {
    metrics: &'a Metrics,
    at: SystemTime,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Prometheus has none.
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    /// The own history is shorter.
    #[error(
        "a window of {window} needs Prometheus: without it the control plane remembers one hour. Ask for at most \
         1h (-t 1h), or install with `--set prometheus.enabled=true` or `--prometheus-url URL`",
        window = promql::duration(*.0)
    )]
    WindowTooLong(Duration),
    /// The task that looked broke off.
    #[error("the own history broke off while it answered")]
    Broken(#[source] tokio::task::JoinError),
}

impl Metrics {
    /// Returns the metrics of now. The time is that of whoever answers: the clock of a Prometheus may be another one.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub(crate) async fn snapshot(&self) -> Result<Snapshot<'_>, MetricsError> {
        let at = match self {
            Self::Prometheus(prometheus) => prometheus.time().await? - SETTLED,
            Self::History(_) => SystemTime::now() - PRESENT,
        };
        Ok(Snapshot { metrics: self, at })
    }

    /// Lets `ask` ask a snapshot, and waits for all that it makes an answer of no longer than for one question.
    ///
    /// # Errors
    /// That of `ask`, or that Prometheus did not answer in time.
    pub(crate) async fn at_once<'a, T, E, F>(
        &'a self,
        ask: impl FnOnce(Snapshot<'a>) -> F,
    ) -> Result<T, E>
    where
        E: From<MetricsError>,
        F: Future<Output = Result<T, E>>,
    {
        let answers = async { ask(self.snapshot().await?).await };
        match self {
            Self::Prometheus(prometheus) => {
                match tokio::time::timeout(QUERY_TIMEOUT, answers).await {
                    Ok(answers) => answers,
                    Err(_) => Err(MetricsError::from(prometheus.too_late()).into()),
                }
            }
            Self::History(_) => answers.await,
        }
    }
}

impl<'a> Snapshot<'a> {
    /// The metrics as they were at a time of the test's.
    #[cfg(test)]
    pub(crate) fn of(metrics: &'a Metrics, at: SystemTime) -> Self {
        Self { metrics, at }
    }

    /// Returns the values of all groups that have one.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub(crate) async fn query(&self, query: Query) -> Result<Vec<Sample>, MetricsError> {
        let at = self.at;
        match self.metrics {
            Metrics::Prometheus(prometheus) => {
                Ok(prometheus.query_at(&promql::render(&query), at).await?)
            }
            Metrics::History(history) => {
                query.function.window().map_or(Ok(()), check)?;
                let history = history.clone();
                look(move || history.answer(&query, at)).await
            }
        }
    }

    /// How much of the window before it is known, and at least a second: what grew in it is not to be asked for in a
    /// longer one, for growth is extended into what is not known. How old the data of a Prometheus are it does not
    /// say.
    ///
    /// # Errors
    /// [`MetricsError::WindowTooLong`].
    pub(crate) fn seen(&self, window: Duration) -> Result<Duration, MetricsError> {
        match self.metrics {
            Metrics::Prometheus(_) => Ok(window),
            Metrics::History(history) => {
                check(window)?;
                Ok(window.min(history.age(self.at).max(Duration::from_secs(1))))
            }
        }
    }

    /// Returns the values of all groups at several times, the last of which is the snapshot's. The own history
    /// knows nothing of what was before it.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub(crate) async fn courses(
        &self,
        query: Query,
        steps: Steps,
    ) -> Result<Vec<Course>, MetricsError> {
        let at = self.at;
        match self.metrics {
            Metrics::Prometheus(prometheus) => Ok(prometheus
                .courses(&promql::render(&query), steps, at)
                .await?),
            Metrics::History(history) => {
                let history = history.clone();
                look(move || history.courses(&query, steps, at)).await
            }
        }
    }
}

/// Refuses a window that the own history cannot know.
fn check(window: Duration) -> Result<(), MetricsError> {
    if window > HISTORY_LENGTH {
        return Err(MetricsError::WindowTooLong(window));
    }
    Ok(())
}

/// In a large cluster the own history looks at many series.
async fn look<T: Send + 'static>(
    answer: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MetricsError> {
    let answer = tokio::task::spawn_blocking(answer).await;
    answer.map_err(MetricsError::Broken)
}

impl From<MetricsError> for Status {
    fn from(error: MetricsError) -> Self {
        let text = error.to_string();
        match error {
            MetricsError::Prometheus(_) => Self::unavailable(text),
            MetricsError::WindowTooLong(_) => Self::failed_precondition(text),
            MetricsError::Broken(_) => Self::internal(text),
        }
    }
}
