//! A thing that may have pods, reduced to what connects it with them.
//! Entries: [`Workload::by_selector`], [`Workload::by_labels`], [`Workload::without_selector`].

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::Selector;
use tracing::warn;

/// A Namespace, Service or workload.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Kubernetes' unique id.
    pub uid: String,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// The object that manages this one.
    pub controller: Option<Controller>,
    /// Which pods belong to it by their labels; none: no pod does.
    pub selector: Option<Selector>,
}

/// The controller among an object's owner references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// API group and version: other groups have kinds of the same name.
    pub api_version: String,
    /// As the Kubernetes API writes it: `ReplicaSet`.
    pub kind: String,
    /// Name of the controller.
    pub name: String,
    /// Unique id of the controller.
    pub uid: String,
}

impl Workload {
    /// For kinds with `matchLabels` and `matchExpressions`. A selector that cannot be understood
    /// selects nothing.
    pub fn by_selector(metadata: ObjectMeta, selector: Option<LabelSelector>) -> Self {
        let selector = selector.and_then(|selector| match selector.try_into() {
            Ok(selector) => Some(selector),
            Err(error) => {
                warn!(name = ?metadata.name, namespace = ?metadata.namespace, %error, "unknown selector");
                None
            }
        });
        Self {
            selector,
            ..Self::without_selector(metadata)
        }
    }

    /// For Services and ReplicationControllers, where no label means no pod.
    pub fn by_labels(metadata: ObjectMeta, labels: Option<BTreeMap<String, String>>) -> Self {
        let selector = labels
            .filter(|labels| !labels.is_empty())
            .map(|labels| labels.into_iter().collect());
        Self {
            selector,
            ..Self::without_selector(metadata)
        }
    }

    /// For kinds that have no selector.
    pub fn without_selector(metadata: ObjectMeta) -> Self {
        Self {
            controller: Controller::of(&metadata),
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            selector: None,
        }
    }
}

impl Controller {
    /// Returns the object that manages the object with `metadata`.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let reference = metadata
            .owner_references
            .iter()
            .flatten()
            .find(|reference| reference.controller == Some(true))?;
        Some(Self {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        })
    }
}
