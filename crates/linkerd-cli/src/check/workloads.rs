//! The workloads that are marked for TLS: those that must have a certificate.
//! Entry: [`marked`].

use futures::future::try_join_all;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use linkerd_names::{Owner, OwnerKind, labels};

use crate::control_plane::{CallError, within};

/// Objects asked for at once.
const PAGE: u32 = 500;

/// A workload that is marked for TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Marked {
    /// Which one.
    pub(super) owner: Owner,
    /// Where its proxies get their certificate.
    pub(super) source: Source,
}

/// Where proxies get their certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// From a Secret, which has to be there.
    Secret,
    /// From the identity service: there is nothing to look at.
    Service,
}

/// Returns every workload whose pods this control plane meshes and that is marked for TLS, sorted.
/// The marks are in its pod template, or, where `linkerd-injector` has written them, on its pods alone.
/// Pods and workloads that another one manages are part of that one.
///
/// # Errors
/// The first list that Kubernetes refuses, with what was asked for.
pub(super) async fn marked(
    client: &Client,
    control_plane: &str,
) -> Result<Vec<Marked>, (OwnerKind, CallError)> {
    let lists = OwnerKind::ALL.map(|kind| async move {
        list(client, kind, control_plane)
            .await
            .map_err(|error| (kind, error))
    });
    let mut marked: Vec<Marked> = try_join_all(lists).await?.into_iter().flatten().collect();
    marked.sort();
    // The template says it, and each of the pods does.
    marked.dedup_by(|one, other| one.owner == other.owner);
    Ok(marked)
}

async fn list(
    client: &Client,
    kind: OwnerKind,
    control_plane: &str,
) -> Result<Vec<Marked>, CallError> {
    let (group, version) = kind
        .api_version()
        .split_once('/')
        .unwrap_or(("", kind.api_version()));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.api_kind()));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut marked = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = within(api.list(&params)).await?;
        let objects = page.items.into_iter();
        marked.extend(objects.filter_map(|object| read(kind, object, control_plane)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(marked),
        }
    }
}

/// The workload when it must have a certificate.
fn read(kind: OwnerKind, object: DynamicObject, control_plane: &str) -> Option<Marked> {
    let ends = object.metadata.deletion_timestamp.is_some();
    let part_of_another =
        object.metadata.owner_references.iter().flatten().any(|it| {
            it.controller == Some(true) && kind.part_of(&it.api_version, &it.kind).is_some()
        });
    // A pod has its workload's name on it.
    if ends || (part_of_another && kind != OwnerKind::Pod) {
        return None;
    }
    let label = |key: &str| match kind {
        OwnerKind::Pod => object
            .metadata
            .labels
            .as_ref()?
            .get(key)
            .map(String::as_str),
        OwnerKind::CronJob => {
            let template = object
                .data
                .pointer("/spec/jobTemplate/spec/template/metadata/labels");
            template?.get(key)?.as_str()
        }
        _ => object
            .data
            .pointer("/spec/template/metadata/labels")?
            .get(key)?
            .as_str(),
    };
    let ended = || {
        let phase = object
            .data
            .pointer("/status/phase")
            .and_then(|phase| phase.as_str());
        kind == OwnerKind::Pod && matches!(phase, Some("Succeeded" | "Failed"))
    };
    let marked = label(labels::CONTROL_PLANE_NAMESPACE) == Some(control_plane)
        && label(labels::TLS_MODE).is_some();
    if !marked || ended() {
        return None;
    }
    let source = match label(labels::IDENTITY_MODE) {
        Some(labels::IDENTITY_MODE_SERVICE) => Source::Service,
        _ => Source::Secret,
    };
    let named = OwnerKind::ALL.into_iter().find_map(|of| {
        let name = label(&of.pod_label()?)?;
        (kind == OwnerKind::Pod).then(|| (of, name.to_owned()))
    });
    let (kind, name) = match named {
        Some(named) => named,
        // Its workload's name is too long for a label; the template of that says the same.
        None if part_of_another => return None,
        None => (kind, object.metadata.name?),
    };
    let namespace = object.metadata.namespace?;
    let owner = Owner {
        namespace,
        kind,
        name,
    };
    Some(Marked { owner, source })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn owner_of(kind: OwnerKind, object: Value) -> Option<String> {
        let object = serde_json::from_value(object).expect("an object");
        read(kind, object, "linkerd").map(|marked| marked.owner.to_string())
    }

    fn template(labels: Value) -> Value {
        json!({"template": {"metadata": {"labels": labels}}})
    }

    fn marks(control_plane: &str) -> Value {
        json!({"linkerd.io/control-plane-ns": control_plane, "linkerd.io/tls-mode": "optional"})
    }

    #[test]
    fn the_marks_are_in_the_pod_template() {
        let metadata = json!({"name": "a", "namespace": "ns"});
        let deployment = json!({"metadata": metadata, "spec": template(marks("linkerd"))});
        let found = owner_of(OwnerKind::Deployment, deployment);
        assert_eq!(found.as_deref(), Some("deployment/a.ns"));
        let job_template = json!({"jobTemplate": {"spec": template(marks("linkerd"))}});
        let cron_job = json!({"metadata": metadata, "spec": job_template});
        assert_eq!(
            owner_of(OwnerKind::CronJob, cron_job).as_deref(),
            Some("cronjob/a.ns")
        );
        let pod = json!({"metadata": {"name": "a", "namespace": "ns", "labels": marks("linkerd")}});
        assert_eq!(owner_of(OwnerKind::Pod, pod).as_deref(), Some("pod/a.ns"));
    }

    #[test]
    fn the_mark_of_the_identity_service_says_that_there_is_no_secret() {
        let source = |mode: &str| {
            let mut marks = marks("linkerd");
            marks["linkerd.io/identity-mode"] = json!(mode);
            let object = json!({"metadata": {"name": "a", "namespace": "ns"},
                                "spec": template(marks)});
            let object = serde_json::from_value(object).expect("an object");
            read(OwnerKind::Deployment, object, "linkerd").map(|marked| marked.source)
        };
        assert_eq!(source("service"), Some(Source::Service));
        assert_eq!(source("secret"), Some(Source::Secret));
    }

    #[test]
    fn workloads_of_others_without_mark_or_with_a_manager_are_left_out() {
        let metadata = json!({"name": "a", "namespace": "ns"});
        let other = json!({"metadata": metadata, "spec": template(marks("other"))});
        assert_eq!(owner_of(OwnerKind::Deployment, other), None);
        let unmarked = template(json!({"linkerd.io/control-plane-ns": "linkerd"}));
        let plain = json!({"metadata": metadata, "spec": unmarked});
        assert_eq!(owner_of(OwnerKind::Deployment, plain), None);
        let managed = |api_version: &str, controller: &str| {
            let manager = json!([{"apiVersion": api_version, "kind": controller, "name": "d",
                                  "uid": "u", "controller": true}]);
            let metadata = json!({"name": "a", "namespace": "ns", "ownerReferences": manager});
            let object = json!({"metadata": metadata, "spec": template(marks("linkerd"))});
            owner_of(OwnerKind::ReplicaSet, object)
        };
        assert_eq!(managed("apps/v1", "Deployment"), None);
        // What an operator makes stands for itself, whatever it is called.
        for kind in ["Rollout", "Deployment"] {
            let found = managed("example.com/v1", kind);
            assert_eq!(found.as_deref(), Some("replicaset/a.ns"), "{kind}");
        }
        let ends =
            json!({"name": "a", "namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let ends = json!({"metadata": ends, "spec": template(marks("linkerd"))});
        assert_eq!(owner_of(OwnerKind::Deployment, ends), None);
    }

    #[test]
    fn a_pod_names_the_workload_that_the_injector_has_meshed() {
        let pod = |label: &str| {
            let mut marks = marks("linkerd");
            marks[label] = json!("web");
            let manager = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1",
                                  "uid": "u", "controller": true}]);
            let metadata = json!({"name": "web-1-a", "namespace": "ns", "labels": marks,
                                  "ownerReferences": manager});
            json!({"metadata": metadata})
        };
        let found = |label| owner_of(OwnerKind::Pod, pod(label));
        let of_deployment = found("linkerd.io/proxy-deployment");
        assert_eq!(of_deployment.as_deref(), Some("deployment/web.ns"));
        let of_job = found("linkerd.io/proxy-job");
        assert_eq!(of_job.as_deref(), Some("job/web.ns"));
        assert_eq!(found("app"), None);
    }
}
