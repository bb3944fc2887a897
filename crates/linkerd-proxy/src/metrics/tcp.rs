//! Counts connections and their bytes: direction, peer, endpoint and TLS outcome.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Classification, Direction, TlsLabel, head, histogram::Histogram, label, sample};

/// Which end of a proxied connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// Who connected to the proxy.
    Source,
    /// Whom the proxy connected to.
    Destination,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    peer: Peer,
    /// Rendered `dst_…` labels, sorted; empty where discovery says nothing of the peer.
    destination: Arc<str>,
    tls: TlsLabel,
}

/// How a connection ended: nothing wrong, or the system's error number (0 = not one of the system).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Close {
    Clean,
    Error(i32),
}

/// The counters of one kind of connection.
pub(crate) struct TcpSeries {
    pub(crate) opened: AtomicU64,
    pub(crate) open: AtomicI64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    closed: Mutex<BTreeMap<Close, Arc<Closed>>>,
    /// Milliseconds since the start of [`TcpMetrics`].
    last_used: AtomicU64,
    start: Instant,
}

#[derive(Default)]
struct Closed {
    total: AtomicU64,
    duration: Histogram,
}

impl TcpSeries {
    fn new(start: Instant) -> Self {
        let series = Self {
            opened: AtomicU64::new(0),
            open: AtomicI64::new(0),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            closed: Mutex::default(),
            last_used: AtomicU64::new(0),
            start,
        };
        series.touch();
        series
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used.store(elapsed, Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self, close: Close, duration: Duration) {
        self.touch();
        self.open.fetch_sub(1, Relaxed);
        let closed = self.closed.lock().entry(close).or_default().clone();
        closed.total.fetch_add(1, Relaxed);
        closed.duration.record(duration);
    }
}

/// All kinds of connection: endpoints come and go, everything else is a closed list.
pub(crate) struct TcpMetrics {
    all: Mutex<HashMap<Key, Arc<TcpSeries>>>,
    series_max: usize,
    start: Instant,
}

impl TcpMetrics {
    pub(super) fn new(series_max: usize) -> Self {
        Self {
            all: Mutex::default(),
            series_max,
            start: Instant::now(),
        }
    }

    /// The counters of connections of which discovery says nothing.
    pub(crate) fn series(&self, direction: Direction, peer: Peer, tls: TlsLabel) -> Arc<TcpSeries> {
        self.of(Key {
            direction,
            peer,
            destination: "".into(),
            tls,
        })
    }

    /// The counters of connections to an endpoint with these `dst_…` labels. Endpoints beyond the limit
    /// share one.
    pub(crate) fn to_endpoint(
        &self,
        direction: Direction,
        destination: &Arc<str>,
        tls: TlsLabel,
    ) -> Arc<TcpSeries> {
        self.of(Key {
            direction,
            peer: Peer::Destination,
            destination: destination.clone(),
            tls,
        })
    }

    fn of(&self, mut key: Key) -> Arc<TcpSeries> {
        let mut all = self.all.lock();
        if let Some(series) = all.get(&key) {
            return series.clone();
        }
        if all.len() >= self.series_max {
            key.destination = "".into();
        }
        let new = || Arc::new(TcpSeries::new(self.start));
        all.entry(key).or_insert_with(new).clone()
    }

    /// Drops the series of endpoints without a connection now and for `idle`.
    pub(super) fn expire(&self, now: Instant, idle: Duration) {
        let Some(limit) = (now - self.start).checked_sub(idle) else {
            return;
        };
        self.all.lock().retain(|key, series| {
            key.destination.is_empty()
                || Arc::strong_count(series) > 1
                || u128::from(series.last_used.load(Relaxed)) >= limit.as_millis()
        });
    }

    pub(super) fn render(&self, out: &mut String) {
        let mut all: Vec<(String, Arc<TcpSeries>)> = self
            .all
            .lock()
            .iter()
            .map(|(key, series)| (labels(key), series.clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));

        head(out, "tcp_open_total", "counter", "Connections opened.");
        for (labels, series) in &all {
            sample(out, "tcp_open_total", labels, series.opened.load(Relaxed));
        }
        head(
            out,
            "tcp_open_connections",
            "gauge",
            "Connections open now.",
        );
        for (labels, series) in &all {
            sample(
                out,
                "tcp_open_connections",
                labels,
                series.open.load(Relaxed),
            );
        }
        head(
            out,
            "tcp_read_bytes_total",
            "counter",
            "Bytes read from the peer.",
        );
        for (labels, series) in &all {
            sample(
                out,
                "tcp_read_bytes_total",
                labels,
                series.read_bytes.load(Relaxed),
            );
        }
        head(
            out,
            "tcp_write_bytes_total",
            "counter",
            "Bytes written to the peer.",
        );
        for (labels, series) in &all {
            sample(
                out,
                "tcp_write_bytes_total",
                labels,
                series.written_bytes.load(Relaxed),
            );
        }
        let closed: Vec<(String, Arc<Closed>)> = all
            .iter()
            .flat_map(|(labels, series)| {
                let closed: Vec<_> = series.closed.lock().clone().into_iter().collect();
                closed
                    .into_iter()
                    .map(move |(close, closed)| (close_labels(labels, close), closed))
            })
            .collect();
        head(out, "tcp_close_total", "counter", "Connections closed.");
        for (labels, closed) in &closed {
            sample(out, "tcp_close_total", labels, closed.total.load(Relaxed));
        }
        head(
            out,
            "tcp_connection_duration_ms",
            "histogram",
            "How long connections were open.",
        );
        for (labels, closed) in &closed {
            closed
                .duration
                .render(out, "tcp_connection_duration_ms", labels);
        }
    }
}

fn labels(key: &Key) -> String {
    let mut out = String::with_capacity(96 + key.destination.len());
    label(&mut out, "direction", key.direction.as_str());
    if !key.destination.is_empty() {
        out.push(',');
        out.push_str(&key.destination);
    }
    let peer = match key.peer {
        Peer::Source => "src",
        Peer::Destination => "dst",
    };
    label(&mut out, "peer", peer);
    key.tls.render(&mut out);
    out
}

fn close_labels(labels: &str, close: Close) -> String {
    let mut out = labels.to_owned();
    match close {
        Close::Clean => label(&mut out, "classification", Classification::Success.as_str()),
        Close::Error(errno) => {
            label(&mut out, "classification", Classification::Failure.as_str());
            if errno != 0 {
                label(&mut out, "errno", &errno_name(errno));
            }
        }
    }
    out
}

fn errno_name(errno: i32) -> String {
    match errno {
        libc::ECONNRESET => "ECONNRESET".to_owned(),
        libc::EPIPE => "EPIPE".to_owned(),
        libc::ETIMEDOUT => "ETIMEDOUT".to_owned(),
        libc::ECONNABORTED => "ECONNABORTED".to_owned(),
        libc::ECONNREFUSED => "ECONNREFUSED".to_owned(),
        libc::EHOSTUNREACH => "EHOSTUNREACH".to_owned(),
        libc::ENETUNREACH => "ENETUNREACH".to_owned(),
        other => format!("UNKNOWN ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(series_max: usize) -> TcpMetrics {
        TcpMetrics::new(series_max)
    }

    fn text(metrics: &TcpMetrics) -> String {
        let mut text = String::new();
        metrics.render(&mut text);
        text
    }

    #[test]
    fn connections_are_counted_by_endpoint() {
        let metrics = metrics(10);
        let destination = "dst_pod=\"db-0\"".into();
        let series = metrics.to_endpoint(Direction::Outbound, &destination, TlsLabel::On);
        series.opened();
        series.closed(Close::Clean, Duration::from_millis(1));
        let expected = "tcp_open_total{direction=\"outbound\",dst_pod=\"db-0\",peer=\"dst\",\
                        tls=\"true\"} 1\n";
        assert!(text(&metrics).contains(expected), "{}", text(&metrics));
    }

    #[test]
    fn endpoints_beyond_the_limit_share_one_series() {
        let metrics = metrics(2);
        for pod in 0..5 {
            let destination = format!("dst_pod=\"db-{pod}\"").into();
            let series = metrics.to_endpoint(Direction::Outbound, &destination, TlsLabel::On);
            series.opened();
        }
        let expected = "tcp_open_total{direction=\"outbound\",peer=\"dst\",tls=\"true\"} 3\n";
        assert!(text(&metrics).contains(expected), "{}", text(&metrics));
    }

    #[test]
    fn endpoints_without_connections_expire() {
        let metrics = metrics(10);
        let destination = |pod: &str| format!("dst_pod=\"{pod}\"").into();
        let held = metrics.to_endpoint(Direction::Outbound, &destination("held"), TlsLabel::On);
        metrics.to_endpoint(Direction::Outbound, &destination("idle"), TlsLabel::On);
        metrics.series(Direction::Inbound, Peer::Source, TlsLabel::On);
        let later = Instant::now() + Duration::from_secs(61);
        metrics.expire(later, Duration::from_secs(60));
        let text = text(&metrics);
        assert!(text.contains("held") && text.contains("inbound"), "{text}");
        assert!(!text.contains("idle"), "{text}");
        drop(held);
    }
}
