//! Checks of the categories linkerd-existence, linkerd-api and linkerd-version: whether the control
//! plane runs, answers, and is of our version.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{Api, api::ListParams};
use linkerd_names::{component, labels};
use linkerd_proto::public::{CheckStatus, Empty, SelfCheckRequest};

use super::{
    report::{Finding, Report, Stop, list},
    retry::Retry,
    row::Row,
};
use crate::{
    control_plane::{
        CallError, Kubernetes, answer, api_client, forwarded, is_ready, no_permission, within,
    },
    global::Global,
};

/// Without these there is no control plane. Others count when they are installed.
const REQUIRED: [&str; 2] = [component::DESTINATION, component::API];

/// Says whether the control plane exists and its pods are ready.
pub(super) async fn check_pods(
    report: &mut Report,
    kubernetes: &Kubernetes,
    namespace: &str,
    retry: &Retry,
) -> Result<(), Stop> {
    report.category("linkerd-existence");
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    let exists = retry.run(|| async {
        match within(namespaces.get_opt(namespace)).await {
            Ok(Some(_)) => Ok(Finding::Success(None)),
            Ok(None) => Err(format!("The {namespace:?} namespace does not exist")),
            // Whoever may not look at namespaces may still look at pods.
            Err(error) if error.is_forbidden() => {
                let asked = format!("the namespace {namespace:?}");
                Ok(Finding::Warning(no_permission("get", &asked, None)))
            }
            Err(error) => Err(kubernetes.explain(&error)),
        }
    });
    let exists = exists.await;
    let stop = exists.is_err();
    report.add(
        Row::ExistenceNamespace,
        exists.unwrap_or_else(Finding::Error),
    );
    if stop {
        return Err(Stop);
    }
    let ready = retry.run(|| pods_ready(kubernetes, namespace)).await;
    report.require(Row::ExistencePods, ready)
}

async fn pods_ready(kubernetes: &Kubernetes, namespace: &str) -> Result<(), String> {
    let ours = ListParams::default().labels(labels::CONTROL_PLANE_COMPONENT);
    let explain = |resource| {
        move |error: CallError| {
            if error.is_forbidden() {
                return no_permission("list", resource, Some(namespace));
            }
            kubernetes.explain(&error)
        }
    };
    let deployments: Api<Deployment> = Api::namespaced(kubernetes.client.clone(), namespace);
    let deployments = within(deployments.list(&ours))
        .await
        .map_err(explain("deployments"))?;
    let pods: Api<Pod> = Api::namespaced(kubernetes.client.clone(), namespace);
    let pods = within(pods.list(&ours)).await.map_err(explain("pods"))?;
    let installed = deployments
        .items
        .iter()
        .filter_map(|it| component_of(&it.metadata.labels));
    let components: BTreeSet<&str> = installed.chain(REQUIRED).collect();
    let problems: Vec<String> = components
        .into_iter()
        .filter_map(|component| {
            let own: Vec<&Pod> = pods
                .items
                .iter()
                .filter(|pod| component_of(&pod.metadata.labels) == Some(component))
                .collect();
            problem(component, &own)
        })
        .collect();
    list(&problems)
}

type Labels = Option<std::collections::BTreeMap<String, String>>;

fn component_of(labels: &Labels) -> Option<&str> {
    labels
        .as_ref()?
        .get(labels::CONTROL_PLANE_COMPONENT)
        .map(String::as_str)
}

/// Why a component does not work; none when one of its pods is ready.
fn problem(component: &str, pods: &[&Pod]) -> Option<String> {
    if pods.iter().any(|pod| is_ready(pod)) {
        return None;
    }
    let Some(status) = pods.iter().find_map(|pod| pod.status.as_ref()) else {
        return Some(format!("No running pods for {component:?}"));
    };
    let statuses = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses);
    let waiting = statuses.flatten().find(|it| {
        let finished = it
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        !it.ready && finished.is_none_or(|finished| finished.exit_code != 0)
    });
    Some(match waiting {
        Some(container) => {
            let state = container.state.as_ref();
            let reason = state.and_then(|state| state.waiting.as_ref()?.reason.clone());
            let reason = reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            format!(
                "The {component:?} pod's {:?} container is not ready{reason}",
                container.name
            )
        }
        None => format!("No running pods for {component:?}"),
    })
}

/// Says whether `linkerd-api` answers, what it says about itself, and its version.
pub(super) async fn check_api(
    report: &mut Report,
    global: &Global,
    kubernetes: &Kubernetes,
    expected_version: &str,
    retry: &Retry,
) -> Result<(), Stop> {
    report.category("linkerd-api");
    let client = retry.run(|| async {
        let client = match global.api_addr {
            Some(_) => api_client(global).await,
            None => forwarded(kubernetes, &global.linkerd_namespace).await,
        };
        client.map_err(|error| error.reason().to_owned())
    });
    let client = report.require(Row::ApiClient, client.await)?;
    // Right after an install Prometheus may be ready some moments before it is reached.
    let self_check = || {
        let mut client = client.clone();
        async move { answer(client.self_check(SelfCheckRequest {})).await }
    };
    let results = retry.look(self_check, |outcome| match outcome {
        Err(error) => Some(error.clone()),
        Ok(answer) => {
            let results = &answer.results;
            let bad = results
                .iter()
                .find(|result| result.status() != CheckStatus::Ok);
            bad.map(|result| result.friendly_message_to_user.clone())
        }
    });
    let results = report.require(Row::ApiQuery, results.await)?;
    for result in results.results {
        let outcome = match result.status() {
            CheckStatus::Ok => Ok(()),
            CheckStatus::Fail | CheckStatus::Error => Err(result.friendly_message_to_user),
        };
        report.add_described(
            Row::ApiSelfCheck,
            format!("[{}] {}", result.subsystem_name, result.check_description),
            Finding::from(outcome),
        );
    }
    report.category("linkerd-version");
    report.add(
        Row::VersionCli,
        same("cli", linkerd_names::VERSION, expected_version),
    );
    let mut client = client;
    let finding = match answer(client.version(Empty {})).await {
        Ok(info) => same("control plane", &info.release_version, expected_version),
        Err(error) => Finding::Error(error),
    };
    report.add(Row::VersionControlPlane, finding);
    Ok(())
}

fn same(what: &str, version: &str, expected: &str) -> Finding {
    if version == expected {
        return Finding::Success(None);
    }
    Finding::Warning(format!(
        "{what} is running version {version} but {expected} is expected"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(ready: &str, container: serde_json::Value) -> Pod {
        let pod = json!({
            "metadata": {},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [container],
            },
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_component_works_when_one_of_its_pods_is_ready() {
        let status = |ready: bool| {
            json!({"name": "c", "ready": ready, "image": "", "imageID": "", "restartCount": 0,
                   "state": {"waiting": {"reason": "ErrImagePull"}}})
        };
        let (good, bad) = (pod("True", status(true)), pod("False", status(false)));
        assert_eq!(problem("linkerd-ca", &[&bad, &good]), None);
        assert_eq!(
            problem("linkerd-ca", &[&bad]).as_deref(),
            Some("The \"linkerd-ca\" pod's \"c\" container is not ready: ErrImagePull")
        );
        let none = problem("linkerd-ca", &[]);
        assert_eq!(none.as_deref(), Some("No running pods for \"linkerd-ca\""));
    }
}
