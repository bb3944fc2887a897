//! Counts connections and their bytes: direction, peer and TLS outcome.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
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

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    direction: Direction,
    peer: Peer,
    tls: TlsLabel,
}

/// How a connection ended: nothing wrong, or the system's error number (0 = not one of the system).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Close {
    Clean,
    Error(i32),
}

/// The counters of one kind of connection.
#[derive(Default)]
pub(crate) struct TcpSeries {
    pub(crate) opened: AtomicU64,
    pub(crate) open: AtomicI64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    closed: Mutex<BTreeMap<Close, Arc<Closed>>>,
}

#[derive(Default)]
struct Closed {
    total: AtomicU64,
    duration: Histogram,
}

impl TcpSeries {
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self, close: Close, duration: Duration) {
        self.open.fetch_sub(1, Relaxed);
        let closed = self.closed.lock().entry(close).or_default().clone();
        closed.total.fetch_add(1, Relaxed);
        closed.duration.record(duration);
    }
}

/// All kinds of connection. The keys are closed lists, so this is small.
#[derive(Default)]
pub(crate) struct TcpMetrics(Mutex<HashMap<Key, Arc<TcpSeries>>>);

impl TcpMetrics {
    pub(crate) fn series(&self, direction: Direction, peer: Peer, tls: TlsLabel) -> Arc<TcpSeries> {
        self.0
            .lock()
            .entry(Key {
                direction,
                peer,
                tls,
            })
            .or_default()
            .clone()
    }

    pub(super) fn render(&self, out: &mut String) {
        let mut all: Vec<(String, Arc<TcpSeries>)> = self
            .0
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
    let mut out = String::with_capacity(96);
    label(&mut out, "direction", key.direction.as_str());
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
