//! Counts requests, responses and latencies a route: direction, authority, endpoint and TLS outcome.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Direction, TlsLabel, head, histogram::Histogram, label, sample};

/// The value of `authority` for those that come after the limit, and for what is no name.
const AUTHORITY_OTHER: &str = "other";
/// The longest name of DNS and a port.
const AUTHORITY_BYTES_MAX: usize = 253 + ":65535".len();
/// Responses with so many different codes on one route are counted under the code 0.
const RESPONSES_MAX: usize = 64;

/// What tells one route from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteKey {
    pub(crate) direction: Direction,
    pub(crate) authority: Arc<str>,
    /// Rendered `dst_…` labels, sorted; empty when inbound.
    pub(crate) destination: Arc<str>,
    pub(crate) tls: TlsLabel,
}

/// The label `authority` of a request for `name`: without credentials, and of bounded length.
pub(crate) fn authority_label(name: &str) -> &str {
    let name = name.rsplit_once('@').map_or(name, |(_, host)| host);
    match name.len() {
        ..=AUTHORITY_BYTES_MAX => name,
        _ => AUTHORITY_OTHER,
    }
}

/// Whether a response counts as good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Classification {
    Success,
    Failure,
}

impl Classification {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// The counters of one route.
pub(crate) struct Route {
    requests: AtomicU64,
    responses: Mutex<Vec<Arc<Response>>>,
    /// Milliseconds since the start of [`HttpMetrics`].
    last_used: AtomicU64,
    start: Instant,
}

struct Response {
    key: ResponseKey,
    total: AtomicU64,
    latency: Histogram,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ResponseKey {
    classification: Classification,
    status: u16,
    grpc_status: Option<u16>,
}

impl Route {
    /// A request stream has ended.
    pub(crate) fn request_ended(&self) {
        self.touch();
        self.requests.fetch_add(1, Relaxed);
    }

    /// A response stream has ended; `latency` is the time to its first data.
    pub(crate) fn response_ended(
        &self,
        classification: Classification,
        status: u16,
        grpc_status: Option<u16>,
        latency: Duration,
    ) {
        self.touch();
        let response = self.response(ResponseKey {
            classification,
            status,
            grpc_status,
        });
        response.total.fetch_add(1, Relaxed);
        response.latency.record(latency);
    }

    fn response(&self, key: ResponseKey) -> Arc<Response> {
        let mut responses = self.responses.lock();
        if let Some(response) = responses.iter().find(|response| response.key == key) {
            return response.clone();
        }
        let key = if responses.len() < RESPONSES_MAX {
            key
        } else {
            ResponseKey {
                status: 0,
                grpc_status: None,
                ..key
            }
        };
        if let Some(response) = responses.iter().find(|response| response.key == key) {
            return response.clone();
        }
        let response = Arc::new(Response {
            key,
            total: AtomicU64::new(0),
            latency: Histogram::default(),
        });
        responses.push(response.clone());
        response
    }

    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used.store(now, Relaxed);
    }
}

/// All routes.
pub(crate) struct HttpMetrics {
    state: Mutex<State>,
    authorities_max: usize,
    routes_max: usize,
    start: Instant,
}

#[derive(Default)]
struct State {
    routes: HashMap<RouteKey, Arc<Route>>,
    authorities: HashSet<Arc<str>>,
}

impl HttpMetrics {
    pub(super) fn new(authorities_max: usize, routes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            authorities_max,
            routes_max,
            start: Instant::now(),
        }
    }

    /// The counters of a route. Authorities beyond the limit share one, and so do all routes beyond
    /// theirs: endpoints come and go, and each has its own.
    pub(crate) fn route(&self, mut key: RouteKey) -> Arc<Route> {
        let mut state = self.state.lock();
        if let Some(route) = state.routes.get(&key) {
            return route.clone();
        }
        if state.routes.len() >= self.routes_max {
            key.authority = AUTHORITY_OTHER.into();
            key.destination = "".into();
        } else if !state.authorities.contains(&key.authority) {
            if state.authorities.len() < self.authorities_max {
                state.authorities.insert(key.authority.clone());
            } else {
                key.authority = AUTHORITY_OTHER.into();
            }
        }
        let start = self.start;
        state
            .routes
            .entry(key)
            .or_insert_with(|| {
                let route = Route {
                    requests: AtomicU64::new(0),
                    responses: Mutex::default(),
                    last_used: AtomicU64::new(0),
                    start,
                };
                route.touch();
                Arc::new(route)
            })
            .clone()
    }

    /// Drops routes that nobody holds and that were not touched for `idle`.
    pub(super) fn expire(&self, now: Instant, idle: Duration) {
        let Some(limit) = (now - self.start).checked_sub(idle) else {
            return;
        };
        let mut state = self.state.lock();
        state.routes.retain(|_, route| {
            Arc::strong_count(route) > 1
                || u128::from(route.last_used.load(Relaxed)) >= limit.as_millis()
        });
        let State {
            routes,
            authorities,
        } = &mut *state;
        authorities.retain(|authority| routes.keys().any(|key| key.authority == *authority));
    }

    pub(super) fn render(&self, out: &mut String) {
        let mut routes: Vec<(String, Arc<Route>)> = {
            let state = self.state.lock();
            state
                .routes
                .iter()
                .map(|(key, route)| (labels(key), route.clone()))
                .collect()
        };
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        head(
            out,
            "request_total",
            "counter",
            "Requests whose stream has ended.",
        );
        for (labels, route) in &routes {
            sample(out, "request_total", labels, route.requests.load(Relaxed));
        }
        let responses: Vec<(String, Arc<Response>)> = routes
            .iter()
            .flat_map(|(labels, route)| {
                let responses = route.responses.lock().clone();
                responses
                    .into_iter()
                    .map(move |r| (response_labels(labels, &r.key), r))
            })
            .collect();
        head(
            out,
            "response_total",
            "counter",
            "Responses whose stream has ended.",
        );
        for (labels, response) in &responses {
            sample(out, "response_total", labels, response.total.load(Relaxed));
        }
        head(
            out,
            "response_latency_ms",
            "histogram",
            "Time from a request's headers to its response's first data.",
        );
        for (labels, response) in &responses {
            response.latency.render(out, "response_latency_ms", labels);
        }
    }
}

fn labels(key: &RouteKey) -> String {
    let mut out = String::with_capacity(256);
    label(&mut out, "authority", &key.authority);
    label(&mut out, "direction", key.direction.as_str());
    if !key.destination.is_empty() {
        out.push(',');
        out.push_str(&key.destination);
    }
    key.tls.render(&mut out);
    out
}

fn response_labels(route: &str, key: &ResponseKey) -> String {
    let mut out = route.to_owned();
    label(&mut out, "classification", key.classification.as_str());
    label(&mut out, "status_code", &key.status.to_string());
    if let Some(status) = key.grpc_status {
        label(&mut out, "grpc_status_code", &status.to_string());
    }
    out
}

#[cfg(test)]
mod tests {
    use linkerd_names::{NoTls, Tls};

    use super::*;

    fn key(authority: &str) -> RouteKey {
        RouteKey {
            direction: Direction::Outbound,
            authority: authority.into(),
            destination: "dst_pod=\"p\"".into(),
            tls: TlsLabel::from(&Tls::Off(NoTls::OffCluster)),
        }
    }

    #[test]
    fn a_response_has_every_label_of_its_route() {
        let metrics = HttpMetrics::new(10, 100);
        metrics.route(key("web:80")).response_ended(
            Classification::Failure,
            200,
            Some(2),
            Duration::from_millis(3),
        );
        let mut out = String::new();
        metrics.render(&mut out);
        let expected = "response_total{authority=\"web:80\",direction=\"outbound\",dst_pod=\"p\",\
            tls=\"no_identity\",no_tls_reason=\"off_cluster\",classification=\"failure\",\
            status_code=\"200\",grpc_status_code=\"2\"} 1\n";
        assert!(out.contains(expected), "{out}");
    }

    #[test]
    fn a_label_has_no_credentials_and_no_more_than_a_name() {
        let longest = "a".repeat(AUTHORITY_BYTES_MAX);
        for (name, label) in [
            ("web.ns:80", "web.ns:80"),
            ("me:secret@web.ns", "web.ns"),
            ("me:s@cret@web.ns:80", "web.ns:80"),
            (longest.as_str(), longest.as_str()),
            (&format!("{longest}a"), AUTHORITY_OTHER),
        ] {
            assert_eq!(authority_label(name), label, "{name}");
        }
    }

    #[test]
    fn authorities_beyond_the_limit_are_counted_as_other() {
        let metrics = HttpMetrics::new(2, 100);
        for i in 0..1_000 {
            metrics.route(key(&format!("host-{i}"))).request_ended();
        }
        let mut out = String::new();
        metrics.render(&mut out);
        assert_eq!(out.matches("request_total{").count(), 3);
        assert!(out.contains("authority=\"other\""));
    }

    /// Each pod that a rollout makes is another endpoint.
    #[test]
    fn routes_beyond_the_limit_are_counted_as_one() {
        let metrics = HttpMetrics::new(10, 20);
        for i in 0..1_000 {
            let key = RouteKey {
                destination: format!("dst_pod=\"web-{i}\"").into(),
                ..key("web:80")
            };
            metrics.route(key).request_ended();
        }
        let mut out = String::new();
        metrics.render(&mut out);
        assert_eq!(out.matches("request_total{").count(), 21);
        let rest = "request_total{authority=\"other\",direction=\"outbound\",\
            tls=\"no_identity\",no_tls_reason=\"off_cluster\"} 980\n";
        assert!(out.contains(rest), "{out}");
    }

    #[test]
    fn idle_routes_are_forgotten_unless_somebody_holds_them() {
        let metrics = HttpMetrics::new(2, 100);
        let held = metrics.route(key("held"));
        metrics.route(key("idle"));
        metrics.expire(
            Instant::now() + Duration::from_secs(60),
            Duration::from_secs(30),
        );
        let state = metrics.state.lock();
        assert_eq!(state.routes.len(), 1);
        assert_eq!(state.authorities.len(), 1);
        drop(held);
    }
}
