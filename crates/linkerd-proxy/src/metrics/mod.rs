//! What the proxy counts, and its text for Prometheus. Entry: [`Metrics`].
//! Whoever counts holds an `Arc` of one series and touches atomics only; the maps are for newcomers and scrapes.

mod balance;
mod histogram;
mod http;
mod tcp;
mod tls;

use std::time::{Duration, Instant};

use linkerd_names::{NoTls, Tls};
use prometheus_client::registry::Registry;

pub(crate) use balance::{Balanced, render as render_balance};
pub(crate) use http::{Classification, HttpMetrics, Route, RouteKey, authority_label};
pub(crate) use tcp::{Close, Peer, TcpMetrics, TcpSeries};
pub(crate) use tls::{ReloadStatus, TlsMetrics};

/// Which of the two ways a connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

impl Direction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// The labels `tls` and `no_tls_reason` of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TlsLabel {
    On,
    Off(NoTls),
    /// There was no connection.
    Unknown,
}

impl From<&Tls> for TlsLabel {
    fn from(tls: &Tls) -> Self {
        match tls {
            Tls::On(_) => Self::On,
            Tls::Off(reason) => Self::Off(*reason),
        }
    }
}

impl TlsLabel {
    pub(crate) fn render(self, out: &mut String) {
        match self {
            Self::On => label(out, "tls", "true"),
            Self::Off(reason) => {
                label(out, "tls", reason.label());
                label(out, "no_tls_reason", reason.as_str());
            }
            Self::Unknown => {}
        }
    }
}

/// Everything that the proxy counts.
pub(crate) struct Metrics {
    pub(crate) http: HttpMetrics,
    pub(crate) tcp: TcpMetrics,
    pub(crate) tls: TlsMetrics,
    process: Registry,
    idle: Duration,
}

impl Metrics {
    pub(crate) fn new(authorities_max: usize, routes_max: usize, idle: Duration) -> Self {
        let mut process = Registry::default();
        linkerd_process::register_process_metrics(&mut process);
        Self {
            http: HttpMetrics::new(authorities_max, routes_max),
            tcp: TcpMetrics::new(routes_max),
            tls: TlsMetrics::default(),
            process,
            idle,
        }
    }

    /// The text format 0.0.4. Series that were idle for too long are dropped first.
    pub(crate) fn render(&self) -> String {
        let now = Instant::now();
        self.http.expire(now, self.idle);
        self.tcp.expire(now, self.idle);
        let mut out = String::with_capacity(16 * 1024);
        self.http.render(&mut out);
        self.tcp.render(&mut out);
        self.tls.render(&mut out);
        out.push_str(&linkerd_process::render_metrics(&self.process));
        out
    }
}

/// Writes the two comment lines of a metric.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    for part in [
        "# HELP ",
        name,
        " ",
        help,
        "\n# TYPE ",
        name,
        " ",
        kind,
        "\n",
    ] {
        out.push_str(part);
    }
}

/// Writes `name{labels} value`.
fn sample(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    use std::fmt::Write;
    let written = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
    written.expect("a String takes everything");
}

/// Writes `name="value"` with the value escaped, after a comma unless it is the first.
pub(crate) fn label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = String::new();
        label(&mut out, "authority", "a\"b\\c\nd");
        label(&mut out, "x", "y");
        assert_eq!(out, r#"authority="a\"b\\c\nd",x="y""#);
    }

    #[test]
    fn only_plaintext_has_a_reason() {
        let text = |tls: &Tls| {
            let mut out = String::new();
            TlsLabel::from(tls).render(&mut out);
            out
        };
        assert_eq!(text(&Tls::On("a.b".parse().unwrap())), r#"tls="true""#);
        assert_eq!(
            text(&Tls::Off(NoTls::HandshakeTimeout)),
            r#"tls="handshake_failed",no_tls_reason="handshake_timeout""#
        );
    }
}
