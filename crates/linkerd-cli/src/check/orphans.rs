//! Pods whose proxy is of a control plane that is not there any more: no label selector of ours finds them.
//! Entry: [`orphans`]. Asks for metadata alone.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use linkerd_names::labels;

use super::problem::Problem;
use crate::control_plane::{Kubernetes, within};

/// Objects asked for at once.
const PAGE: u32 = 500;
/// Names of pods of one control plane that are told.
const NAMED: usize = 3;

/// A line for each control plane that has pods and is not there.
pub(super) async fn orphans(
    kubernetes: &Kubernetes,
    control_plane: &str,
) -> Result<Vec<String>, Problem> {
    let mut lines = Vec::new();
    for (namespace, pods) in of_others(kubernetes, control_plane).await? {
        if !exists(kubernetes, &namespace).await? {
            lines.push(line(&namespace, &pods));
        }
    }
    Ok(lines)
}

/// The running pods of other control planes, by the namespace of these.
async fn of_others(
    kubernetes: &Kubernetes,
    control_plane: &str,
) -> Result<BTreeMap<String, Vec<String>>, Problem> {
    let api: Api<Pod> = Api::all(kubernetes.client.clone());
    let label = labels::CONTROL_PLANE_NAMESPACE;
    let mut params = ListParams::default()
        .labels(&format!("{label},{label}!={control_plane}"))
        .fields("status.phase!=Succeeded,status.phase!=Failed")
        .limit(PAGE);
    let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let page = within(api.list_metadata(&params))
            .await
            .map_err(|error| Problem::of(kubernetes, &error, "list", "pods", None))?;
        for pod in page.items {
            let of = pod.labels().get(label).filter(|of| *of != control_plane);
            if let Some(of) = of.filter(|_| pod.metadata.deletion_timestamp.is_none()) {
                let place = pod.namespace().unwrap_or_default();
                let name = format!("{place}/{}", pod.name_any());
                pods.entry(of.clone()).or_default().push(name);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(pods),
        }
    }
}

/// Whether there is a control plane in `namespace`, ours or Linkerd's own.
async fn exists(kubernetes: &Kubernetes, namespace: &str) -> Result<bool, Problem> {
    let api: Api<Deployment> = Api::namespaced(kubernetes.client.clone(), namespace);
    let one = ListParams::default()
        .labels(labels::CONTROL_PLANE_COMPONENT)
        .limit(1);
    let found = within(api.list_metadata(&one))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "list", "deployments", Some(namespace)))?;
    Ok(!found.items.is_empty())
}

fn line(namespace: &str, pods: &[String]) -> String {
    let named = pods.iter().take(NAMED).cloned().collect::<Vec<_>>();
    let more = match pods.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "control plane {namespace} is not there, and pods have its proxy: {}{more}",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_pods_are_named_and_the_others_counted() {
        let pods =
            |count: usize| -> Vec<String> { (0..count).map(|n| format!("shop/{n}")).collect() };
        let gone = "control plane old is not there, and pods have its proxy: ";
        assert_eq!(line("old", &pods(1)), format!("{gone}shop/0"));
        assert_eq!(
            line("old", &pods(5)),
            format!("{gone}shop/0, shop/1, shop/2 and 2 more")
        );
    }
}
