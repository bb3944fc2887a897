//! What `stat` asks about the objects of one type. Entry: [`Question::new`]. Pure.

use std::time::Duration;

use linkerd_names::{NoTls, ResourceType};

use crate::{
    query::{
        Aggregate, CLASSIFICATION, Condition, Function, Metric, NO_TLS_REASON, Part, Query,
        Selector, TLS,
    },
    stat_request::{Outbound, StatRequest, Target},
};

/// Which series are meant, and by which labels they are summed up.
#[derive(Debug)]
pub(crate) struct Question {
    selector: Selector,
    /// Whether it is about what arrives at pods.
    inbound: bool,
    /// Whether it names an authority, which connections do not have.
    authority: bool,
    group_by: Vec<String>,
    window: Duration,
}

impl Question {
    /// Returns the question whose answers are the rows of one type, `request.target.kind`.
    pub(crate) fn new(request: &StatRequest) -> Self {
        let StatRequest {
            target,
            outbound,
            window,
            selector: _,
            tcp_stats: _,
        } = request;
        // A proxy does not know through which Service it was reached, but its client's does.
        let to_service = target.kind == ResourceType::Service;
        let mut selector = Selector::new();
        let (direction, prefix) = match outbound {
            Outbound::None if to_service => ("outbound", "dst_"),
            Outbound::None => ("inbound", ""),
            Outbound::To(_) => ("outbound", ""),
            Outbound::From(_) => ("outbound", "dst_"),
        };
        selector.insert("direction".to_owned(), Condition::is(direction));
        match outbound {
            Outbound::None if to_service => insert_peer(&mut selector, target),
            Outbound::None => insert_target(&mut selector, target),
            Outbound::To(peer) => {
                insert_target(&mut selector, target);
                insert_peer(&mut selector, peer);
            }
            Outbound::From(peer) => insert_target(&mut selector, peer),
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
            selector,
            inbound: direction == "inbound",
            authority,
            group_by,
            window: window.length,
        }
    }

    /// Labels by which the answers are told apart: the namespace's, and the name's unless the
    /// objects are namespaces.
    pub(crate) fn group_by(&self) -> &[String] {
        &self.group_by
    }

    /// Responses in the window by classification and outcome of TLS.
    pub(crate) fn responses(&self) -> Query {
        self.sum(
            Function::Increase(self.window),
            Metric::Responses,
            self.requests(),
            &[CLASSIFICATION, TLS, NO_TLS_REASON],
        )
    }

    /// The latency that a share of `quantile` of the latest responses does not exceed. Not a number
    /// when there was none between the last two scrapes.
    pub(crate) fn latency(&self, quantile: f64) -> Query {
        self.latency_by(Function::LastRate(self.window), quantile)
    }

    /// The latency that a share of `quantile` of the window's responses does not exceed.
    pub(crate) fn latency_over_window(&self, quantile: f64) -> Query {
        self.latency_by(Function::Rate(self.window), quantile)
    }

    fn latency_by(&self, rate: Function, quantile: f64) -> Query {
        Query {
            aggregate: Aggregate::Quantile(quantile),
            function: rate,
            metric: Metric::LatencyBuckets,
            parts: vec![Part {
                selector: self.requests(),
                by: self.group_by.clone(),
            }],
        }
    }

    /// Whether connections can answer it: they have no authority.
    pub(crate) fn has_connections(&self) -> bool {
        !self.authority
    }

    /// Open connections by outcome of TLS: from clients, or to servers where the question is about what
    /// the target or its peer sent.
    pub(crate) fn open_connections(&self) -> Query {
        self.sum(
            Function::Latest,
            Metric::OpenConnections,
            self.connections(),
            &[TLS, NO_TLS_REASON],
        )
    }

    /// Bytes read from or written to the other end of these connections in the window.
    pub(crate) fn bytes(&self, metric: Metric) -> Query {
        let increase = Function::Increase(self.window);
        self.sum(increase, metric, self.connections(), &[])
    }

    fn sum(&self, function: Function, metric: Metric, selector: Selector, more: &[&str]) -> Query {
        let more = more.iter().map(|label| (*label).to_owned());
        Query {
            aggregate: Aggregate::Sum,
            function,
            metric,
            parts: vec![Part {
                selector,
                by: self.group_by.iter().cloned().chain(more).collect(),
            }],
        }
    }

    fn connections(&self) -> Selector {
        let peer = if self.inbound { "src" } else { "dst" };
        let mut selector = self.selector.clone();
        selector.insert("peer".to_owned(), Condition::is(peer));
        selector
    }

    /// Selects requests from one workload to another, so without kubelet's probes. Only the proxy of
    /// the pod that is probed sees those.
    fn requests(&self) -> Selector {
        let mut selector = self.selector.clone();
        if self.inbound {
            let no_probe = Condition::IsNot(NoTls::Probe.as_str().to_owned());
            selector.insert(NO_TLS_REASON.to_owned(), no_probe);
        }
        selector
    }
}

/// Restricts to series *of* the target: those that its own proxies reported.
fn insert_target(selector: &mut Selector, target: &Target) {
    if !target.name.is_empty() {
        selector.insert(
            target.kind.metric_label().to_owned(),
            Condition::is(&target.name),
        );
    }
    if target.kind != ResourceType::Namespace && !target.namespace.is_empty() {
        selector.insert("namespace".to_owned(), Condition::is(&target.namespace));
    }
}

/// Restricts to series about requests *to* the peer. An unnamed peer means all of its namespace.
fn insert_peer(selector: &mut Selector, peer: &Target) {
    if peer.kind == ResourceType::Authority {
        if !peer.name.is_empty() {
            selector.insert("authority".to_owned(), Condition::is(&peer.name));
        }
        return;
    }
    if !peer.name.is_empty() {
        selector.insert(
            format!("dst_{}", peer.kind.metric_label()),
            Condition::is(&peer.name),
        );
    }
    if peer.kind != ResourceType::Namespace && !peer.namespace.is_empty() {
        selector.insert("dst_namespace".to_owned(), Condition::is(&peer.namespace));
    }
}

#[cfg(test)]
mod tests;
