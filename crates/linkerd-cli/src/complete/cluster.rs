//! Names of what is in the cluster that a command line is about.
//! Entries: [`contexts`], [`namespaces`], [`names`]. What cannot be found out within [`TIMEOUT`] is not there.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use linkerd_names::{OwnerKind, ResourceType};

use crate::{control_plane, global::Global, kubeconfig};

/// Somebody holds the tab key.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Nobody reads more.
const NAMES_MAX: u32 = 500;

/// Flags that were given, by the names of their fields.
type Options<'a> = [(&'a str, &'a str)];

/// The contexts of the kubeconfig.
pub(super) fn contexts(options: &Options<'_>) -> Vec<String> {
    let kubeconfig = kubeconfig::read(option(options, "kubeconfig").map(Path::new));
    let contexts = kubeconfig.map(|it| it.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| context.name).collect()
}

/// The namespaces of the cluster.
pub(super) async fn namespaces(options: &Options<'_>) -> Vec<String> {
    list(options, ("", "v1", "Namespace", "namespaces"), None).await
}

/// The objects of a type, in the namespace of the flags or of the context.
pub(super) async fn names(options: &Options<'_>, kind: ResourceType) -> Vec<String> {
    let resource = match kind {
        ResourceType::All | ResourceType::Authority => return Vec::new(),
        ResourceType::Namespace => return namespaces(options).await,
        ResourceType::Service => ("", "v1", "Service", "services"),
        ResourceType::Workload(kind) => match kind {
            OwnerKind::Deployment => ("apps", "v1", "Deployment", "deployments"),
            OwnerKind::DaemonSet => ("apps", "v1", "DaemonSet", "daemonsets"),
            OwnerKind::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            OwnerKind::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
            OwnerKind::ReplicationController => {
                ("", "v1", "ReplicationController", "replicationcontrollers")
            }
            OwnerKind::CronJob => ("batch", "v1", "CronJob", "cronjobs"),
            OwnerKind::Job => ("batch", "v1", "Job", "jobs"),
            OwnerKind::Pod => ("", "v1", "Pod", "pods"),
        },
    };
    let given = option(options, "namespace");
    let namespace = kubeconfig::namespace(&global(options), given).await;
    list(options, resource, Some(&namespace)).await
}

async fn list(
    options: &Options<'_>,
    (group, version, kind, plural): (&str, &str, &str, &str),
    namespace: Option<&str>,
) -> Vec<String> {
    let global = global(options);
    let kind = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    let names = async {
        let client = control_plane::kubernetes(&global).await.ok()?.client;
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let some = ListParams::default().limit(NAMES_MAX);
        let objects = api.list_metadata(&some).await.ok()?.items;
        Some(
            objects
                .into_iter()
                .filter_map(|object| object.metadata.name),
        )
    };
    match tokio::time::timeout(TIMEOUT, names).await {
        Ok(Some(names)) => names.collect(),
        Ok(None) | Err(_) => Vec::new(),
    }
}

/// The flags that say which cluster, and as whom.
fn global(options: &Options<'_>) -> Global {
    Global {
        linkerd_namespace: String::new(),
        kubeconfig: option(options, "kubeconfig").map(PathBuf::from),
        context: option(options, "context").map(str::to_owned),
        as_user: option(options, "as_user").map(str::to_owned),
        as_group: option(options, "as_group")
            .map(str::to_owned)
            .into_iter()
            .collect(),
        api_addr: None,
        verbose: false,
    }
}

/// The value of a flag; of several the last one.
fn option<'a>(options: &Options<'a>, id: &str) -> Option<&'a str> {
    let found = options.iter().rev().find(|(given, _)| *given == id);
    found.map(|(_, value)| *value)
}
