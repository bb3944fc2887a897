//! Checks of the category linkerd-ha, where a component of the control plane has several pods: whether all
//! of them are there, and whether one node, lost or drained, takes more than one. Entry: [`check`].

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{Api, ResourceExt as _, api::ListParams};
use linkerd_names::{component, labels};

use super::{
    report::{Finding, Report, list},
    retry::Retry,
    row::Row,
};
use crate::control_plane::{CallError, Kubernetes, is_ready, no_permission, within};

/// A component that has several pods.
#[derive(Debug, PartialEq)]
struct Component {
    name: String,
    replicas: usize,
    /// For each pod that is ready, its node.
    nodes: Vec<String>,
}

/// Says whether what is there several times is of use. Says nothing where each component is one pod.
pub(super) async fn check(
    report: &mut Report,
    kubernetes: &Kubernetes,
    namespace: &str,
    retry: &Retry,
) {
    let missing = |found: &Result<Vec<Component>, String>| match found {
        Ok(components) => list(&not_ready(components)).err(),
        Err(error) => Some(error.clone()),
    };
    let found = retry.look(|| components(kubernetes, namespace), missing);
    let components = match found.await {
        Ok(components) if components.is_empty() => return,
        Ok(components) => components,
        Err(error) => {
            report.category("linkerd-ha");
            return report.add(Row::HaReady, Finding::Warning(error));
        }
    };
    report.category("linkerd-ha");
    report.add(Row::HaReady, warning(list(&not_ready(&components))));
    report.add(Row::HaNodes, warning(list(&together(&components))));
    let budgets = budgets(kubernetes, namespace).await;
    let unprotected = budgets.and_then(|budgets| list(&without_budget(&components, &budgets)));
    report.add(Row::HaBudgets, warning(unprotected));
}

/// Nothing here keeps the mesh from working.
fn warning(outcome: Result<(), String>) -> Finding {
    match outcome {
        Ok(()) => Finding::Success(None),
        Err(problem) => Finding::Warning(problem),
    }
}

async fn components(kubernetes: &Kubernetes, namespace: &str) -> Result<Vec<Component>, String> {
    let ours = ListParams::default().labels(labels::CONTROL_PLANE_COMPONENT);
    let deployments: Api<Deployment> = Api::namespaced(kubernetes.client.clone(), namespace);
    let deployments = within(deployments.list(&ours))
        .await
        .map_err(|error| explain(kubernetes, &error, "deployments", namespace))?;
    let pods: Api<Pod> = Api::namespaced(kubernetes.client.clone(), namespace);
    let pods = within(pods.list(&ours))
        .await
        .map_err(|error| explain(kubernetes, &error, "pods", namespace))?;
    Ok(replicated(&deployments.items, &pods.items))
}

/// The components of which there are to be several pods.
fn replicated(deployments: &[Deployment], pods: &[Pod]) -> Vec<Component> {
    let of = |labels: &BTreeMap<String, String>| {
        labels
            .get(labels::CONTROL_PLANE_COMPONENT)
            .cloned()
            .unwrap_or_default()
    };
    let mut components = Vec::new();
    for deployment in deployments {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let replicas = usize::try_from(replicas.unwrap_or(1)).unwrap_or_default();
        if replicas < 2 {
            continue;
        }
        let name = of(deployment.labels());
        let ready = pods
            .iter()
            .filter(|pod| of(pod.labels()) == name && is_ready(pod));
        let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        components.push(Component {
            nodes: ready.map(|pod| node(pod).unwrap_or_default()).collect(),
            name,
            replicas,
        });
    }
    components
}

fn not_ready(components: &[Component]) -> Vec<String> {
    let missing = components.iter().filter(|it| it.nodes.len() < it.replicas);
    missing
        .map(|it| {
            let (ready, wanted) = (it.nodes.len(), it.replicas);
            format!("{ready} of {wanted} pods of {} are ready", it.name)
        })
        .collect()
}

fn together(components: &[Component]) -> Vec<String> {
    let mut problems = Vec::new();
    for component in components {
        let Component {
            name,
            replicas: _,
            nodes,
        } = component;
        let different: BTreeSet<&String> = nodes.iter().collect();
        for node in different {
            let pods = nodes.iter().filter(|other| *other == node).count();
            if pods > 1 {
                problems.push(format!("{pods} pods of {name} are on {node}"));
            }
        }
    }
    problems
}

/// The components that have a budget.
async fn budgets(kubernetes: &Kubernetes, namespace: &str) -> Result<BTreeSet<String>, String> {
    let ours = ListParams::default().labels(labels::CONTROL_PLANE_COMPONENT);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(kubernetes.client.clone(), namespace);
    let budgets = within(budgets.list(&ours))
        .await
        .map_err(|error| explain(kubernetes, &error, "poddisruptionbudgets", namespace))?;
    let component = |budget: &PodDisruptionBudget| {
        let labels = budget.labels();
        labels.get(labels::CONTROL_PLANE_COMPONENT).cloned()
    };
    Ok(budgets.items.iter().filter_map(component).collect())
}

fn without_budget(components: &[Component], budgets: &BTreeSet<String>) -> Vec<String> {
    // Each Prometheus has figures of its own: more than one are nobody's advice.
    let without = components
        .iter()
        .filter(|it| it.name != component::PROMETHEUS && !budgets.contains(&it.name));
    without
        .map(|it| format!("{} has no PodDisruptionBudget", it.name))
        .collect()
}

fn explain(kubernetes: &Kubernetes, error: &CallError, resource: &str, namespace: &str) -> String {
    if error.is_forbidden() {
        return no_permission("list", resource, Some(namespace));
    }
    kubernetes.explain(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn component(nodes: &[&str]) -> Component {
        Component {
            name: "linkerd-ca".to_owned(),
            replicas: 3,
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
        }
    }

    #[test]
    fn what_one_node_takes_away_is_told() {
        let well = [component(&["a", "b", "c"])];
        assert!(not_ready(&well).is_empty() && together(&well).is_empty());
        let bad = [component(&["a", "a"])];
        assert_eq!(not_ready(&bad), ["2 of 3 pods of linkerd-ca are ready"]);
        assert_eq!(together(&bad), ["2 pods of linkerd-ca are on a"]);
        assert!(without_budget(&bad, &["linkerd-ca".to_owned()].into()).is_empty());
        assert_eq!(
            without_budget(&bad, &BTreeSet::new()),
            ["linkerd-ca has no PodDisruptionBudget"]
        );
    }

    #[test]
    fn only_what_is_to_be_there_several_times_counts() {
        let labels = |name: &str| json!({labels::CONTROL_PLANE_COMPONENT: name});
        let deployment = |name: &str, replicas: u32| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"labels": labels(name)},
                "spec": {"replicas": replicas, "selector": {}, "template": {}},
            }))
            .expect("a Deployment")
        };
        let pod = |name: &str, ready: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"labels": labels(name)},
                "spec": {"nodeName": "a", "containers": []},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .expect("a Pod")
        };
        let deployments = [deployment("linkerd-ca", 3), deployment("linkerd-api", 1)];
        let pods = [
            pod("linkerd-ca", "True"),
            pod("linkerd-ca", "False"),
            pod("linkerd-api", "True"),
        ];
        assert_eq!(replicated(&deployments, &pods), [component(&["a"])]);
    }
}
