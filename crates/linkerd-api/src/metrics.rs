//! Where the proxies' metrics are asked for: Prometheus, or the own history. Entry: [`Metrics::query`].

use std::time::{Duration, SystemTime};

use tonic::Status;

use crate::{
    history::{HISTORY_LENGTH, History},
    prometheus::{Prometheus, PrometheusError, QUERY_TIMEOUT},
    promql,
    query::{Course, Query, Sample, Steps},
};

/// Who answers questions about metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Metrics {
    /// A Prometheus that scrapes the proxies.
    Prometheus(Box<Prometheus>),
    /// What this process remembers.
    History(History),
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
    /// Returns the values of all groups that have one now.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub(crate) async fn query(&self, query: Query) -> Result<Vec<Sample>, MetricsError> {
        match self {
            Self::Prometheus(prometheus) => Ok(prometheus.query(&promql::render(&query)).await?),
            Self::History(history) => {
                if let Some(window) = query.function.window().filter(|it| *it > HISTORY_LENGTH) {
                    return Err(MetricsError::WindowTooLong(window));
                }
                let history = history.clone();
                look(move || history.answer(&query, SystemTime::now())).await
            }
        }
    }

    /// How much of a window up to now somebody has looked at, in whole seconds and at least one. How old the
    /// data of a Prometheus are it does not say.
    pub(crate) fn seen(&self, window: Duration) -> Duration {
        match self {
            Self::Prometheus(_) => window,
            Self::History(history) => {
                let age = history.age(SystemTime::now()).as_secs().max(1);
                window.min(Duration::from_secs(age))
            }
        }
    }

    /// Waits for what is made of several answers no longer than for one answer.
    ///
    /// # Errors
    /// That of `answers`, or that Prometheus did not answer in time.
    pub(crate) async fn in_time<T>(
        &self,
        answers: impl Future<Output = Result<T, MetricsError>>,
    ) -> Result<T, MetricsError> {
        match self {
            Self::Prometheus(prometheus) => {
                match tokio::time::timeout(QUERY_TIMEOUT, answers).await {
                    Ok(answers) => answers,
                    Err(_) => Err(prometheus.too_late().into()),
                }
            }
            Self::History(_) => answers.await,
        }
    }

    /// Returns the values of all groups at several times, the last of which is now. The own history knows
    /// nothing of what was before it.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub(crate) async fn courses(
        &self,
        query: Query,
        steps: Steps,
    ) -> Result<Vec<Course>, MetricsError> {
        let now = SystemTime::now();
        match self {
            Self::Prometheus(prometheus) => Ok(prometheus
                .courses(&promql::render(&query), steps, now)
                .await?),
            Self::History(history) => {
                let history = history.clone();
                look(move || history.courses(&query, steps, now)).await
            }
        }
    }
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
