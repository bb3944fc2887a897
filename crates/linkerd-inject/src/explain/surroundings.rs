//! The objects of the manifests that decide about pods without being workloads: Services, Namespaces,
//! NetworkPolicies, quotas. Entry: [`Surroundings`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::pod::{Pod, items, text};
use crate::{DocumentError, Source, documents, object::Workload};

/// All of them, whatever their namespace.
#[derive(Default)]
pub(super) struct Surroundings {
    services: Vec<Service>,
    namespaces: Vec<Value>,
    pub(super) network_policies: Vec<Value>,
    pub(super) quotas: Vec<Value>,
    pub(super) limit_ranges: Vec<Value>,
}

/// A Service of the manifests.
pub(super) struct Service {
    pub(super) name: String,
    object: Value,
}

impl Surroundings {
    /// Reads all objects of `sources`.
    pub(super) fn of(sources: &[Source]) -> Result<Self, DocumentError> {
        let mut surroundings = Self::default();
        documents::map(sources, |object| {
            surroundings.add(object);
            Ok(Vec::new())
        })?;
        Ok(surroundings)
    }

    /// Remembers an object, or the items of a List, as far as it is of interest.
    pub(super) fn add(&mut self, object: &Value) {
        if object["kind"] == "List" {
            for item in items(&object["items"]) {
                self.add(item);
            }
            return;
        }
        let list = match text(&object["kind"]) {
            "Service" => {
                self.services.push(Service {
                    name: text(&object["metadata"]["name"]).to_owned(),
                    object: object.clone(),
                });
                return;
            }
            "Namespace" => &mut self.namespaces,
            "NetworkPolicy" => &mut self.network_policies,
            "ResourceQuota" => &mut self.quotas,
            "LimitRange" => &mut self.limit_ranges,
            _ => return,
        };
        list.push(object.clone());
    }

    /// The Services that lead to the pods of a workload.
    pub(super) fn services_of(&self, pod: &Pod<'_>) -> Vec<&Service> {
        let leads = |service: &&Service| {
            let selector = &service.object["spec"]["selector"];
            let wanted = selector.as_object().filter(|wanted| !wanted.is_empty());
            is_beside(&service.object, pod)
                && wanted.is_some_and(|wanted| {
                    let mut wanted = wanted.iter();
                    wanted.all(|(key, value)| pod.label(key) == value.as_str())
                })
        };
        self.services.iter().filter(leads).collect()
    }

    /// The Namespace of a workload, when it is known; of two the one that was added first.
    pub(super) fn namespace_of(&self, workload: &Workload) -> Option<&Value> {
        let name = workload.namespace.as_deref()?;
        let mut namespaces = self.namespaces.iter();
        namespaces.find(|object| object["metadata"]["name"] == name)
    }

    /// The annotations of a workload's Namespace, as far as they are texts.
    pub(super) fn namespace_annotations(&self, workload: &Workload) -> BTreeMap<String, String> {
        let namespace = self.namespace_of(workload);
        let written = namespace.and_then(|it| it["metadata"]["annotations"].as_object());
        let written = written.into_iter().flatten();
        written
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// The level of Pod Security that the pod's namespace enforces, when its Namespace is known.
    pub(super) fn enforced_level(&self, pod: &Pod<'_>) -> Option<&str> {
        let namespace = self.namespace_of(pod.workload)?;
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].as_str()
    }
}

impl Service {
    /// Each port of the pod that the Service leads to, with the Service's port.
    pub(super) fn targets<'a>(
        &'a self,
        pod: &'a Pod<'_>,
    ) -> impl Iterator<Item = (u16, &'a Value)> {
        items(&self.object["spec"]["ports"]).filter_map(|port| {
            let target = match &port["targetPort"] {
                Value::Null => &port["port"],
                target => target,
            };
            Some((pod.port_number(target)?, port))
        })
    }

    /// Whether clients get the pods' addresses instead of one of the Service's own.
    pub(super) fn is_headless(&self) -> bool {
        self.object["spec"]["clusterIP"] == "None"
    }

    /// How clients from outside of the cluster reach it; none when they do not.
    pub(super) fn outside(&self) -> Option<&str> {
        let kind = text(&self.object["spec"]["type"]);
        matches!(kind, "NodePort" | "LoadBalancer").then_some(kind)
    }
}

/// Whether an object is in the pod's namespace. What both leave to kubectl goes to one namespace.
pub(super) fn is_beside(object: &Value, pod: &Pod<'_>) -> bool {
    object["metadata"]["namespace"].as_str() == pod.workload.namespace.as_deref()
}
