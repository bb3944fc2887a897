//! Who connects to whom, and what became of TLS. Entry: [`edges`].
//! The client's proxy knows both ends. Of clients without a proxy only the server's knows.

use std::collections::BTreeMap;

use linkerd_names::{Identity, NoTls, OwnerKind, ResourceType};
use linkerd_proto::public::{EdgesRequest, Resource, edges_response::Edge};

use crate::{
    cluster::Cluster,
    label_selector,
    prometheus::{Prometheus, PrometheusError, Sample},
    promql::{NO_TLS_REASON, TLS, quote},
    selection::NotFound,
    stat_request::{Target, Window},
    table::Key,
};

/// Value of the label `tls` on connections that finished a mutual handshake.
const TLS_ON: &str = "true";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EdgesError {
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
}

/// Returns the edges between objects of the selected type of which one end is in the selected namespace
/// (empty: any) and has the selected name (empty: any), and one has the selected labels, sorted.
///
/// # Errors
/// [`EdgesError`]: the type has no edges, the named object does not exist, or Prometheus has no answer.
pub(crate) async fn edges(
    cluster: &Cluster,
    prometheus: &Prometheus,
    control_plane_namespace: &str,
    request: EdgesRequest,
) -> Result<Vec<Edge>, EdgesError> {
    let refused = |error: &dyn std::error::Error| EdgesError::Request(error.to_string());
    let selection = request.selector.unwrap_or_default();
    let labels = label_selector::parse(&selection.label_selector).map_err(|e| refused(&e))?;
    let resource = selection
        .resource
        .ok_or_else(|| EdgesError::Request("no resource is named".to_owned()))?;
    let target = Target::parse(&resource).map_err(|error| refused(&error))?;
    let window = Window::parse(&request.time_window).map_err(|error| refused(&error))?;
    if !matches!(
        target.kind,
        ResourceType::Workload(_) | ResourceType::Namespace
    ) {
        return Err(EdgesError::Request(format!(
            "unsupported resource type [{}]: edges are between workloads, pods or namespaces",
            target.kind
        )));
    }
    if !target.name.is_empty() {
        cluster.objects(target.kind, &target.namespace, &target.name)?;
    }
    let question = Question {
        target: &target,
        window: &window.promql,
    };
    let (responses, connections, open, plain_responses, plain_connections, plain_open, probes) = tokio::try_join!(
        prometheus.query(question.meshed("response_total", "")),
        prometheus.query(question.meshed("tcp_open_total", r#", peer="dst""#)),
        prometheus.query(question.open()),
        prometheus.query(question.unmeshed("response_total", "", NoTls::PeerSentPlaintext)),
        prometheus.query(question.unmeshed(
            "tcp_open_total",
            r#", peer="src""#,
            NoTls::PeerSentPlaintext
        )),
        prometheus.query(question.unmeshed_open()),
        prometheus.query(question.unmeshed("response_total", "", NoTls::Probe)),
    )?;
    let mut answers = Answers {
        kind: target.kind,
        counts: BTreeMap::new(),
    };
    answers.add(&responses, Client::Meshed, |counts| &mut counts.responses);
    answers.add(&connections, Client::Meshed, |counts| {
        &mut counts.connections
    });
    answers.add(&open, Client::Meshed, |counts| &mut counts.open);
    answers.add(&plain_responses, Client::Unknown, |counts| {
        &mut counts.responses
    });
    answers.add(&plain_connections, Client::Unknown, |counts| {
        &mut counts.connections
    });
    answers.add(&plain_open, Client::Unknown, |counts| &mut counts.open);
    answers.subtract_probes(&probes);
    let reader = Reader {
        cluster,
        control_plane_namespace,
        kind: target.kind,
    };
    let selected = |end: &Key| cluster.has_labels(target.kind, &end.0, &end.1, &labels);
    let seen = answers.counts.into_iter();
    Ok(seen
        .filter(|(_, counts)| counts.responses + counts.connections > 0)
        .filter(|(ends, _)| labels.selects_all() || selected(&ends.src) || selected(&ends.dst))
        .map(|(ends, counts)| reader.edge(ends, &counts))
        .collect())
}

/// The questions to Prometheus.
struct Question<'a> {
    target: &'a Target,
    window: &'a str,
}

impl Question<'_> {
    /// A counter of clients' proxies, by both ends.
    fn meshed(&self, metric: &str, more: &str) -> String {
        let part = |prefix: &str| {
            let selector = self.selector("outbound", prefix, more);
            self.sum(metric, &selector, &self.both_ends())
        };
        format!("{} or {}", part(""), part("dst_"))
    }

    /// Connections of clients' proxies that are open now.
    fn open(&self) -> String {
        let part = |prefix: &str| {
            let selector = self.selector("outbound", prefix, r#", peer="dst""#);
            let group = self.both_ends();
            format!("sum(tcp_open_connections{{{selector}}}) by ({group}, {TLS}, {NO_TLS_REASON})")
        };
        format!("{} or {}", part(""), part("dst_"))
    }

    /// A counter of servers' proxies about clients that sent plaintext.
    fn unmeshed(&self, metric: &str, more: &str, reason: NoTls) -> String {
        let selector = self.plaintext_selector(more, reason);
        self.sum(metric, &selector, &self.one_end())
    }

    fn unmeshed_open(&self) -> String {
        let selector = self.plaintext_selector(r#", peer="src""#, NoTls::PeerSentPlaintext);
        let group = self.one_end();
        format!("sum(tcp_open_connections{{{selector}}}) by ({group}, {TLS}, {NO_TLS_REASON})")
    }

    fn plaintext_selector(&self, more: &str, reason: NoTls) -> String {
        let more = format!("{more}, {NO_TLS_REASON}={}", quote(reason.as_str()));
        self.selector("inbound", "", &more)
    }

    fn sum(&self, metric: &str, selector: &str, group: &str) -> String {
        let window = self.window;
        format!(
            "sum(max_over_time({metric}{{{selector}}}[{window}])) by ({group}, {TLS}, {NO_TLS_REASON})"
        )
    }

    fn both_ends(&self) -> String {
        match self.target.kind {
            ResourceType::Namespace => "namespace, dst_namespace".to_owned(),
            kind => {
                let label = kind.metric_label();
                format!("namespace, {label}, dst_namespace, dst_{label}")
            }
        }
    }

    fn one_end(&self) -> String {
        match self.target.kind {
            ResourceType::Namespace => "namespace".to_owned(),
            kind => format!("namespace, {}", kind.metric_label()),
        }
    }

    fn selector(&self, direction: &str, prefix: &str, more: &str) -> String {
        let Target {
            kind,
            namespace,
            name,
        } = self.target;
        let mut selector = format!("direction={}", quote(direction));
        let label = kind.metric_label();
        if *kind != ResourceType::Namespace && !namespace.is_empty() {
            selector.push_str(&format!(", {prefix}namespace={}", quote(namespace)));
        }
        if name.is_empty() {
            // Others, such as addresses outside of the cluster, are no objects of this type.
            selector.push_str(&format!(", {prefix}{label}!=\"\""));
        } else {
            selector.push_str(&format!(", {prefix}{label}={}", quote(name)));
        }
        selector + more
    }
}

/// Whether series are those of the client's proxy.
#[derive(Clone, Copy)]
enum Client {
    Meshed,
    Unknown,
}

/// What tells one edge from another, in the order of display. An end is a [`Key`]; for a namespace that
/// is an empty text and its name, for an unknown client two empty texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    src: Key,
    dst: Key,
    no_tls_reason: String,
    tls: String,
}

#[derive(Debug, Default)]
struct Counts {
    responses: u64,
    connections: u64,
    open: u64,
}

struct Answers {
    kind: ResourceType,
    counts: BTreeMap<Ends, Counts>,
}

impl Answers {
    fn add(&mut self, samples: &[Sample], client: Client, field: fn(&mut Counts) -> &mut u64) {
        for sample in samples {
            if let Some(ends) = self.ends(sample, client) {
                *field(self.counts.entry(ends).or_default()) += round(sample.value);
            }
        }
    }

    /// A connection does not say that it is a probe, but kubelet makes one for each probe.
    fn subtract_probes(&mut self, samples: &[Sample]) {
        for sample in samples {
            let Some(mut ends) = self.ends(sample, Client::Unknown) else {
                continue;
            };
            ends.no_tls_reason = NoTls::PeerSentPlaintext.as_str().to_owned();
            ends.tls = NoTls::PeerSentPlaintext.label().to_owned();
            if let Some(counts) = self.counts.get_mut(&ends) {
                counts.connections = counts.connections.saturating_sub(round(sample.value));
            }
        }
    }

    /// None where an end is no object of the type, or the connection was never made.
    fn ends(&self, sample: &Sample, client: Client) -> Option<Ends> {
        let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
        let object = |prefix: &str| {
            let namespace = label(&format!("{prefix}namespace"));
            match self.kind {
                ResourceType::Namespace => (String::new(), namespace),
                kind => (
                    namespace,
                    label(&format!("{prefix}{}", kind.metric_label())),
                ),
            }
        };
        let (src, dst) = match client {
            Client::Meshed => (object(""), object("dst_")),
            Client::Unknown => (Key::default(), object("")),
        };
        let tls = label(TLS);
        let incomplete = dst.1.is_empty() || matches!(client, Client::Meshed) && src.1.is_empty();
        (!incomplete && !tls.is_empty()).then(|| Ends {
            src,
            dst,
            no_tls_reason: label(NO_TLS_REASON),
            tls,
        })
    }
}

/// To the nearest whole number; Prometheus answers NaN where it knows nothing.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and NaN is 0, as wanted"
)]
fn round(value: f64) -> u64 {
    value.round() as u64
}

/// Makes messages of edges.
struct Reader<'a> {
    cluster: &'a Cluster,
    control_plane_namespace: &'a str,
    kind: ResourceType,
}

impl Reader<'_> {
    fn edge(&self, ends: Ends, counts: &Counts) -> Edge {
        let Ends {
            src,
            dst,
            no_tls_reason,
            tls,
        } = ends;
        let identity = |(namespace, name): &Key| {
            if tls == TLS_ON {
                self.identity(namespace, name)
            } else {
                String::new()
            }
        };
        let (client_id, server_id) = (identity(&src), identity(&dst));
        let resource = |(namespace, name): Key| {
            Some(Resource {
                namespace,
                r#type: self.kind.to_string(),
                name,
            })
        };
        Edge {
            src: resource(src),
            dst: resource(dst),
            client_id,
            server_id,
            no_tls_reason,
            tls,
            responses: counts.responses,
            connections: counts.connections,
            open_connections: counts.open,
        }
    }

    /// Whom a workload or pod proves to be; empty when that is not known.
    fn identity(&self, namespace: &str, name: &str) -> String {
        let owner = match self.kind {
            ResourceType::Workload(OwnerKind::Pod) => {
                self.cluster.pods.get(namespace, name).map(|pod| {
                    self.cluster
                        .owner_of(namespace, &pod)
                        .unwrap_or((OwnerKind::Pod, name.to_owned()))
                })
            }
            ResourceType::Workload(kind) => Some((kind, name.to_owned())),
            _ => None,
        };
        let identity = owner.and_then(|(kind, name)| {
            Identity::new(&name, kind, namespace, self.control_plane_namespace).ok()
        });
        identity.map(|it| it.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: &str, namespace: &str, name: &str) -> Target {
        Target {
            kind: kind.parse().expect("a type"),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn either_end_may_be_the_one_that_is_asked_for() {
        let target = target("deployment", "shop", "");
        let question = Question {
            target: &target,
            window: "10m",
        };
        assert_eq!(
            question.meshed("response_total", ""),
            "sum(max_over_time(response_total{direction=\"outbound\", namespace=\"shop\", \
             deployment!=\"\"}[10m])) by (namespace, deployment, dst_namespace, dst_deployment, tls, \
             no_tls_reason) or sum(max_over_time(response_total{direction=\"outbound\", \
             dst_namespace=\"shop\", dst_deployment!=\"\"}[10m])) by (namespace, deployment, \
             dst_namespace, dst_deployment, tls, no_tls_reason)"
        );
    }

    #[test]
    fn names_stay_values() {
        let target = target("namespace", "", "a\"b");
        let question = Question {
            target: &target,
            window: "10m",
        };
        assert_eq!(
            question.unmeshed("tcp_open_total", ", peer=\"src\"", NoTls::PeerSentPlaintext),
            "sum(max_over_time(tcp_open_total{direction=\"inbound\", namespace=\"a\\\"b\", \
             peer=\"src\", no_tls_reason=\"peer_sent_plaintext\"}[10m])) by (namespace, tls, \
             no_tls_reason)"
        );
    }
}
