//! What is known of a target as a whole. Entry: [`profile`].
//! Pure; empty for a target that is nothing in the cluster.

use linkerd_proto::{
    destination::DestinationProfile,
    meta::{Metadata, Resource, metadata},
};

use crate::{
    endpoints::{Endpoints, Source},
    target::ServiceKey,
    update::weighted_addr,
};

/// Returns a Service's full name, or the one endpoint that a pod's address is.
pub fn profile(endpoints: &Endpoints, cluster_domain: &str) -> DestinationProfile {
    match &endpoints.source {
        Source::Unknown => DestinationProfile::default(),
        Source::Service { key, port, opaque } => DestinationProfile {
            fully_qualified_name: format!("{}.{}.svc.{cluster_domain}", key.name, key.namespace),
            opaque_protocol: *opaque,
            parent_ref: Some(service_ref(key, *port)),
            ..DestinationProfile::default()
        },
        Source::Pod { opaque, .. } => DestinationProfile {
            opaque_protocol: *opaque,
            endpoint: endpoints.list.first().map(weighted_addr),
            ..DestinationProfile::default()
        },
    }
}

fn service_ref(key: &ServiceKey, port: u16) -> Metadata {
    let resource = Resource {
        group: "core".to_owned(),
        kind: "Service".to_owned(),
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        section: String::new(),
        port: port.into(),
    };
    Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    }
}
