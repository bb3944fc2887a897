//! Namespaces and workloads with their figures. Entry: [`overview`].

use std::{collections::BTreeMap, time::Duration};

use kube::core::Selector;
use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::{
    BasicStats, Resource, StatTable, TcpStats,
    pod_errors::pod_error,
    stat_table::{self, pod_group},
};
use serde::Serialize;
use tonic::Status;

use crate::{
    ApiService,
    cluster::Cluster,
    metrics::Snapshot,
    stat_request::{Outbound, StatRequest, Target, Window},
    stat_summary::{self, StatError},
};

/// The window of every figure, as `linkerd stat` has it by default.
const WINDOW: Duration = Duration::from_secs(60);

/// Kubernetes' own namespaces, in which nobody meshes anything.
const NAMESPACES_IGNORED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What may have pods of its own, in the order of display.
const KINDS: [OwnerKind; 7] = [
    OwnerKind::Deployment,
    OwnerKind::StatefulSet,
    OwnerKind::DaemonSet,
    OwnerKind::CronJob,
    OwnerKind::Job,
    OwnerKind::ReplicaSet,
    OwnerKind::ReplicationController,
];

/// Everything that has traffic of its own.
#[derive(Serialize)]
pub(super) struct Overview {
    /// As much of the window as is known.
    window_seconds: f64,
    namespaces: Vec<Row>,
    workloads: Vec<Row>,
}

/// One object.
#[derive(Serialize)]
struct Row {
    kind: String,
    /// Empty for a Namespace.
    namespace: String,
    name: String,
    pods: u64,
    meshed_pods: u64,
    failed_pods: u64,
    problems: Vec<Problem>,
    /// What it received; none when no request was seen in the window.
    requests: Option<Requests>,
    /// Connections to it; none when there was none.
    connections: Option<Connections>,
}

/// Why a container of the mesh does not run.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    pod: String,
    container: String,
    reason: String,
    message: String,
}

#[derive(Serialize)]
struct Requests {
    success: u64,
    failure: u64,
    tls: u64,
    latency_ms_p50: u64,
    latency_ms_p95: u64,
    latency_ms_p99: u64,
    /// How many were plaintext, by the reason.
    no_tls_reasons: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Connections {
    open: u64,
    open_tls: u64,
    read_bytes: u64,
    write_bytes: u64,
    /// How many of the open ones are plaintext, by the reason.
    no_tls_reasons: BTreeMap<String, u64>,
}

/// Asks for all namespaces and workloads. Kinds of which there is no object are not asked for.
///
/// # Errors
/// When the metrics cannot be asked.
pub(super) async fn overview(service: &ApiService) -> Result<Overview, Status> {
    let ApiService {
        cluster,
        metrics,
        kubernetes: _,
        taps: _,
        questions: _,
        control_plane_namespace,
    } = service;
    let kinds = [ResourceType::Namespace].into_iter().chain(kinds(cluster));
    let kinds: Vec<ResourceType> = kinds.collect();
    let request = StatRequest {
        target: Target {
            kind: ResourceType::All,
            namespace: String::new(),
            name: String::new(),
        },
        selector: Selector::default(),
        outbound: Outbound::None,
        window: Window {
            text: String::new(),
            length: WINDOW,
        },
        tcp_stats: true,
    };
    let ask = async |metrics: Snapshot<'_>| {
        let tables =
            stat_summary::tables(cluster, metrics, control_plane_namespace, &request, &kinds)
                .await?;
        Ok::<_, StatError>((metrics.seen(WINDOW)?, tables))
    };
    let (seen, tables) = metrics.at_once(ask).await?;
    let mut tables = tables.into_iter();
    let namespaces = tables.next().into_iter().flat_map(rows);
    let namespaces = namespaces.filter(|row| !is_ignored(&row.name)).collect();
    let workloads = tables.flat_map(rows);
    let workloads = workloads
        .filter(|row| !is_ignored(&row.namespace))
        .collect();
    Ok(Overview {
        window_seconds: seen.as_secs_f64(),
        namespaces,
        workloads,
    })
}

fn is_ignored(namespace: &str) -> bool {
    NAMESPACES_IGNORED.contains(&namespace)
}

/// The kinds of workloads of which there are any.
pub(super) fn kinds(cluster: &Cluster) -> impl Iterator<Item = ResourceType> {
    let there_are = |kind: &ResourceType| {
        let objects = cluster.objects(*kind, "", "");
        objects.is_ok_and(|objects| !objects.is_empty())
    };
    KINDS
        .into_iter()
        .map(ResourceType::Workload)
        .filter(there_are)
}

fn rows(table: StatTable) -> Vec<Row> {
    match table.table {
        Some(stat_table::Table::PodGroup(group)) => group.rows.into_iter().map(Row::from).collect(),
        None => Vec::new(),
    }
}

impl From<pod_group::Row> for Row {
    fn from(row: pod_group::Row) -> Self {
        let pod_group::Row {
            resource,
            time_window: _,
            meshed_pod_count,
            running_pod_count,
            stats,
            failed_pod_count,
            errors_by_pod,
            status: _,
            tcp_stats,
        } = row;
        let Resource {
            namespace,
            r#type,
            name,
        } = resource.unwrap_or_default();
        let mut problems = Vec::new();
        for (pod, errors) in errors_by_pod {
            for error in errors.errors {
                let Some(pod_error::Error::Container(error)) = error.error else {
                    continue;
                };
                problems.push(Problem {
                    pod: pod.clone(),
                    container: error.container,
                    reason: error.reason,
                    message: error.message,
                });
            }
        }
        problems.sort_unstable();
        Self {
            kind: r#type,
            namespace,
            name,
            pods: running_pod_count,
            meshed_pods: meshed_pod_count,
            failed_pods: failed_pod_count,
            problems,
            requests: stats.map(Requests::from),
            connections: tcp_stats.map(Connections::from),
        }
    }
}

impl From<BasicStats> for Requests {
    fn from(stats: BasicStats) -> Self {
        Self {
            success: stats.success_count,
            failure: stats.failure_count,
            tls: stats.tls_request_count,
            latency_ms_p50: stats.latency_ms_p50,
            latency_ms_p95: stats.latency_ms_p95,
            latency_ms_p99: stats.latency_ms_p99,
            no_tls_reasons: stats.no_tls_reasons,
        }
    }
}

impl From<TcpStats> for Connections {
    fn from(stats: TcpStats) -> Self {
        Self {
            open: stats.open_connections,
            open_tls: stats.tls_open_connections,
            read_bytes: stats.read_bytes,
            write_bytes: stats.write_bytes,
            no_tls_reasons: stats.no_tls_reasons,
        }
    }
}
