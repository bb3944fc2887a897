//! How messages name the object of Kubernetes that they are about.

use linkerd_proto::meta::{Metadata, Resource, metadata};

use crate::{pod::PodKey, target::ServiceKey};

/// A port of a Service.
pub(crate) fn service_reference(key: &ServiceKey, port: u16) -> Metadata {
    reference("Service", &key.name, &key.namespace, port)
}

/// A port of a pod.
pub(crate) fn pod_reference(key: &PodKey, port: u16) -> Metadata {
    reference("Pod", &key.name, &key.namespace, port)
}

/// Nothing of Kubernetes: a default of ours.
pub(crate) fn default_reference(name: &str) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Default(name.to_owned())),
    }
}

/// A proxy takes no reference with an empty part, so the group of Kubernetes' own kinds has a name.
fn reference(kind: &str, name: &str, namespace: &str, port: u16) -> Metadata {
    let resource = Resource {
        group: "core".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        section: String::new(),
        port: port.into(),
    };
    Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    }
}
