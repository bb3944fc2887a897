//! The questions to Prometheus, as text. Entry: [`Question::new`].
//! Pure. Every name from outside is quoted, so that it stays a value.

use std::collections::BTreeMap;

use linkerd_names::{NoTls, ResourceType};

use crate::stat_request::{Outbound, StatRequest, Target};

/// Label of our proxies' series: the word for the outcome of TLS.
pub(crate) const TLS: &str = "tls";
/// Label of our proxies' series: why a connection is plaintext.
pub(crate) const NO_TLS_REASON: &str = "no_tls_reason";
/// Label of our proxies' series: `success` or `failure`.
pub(crate) const CLASSIFICATION: &str = "classification";

/// Which series are meant, and by which labels they are summed up.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Conditions by label, sorted as in the text.
    matchers: BTreeMap<String, String>,
    /// Whether it is about what arrives at pods.
    inbound: bool,
    /// Whether it names an authority, which connections do not have.
    authority: bool,
    group_by: Vec<String>,
    window: &'a str,
}

impl<'a> Question<'a> {
    /// Returns the question whose answers are the rows of one type, `request.target.kind`.
    pub(crate) fn new(request: &'a StatRequest) -> Self {
        let StatRequest {
            target,
            outbound,
            window,
            selector: _,
            tcp_stats: _,
        } = request;
        // A proxy does not know through which Service it was reached, but its client's does.
        let to_service = target.kind == ResourceType::Service;
        let mut matchers = BTreeMap::new();
        let (direction, prefix) = match outbound {
            Outbound::None if to_service => ("outbound", "dst_"),
            Outbound::None => ("inbound", ""),
            Outbound::To(_) => ("outbound", ""),
            Outbound::From(_) => ("outbound", "dst_"),
        };
        matchers.insert("direction".to_owned(), is(direction));
        match outbound {
            Outbound::None if to_service => insert_peer(&mut matchers, target),
            Outbound::None => insert_target(&mut matchers, target),
            Outbound::To(peer) => {
                insert_target(&mut matchers, target);
                insert_peer(&mut matchers, peer);
            }
            Outbound::From(peer) => insert_target(&mut matchers, peer),
        }
        let mut group_by = vec![format!("{prefix}namespace")];
        match target.kind {
            ResourceType::Namespace => {}
            // What the client asked for is not a property of the endpoint: there is no prefix.
            ResourceType::Authority => group_by.push(target.kind.metric_label().to_owned()),
            kind => group_by.push(format!("{prefix}{}", kind.metric_label())),
        }
        let peer = match outbound {
            Outbound::None => None,
            Outbound::To(peer) | Outbound::From(peer) => Some(peer.kind),
        };
        let authority = [Some(target.kind), peer].contains(&Some(ResourceType::Authority));
        Self {
            matchers,
            inbound: direction == "inbound",
            authority,
            group_by,
            window: &window.promql,
        }
    }

    /// Labels by which the answers are told apart: the namespace's, and the name's unless the
    /// objects are namespaces.
    pub(crate) fn group_by(&self) -> &[String] {
        &self.group_by
    }

    /// Responses in the window by classification and outcome of TLS.
    pub(crate) fn responses(&self) -> String {
        format!(
            "sum(increase(response_total{}[{}])) by ({}, {CLASSIFICATION}, {TLS}, {NO_TLS_REASON})",
            self.requests(),
            self.window,
            self.group_by.join(", ")
        )
    }

    /// The latency that a share of `quantile` of the latest responses does not exceed. Not a number
    /// when there was none between the last two scrapes.
    pub(crate) fn latency(&self, quantile: f64) -> String {
        self.latency_by("irate", quantile)
    }

    /// The latency that a share of `quantile` of the window's responses does not exceed.
    pub(crate) fn latency_over_window(&self, quantile: f64) -> String {
        self.latency_by("rate", quantile)
    }

    fn latency_by(&self, rate: &str, quantile: f64) -> String {
        format!(
            "histogram_quantile({quantile}, sum({rate}(response_latency_ms_bucket{}[{}])) by (le, {}))",
            self.requests(),
            self.window,
            self.group_by.join(", ")
        )
    }

    /// Whether connections can answer it: they have no authority.
    pub(crate) fn has_connections(&self) -> bool {
        !self.authority
    }

    /// Open connections by outcome of TLS: from clients, or to servers where the question is about what
    /// the target or its peer sent.
    pub(crate) fn open_connections(&self) -> String {
        format!(
            "sum(tcp_open_connections{}) by ({}, {TLS}, {NO_TLS_REASON})",
            self.selector(&[("peer", self.peer())]),
            self.group_by.join(", ")
        )
    }

    /// Bytes from (`tcp_read_bytes_total`) or to (`tcp_write_bytes_total`) the other end of these
    /// connections in the window.
    pub(crate) fn bytes(&self, metric: &str) -> String {
        format!(
            "sum(increase({metric}{}[{}])) by ({})",
            self.selector(&[("peer", self.peer())]),
            self.window,
            self.group_by.join(", ")
        )
    }

    fn peer(&self) -> String {
        is(if self.inbound { "src" } else { "dst" })
    }

    /// Selects requests from one workload to another, so without kubelet's probes. Only the proxy of
    /// the pod that is probed sees those.
    fn requests(&self) -> String {
        if self.inbound {
            self.selector(&[(NO_TLS_REASON, is_not(NoTls::Probe.as_str()))])
        } else {
            self.selector(&[])
        }
    }

    /// `{a="1", b!="2"}`, sorted by label.
    fn selector(&self, more: &[(&str, String)]) -> String {
        let more = more
            .iter()
            .map(|(label, condition)| (*label, condition.as_str()));
        let all: BTreeMap<&str, &str> = self
            .matchers
            .iter()
            .map(|(label, condition)| (label.as_str(), condition.as_str()))
            .chain(more)
            .collect();
        let all: Vec<String> = all
            .into_iter()
            .map(|(label, condition)| format!("{label}{condition}"))
            .collect();
        format!("{{{}}}", all.join(", "))
    }
}

/// Restricts to series *of* the target: those that its own proxies reported.
fn insert_target(matchers: &mut BTreeMap<String, String>, target: &Target) {
    if !target.name.is_empty() {
        matchers.insert(target.kind.metric_label().to_owned(), is(&target.name));
    }
    if target.kind != ResourceType::Namespace && !target.namespace.is_empty() {
        matchers.insert("namespace".to_owned(), is(&target.namespace));
    }
}

/// Restricts to series about requests *to* the peer. An unnamed peer means all of its namespace.
fn insert_peer(matchers: &mut BTreeMap<String, String>, peer: &Target) {
    if peer.kind == ResourceType::Authority {
        if !peer.name.is_empty() {
            matchers.insert("authority".to_owned(), is(&peer.name));
        }
        return;
    }
    if !peer.name.is_empty() {
        matchers.insert(format!("dst_{}", peer.kind.metric_label()), is(&peer.name));
    }
    if peer.kind != ResourceType::Namespace && !peer.namespace.is_empty() {
        matchers.insert("dst_namespace".to_owned(), is(&peer.namespace));
    }
}

fn is(value: &str) -> String {
    format!("={}", quote(value))
}

/// Also true of series without the label.
fn is_not(value: &str) -> String {
    format!("!={}", quote(value))
}

/// A PromQL string literal. Prometheus reads it as Go does.
pub(crate) fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
