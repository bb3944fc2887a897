//! Who connects to whom, and what became of TLS. Entry: [`edges`].
//! The client's proxy knows both ends. Of clients without a proxy only the server's knows.

use std::{collections::BTreeMap, time::Duration};

use linkerd_names::{Identity, NoTls, OwnerKind, ResourceType};
use linkerd_proto::public::{EdgesRequest, Resource, edges_response::Edge};

use crate::{
    cluster::Cluster,
    label_selector,
    metrics::{Metrics, MetricsError},
    query::{Aggregate, Condition, Function, Metric, NO_TLS_REASON, Query, Sample, Selector, TLS},
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
    Metrics(#[from] MetricsError),
}

/// Returns the edges between objects of the selected type of which one end is in the selected namespace
/// (empty: any) and has the selected name (empty: any), and one has the selected labels, sorted.
///
/// # Errors
/// [`EdgesError`]: the type has no edges, the named object does not exist, or its metrics cannot be had.
pub(crate) async fn edges(
    cluster: &Cluster,
    metrics: &Metrics,
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
        window: window.length,
    };
    let plaintext = NoTls::PeerSentPlaintext;
    let (responses, connections, open, plain_responses, plain_connections, plain_open, probes) = tokio::try_join!(
        metrics.query(question.meshed(Metric::Responses)),
        metrics.query(question.meshed(Metric::Connections)),
        metrics.query(question.meshed(Metric::OpenConnections)),
        metrics.query(question.unmeshed(Metric::Responses, plaintext)),
        metrics.query(question.unmeshed(Metric::Connections, plaintext)),
        metrics.query(question.unmeshed(Metric::OpenConnections, plaintext)),
        metrics.query(question.unmeshed(Metric::Responses, NoTls::Probe)),
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

/// What is asked.
struct Question<'a> {
    target: &'a Target,
    window: Duration,
}

impl Question<'_> {
    /// What clients' proxies counted, by both ends; either of them may be the target.
    fn meshed(&self, metric: Metric) -> Query {
        let selectors = ["", "dst_"].map(|prefix| self.selector("outbound", prefix, metric));
        self.sum(metric, selectors.into(), &["", "dst_"])
    }

    /// What servers' proxies counted of clients without TLS, for one reason.
    fn unmeshed(&self, metric: Metric, reason: NoTls) -> Query {
        let mut selector = self.selector("inbound", "", metric);
        selector.insert(NO_TLS_REASON.to_owned(), Condition::is(reason.as_str()));
        self.sum(metric, vec![selector], &[""])
    }

    fn sum(&self, metric: Metric, selectors: Vec<Selector>, ends: &[&str]) -> Query {
        let function = match metric {
            Metric::OpenConnections => Function::Latest,
            _ => Function::Max(self.window),
        };
        let mut by = Vec::new();
        for prefix in ends {
            by.push(format!("{prefix}namespace"));
            if self.target.kind != ResourceType::Namespace {
                by.push(format!("{prefix}{}", self.target.kind.metric_label()));
            }
        }
        by.extend([TLS, NO_TLS_REASON].map(str::to_owned));
        Query {
            aggregate: Aggregate::Sum,
            function,
            metric,
            selectors,
            by,
        }
    }

    fn selector(&self, direction: &str, prefix: &str, metric: Metric) -> Selector {
        let Target {
            kind,
            namespace,
            name,
        } = self.target;
        let mut selector = Selector::new();
        selector.insert("direction".to_owned(), Condition::is(direction));
        if *kind != ResourceType::Namespace && !namespace.is_empty() {
            selector.insert(format!("{prefix}namespace"), Condition::is(namespace));
        }
        let name = if name.is_empty() {
            // Others, such as addresses outside of the cluster, are no objects of this type.
            Condition::is_set()
        } else {
            Condition::is(name)
        };
        selector.insert(format!("{prefix}{}", kind.metric_label()), name);
        if metric != Metric::Responses {
            let peer = if direction == "inbound" { "src" } else { "dst" };
            selector.insert("peer".to_owned(), Condition::is(peer));
        }
        selector
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
    use crate::promql::render;

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
            window: Duration::from_secs(600),
        };
        assert_eq!(
            render(&question.meshed(Metric::Responses)),
            "sum(max_over_time(response_total{deployment!=\"\", direction=\"outbound\", \
             namespace=\"shop\"}[10m])) by (namespace, deployment, dst_namespace, dst_deployment, \
             tls, no_tls_reason) or sum(max_over_time(response_total{direction=\"outbound\", \
             dst_deployment!=\"\", dst_namespace=\"shop\"}[10m])) by (namespace, deployment, \
             dst_namespace, dst_deployment, tls, no_tls_reason)"
        );
    }

    #[test]
    fn open_connections_are_those_of_now() {
        let target = target("namespace", "", "shop");
        let question = Question {
            target: &target,
            window: Duration::from_secs(600),
        };
        assert_eq!(
            render(&question.unmeshed(Metric::OpenConnections, NoTls::PeerSentPlaintext)),
            "sum(tcp_open_connections{direction=\"inbound\", namespace=\"shop\", \
             no_tls_reason=\"peer_sent_plaintext\", peer=\"src\"}) by (namespace, tls, \
             no_tls_reason)"
        );
    }
}
