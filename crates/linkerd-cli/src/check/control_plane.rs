//! Checks of the categories linkerd-existence, linkerd-api and linkerd-version: whether the control
//! plane runs, answers, and is of our version.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{Api, api::ListParams};
use linkerd_names::{component, labels};
use linkerd_proto::public::{CheckStatus, Empty, SelfCheckRequest};

use super::{
    not_ready::{problem, refused},
    problem::Problem,
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
    let state = retry
        .look(|| state(kubernetes, namespace), State::missing)
        .await;
    let state = match state {
        Ok(state) => state,
        Err(error) => return report.require(Row::ExistencePods, Err(error)),
    };
    let away: Vec<String> = state.away.values().cloned().collect();
    report.add(
        Row::ExistencePods,
        match (list(&away), list(&state.behind)) {
            (Err(away), _) => Finding::Error(away),
            (Ok(()), Err(behind)) => Finding::Warning(behind),
            (Ok(()), Ok(())) => Finding::Success(None),
        },
    );
    // Without one of the others there is still something to ask, and to look at.
    if REQUIRED.iter().any(|it| state.away.contains_key(*it)) {
        return Err(Stop);
    }
    Ok(())
}

/// Says whether the values of the installation are kept, which `upgrade` and `prune` begin with.
pub(super) async fn check_config(report: &mut Report, kubernetes: &Kubernetes, namespace: &str) {
    let config_maps: Api<ConfigMap> = Api::namespaced(kubernetes.client.clone(), namespace);
    let name = component::CONFIG;
    let finding = match within(config_maps.get_opt(name)).await {
        Ok(Some(_)) => Finding::Success(None),
        Ok(None) => Finding::Warning(format!("there is no ConfigMap {name:?}")),
        Err(error) => Problem::of(kubernetes, &error, "get", "configmaps", Some(namespace)).into(),
    };
    report.add(Row::ExistenceConfig, finding);
}

/// What is wrong with the control plane's pods.
#[derive(Debug, Default)]
struct State {
    /// Components without a ready pod, and why.
    away: BTreeMap<String, String>,
    /// Components of which the ready pods are not of the last rollout.
    behind: Vec<String>,
}

impl State {
    /// What `--wait` waits for.
    fn missing(found: &Result<Self, String>) -> Option<String> {
        match found {
            Ok(state) => {
                let all: Vec<String> = state.away.values().chain(&state.behind).cloned().collect();
                list(&all).err()
            }
            Err(error) => Some(error.clone()),
        }
    }
}

async fn state(kubernetes: &Kubernetes, namespace: &str) -> Result<State, String> {
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
    let mut state = State::default();
    for component in components {
        let is_own = |labels: &Labels| component_of(labels) == Some(component);
        let own = pods.items.iter().filter(|pod| is_own(&pod.metadata.labels));
        let own: Vec<&Pod> = own.collect();
        let deployment = deployments
            .items
            .iter()
            .find(|it| is_own(&it.metadata.labels));
        if let Some(problem) = problem(component, deployment, &own) {
            state.away.insert(component.to_owned(), problem);
        } else if let Some(behind) = deployment.and_then(|it| behind(component, it, &own)) {
            state.behind.push(behind);
        }
    }
    Ok(state)
}

/// How far the last rollout of a component that works has come; none when it is over.
fn behind(component: &str, deployment: &Deployment, pods: &[&Pod]) -> Option<String> {
    let wanted = deployment.spec.as_ref()?.replicas.unwrap_or(1);
    let status = deployment.status.as_ref()?;
    let updated = status.updated_replicas.unwrap_or(0);
    let seen = status.observed_generation >= deployment.metadata.generation;
    if seen && updated >= wanted && status.replicas.unwrap_or(0) <= updated {
        return None;
    }
    let waiting: Vec<&Pod> = pods.iter().copied().filter(|pod| !is_ready(pod)).collect();
    let why = if waiting.is_empty() {
        refused(deployment)
    } else {
        problem(component, Some(deployment), &waiting)
    };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!(
        "The last rollout of {component:?} is not over{why}"
    ))
}

type Labels = Option<BTreeMap<String, String>>;

fn component_of(labels: &Labels) -> Option<&str> {
    labels
        .as_ref()?
        .get(labels::CONTROL_PLANE_COMPONENT)
        .map(String::as_str)
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
    let connect = || async {
        let client = match global.api_addr {
            Some(_) => api_client(global).await,
            None => forwarded(kubernetes, &global.linkerd_namespace).await,
        };
        client.map_err(|error| error.reason().to_owned())
    };
    let client = match (retry.run(connect).await, &global.api_addr) {
        (Err(error), Some(_)) => {
            let hint = "is it the address of linkerd-api, from here? Without --api-addr the way is a port-forward";
            report.add_hinted(Row::ApiClient, Finding::Error(error), hint);
            return Err(Stop);
        }
        (client, _) => report.require(Row::ApiClient, client)?,
    };
    // The pod that was asked first may be replaced while it is waited for.
    let kept = Cell::new(Some(client));
    let connected = || async {
        match kept.take() {
            Some(client) => Ok(client),
            None => connect().await,
        }
    };
    // Right after an install Prometheus may be ready some moments before it is reached.
    let self_check = || async {
        let mut client = connected().await?;
        let results = answer(client.self_check(SelfCheckRequest {})).await?;
        kept.set(Some(client));
        Ok::<_, String>(results)
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
    let version = async {
        let mut client = connected().await?;
        answer(client.version(Empty {})).await
    };
    let finding = match version.await {
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

    #[test]
    fn a_rollout_is_over_when_all_pods_are_of_it() {
        let behind = |spec: serde_json::Value, status: serde_json::Value| {
            let deployment = json!({
                "metadata": {"generation": 3}, "spec": spec, "status": status,
            });
            let deployment = serde_json::from_value(deployment).expect("a Deployment");
            behind("linkerd-ca", &deployment, &[])
        };
        let spec = |replicas: u32| json!({"replicas": replicas, "selector": {}, "template": {}});
        let status = |seen: u32, replicas: u32, updated: u32| json!({"observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated});
        assert_eq!(behind(spec(2), status(3, 2, 2)), None);
        assert_eq!(behind(spec(0), json!({"observedGeneration": 3})), None);
        for unfinished in [status(2, 2, 2), status(3, 2, 1), status(3, 3, 2)] {
            let told = behind(spec(2), unfinished).expect("it is not over");
            assert_eq!(told, "The last rollout of \"linkerd-ca\" is not over");
        }
    }
}
