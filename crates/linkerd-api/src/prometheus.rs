//! The HTTP API of Prometheus, as far as we ask it. Entries: [`Prometheus::query_at`], [`Prometheus::courses`].

use std::{
    collections::BTreeMap,
    error::Error,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::Deserialize;

use crate::query::{Course, Sample, Steps};

/// Prometheus is in the same cluster: a connection takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// People wait at most ten seconds for the CLI: for one query, and for all that an answer is made of.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(7);
/// An answer of 100 000 series is about this long.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A client of one Prometheus server. Cheap to clone; connections are kept.
#[derive(Clone, Debug)]
pub struct Prometheus {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// The URL given is not `http://host[:port][/path]`.
    #[error("{0:?} is not the http:// URL of a Prometheus server")]
    Url(String),
    /// No connection, or it broke.
    #[error("cannot reach Prometheus at {url}: {reason}")]
    Unreachable {
        /// The server's URL.
        url: String,
        /// All causes, outermost first.
        reason: String,
    },
    /// No answer in time.
    #[error("Prometheus at {url} did not answer within {QUERY_TIMEOUT:?}")]
    Timeout {
        /// The server's URL.
        url: String,
    },
    /// Prometheus refused or failed.
    #[error("Prometheus at {url} answered {status}{}", said(.message))]
    Refused {
        /// The server's URL.
        url: String,
        /// The HTTP status.
        status: StatusCode,
        /// Prometheus' own words, or the beginning of the body; may be empty.
        message: String,
    },
    /// A part of the data could not be read.
    #[error("Prometheus at {url} has only a part of the answer: {reason}")]
    Partial {
        /// The server's URL.
        url: String,
        /// Its own words, where it has any.
        reason: String,
    },
    /// The answer is not what the HTTP API of Prometheus promises.
    #[error("Prometheus at {url} sent an answer that is none: {reason}")]
    Answer {
        /// The server's URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Prometheus {
    /// Makes a client for the server at `url`, for example `http://127.0.0.1:9090`. Connects later.
    ///
    /// # Errors
    /// [`PrometheusError::Url`].
    pub fn new(url: &str) -> Result<Self, PrometheusError> {
        let url = url.trim_end_matches('/');
        let valid = url
            .parse::<Uri>()
            .is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.query().is_none());
        if !valid {
            return Err(PrometheusError::Url(url.to_owned()));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            url: url.to_owned(),
            client,
        })
    }

    /// Asks for the present value of `promql`.
    ///
    /// # Errors
    /// See [`PrometheusError`]; each variant names the server.
    pub async fn query(&self, promql: &str) -> Result<Vec<Sample>, PrometheusError> {
        self.samples(&format!("query?query={}", percent_encode(promql)))
            .await
    }

    /// Asks for the value that `promql` had at a time.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub(crate) async fn query_at(
        &self,
        promql: &str,
        at: SystemTime,
    ) -> Result<Vec<Sample>, PrometheusError> {
        let (query, at) = (percent_encode(promql), seconds(at));
        self.samples(&format!("query?query={query}&time={at:.3}"))
            .await
    }

    /// Asks for the time of the server's clock.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub(crate) async fn time(&self) -> Result<SystemTime, PrometheusError> {
        let samples = self.query("vector(time())").await?;
        let since = samples.first().map(|sample| sample.value);
        let since = since.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        since
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
            .ok_or_else(|| self.nonsense("it does not say what time it is".to_owned()))
    }

    async fn samples(&self, path: &str) -> Result<Vec<Sample>, PrometheusError> {
        match self.ask(path).await? {
            Data::Vector(series) => {
                let samples = series.into_iter().map(Series::sample);
                samples
                    .collect::<Result<_, _>>()
                    .map_err(|reason| self.nonsense(reason))
            }
            Data::Matrix(_) => Err(self.nonsense("values at several times".to_owned())),
        }
    }

    /// Asks for the values of `promql` at several times, the last of which is `last`.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub(crate) async fn courses(
        &self,
        promql: &str,
        steps: Steps,
        last: SystemTime,
    ) -> Result<Vec<Course>, PrometheusError> {
        let end = seconds(last);
        let step = steps.length.as_secs_f64();
        let start = end - step * (steps.count.saturating_sub(1) as f64);
        let path = format!(
            "query_range?query={}&start={start:.3}&end={end:.3}&step={step}",
            percent_encode(promql)
        );
        match self.ask(&path).await? {
            Data::Matrix(rows) => {
                let courses = rows
                    .into_iter()
                    .map(|row| row.course(start, step, steps.count));
                courses
                    .collect::<Result<_, _>>()
                    .map_err(|reason| self.nonsense(reason))
            }
            Data::Vector(_) => Err(self.nonsense("values at one time".to_owned())),
        }
    }

    fn nonsense(&self, reason: String) -> PrometheusError {
        PrometheusError::Answer {
            url: self.url.clone(),
            reason,
        }
    }

    async fn ask(&self, path: &str) -> Result<Data, PrometheusError> {
        match tokio::time::timeout(QUERY_TIMEOUT, self.ask_once(path)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.too_late()),
        }
    }

    /// What is said when [`QUERY_TIMEOUT`] is over.
    pub(crate) fn too_late(&self) -> PrometheusError {
        PrometheusError::Timeout {
            url: self.url.clone(),
        }
    }

    async fn ask_once(&self, path: &str) -> Result<Data, PrometheusError> {
        let unreachable = |error: &dyn Error| PrometheusError::Unreachable {
            url: self.url.clone(),
            reason: causes(error),
        };
        let request = request(&self.url, path);
        let request = request.map_err(|_| PrometheusError::Url(self.url.clone()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(self.nonsense(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
            }
            Err(error) => return Err(unreachable(error.as_ref())),
        };
        match serde_json::from_slice::<Answer>(&body) {
            Ok(Answer::Success {
                data,
                warnings,
                is_partial,
            }) if status.is_success() => match missing(warnings.unwrap_or_default(), is_partial) {
                None => Ok(data),
                Some(reason) => Err(PrometheusError::Partial {
                    url: self.url.clone(),
                    reason,
                }),
            },
            Ok(Answer::Error { error }) => Err(PrometheusError::Refused {
                url: self.url.clone(),
                status,
                message: error,
            }),
            Err(error) if status.is_success() => Err(self.nonsense(error.to_string())),
            _ => {
                let message: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                Err(PrometheusError::Refused {
                    url: self.url.clone(),
                    status,
                    message: message.trim().to_owned(),
                })
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Answer {
    Success {
        data: Data,
        warnings: Option<Vec<String>>,
        /// What VictoriaMetrics has instead of warnings.
        #[serde(default, rename = "isPartial")]
        is_partial: bool,
    },
    Error {
        error: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Matrix(Vec<Row>),
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    /// Time in seconds, and the value as text, which may be `NaN` or `+Inf`.
    value: (f64, String),
}

/// The values of one series at several times; without those times at which it has none.
#[derive(Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Series {
    fn sample(self) -> Result<Sample, String> {
        let Self {
            metric: labels,
            value: (_, text),
        } = self;
        let value = number(&text)?;
        Ok(Sample { labels, value })
    }
}

impl Row {
    fn course(self, start: f64, step: f64, count: usize) -> Result<Course, String> {
        let Self {
            metric: labels,
            values,
        } = self;
        let mut course = vec![None; count];
        for (at, text) in values {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates, and what is not there is passed over"
            )]
            let index = ((at - start) / step).round() as usize;
            if let Some(value) = course.get_mut(index) {
                *value = Some(number(&text)?);
            }
        }
        Ok(Course {
            labels,
            values: course,
        })
    }
}

/// Why an answer is not whole; none when it is. What PromQL remarks about the question itself is no reason:
/// before Prometheus 3 even hints, such as about the names of metrics, are among the warnings.
fn missing(warnings: Vec<String>, is_partial: bool) -> Option<String> {
    let is_remark =
        |text: &String| text.starts_with("PromQL ") || text.ends_with(" annotations omitted");
    let warning = warnings.into_iter().find(|text| !is_remark(text));
    let silent = || "some of its storage did not answer (isPartial)".to_owned();
    warning.or_else(|| is_partial.then(silent))
}

/// The end of a sentence about an answer.
fn said(message: &str) -> String {
    match message {
        "" => ", without a word".to_owned(),
        message => format!(": {message}"),
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn number(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number"))
}

/// An error and what caused it, in one line.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The question `path`, such as `query?query=up`. A long one, as of many objects, is a form: servers and proxies on
/// the way take addresses of so many bytes, and not of many more.
fn request(url: &str, path: &str) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    /// What nginx takes unless told otherwise.
    const ADDRESS_BYTES_MAX: usize = 8 * 1024;
    let address = format!("{url}/api/v1/{path}");
    match path.split_once('?') {
        Some((endpoint, form)) if address.len() > ADDRESS_BYTES_MAX => {
            Request::post(format!("{url}/api/v1/{endpoint}"))
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(form.to_owned()))
        }
        _ => Request::get(address).body(Full::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_is_too_long_for_an_address_is_a_form() {
        let short = request("http://p:9090", "query?query=up").expect("a request");
        assert_eq!(short.method(), "GET");
        assert_eq!(short.uri(), "http://p:9090/api/v1/query?query=up");

        let form = format!("query={}&step=5", "up".repeat(50_000));
        let long = request("http://p:9090", &format!("query_range?{form}")).expect("a request");
        assert_eq!(long.method(), "POST");
        assert_eq!(long.uri(), "http://p:9090/api/v1/query_range");
        let body = long.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), form);
    }
}
