//! The figures of the last hour, in steps, for the page's lines. Entries: [`all`], [`of_workload`].

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::core::Selector;
use linkerd_names::{OwnerKind, ResourceType};
use serde::Serialize;
use tonic::Status;

use super::{Dashboard, Failure, overview};
use crate::{
    cluster::Cluster,
    figures::{Figures, over_time},
    metrics::Snapshot,
    query::Steps,
    stat_request::{Outbound, StatRequest, Target, Window},
    table::Key,
};

/// Of one workload: an hour by the minute.
const FINE: Steps = Steps {
    count: 60,
    length: Duration::from_secs(60),
};
/// Of everything: an hour, as fine as the small lines of the overview can show.
const COARSE: Steps = Steps {
    count: 30,
    length: Duration::from_secs(120),
};

/// There are up to eight, with five questions each, which one after the other take too long, and all at once
/// have answers that are too large.
const KINDS_AT_ONCE: usize = 4;

/// What was. The last point of each row is of now.
#[derive(Serialize)]
pub(super) struct Past {
    /// From one point to the next; each is about so many seconds before it.
    step_seconds: u64,
    rows: Vec<Row>,
}

/// One object: a number a point, oldest first, null where there was no traffic.
#[derive(Serialize)]
struct Row {
    kind: String,
    namespace: String,
    name: String,
    #[serde(flatten)]
    points: Points,
}

#[derive(Serialize, Default)]
struct Points {
    success: Vec<Option<u64>>,
    failure: Vec<Option<u64>>,
    tls: Vec<Option<u64>>,
    latency_ms_p50: Vec<Option<u64>>,
    latency_ms_p95: Vec<Option<u64>>,
    latency_ms_p99: Vec<Option<u64>>,
    open: Vec<Option<u64>>,
    open_tls: Vec<Option<u64>>,
}

/// The past of all namespaces and workloads.
///
/// # Errors
/// When the metrics cannot be asked.
pub(super) async fn all(State(dashboard): State<Dashboard>) -> Result<Json<Past>, Failure> {
    let service = &dashboard.service;
    let question = async {
        let metrics = service.metrics.snapshot().await?;
        let kinds = overview::kinds(&service.cluster);
        let kinds = [ResourceType::Namespace].into_iter().chain(kinds);
        let of_kinds = kinds.map(|kind| {
            let target = Target {
                kind,
                namespace: String::new(),
                name: String::new(),
            };
            ask(&service.cluster, metrics, target, COARSE)
        });
        let rows = stream::iter(of_kinds).buffered(KINDS_AT_ONCE);
        let rows: Vec<Vec<Row>> = rows.try_collect().await?;
        Ok(Past::new(COARSE, rows.into_iter().flatten().collect()))
    };
    dashboard.answer(question).await
}

/// The past of one workload.
///
/// # Errors
/// When the metrics cannot be asked, or there is no such kind of workload.
pub(super) async fn of_workload(
    State(dashboard): State<Dashboard>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
) -> Result<Json<Past>, Failure> {
    let question = async {
        let kind: OwnerKind = kind
            .parse()
            .map_err(|_| Status::not_found(format!("{kind:?} is no kind of workload")))?;
        let target = Target {
            kind: ResourceType::Workload(kind),
            namespace,
            name,
        };
        let service = &dashboard.service;
        let metrics = service.metrics.snapshot().await?;
        let rows = ask(&service.cluster, metrics, target, FINE).await?;
        Ok(Past::new(FINE, rows))
    };
    dashboard.answer(question).await
}

impl Past {
    fn new(steps: Steps, rows: Vec<Row>) -> Self {
        Self {
            step_seconds: steps.length.as_secs(),
            rows,
        }
    }
}

/// Asks for one kind. Objects that are gone are left out.
async fn ask(
    cluster: &Cluster,
    metrics: Snapshot<'_>,
    target: Target,
    steps: Steps,
) -> Result<Vec<Row>, Status> {
    let kind = target.kind;
    let objects = cluster
        .objects(kind, &target.namespace, &target.name)
        .map_err(|absent| Status::not_found(absent.to_string()))?;
    let request = StatRequest {
        target,
        selector: Selector::default(),
        outbound: Outbound::None,
        window: Window {
            text: String::new(),
            length: steps.length,
        },
        tcp_stats: true,
    };
    let figures = over_time(metrics, &request, steps).await?;
    let rows = objects.into_iter().filter_map(|object| {
        let key = (object.namespace, object.name);
        let points = Points::of(&key, &figures)?;
        let (namespace, name) = key;
        Some(Row {
            kind: kind.to_string(),
            namespace,
            name,
            points,
        })
    });
    Ok(rows.collect())
}

impl Points {
    /// None when there was nothing at any time.
    fn of(key: &Key, figures: &[BTreeMap<Key, Figures>]) -> Option<Self> {
        let mut points = Self::default();
        let mut any = false;
        for figures in figures {
            let figures = figures.get(key);
            any |= figures.is_some();
            let basic = figures.and_then(|figures| figures.basic.as_ref());
            let tcp = figures.and_then(|figures| figures.tcp.as_ref());
            points.success.push(basic.map(|it| it.success_count));
            points.failure.push(basic.map(|it| it.failure_count));
            points.tls.push(basic.map(|it| it.tls_request_count));
            points
                .latency_ms_p50
                .push(basic.map(|it| it.latency_ms_p50));
            points
                .latency_ms_p95
                .push(basic.map(|it| it.latency_ms_p95));
            points
                .latency_ms_p99
                .push(basic.map(|it| it.latency_ms_p99));
            points.open.push(tcp.map(|it| it.open_connections));
            points.open_tls.push(tcp.map(|it| it.tls_open_connections));
        }
        any.then_some(points)
    }
}
