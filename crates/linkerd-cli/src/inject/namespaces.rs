//! The Namespaces of workloads that are not in the manifests, asked of the cluster when there is one: they
//! configure proxies and forbid pods. Entry: [`of_cluster`]. An explanation does not need them.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::Value;

use crate::{
    control_plane::{kubernetes, no_permission, within},
    global::Global,
};

/// Whoever works without a cluster does not wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Those of `names` that the cluster has, and why it could not be asked for all of them.
pub(super) async fn of_cluster(
    global: &Global,
    names: &BTreeSet<String>,
) -> (Vec<Value>, Option<String>) {
    let kubernetes = match kubernetes(global).await {
        Ok(kubernetes) => kubernetes,
        Err(error) => return (Vec::new(), Some(error.reason().to_owned())),
    };
    let api: Api<Namespace> = Api::all(kubernetes.client.clone());
    let asked = join_all(names.iter().map(|name| within(api.get_opt(name))));
    let Ok(answers) = tokio::time::timeout(PATIENCE, asked).await else {
        let problem = format!("no answer within {} s", PATIENCE.as_secs());
        return (Vec::new(), Some(problem));
    };
    let mut found = Vec::new();
    let mut problem = None;
    for answer in answers {
        match answer {
            Ok(namespace) => found.extend(namespace.map(|it| serde_json::json!(it))),
            Err(error) if error.is_forbidden() => {
                problem = Some(no_permission("get", "namespaces", None));
            }
            Err(error) => problem = Some(kubernetes.explain(&error)),
        }
    }
    (found, problem)
}
