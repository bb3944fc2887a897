//! Traffic of objects: joins what was counted with what Kubernetes has.
//! Entries: [`stat_summary`], [`tables`].

use std::collections::BTreeMap;

use futures::future::try_join_all;
use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::{
    PodErrors, Resource, StatTable, pod_errors,
    stat_table::{PodGroup, Table, pod_group::Row},
};

use crate::{
    cluster::Cluster,
    figures::{Figures, ask},
    metrics::{Metrics, MetricsError, Snapshot},
    pod::Pod,
    pod_index::PodIndex,
    promql,
    selection::{NotFound, Object},
    stat_request::{Outbound, StatRequest, Target, Window},
    table::Key,
};

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatError {
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// Returns one table for each type asked for, in the order of display.
///
/// # Errors
/// [`StatError`]: an object that was named does not exist, or one of the questions has no answer. Half an answer is none.
pub(crate) async fn stat_summary(
    cluster: &Cluster,
    metrics: &Metrics,
    control_plane_namespace: &str,
    request: &StatRequest,
) -> Result<Vec<StatTable>, StatError> {
    if let Outbound::To(peer) | Outbound::From(peer) = &request.outbound {
        cluster.check(peer)?;
    }
    let Target {
        kind,
        namespace,
        name,
    } = &request.target;
    if !name.is_empty() {
        // That it does not exist is said also where nobody has figures.
        cluster.objects(*kind, namespace, name)?;
    }
    let kinds = match kind {
        ResourceType::All => ResourceType::IN_ALL.to_vec(),
        kind => vec![*kind],
    };
    let ask = |metrics| tables(cluster, metrics, control_plane_namespace, request, &kinds);
    metrics.at_once(ask).await
}

/// Returns a table for each of `kinds`, all of one time and of as much of the window as is known. The type that
/// `request` names does not matter.
///
/// # Errors
/// As [`stat_summary`].
pub(crate) async fn tables(
    cluster: &Cluster,
    metrics: Snapshot<'_>,
    control_plane_namespace: &str,
    request: &StatRequest,
    kinds: &[ResourceType],
) -> Result<Vec<StatTable>, StatError> {
    let mut request = request.clone();
    let seen = metrics.seen(request.window.length)?;
    if seen < request.window.length {
        request.window = Window {
            text: promql::duration(seen),
            length: seen,
        };
    }
    let request = &request;
    let asked = try_join_all(kinds.iter().map(|kind| async move {
        let mut request = request.clone();
        request.target.kind = *kind;
        let Target {
            kind,
            namespace,
            name,
        } = &request.target;
        let objects = cluster.objects(*kind, namespace, name)?;
        let figures = ask(metrics, &request).await?;
        Ok::<_, StatError>((request, objects, figures))
    }))
    .await?;
    let mut pods = Pods {
        cluster,
        control_plane_namespace,
        index: PodIndex::new(cluster),
    };
    let tables = asked.into_iter().map(|(request, objects, figures)| {
        let rows = rows(&mut pods, &request, objects, figures);
        StatTable {
            table: Some(Table::PodGroup(PodGroup { rows })),
        }
    });
    Ok(tables.collect())
}

fn rows(
    pods: &mut Pods<'_>,
    request: &StatRequest,
    objects: Vec<Object>,
    mut figures: BTreeMap<Key, Figures>,
) -> Vec<Row> {
    let StatRequest {
        target,
        selector,
        outbound,
        window,
        tcp_stats: _,
    } = request;
    let row = |namespace: String, name: String, figures: Option<Figures>| {
        let Figures { basic, tcp } = figures.unwrap_or_default();
        Row {
            resource: Some(Resource {
                namespace,
                r#type: target.kind.to_string(),
                name,
            }),
            time_window: window.text.clone(),
            stats: basic,
            tcp_stats: tcp,
            ..Row::default()
        }
    };
    if target.kind == ResourceType::Authority {
        if !selector.selects_all() {
            return Vec::new();
        }
        let wanted = |name: &str| target.name.is_empty() || target.name == name;
        let figures = figures.into_iter().filter(|((_, name), _)| wanted(name));
        return figures
            .map(|((namespace, name), figures)| row(namespace, name, Some(figures)))
            .collect();
    }
    let mut rows = Vec::new();
    for object in objects {
        if !pods
            .cluster
            .has_labels(target.kind, &object.namespace, &object.name, selector)
        {
            continue;
        }
        let figures = figures.remove(&(object.namespace.clone(), object.name.clone()));
        // Seen from one side only, an object without traffic has nothing to do with the question.
        if figures.is_none() && !matches!(outbound, Outbound::None) {
            continue;
        }
        let mut row = row(object.namespace.clone(), object.name.clone(), figures);
        pods.count(target.kind, &object, &mut row);
        rows.push(row);
    }
    rows
}

/// What counts the pods of objects.
struct Pods<'a> {
    cluster: &'a Cluster,
    control_plane_namespace: &'a str,
    index: PodIndex<'a>,
}

impl Pods<'_> {
    /// Fills in how many pods the object has, how many of them are meshed, and what is wrong with them; of a pod its status.
    fn count(&mut self, kind: ResourceType, object: &Object, row: &mut Row) {
        for (name, pod) in self.index.pods_of(kind, object) {
            if kind == ResourceType::Workload(OwnerKind::Pod) {
                row.status.clone_from(&pod.status);
            }
            if pod.phase == "Failed" {
                row.failed_pod_count += 1;
            } else if pod.is_alive() {
                row.running_pod_count += 1;
                let meshed = pod.control_plane_namespace() == Some(self.control_plane_namespace);
                row.meshed_pod_count += u64::from(meshed);
            } else {
                continue;
            }
            if !pod.errors.is_empty() {
                row.errors_by_pod.insert(name, errors(&pod));
            }
        }
    }
}

fn errors(pod: &Pod) -> PodErrors {
    let errors = pod
        .errors
        .iter()
        .cloned()
        .map(|error| pod_errors::PodError {
            error: Some(pod_errors::pod_error::Error::Container(
                pod_errors::pod_error::ContainerError {
                    message: error.message,
                    container: error.container,
                    image: error.image,
                    reason: error.reason,
                },
            )),
        });
    PodErrors {
        errors: errors.collect(),
    }
}
