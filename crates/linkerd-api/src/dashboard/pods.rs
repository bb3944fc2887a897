//! The pods of a namespace, and whose they are. Entry: [`pods`]. Asks nobody but the tables.

use axum::{
    Json,
    extract::{Path, State},
};
use linkerd_names::OwnerKind;
use serde::Serialize;
use tonic::Status;

use super::{Dashboard, Failure};

/// A pod.
#[derive(Serialize)]
pub(super) struct Pod {
    name: String,
    ip: String,
    /// Its phase, or `Terminating`.
    status: String,
    owner_kind: &'static str,
    owner_name: String,
    /// Whether this control plane has meshed it.
    meshed: bool,
}

/// Lists the pods.
///
/// # Errors
/// When there is no such namespace.
pub(super) async fn pods(
    State(dashboard): State<Dashboard>,
    Path(namespace): Path<String>,
) -> Result<Json<Vec<Pod>>, Failure> {
    let cluster = &dashboard.service.cluster;
    if cluster.namespaces.get("", &namespace).is_none() {
        let absent = format!("namespace {namespace:?} not found");
        return Err(Failure(Status::not_found(absent)));
    }
    let ours = dashboard.service.control_plane_namespace.as_str();
    let pods = cluster.pods.list(&namespace).into_iter();
    let describe = |((_, name), pod): (_, std::sync::Arc<crate::Pod>)| {
        let owner = cluster.owner_of(&namespace, &pod);
        let (owner_kind, owner_name) =
            owner.unwrap_or_else(|| (OwnerKind::Pod, String::clone(&name)));
        Pod {
            ip: pod.ip.clone(),
            status: if pod.terminating {
                "Terminating".to_owned()
            } else {
                pod.phase.clone()
            },
            owner_kind: owner_kind.as_str(),
            owner_name,
            meshed: pod.control_plane_namespace() == Some(ours),
            name,
        }
    };
    Ok(Json(pods.map(describe).collect()))
}
