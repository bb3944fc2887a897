//! A live view of the requests and connections of workloads' pods. Entry: [`tap`].
//! `permission.rs` asks whether the user may, `right.rs` whether they still may, `taps.rs` counts the taps,
//! `pods.rs` follows the pods of one, `observe.rs` watches a pod, `rate.rs` lets through what is shown.

mod addresses;
mod observe;
mod permission;
mod pods;
mod question;
mod rate;
mod right;
mod taps;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
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
use right::Right;
pub use taps::Taps;

/// Events that wait for a client; behind them the proxies drop theirs.
const EVENTS_MAX: usize = 256;
/// In a large cluster pods change all the time; nobody sees a new one sooner.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The answer to one call. Dropping it ends the watches.
pub struct Updates {
    receiver: mpsc::Receiver<TapByResourceResponse>,
    /// Returns why the control plane ends the tap; absent when it has.
    follower: Option<AbortOnDropHandle<Option<Status>>>,
}

impl Stream for Updates {
    type Item = Result<TapByResourceResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(follower) = &mut self.follower else {
            return Poll::Ready(None);
        };
        // Before the events that wait: whoever may not watch any more gets none of them.
        if let Poll::Ready(end) = Pin::new(follower).poll(cx) {
            self.follower = None;
            let broken = |error| Some(Status::internal(format!("the tap broke: {error}")));
            return Poll::Ready(end.unwrap_or_else(broken).map(Err));
        }
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(update)) => Poll::Ready(Some(Ok(update))),
            // The follower has let go of them, and says in a moment why.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Begins to watch the pods of the request's targets, those that come later included. The answer ends with
/// `PERMISSION_DENIED` when the right is taken away, and `UNAVAILABLE` when Kubernetes does not say for long
/// whether it was.
///
/// # Errors
/// `INVALID_ARGUMENT`: the request makes no sense. `UNAUTHENTICATED`: it does not prove who asks.
/// `PERMISSION_DENIED`: that user may not tap one of the targets. `RESOURCE_EXHAUSTED`: there are too many
/// taps. `NOT_FOUND`: there is no such target, or destination.
/// `FAILED_PRECONDITION`: none of their pods is meshed. `UNAVAILABLE`: Kubernetes does not answer.
pub(crate) async fn tap(
    taps: &Arc<Taps>,
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
    let right = Right {
        kubernetes: kubernetes.clone(),
        user,
        targets: targets.clone(),
    };
    right.check().await?;
    let slot = taps.enter(right.user.name())?;
    let named = targets.iter().map(|it| &it.target);
    for target in named.chain(&question.destinations) {
        cluster.check(target).map_err(not_found)?;
    }
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let follower = Follower {
        cluster: cluster.clone(),
        control_plane_namespace: control_plane_namespace.to_owned(),
        question,
        slot,
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
        user = right.user.name(),
        ?targets,
        pods = pods.len(),
        "a tap has begun"
    );
    let watch = async move {
        tokio::select! {
            status = right.lost() => Some(status),
            // The client has gone.
            () = follower.follow() => None,
        }
    };
    Ok(Updates {
        receiver,
        follower: Some(AbortOnDropHandle::new(tokio::spawn(watch))),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes a value")]
fn not_found(error: NotFound) -> Status {
    Status::not_found(error.to_string())
}
