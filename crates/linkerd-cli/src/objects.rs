//! The objects of a control plane that are in the cluster, in the order in which they can be deleted.
//! Entry: [`installed`]; [`documents`] prints for `kubectl delete -f -`. Objects are asked for without
//! their contents: nobody's key comes here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures::future::try_join_all;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams},
    core::{GroupVersionKind, PartialObjectMeta},
};
use linkerd_inject::yaml;
use linkerd_names::{component, labels};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::control_plane::{CallError, ConnectError, Kubernetes, no_permission, within};

/// Label of everything that the chart makes, and its value.
const PART_OF: &str = "app.kubernetes.io/part-of=Linkerd";
/// Label of a chart's object with the component's name without `linkerd-`.
const COMPONENT: &str = "app.kubernetes.io/component";

/// A kind of object as the API server's rules of access name it, and whether it is in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
}

/// An object in the cluster, or one of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

/// Who makes objects of a kind.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    /// The chart alone.
    Chart,
    /// The chart, and `linkerd-ca` while it runs, in every namespace of the mesh.
    ChartAndCa,
    /// The chart, or whoever has made the namespace in which the control plane is.
    Namespace,
    /// The replicas of `linkerd-ca` by their election, under one name.
    Election,
}

/// Kinds that this version or an earlier one makes: group, version, kind, plural, whether it is in a
/// namespace, who makes it.
///
/// In the order of deletion. First what the API server would ask or wait for, then who makes other
/// objects, together with its rights, so that nothing is made anew.
const KINDS: [(&str, &str, &str, &str, bool, Maker); 13] = [
    (
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
        Maker::Chart,
    ),
    (
        "apps",
        "v1",
        "Deployment",
        "deployments",
        true,
        Maker::Chart,
    ),
    (
        RBAC,
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
        Maker::Chart,
    ),
    (
        RBAC,
        "v1",
        "RoleBinding",
        "rolebindings",
        true,
        Maker::Chart,
    ),
    (
        RBAC,
        "v1",
        "ClusterRole",
        "clusterroles",
        false,
        Maker::Chart,
    ),
    (RBAC, "v1", "Role", "roles", true, Maker::Chart),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
        Maker::Chart,
    ),
    ("", "v1", "Service", "services", true, Maker::Chart),
    ("", "v1", "ConfigMap", "configmaps", true, Maker::ChartAndCa),
    ("", "v1", "Secret", "secrets", true, Maker::ChartAndCa),
    (
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        true,
        Maker::Election,
    ),
    (
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        true,
        Maker::Chart,
    ),
    ("", "v1", "Namespace", "namespaces", false, Maker::Namespace),
];

const RBAC: &str = "rbac.authorization.k8s.io";

/// Which objects are asked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    /// What the chart has made and a newer one may have no use for: not the namespace, which holds all else.
    Chart,
    /// That, and what the control plane has made since.
    Everything,
}

/// The objects of the control plane in `namespace`, in the order in which they can be deleted.
///
/// # Errors
/// [`ConnectError::Kubernetes`] names the kind that cannot be listed.
pub(crate) async fn installed(
    kubernetes: &Kubernetes,
    namespace: &str,
    scope: Scope,
) -> Result<Vec<Object>, ConnectError> {
    let lists = KINDS.map(|(group, version, kind, plural, namespaced, maker)| {
        let kind = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        async move {
            let mut found = BTreeSet::new();
            for selector in selectors(maker, scope, namespace) {
                for object in list(kubernetes, &resource, &selector).await? {
                    let metadata = object.metadata;
                    let labels = metadata.labels.unwrap_or_default();
                    let object = Object {
                        api_version: resource.api_version.clone(),
                        kind: resource.kind.clone(),
                        namespace: metadata.namespace,
                        name: metadata.name.unwrap_or_default(),
                    };
                    let owned = metadata
                        .owner_references
                        .is_some_and(|owners| !owners.is_empty());
                    // Kubernetes deletes it with its owner, maybe before whoever deletes what is printed.
                    let goes_by_itself = owned && object.namespace.as_deref() == Some(namespace);
                    if object.belongs_to(namespace, namespaced, &labels) && !goes_by_itself {
                        found.insert(object);
                    }
                }
            }
            Ok(found.into_iter().collect::<Vec<_>>())
        }
    });
    Ok(try_join_all(lists).await?.concat())
}

/// What is listed, by label or by name.
fn selectors(maker: Maker, scope: Scope, namespace: &str) -> Vec<ListParams> {
    let chart = ListParams::default().labels(PART_OF);
    let ours = format!("{}={namespace}", labels::CONTROL_PLANE_NAMESPACE);
    let ours = ListParams::default().labels(&ours);
    let lease = format!("metadata.name={}", component::CA_LEASE);
    match (maker, scope) {
        (Maker::Namespace, Scope::Chart) => Vec::new(),
        (Maker::Namespace, Scope::Everything) | (Maker::Chart, _) => vec![chart],
        (Maker::ChartAndCa, Scope::Chart) => vec![chart],
        (Maker::ChartAndCa, Scope::Everything) => vec![chart, ours],
        (Maker::Election, Scope::Everything) => vec![ListParams::default().fields(&lease)],
        (Maker::Election, Scope::Chart) => Vec::new(),
    }
}

async fn list(
    kubernetes: &Kubernetes,
    resource: &ApiResource,
    selector: &ListParams,
) -> Result<Vec<PartialObjectMeta<DynamicObject>>, ConnectError> {
    let api: Api<DynamicObject> = Api::all_with(kubernetes.client.clone(), resource);
    match within(api.list_metadata(selector)).await {
        Ok(list) => Ok(list.items),
        Err(error) => Err(refused(kubernetes, &error, &resource.plural)),
    }
}

/// The error of listing something in the whole cluster.
pub(crate) fn refused(kubernetes: &Kubernetes, error: &CallError, plural: &str) -> ConnectError {
    ConnectError::Kubernetes(if error.is_forbidden() {
        no_permission("list", plural, None)
    } else {
        kubernetes.explain(error)
    })
}

impl Object {
    /// Whether the object is of the control plane in `namespace`, and not of another one.
    fn belongs_to(
        &self,
        namespace: &str,
        namespaced: bool,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        match labels.get(labels::CONTROL_PLANE_NAMESPACE) {
            Some(of) => of == namespace,
            None if namespaced => self.namespace.as_deref() == Some(namespace),
            None if self.kind == "Namespace" => self.name == namespace,
            // Before they had the label: the name that the chart has given them.
            None => labels
                .get(COMPONENT)
                .is_some_and(|component| self.name == format!("linkerd-{namespace}-{component}")),
        }
    }

    /// Whether it is the object of this kind and name.
    pub(crate) fn is(&self, kind: &ApiResource, namespace: &str, name: &str) -> bool {
        self.kind == kind.kind
            && self.api_version == kind.api_version
            && self.namespace.as_deref() == Some(namespace)
            && self.name == name
    }

    /// Whether it is a namespace, with which goes all that is in it.
    pub(crate) fn is_namespace(&self) -> bool {
        self.kind == "Namespace"
    }

    /// Reads who an object is from its manifest; none when it is no object.
    fn of_manifest(manifest: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            api_version: text(&manifest["apiVersion"])?,
            kind: text(&manifest["kind"])?,
            namespace: text(&manifest["metadata"]["namespace"]),
            name: text(&manifest["metadata"]["name"])?,
        })
    }

    /// The kind as rules of access name it; none of one that no version of ours makes.
    pub(crate) fn resource(&self) -> Option<Resource> {
        let (group, _, _, plural, namespaced, _) =
            *KINDS.iter().find(|(_, _, kind, ..)| *kind == self.kind)?;
        Some(Resource {
            group,
            plural,
            namespaced,
        })
    }

    /// As much of its manifest as `kubectl delete` needs.
    fn manifest(&self) -> Value {
        let mut metadata = json!({"name": self.name});
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata})
    }
}

/// The objects of our own manifests.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn of_manifests(manifests: &str) -> anyhow::Result<BTreeSet<Object>> {
    let documents = serde_yaml::Deserializer::from_str(manifests).map(Value::deserialize);
    let documents: Result<Vec<Value>, _> = documents.collect();
    let documents = documents.context("cannot read our own manifests")?;
    Ok(documents.iter().filter_map(Object::of_manifest).collect())
}

/// YAML documents for `kubectl delete -f -`, each followed by `---`.
pub(crate) fn documents(objects: &[Object]) -> String {
    objects
        .iter()
        .map(|object| format!("{}---\n", yaml::to_kube_string(&object.manifest())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install;

    #[test]
    fn every_kind_that_install_makes_is_found_again() {
        let mut values = install::default_values().unwrap();
        crate::chart::merge(&mut values, crate::chart::ha_values().unwrap());
        let all = json!({"tls": "optional", "identity": "service"});
        crate::chart::merge(&mut values, all);
        let manifests = install::manifests("linkerd", &values).unwrap();
        let objects = of_manifests(&manifests).unwrap();
        assert!(objects.len() > 20, "{objects:?}");
        for object in objects {
            let known = KINDS
                .iter()
                .any(|(group, version, kind, _, namespaced, _)| {
                    let api_version = GroupVersionKind::gvk(group, version, kind).api_version();
                    (object.api_version.as_str(), object.kind.as_str()) == (&api_version, *kind)
                        && object.namespace.is_some() == *namespaced
                });
            assert!(known, "{object:?}");
        }
    }
}
