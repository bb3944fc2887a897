//! Why a component of the control plane does not work, in the words of the row that says so. Entry:
//! [`problem`]; all of it pure functions of what the API server has.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod, PodStatus},
};

use crate::control_plane::is_ready;

/// Says why a component does not work, by its Deployment, if it has one, and its pods; none when one of the
/// pods is ready.
pub(super) fn problem(
    component: &str,
    deployment: Option<&Deployment>,
    pods: &[&Pod],
) -> Option<String> {
    if pods.iter().any(|pod| is_ready(pod)) {
        return None;
    }
    // A pod that was evicted stays as a record; what counts is the one in its place.
    let statuses = || pods.iter().filter_map(|pod| pod.status.as_ref());
    let Some(status) = statuses().find(|it| !has_failed(it)) else {
        let why = deployment.and_then(|it| scaled_to_zero(it).or_else(|| refused(it)));
        let why = why.or_else(|| statuses().find_map(failure));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        return Some(format!("No running pods for {component:?}{why}"));
    };
    if let Some(why) = unscheduled(status) {
        return Some(format!("The {component:?} pod has no node: {why}"));
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    Some(match containers.into_iter().find(|it| is_waited_for(it)) {
        Some(container) => {
            let why = reason(container).map(|why| format!(": {why}"));
            let why = why.unwrap_or_default();
            let name = &container.name;
            format!("The {component:?} pod's {name:?} container is not ready{why}")
        }
        None => format!("No running pods for {component:?}"),
    })
}

/// What brings the pods back of a Deployment that is to have none.
fn scaled_to_zero(deployment: &Deployment) -> Option<String> {
    let none = deployment.spec.as_ref()?.replicas == Some(0);
    let metadata = &deployment.metadata;
    let (name, namespace) = (metadata.name.as_ref()?, metadata.namespace.as_ref()?);
    none.then(|| format!("scaled to 0: kubectl -n {namespace} scale deploy/{name} --replicas=1"))
}

/// Why the API server takes no pod of a Deployment: a quota, an admission policy.
pub(super) fn refused(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|it| it.type_ == "ReplicaFailure" && it.status == "True")?
        .message
        .clone()
}

fn has_failed(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Failed")
}

/// Why a pod ended as a whole, such as `Evicted: The node was low on resource: memory.`
fn failure(status: &PodStatus) -> Option<String> {
    let reason = status.reason.as_deref()?;
    Some(match &status.message {
        Some(message) => format!("{reason}: {}", message.trim()),
        None => reason.to_owned(),
    })
}

/// Why the scheduler finds no node for a pod.
fn unscheduled(status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.as_ref()?;
    conditions
        .iter()
        .find(|it| it.type_ == "PodScheduled" && it.status == "False")?
        .message
        .clone()
}

fn is_waited_for(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    let finished = state.and_then(|state| state.terminated.as_ref());
    !container.ready && finished.is_none_or(|finished| finished.exit_code != 0)
}

/// What Kubernetes calls the state of a container, and what tells one such state from another: the image
/// that is not there, the exit code, the object that its configuration names.
fn reason(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let ended = container.last_state.as_ref();
    let ended = ended.and_then(|state| state.terminated.as_ref());
    let detail = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            Some(container.image.clone()).filter(|image| !image.is_empty())
        }
        "CrashLoopBackOff" => ended.map(|ended| format!("exit code {}", ended.exit_code)),
        "CreateContainerConfigError" | "CreateContainerError" => waiting.message.clone(),
        _ => None,
    };
    Some(match detail {
        Some(detail) => format!("{reason} ({detail})"),
        None => reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "status": status})).expect("a pod")
    }

    fn container(state: Value, last_state: Value) -> Pod {
        pod(json!({
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{
                "name": "c", "ready": false, "image": "registry/ca:1", "imageID": "", "restartCount": 0,
                "state": state, "lastState": last_state,
            }],
        }))
    }

    fn told(pods: &[&Pod]) -> String {
        problem("linkerd-ca", None, pods).expect("it does not work")
    }

    #[test]
    fn a_component_works_when_one_of_its_pods_is_ready() {
        let good = pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let bad = container(json!({"waiting": {"reason": "ErrImagePull"}}), json!({}));
        assert_eq!(problem("linkerd-ca", None, &[&bad, &good]), None);
        assert_eq!(
            told(&[&bad]),
            "The \"linkerd-ca\" pod's \"c\" container is not ready: ErrImagePull (registry/ca:1)"
        );
        assert_eq!(told(&[]), "No running pods for \"linkerd-ca\"");
    }

    #[test]
    fn a_container_that_waits_says_for_what() {
        let crashing = container(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            json!({"terminated": {"exitCode": 101}}),
        );
        let unconfigured = container(
            json!({"waiting": {
                "reason": "CreateContainerConfigError", "message": "secret \"keys\" not found",
            }}),
            json!({}),
        );
        let starting = container(json!({"running": {}}), json!({}));
        for (pod, why) in [
            (crashing, ": CrashLoopBackOff (exit code 101)"),
            (
                unconfigured,
                ": CreateContainerConfigError (secret \"keys\" not found)",
            ),
            (starting, ""),
        ] {
            let expected = format!("The \"linkerd-ca\" pod's \"c\" container is not ready{why}");
            assert_eq!(told(&[&pod]), expected);
        }
    }

    #[test]
    fn a_pod_without_a_node_says_what_the_scheduler_says() {
        let why = "0/3 nodes are available: 3 node(s) had untolerated taint(s).";
        let waiting = pod(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why},
        ]}));
        let evicted = pod(json!({
            "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory. ",
        }));
        assert_eq!(
            told(&[&evicted, &waiting]),
            format!("The \"linkerd-ca\" pod has no node: {why}")
        );
        assert_eq!(
            told(&[&evicted]),
            "No running pods for \"linkerd-ca\": Evicted: The node was low on resource: memory."
        );
    }

    #[test]
    fn a_deployment_without_pods_says_who_refuses_them() {
        let why = "pods \"linkerd-ca-5d\" is forbidden: exceeded quota: compute";
        let deployment = json!({"metadata": {}, "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why},
        ]}});
        let deployment = serde_json::from_value(deployment).expect("a Deployment");
        assert_eq!(
            problem("linkerd-ca", Some(&deployment), &[]),
            Some(format!("No running pods for \"linkerd-ca\": {why}"))
        );
        let none = json!({
            "metadata": {"name": "linkerd-ca", "namespace": "mesh"},
            "spec": {"replicas": 0, "selector": {}, "template": {}},
        });
        let none = serde_json::from_value(none).expect("a Deployment");
        let told = problem("linkerd-ca", Some(&none), &[]).expect("it does not work");
        let way = ": scaled to 0: kubectl -n mesh scale deploy/linkerd-ca --replicas=1";
        assert!(told.ends_with(way), "{told}");
    }
}
