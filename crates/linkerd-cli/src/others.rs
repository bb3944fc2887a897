//! What of others is in a namespace that `linkerd uninstall` would take along. Entry: [`find`].
//! A namespace of before the installation looks as one that the installation has made, so what is in it decides.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::{GroupVersionKind, ObjectMeta, discovery::Scope},
    discovery::{Discovery, verbs},
};

use crate::{
    control_plane::{CallError, Kubernetes, within},
    objects::Object,
};

/// Questions to Kubernetes at once.
const CONCURRENCY: usize = 8;
/// Groups of what Kubernetes makes beside other objects, and of figures that are nobody's objects.
const GROUPS_OF_NO_OBJECTS: [&str; 3] = ["events.k8s.io", "discovery.k8s.io", "metrics.k8s.io"];
/// What Kubernetes makes in every namespace, or beside others: kind and name; every one without a name.
const OF_KUBERNETES: [(&str, Option<&str>); 4] = [
    ("ConfigMap", Some("kube-root-ca.crt")),
    ("ServiceAccount", Some("default")),
    ("Endpoints", None),
    ("Event", None),
];

/// Objects in `namespace` that are neither `ours`, nor Kubernetes' own, nor go with an owner, `configmap/mine`.
///
/// # Errors
/// When a kind cannot be listed: then nobody knows.
pub(crate) async fn find(
    kubernetes: &Kubernetes,
    namespace: &str,
    ours: &[Object],
) -> Result<Vec<String>, CallError> {
    let discovery = within(Discovery::new(kubernetes.client.clone()).run_aggregated()).await?;
    let kinds = discovery.groups_alphabetical();
    let kinds = kinds
        .iter()
        .filter(|group| !GROUPS_OF_NO_OBJECTS.contains(&group.name()))
        .flat_map(|group| group.resources_by_stability())
        .filter(|(_, can)| can.scope == Scope::Namespaced && can.supports_operation(verbs::LIST))
        .map(|(kind, _)| kind);
    let lists: Vec<Vec<String>> = stream::iter(kinds)
        .map(|kind| async move { of_kind(kubernetes, namespace, &kind, ours).await })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let mut found = lists.concat();
    found.sort();
    Ok(found)
}

/// Names of API services that do not answer: nobody knows what of their kinds there is, nor which kinds they have.
pub(crate) async fn silent_services(kubernetes: &Kubernetes) -> Result<Vec<String>, CallError> {
    let kind = GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService");
    let kind = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(kubernetes.client.clone(), &kind);
    let services = within(api.list(&ListParams::default())).await?.items;
    let is_silent = |service: &DynamicObject| {
        let group = service.data["spec"]["group"].as_str().unwrap_or_default();
        let conditions = service.data["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        !GROUPS_OF_NO_OBJECTS.contains(&group)
            && conditions.any(|it| it["type"] == "Available" && it["status"] != "True")
    };
    let silent = services.into_iter().filter(is_silent);
    Ok(silent.filter_map(|service| service.metadata.name).collect())
}

async fn of_kind(
    kubernetes: &Kubernetes,
    namespace: &str,
    kind: &ApiResource,
    ours: &[Object],
) -> Result<Vec<String>, CallError> {
    let api: Api<DynamicObject> = Api::namespaced_with(kubernetes.client.clone(), namespace, kind);
    let found = within(api.list_metadata(&ListParams::default())).await?;
    let metadata = found.items.into_iter().map(|object| object.metadata);
    Ok(metadata
        .filter(|it| !goes_by_itself(&kind.kind, it))
        .filter_map(|it| it.name)
        .filter(|name| !ours.iter().any(|it| it.is(kind, namespace, name)))
        .map(|name| format!("{}/{name}", kind.kind.to_lowercase()))
        .collect())
}

/// Whether nobody misses it: Kubernetes makes it, or ends it with its owner.
fn goes_by_itself(kind: &str, metadata: &ObjectMeta) -> bool {
    let name = metadata.name.as_deref();
    let is_owned = metadata
        .owner_references
        .as_ref()
        .is_some_and(|owners| !owners.is_empty());
    let mut known = OF_KUBERNETES.iter();
    is_owned
        || metadata.deletion_timestamp.is_some()
        || known.any(|(of, only)| *of == kind && (only.is_none() || *only == name))
}
