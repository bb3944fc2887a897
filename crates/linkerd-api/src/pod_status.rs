//! The one word for a pod that kubectl shows in its column STATUS. Entry: [`pod_status`].
//! The rules are those of kubectl, in its order, so that the two never differ.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

/// `Running`, `Completed`, `CrashLoopBackOff`, `Init:0/1`, `Terminating`.
pub(crate) fn pod_status(pod: &Pod) -> String {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let node_lost = status.reason.as_deref() == Some("NodeLost");
    if pod.metadata.deletion_timestamp.is_some() {
        if node_lost {
            return "Unknown".to_owned();
        }
        if !matches!(phase, "Succeeded" | "Failed") {
            return "Terminating".to_owned();
        }
    }
    let initializing = initializing(pod, status);
    if let Some(reason) = &initializing
        && !is_true(status, "Initialized")
    {
        return reason.clone();
    }
    let gated = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("SchedulingGated")
    });
    let whole = match &status.reason {
        _ if gated => "SchedulingGated",
        Some(reason) if !reason.is_empty() => reason,
        _ => phase,
    };
    of_containers(status, &initializing.unwrap_or_else(|| whole.to_owned()))
}

/// What the first init container that has not done its work is at; none when all have.
fn initializing(pod: &Pod, status: &PodStatus) -> Option<String> {
    let spec = pod.spec.as_ref();
    let init_containers = spec.and_then(|spec| spec.init_containers.as_deref());
    let init_containers = init_containers.unwrap_or_default();
    let keeps_running = |name: &str| {
        init_containers.iter().any(|container| {
            container.name == name && container.restart_policy.as_deref() == Some("Always")
        })
    };
    let statuses = status.init_container_statuses.iter().flatten();
    statuses.enumerate().find_map(|(index, container)| {
        let state = container.state.clone().unwrap_or_default();
        if let Some(terminated) = state.terminated {
            let failed = terminated.exit_code != 0;
            return failed.then(|| format!("Init:{}", ended(&terminated)));
        }
        if keeps_running(&container.name) && container.started == Some(true) {
            return None;
        }
        let waits = state.waiting.and_then(|waiting| waiting.reason);
        match waits.as_deref() {
            Some(reason) if !matches!(reason, "" | "PodInitializing") => {
                Some(format!("Init:{reason}"))
            }
            _ => Some(format!("Init:{index}/{}", init_containers.len())),
        }
    })
}

/// What the first container that has something to say says, or else `whole`.
fn of_containers(status: &PodStatus, whole: &str) -> String {
    let containers = || status.container_statuses.iter().flatten();
    let word = containers()
        .find_map(word_of)
        .unwrap_or_else(|| whole.to_owned());
    let runs = |container: &ContainerStatus| {
        let running = container
            .state
            .as_ref()
            .and_then(|state| state.running.as_ref());
        container.ready && running.is_some()
    };
    match word.as_str() {
        "Completed" if containers().any(runs) && is_true(status, "Ready") => "Running".to_owned(),
        "Completed" if containers().any(runs) => "NotReady".to_owned(),
        _ => word,
    }
}

/// Why a container waits, or how it has ended.
fn word_of(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.as_ref();
    let waits = waiting.and_then(|waiting| waiting.reason.clone());
    waits
        .filter(|reason| !reason.is_empty())
        .or_else(|| state.terminated.as_ref().map(ended))
}

fn ended(terminated: &ContainerStateTerminated) -> String {
    match (&terminated.reason, terminated.signal) {
        (Some(reason), _) if !reason.is_empty() => reason.clone(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", terminated.exit_code),
    }
}

fn is_true(status: &PodStatus, condition: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|it| it.type_ == condition && it.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(name: &str, state: Value) -> Value {
        json!({"name": name, "ready": state.get("running").is_some(), "image": "", "imageID": "",
               "restartCount": 0, "state": state})
    }

    /// The word for a pod with a status of these fields.
    fn word(status: &Value) -> String {
        let sidecar = json!({"name": "linkerd-proxy", "restartPolicy": "Always"});
        let pod = json!({
            "metadata": {},
            "spec": {"initContainers": [{"name": "linkerd-init"}, sidecar], "containers": []},
            "status": status,
        });
        pod_status(&serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn containers_say_more_than_the_phase() {
        let running = container("app", json!({"running": {}}));
        let crashing = container("app", json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let completed = container(
            "app",
            json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        );
        let proxy = container("linkerd-proxy", json!({"running": {}}));
        let killed = container("app", json!({"terminated": {"exitCode": 137, "signal": 9}}));
        let failed = container("app", json!({"terminated": {"exitCode": 3}}));
        let ready = json!([{"type": "Ready", "status": "True"}]);
        for (containers, conditions, expected) in [
            (json!([]), json!([]), "Running"),
            (json!([running]), json!([]), "Running"),
            (json!([proxy, crashing]), ready.clone(), "CrashLoopBackOff"),
            (json!([completed]), json!([]), "Completed"),
            (json!([completed, proxy]), ready, "Running"),
            (json!([completed, proxy]), json!([]), "NotReady"),
            (json!([killed]), json!([]), "Signal:9"),
            (json!([failed]), json!([]), "ExitCode:3"),
        ] {
            let status = json!({
                "phase": "Running", "containerStatuses": containers, "conditions": conditions,
            });
            assert_eq!(word(&status), expected, "{status}");
        }
    }

    #[test]
    fn init_containers_come_first_until_they_have_done_their_work() {
        let done = container("linkerd-init", json!({"terminated": {"exitCode": 0}}));
        let failed = container(
            "linkerd-init",
            json!({"terminated": {"exitCode": 1, "reason": "Error"}}),
        );
        let pulls = container(
            "linkerd-init",
            json!({"waiting": {"reason": "ImagePullBackOff"}}),
        );
        let waits = container(
            "linkerd-init",
            json!({"waiting": {"reason": "PodInitializing"}}),
        );
        let mut sidecar = container("linkerd-proxy", json!({"running": {}}));
        let app = json!([container(
            "app",
            json!({"waiting": {"reason": "PodInitializing"}})
        )]);
        let at = |init: Value| {
            word(
                &json!({"phase": "Pending", "initContainerStatuses": init, "containerStatuses": app}),
            )
        };
        assert_eq!(at(json!([failed])), "Init:Error");
        assert_eq!(at(json!([pulls])), "Init:ImagePullBackOff");
        assert_eq!(at(json!([waits])), "Init:0/2");
        assert_eq!(at(json!([done, sidecar])), "Init:1/2");
        sidecar["started"] = json!(true);
        assert_eq!(at(json!([done, sidecar])), "PodInitializing");
    }

    #[test]
    fn reasons_of_the_whole_pod() {
        assert_eq!(word(&json!({})), "Pending");
        assert_eq!(
            word(&json!({"phase": "Failed", "reason": "Evicted"})),
            "Evicted"
        );
        let gated = json!({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"});
        assert_eq!(
            word(&json!({"phase": "Pending", "conditions": [gated]})),
            "SchedulingGated"
        );
        let deleted = |status: Value| {
            let metadata = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
            let pod = json!({"metadata": metadata, "status": status});
            pod_status(&serde_json::from_value(pod).expect("a pod"))
        };
        assert_eq!(deleted(json!({"phase": "Running"})), "Terminating");
        assert_eq!(deleted(json!({"phase": "Succeeded"})), "Succeeded");
        assert_eq!(
            deleted(json!({"phase": "Running", "reason": "NodeLost"})),
            "Unknown"
        );
    }
}
