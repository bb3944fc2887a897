//! Who connects to whom, between workloads of all kinds. Entry: [`graph`].

use std::{collections::BTreeMap, time::Duration};

use linkerd_proto::public::{Resource, edges_response};
use serde::Serialize;
use tonic::Status;

use crate::{ApiService, edges::edges_of_owners};

/// How far back connections are looked for, as `linkerd edges` does by default.
const WINDOW: Duration = Duration::from_secs(600);

/// Value of the field `tls` where a mutual handshake has finished.
const TLS_ON: &str = "true";

/// All edges.
#[derive(Serialize)]
pub(super) struct Graph {
    window_seconds: u64,
    /// Whose edges are with everybody, so that the page can leave them out.
    control_plane_namespace: String,
    edges: Vec<Edge>,
}

/// Connections of one workload to another that have had the same outcome of TLS.
#[derive(Serialize)]
struct Edge {
    #[serde(flatten)]
    ends: Ends,
    #[serde(flatten)]
    counts: Counts,
}

/// What tells one edge from another, in the order of display.
#[derive(Serialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    /// None: a client that has no proxy, so nobody knows who it is.
    src: Option<End>,
    /// None: no workload, such as an address outside of the cluster.
    dst: Option<End>,
    secured: bool,
    /// Why it is plaintext; empty when it is secured.
    no_tls_reason: String,
}

/// A workload, or a pod that stands for itself.
#[derive(Serialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    namespace: String,
    kind: String,
    name: String,
}

#[derive(Serialize, Default)]
struct Counts {
    /// Whom the ends have proved to be; empty in plaintext.
    client_id: String,
    server_id: String,
    responses: u64,
    connections: u64,
    open_connections: u64,
}

/// Asks for the edges between all workloads, and pods that stand for themselves.
///
/// # Errors
/// When the metrics cannot be asked.
pub(super) async fn graph(service: &ApiService) -> Result<Graph, Status> {
    let ApiService {
        cluster,
        metrics,
        kubernetes: _,
        control_plane_namespace,
        taps: _,
        questions: _,
    } = service;
    let edges = edges_of_owners(cluster, metrics, control_plane_namespace, WINDOW).await?;
    Ok(Graph {
        window_seconds: WINDOW.as_secs(),
        control_plane_namespace: control_plane_namespace.clone(),
        edges: added_up(edges),
    })
}

/// Puts together what differs in nothing that is shown.
fn added_up(edges: Vec<edges_response::Edge>) -> Vec<Edge> {
    let mut sums: BTreeMap<Ends, Counts> = BTreeMap::new();
    for edge in edges {
        let edges_response::Edge {
            src,
            dst,
            client_id,
            server_id,
            tls,
            no_tls_reason,
            responses,
            connections,
            open_connections,
        } = edge;
        let secured = tls == TLS_ON;
        // Proxies of 2018 gave their reason in the label `tls` itself.
        let no_tls_reason = if no_tls_reason.is_empty() && !secured {
            tls
        } else {
            no_tls_reason
        };
        let counts = sums
            .entry(Ends {
                src: src.and_then(End::of),
                dst: dst.and_then(End::of),
                secured,
                no_tls_reason,
            })
            .or_default();
        counts.client_id = client_id;
        counts.server_id = server_id;
        counts.responses += responses;
        counts.connections += connections;
        counts.open_connections += open_connections;
    }
    sums.into_iter()
        .map(|(ends, counts)| Edge { ends, counts })
        .collect()
}

impl End {
    /// None of an end that is unknown.
    fn of(resource: Resource) -> Option<Self> {
        let Resource {
            namespace,
            r#type: kind,
            name,
        } = resource;
        (!name.is_empty()).then_some(Self {
            namespace,
            kind,
            name,
        })
    }
}
