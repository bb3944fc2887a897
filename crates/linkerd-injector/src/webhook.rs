//! From an `AdmissionReview` to its answer. Entry: [`Webhook::review`].
//! The answer is always "allowed": whoever creates a pod is never stopped by us.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::core::{
    DynamicObject, PartialObjectMeta,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::{
    claims::is_in_words,
    cluster::FoundOwner,
    decision::{Decision, Warning},
    events::{self, Report},
    judge::Judge,
    metrics::Metrics,
};

/// Longer warnings may be cut off, see Kubernetes' documentation of admission webhooks.
const WARNING_LENGTH_MAX: usize = 256;

/// What the answer to a review needs.
pub struct Webhook {
    /// Decides.
    pub judge: Judge,
    /// Counts.
    pub metrics: Metrics,
    /// Tells the people who look at the workload.
    pub events: mpsc::Sender<Report>,
}

/// A body that is no review.
#[derive(Debug, thiserror::Error)]
pub enum InvalidReview {
    /// Not JSON with its fields.
    #[error("not an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// It asks for nothing.
    #[error("an AdmissionReview without a request")]
    NoRequest,
}

/// The object as it was sent: a patch that was computed from a parsed one would delete what the parser
/// does not know.
#[derive(Deserialize)]
struct Raw {
    request: Option<RawRequest>,
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(default)]
    object: Value,
}

/// A pod that is about to be created.
struct Asked<'a> {
    request: &'a AdmissionRequest<PartialObjectMeta<Pod>>,
    pod: Value,
    namespace: &'a str,
}

impl Webhook {
    /// Answers one review.
    ///
    /// # Errors
    /// [`InvalidReview`] when it is none.
    pub async fn review(
        &self,
        body: &[u8],
    ) -> Result<AdmissionReview<DynamicObject>, InvalidReview> {
        // Without the pod's spec, which is read once.
        let review: AdmissionReview<PartialObjectMeta<Pod>> = serde_json::from_slice(body)?;
        let request: AdmissionRequest<PartialObjectMeta<Pod>> =
            review.try_into().map_err(|_| InvalidReview::NoRequest)?;
        let response = AdmissionResponse::from(&request);
        let is_new_pod = request.kind.group.is_empty()
            && request.kind.kind == "Pod"
            && request.operation == Operation::Create;
        if !is_new_pod {
            return Ok(response.into_review());
        }
        let raw: Raw = serde_json::from_slice(body)?;
        let pod = raw.request.map(|request| request.object);
        let Some(pod) = pod.filter(Value::is_object) else {
            return Ok(response.into_review());
        };
        let asked = Asked {
            request: &request,
            pod,
            namespace: request.namespace.as_deref().unwrap_or_default(),
        };
        let owners = request
            .object
            .as_ref()
            .and_then(|object| object.metadata.owner_references.as_deref())
            .unwrap_or_default();
        let (decision, owner) = self.judge.judge(&asked.pod, owners, asked.namespace).await;
        Ok(self
            .respond(response, &asked, decision, owner)
            .into_review())
    }

    fn respond(
        &self,
        mut response: AdmissionResponse,
        asked: &Asked<'_>,
        decision: Decision,
        owner: Option<FoundOwner>,
    ) -> AdmissionResponse {
        let Asked {
            request,
            pod,
            namespace,
        } = asked;
        let name = |key: &str| {
            pod["metadata"][key]
                .as_str()
                .filter(|name| !name.is_empty())
        };
        let shown = name("name").or(name("generateName")).unwrap_or_default();
        let dry_run = request.dry_run;
        match decision {
            Decision::LeftAlone(reason) => {
                debug!(
                    namespace,
                    pod = shown,
                    reason = reason.as_str(),
                    "left alone"
                );
                self.count(dry_run, |metrics| metrics.left_alone(reason));
            }
            Decision::NotMeshed(reason) => {
                warn!(namespace, pod = shown, reason = reason.as_str(), error = %reason, "not meshed");
                self.count(dry_run, |metrics| metrics.not_meshed(&reason));
                // The audit writes the Event: it sees that the pod is there.
                let note = format!("pod {shown} starts without a proxy: {reason}");
                response.warnings = Some(vec![warning(&note)]);
            }
            Decision::Inject {
                pod: injected,
                warnings,
            } => {
                let patch = json_patch::diff(pod, &injected);
                response = match response.with_patch(patch) {
                    Ok(response) => response,
                    // It holds what was JSON a moment ago; answering without it would mesh nothing silently.
                    Err(error) => {
                        error!(%error, "cannot write the patch");
                        return AdmissionResponse::from(*request);
                    }
                };
                info!(namespace, pod = shown, "injected");
                self.count(dry_run, Metrics::injected);
                if !warnings.is_empty() {
                    let texts = warnings.iter().map(|told| warning(&told.note));
                    response.warnings = Some(texts.collect());
                }
                if !dry_run && is_in_words(pod) {
                    let regarding = events::regarding(owner.as_ref(), name("name"), namespace);
                    self.tell(&regarding, warnings);
                }
            }
        }
        response
    }

    /// A dry run leaves no trace.
    fn count(&self, dry_run: bool, count: impl FnOnce(&Metrics)) {
        if !dry_run {
            count(&self.metrics);
        }
    }

    fn tell(&self, regarding: &ObjectReference, warnings: Vec<Warning>) {
        for Warning { reason, note } in warnings {
            let report = Report {
                regarding: regarding.clone(),
                reason,
                cause: note.clone(),
                note,
            };
            if self.events.try_send(report).is_err() {
                self.metrics.event_lost();
            }
        }
    }
}

fn warning(note: &str) -> String {
    let mut text = format!("linkerd: {note}");
    text.truncate(text.floor_char_boundary(WARNING_LENGTH_MAX));
    text
}
