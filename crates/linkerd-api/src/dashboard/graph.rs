//! Who connects to whom, between workloads of all kinds. Entry: [`graph`].
//! `Edges` is about one kind at a time; pods are the kind that all others consist of, so it is asked for
//! pods, and their edges are added up by owner.

use std::collections::BTreeMap;

use linkerd_names::OwnerKind;
use linkerd_proto::public::{
    EdgesRequest, Resource, ResourceSelection, api_server::Api as _, edges_response,
};
use serde::Serialize;
use tonic::{Request, Status};

use crate::{ApiService, cluster::Cluster};

/// How far back connections are looked for, as `linkerd edges` does by default.
const WINDOW: &str = "10m";
const WINDOW_SECONDS: u64 = 600;

/// Value of the field `tls` where a mutual handshake has finished.
const TLS_ON: &str = "true";

/// All edges.
#[derive(Serialize)]
pub(super) struct Graph {
    window_seconds: u64,
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
    dst: End,
    secured: bool,
    /// Why it is plaintext; empty when it is secured.
    no_tls_reason: String,
}

/// A workload, or a pod that stands for itself.
#[derive(Serialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    namespace: String,
    kind: &'static str,
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

/// Asks for the edges of all pods and adds them up. Those of pods that are gone are left out: nothing says
/// any more whose they were.
///
/// # Errors
/// That of `Edges`.
pub(super) async fn graph(service: &ApiService) -> Result<Graph, Status> {
    let request = EdgesRequest {
        selector: Some(ResourceSelection {
            resource: Some(Resource {
                namespace: String::new(),
                r#type: OwnerKind::Pod.as_str().to_owned(),
                name: String::new(),
            }),
            label_selector: String::new(),
        }),
        time_window: WINDOW.to_owned(),
        other_selectors: Vec::new(),
    };
    let answer = service.edges(Request::new(request)).await?;
    Ok(Graph {
        window_seconds: WINDOW_SECONDS,
        edges: by_owner(&service.cluster, answer.into_inner().edges),
    })
}

fn by_owner(cluster: &Cluster, edges: Vec<edges_response::Edge>) -> Vec<Edge> {
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
        let src = src.unwrap_or_default();
        let known = End::of(cluster, &src);
        if known.is_none() && !src.name.is_empty() {
            continue;
        }
        let Some(dst) = dst.and_then(|dst| End::of(cluster, &dst)) else {
            continue;
        };
        let counts = sums
            .entry(Ends {
                src: known,
                dst,
                secured: tls == TLS_ON,
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
    fn of(cluster: &Cluster, pod: &Resource) -> Option<Self> {
        let Resource {
            namespace,
            r#type: _,
            name,
        } = pod;
        let found = cluster.pods.get(namespace, name)?;
        let owner = cluster.owner_of(namespace, &found);
        let (kind, name) = owner.unwrap_or_else(|| (OwnerKind::Pod, name.clone()));
        Some(Self {
            namespace: namespace.clone(),
            kind: kind.as_str(),
            name,
        })
    }
}
