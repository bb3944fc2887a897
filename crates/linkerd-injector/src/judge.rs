//! Asks the cluster what a decision about a pod needs, and no more. Entry: [`Judge::judge`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use linkerd_inject::Options;
use linkerd_names::annotations;
use serde_json::Value;

use crate::{
    cluster::{Cluster, FoundOwner},
    decision::{Decision, asked, decide, without_asking},
};

/// Decides about pods, new ones and those that run.
#[derive(Clone)]
pub struct Judge {
    /// Knows namespaces and owners.
    pub cluster: Cluster,
    /// What is added to pods.
    pub options: Options,
}

impl Judge {
    /// What becomes of `pod` with these `owners`, or would if it were created now; and whose it is, unless that
    /// does not matter.
    pub async fn judge(
        &self,
        pod: &Value,
        owners: &[OwnerReference],
        namespace: &str,
    ) -> (Decision, Option<FoundOwner>) {
        let control_plane = &self.options.control_plane_namespace;
        if let Some(reason) = without_asking(pod, namespace, control_plane) {
            return (Decision::LeftAlone(reason), None);
        }
        let annotations = match self.cluster.namespace_annotations(namespace).await {
            Ok(annotations) => annotations,
            Err(error) => return (Decision::NotMeshed(error.into()), None),
        };
        let own = pod["metadata"]["annotations"][annotations::INJECT].as_str();
        let wish = asked(own, &annotations);
        if let Err(Decision::LeftAlone(reason)) = wish {
            return (Decision::LeftAlone(reason), None);
        }
        let owner = match self.cluster.owner_of(owners, namespace).await {
            Ok(owner) => owner,
            Err(error) => return (Decision::NotMeshed(error.into()), None),
        };
        let decision = match wish {
            Err(decision) => decision,
            Ok(()) => decide(
                pod.clone(),
                namespace,
                &annotations,
                owner.as_ref().map(|found| &found.owner),
                &self.options,
            ),
        };
        (decision, owner)
    }
}
