//! Who connects to whom, and what became of TLS. Entries: [`edges`], [`edges_of_owners`].
//! The client's proxy knows both ends. Of clients without a proxy only the server's knows.

mod answers;
mod owners;
mod question;

use std::time::Duration;

use linkerd_names::{Identity, OwnerKind, ResourceType};
use linkerd_proto::public::{EdgesRequest, Resource, edges_response::Edge};

use self::{
    answers::{Between, Counts, End, Ends},
    owners::Owners,
    question::Question,
};
use crate::{
    cluster::Cluster,
    metrics::{Metrics, MetricsError},
    selected::{self, Selected},
    selection::NotFound,
    stat_request::Window,
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

/// Returns the edges in use between objects of the selected types of which one end is in the selected namespace
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
            cluster.check(target)?;
        }
        if !kinds.contains(&target.kind) {
            kinds.push(target.kind);
        }
    }
    let question = Question {
        targets: &targets,
        kinds: &kinds,
    };
    let between = Between {
        targets: &targets,
        kinds: &kinds,
    };
    let meshed = |metric, function| question.meshed(metric, function);
    let unmeshed = |metric, function, reason| question.unmeshed(metric, function, reason);
    let counts = answers::ask(metrics, between, window.length, meshed, unmeshed).await?;
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
    let wanted = counts
        .into_iter()
        .filter(|(ends, _)| selected(&ends.src) || selected(&ends.dst));
    Ok(wanted
        .map(|(ends, counts)| reader.edge(ends, &counts))
        .collect())
}

/// Returns the edges in use between all workloads, and pods that stand for themselves, sorted; also of those that
/// are gone.
///
/// # Errors
/// The metrics cannot be had.
pub(crate) async fn edges_of_owners(
    cluster: &Cluster,
    metrics: &Metrics,
    control_plane_namespace: &str,
    window: Duration,
) -> Result<Vec<Edge>, MetricsError> {
    let between = Between {
        targets: &[],
        kinds: &Owners::KINDS,
    };
    let counts = answers::ask(metrics, between, window, Owners::meshed, Owners::unmeshed).await?;
    let reader = Reader {
        cluster,
        control_plane_namespace,
    };
    let edges = counts.into_iter();
    Ok(edges
        .map(|(ends, counts)| reader.edge(ends, &counts))
        .collect())
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
        // An unknown end is taken for one of the other's type.
        let known_kind = dst.kind.or(src.kind);
        let resource = |end: End| {
            let kind = end.kind.or(known_kind);
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
