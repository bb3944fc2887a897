//! A live view of the requests and connections of workloads' pods. Entry: [`tap`].
//! `permission.rs` asks whether the user may, `pods.rs` follows the pods, `observe.rs` watches one.

mod addresses;
mod observe;
mod permission;
mod pods;
mod question;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use kube::Client;
use linkerd_proto::public::{TapByResourceRequest, TapByResourceResponse};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tracing::info;

use crate::{cluster::Cluster, selection::NotFound};

use pods::Follower;
use question::Question;

/// Events that wait for a client; behind them the proxies drop theirs.
const EVENTS_MAX: usize = 256;

/// The answer to one call. Dropping it ends the watches.
pub struct Updates {
    receiver: mpsc::Receiver<TapByResourceResponse>,
    _follower: AbortOnDropHandle<()>,
}

impl Stream for Updates {
    type Item = Result<TapByResourceResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|update| update.map(Ok))
    }
}

/// Begins to watch the pods of the request's targets, those that come later included.
///
/// # Errors
/// `INVALID_ARGUMENT`: the request makes no sense. `UNAUTHENTICATED`: it does not prove who asks.
/// `PERMISSION_DENIED`: that user may not tap one of the targets. `NOT_FOUND`: there is no such target, or
/// destination.
/// `FAILED_PRECONDITION`: none of their pods is meshed. `UNAVAILABLE`: Kubernetes does not answer.
pub(crate) async fn tap(
    cluster: &Arc<Cluster>,
    kubernetes: &Client,
    control_plane_namespace: &str,
    request: TapByResourceRequest,
) -> Result<Updates, Status> {
    let proof = request.proof.clone();
    let question = Question::parse(request).map_err(Status::invalid_argument)?;
    // Who may not look learns nothing of what there is.
    let user = permission::user(kubernetes, &proof).await?;
    let targets = question.targets.clone();
    for selected in &targets {
        permission::check(kubernetes, &user, &selected.target).await?;
    }
    let named = targets.iter().map(|it| &it.target);
    for target in named.chain(&question.destinations) {
        cluster.check(target).map_err(not_found)?;
    }
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let follower = Follower {
        cluster: cluster.clone(),
        control_plane_namespace: control_plane_namespace.to_owned(),
        question,
        updates: sender,
    };
    let pods = follower.pods().map_err(not_found)?;
    if pods.is_empty() {
        let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        return Err(Status::failed_precondition(format!(
            "no running pod of {} is meshed by this control plane",
            names.join(", ")
        )));
    }
    info!(
        user = user.name(),
        ?targets,
        pods = pods.len(),
        "a tap has begun"
    );
    Ok(Updates {
        receiver,
        _follower: AbortOnDropHandle::new(tokio::spawn(follower.follow())),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes a value")]
fn not_found(error: NotFound) -> Status {
    Status::not_found(error.to_string())
}
