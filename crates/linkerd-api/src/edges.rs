//! Who connects to whom, and what became of TLS. Entry: [`edges`].
//! The client's proxy knows both ends. Of clients without a proxy only the server's knows.

use std::{collections::BTreeMap, time::Duration};

use linkerd_names::{Identity, NoTls, OwnerKind, ResourceType};
use linkerd_proto::public::{EdgesRequest, Resource, edges_response::Edge};

use crate::{
    cluster::Cluster,
    metrics::{Metrics, MetricsError},
    query::{Aggregate, Condition, Function, Metric, NO_TLS_REASON, Query, Sample, Selector, TLS},
    selected::{self, Selected},
    selection::NotFound,
    stat_request::{Target, Window},
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

/// Returns the edges between objects of the selected types of which one end is in the selected namespace
/// (empty: any), has the selected name (empty: any) and the selected labels, sorted.
///
/// # Errors
/// [`EdgesError`]: the type has no edges, the named object does not exist, or its metrics cannot be had.
pub(crate) async fn edges(
    cluster: &Cluster,
    metrics: &Metrics,
    control_plane_namespace: &str,
    request: EdgesRequest,
) -> Result<Vec<Edge>, EdgesError> {
    let targets = selected::parse(request.selector, request.other_selectors);
    let targets = targets.map_err(EdgesError::Request)?;
    let window = Window::parse(&request.time_window);
    let window = window.map_err(|error| EdgesError::Request(error.to_string()))?;
    let mut kinds = Vec::new();
    for Selected { target, .. } in &targets {
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
        if !kinds.contains(&target.kind) {
            kinds.push(target.kind);
        }
    }
    let question = Question {
        targets: &targets,
        kinds: &kinds,
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
        question: &question,
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
    };
    let selected = |end: &End| {
        targets.iter().any(|it| {
            Some(it.target.kind) == end.kind
                && it.names(&end.namespace, &end.name)
                && it.has_labels_of(cluster, &end.namespace, &end.name)
        })
    };
    let seen = answers.counts.into_iter();
    Ok(seen
        .filter(|(_, counts)| counts.responses + counts.connections > 0)
        .filter(|(ends, _)| selected(&ends.src) || selected(&ends.dst))
        .map(|(ends, counts)| reader.edge(ends, &counts))
        .collect())
}

/// What is asked.
struct Question<'a> {
    targets: &'a [Selected],
    /// The types of the targets, each once.
    kinds: &'a [ResourceType],
    window: Duration,
}

impl Question<'_> {
    /// What clients' proxies counted, by both ends; either of them may be a target.
    fn meshed(&self, metric: Metric) -> Query {
        let targets = self.targets.iter();
        let selectors = targets.flat_map(|it| {
            ["", "dst_"].map(|prefix| selector(&it.target, "outbound", prefix, metric))
        });
        self.sum(metric, selectors.collect(), &["", "dst_"])
    }

    /// What servers' proxies counted of clients without TLS, for one reason.
    fn unmeshed(&self, metric: Metric, reason: NoTls) -> Query {
        let targets = self.targets.iter();
        let selectors = targets.map(|it| {
            let mut selector = selector(&it.target, "inbound", "", metric);
            selector.insert(NO_TLS_REASON.to_owned(), Condition::is(reason.as_str()));
            selector
        });
        self.sum(metric, selectors.collect(), &[""])
    }

    fn sum(&self, metric: Metric, selectors: Vec<Selector>, ends: &[&str]) -> Query {
        let function = match metric {
            Metric::OpenConnections => Function::Latest,
            _ => Function::Max(self.window),
        };
        let mut by = Vec::new();
        for prefix in ends {
            by.push(format!("{prefix}namespace"));
            for kind in self.kinds {
                if *kind != ResourceType::Namespace {
                    by.push(format!("{prefix}{}", kind.metric_label()));
                }
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

    /// An end of which these are the labels: of the type of the first target that it is, or else of the
    /// first type that it has. None where it is no object of any of the types.
    fn end(&self, label: impl Fn(&str) -> String) -> Option<End> {
        let namespace = label("namespace");
        let of_kind = |kind: ResourceType| match kind {
            ResourceType::Namespace => (String::new(), namespace.clone()),
            kind => (namespace.clone(), label(kind.metric_label())),
        };
        let targets = self.targets.iter().filter(|it| {
            let (namespace, name) = of_kind(it.target.kind);
            it.names(&namespace, &name)
        });
        let kinds = targets.map(|it| it.target.kind);
        kinds.chain(self.kinds.iter().copied()).find_map(|kind| {
            let (namespace, name) = of_kind(kind);
            (!name.is_empty()).then_some(End {
                namespace,
                name,
                kind: Some(kind),
            })
        })
    }
}

fn selector(target: &Target, direction: &str, prefix: &str, metric: Metric) -> Selector {
    let Target {
        kind,
        namespace,
        name,
    } = target;
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

/// Whether series are those of the client's proxy.
#[derive(Clone, Copy)]
enum Client {
    Meshed,
    Unknown,
}

/// One end of an edge. All is empty of an unknown client.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    /// Empty of a namespace.
    namespace: String,
    name: String,
    kind: Option<ResourceType>,
}

/// What tells one edge from another, in the order of display.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    src: End,
    dst: End,
    no_tls_reason: String,
    tls: String,
}

#[derive(Debug, Default)]
struct Counts {
    responses: u64,
    connections: u64,
    open: u64,
}

struct Answers<'a> {
    question: &'a Question<'a>,
    counts: BTreeMap<Ends, Counts>,
}

impl Answers<'_> {
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
        let end = |prefix: &str| self.question.end(|name| label(&format!("{prefix}{name}")));
        let (src, dst) = match client {
            Client::Meshed => (end("")?, end("dst_")?),
            Client::Unknown => (End::default(), end("")?),
        };
        let tls = label(TLS);
        (!tls.is_empty()).then(|| Ends {
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
}

impl Reader<'_> {
    fn edge(&self, ends: Ends, counts: &Counts) -> Edge {
        let Ends {
            src,
            dst,
            no_tls_reason,
            tls,
        } = ends;
        let identity = |end: &End| {
            if tls == TLS_ON {
                self.identity(end)
            } else {
                String::new()
            }
        };
        let (client_id, server_id) = (identity(&src), identity(&dst));
        // An unknown client is taken for one of the server's type.
        let kind_of_dst = dst.kind;
        let resource = |end: End| {
            let kind = end.kind.or(kind_of_dst);
            Some(Resource {
                namespace: end.namespace,
                r#type: kind.map(|kind| kind.to_string()).unwrap_or_default(),
                name: end.name,
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
    fn identity(&self, end: &End) -> String {
        let End {
            namespace,
            name,
            kind,
        } = end;
        let owner = match kind {
            Some(ResourceType::Workload(OwnerKind::Pod)) => {
                self.cluster.pods.get(namespace, name).map(|pod| {
                    self.cluster
                        .owner_of(namespace, &pod)
                        .unwrap_or((OwnerKind::Pod, name.clone()))
                })
            }
            Some(ResourceType::Workload(kind)) => Some((*kind, name.clone())),
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
    use linkerd_proto::public::ResourceSelection;

    use super::*;
    use crate::promql::render;

    fn rendered(
        resources: &[(&str, &str, &str)],
        query: impl FnOnce(&Question<'_>) -> Query,
    ) -> String {
        let selections = resources
            .iter()
            .map(|(kind, namespace, name)| ResourceSelection {
                resource: Some(Resource {
                    namespace: (*namespace).into(),
                    r#type: (*kind).into(),
                    name: (*name).into(),
                }),
                label_selector: String::new(),
            });
        let mut selections: Vec<_> = selections.collect();
        let targets = selected::parse(selections.pop(), selections).expect("fine");
        let kinds: Vec<_> = targets.iter().map(|it| it.target.kind).collect();
        let question = Question {
            targets: &targets,
            kinds: &kinds,
            window: Duration::from_secs(600),
        };
        render(&query(&question))
    }

    #[test]
    fn either_end_may_be_the_one_that_is_asked_for() {
        assert_eq!(
            rendered(&[("deployment", "shop", "")], |it| it
                .meshed(Metric::Responses)),
            "sum(max_over_time(response_total{deployment!=\"\", direction=\"outbound\", \
             namespace=\"shop\"}[10m])) by (namespace, deployment, dst_namespace, dst_deployment, \
             tls, no_tls_reason) or sum(max_over_time(response_total{direction=\"outbound\", \
             dst_deployment!=\"\", dst_namespace=\"shop\"}[10m])) by (namespace, deployment, \
             dst_namespace, dst_deployment, tls, no_tls_reason)"
        );
    }

    #[test]
    fn open_connections_are_those_of_now() {
        let query =
            |it: &Question<'_>| it.unmeshed(Metric::OpenConnections, NoTls::PeerSentPlaintext);
        assert_eq!(
            rendered(&[("namespace", "", "shop")], query),
            "sum(tcp_open_connections{direction=\"inbound\", namespace=\"shop\", \
             no_tls_reason=\"peer_sent_plaintext\", peer=\"src\"}) by (namespace, tls, \
             no_tls_reason)"
        );
    }
    #[test]
    fn several_targets_are_alternatives_and_their_types_all_count() {
        let query = |it: &Question<'_>| it.unmeshed(Metric::Responses, NoTls::Probe);
        let targets = [("statefulset", "shop", "db"), ("deployment", "shop", "web")];
        assert_eq!(
            rendered(&targets, query),
            "sum(max_over_time(response_total{deployment=\"web\", direction=\"inbound\", \
             namespace=\"shop\", no_tls_reason=\"probe\"}[10m])) by (namespace, deployment, \
             statefulset, tls, no_tls_reason) or sum(max_over_time(response_total{\
             direction=\"inbound\", namespace=\"shop\", no_tls_reason=\"probe\", \
             statefulset=\"db\"}[10m])) by (namespace, deployment, statefulset, tls, no_tls_reason)"
        );
    }
}
