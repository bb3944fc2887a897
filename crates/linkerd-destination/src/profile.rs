//! What is known of a target as a whole. Entry: [`profile`].
//! Pure; empty for a target that is nothing in the cluster.

use linkerd_proto::destination::DestinationProfile;

use crate::{
    endpoints::{Endpoints, Source},
    reference::service_reference,
    target::Target,
    update::weighted_addr,
};

/// Returns a Service's full name, or the one endpoint that a pod's address is.
///
/// A proxy joins the name with the port that it has asked for. So a NodePort has no name, which
/// would be that of a port that the Service does not have; and neither has one pod of a headless
/// Service, because the name would stand for all of them.
pub fn profile(target: &Target, endpoints: &Endpoints, cluster_domain: &str) -> DestinationProfile {
    let endpoint = || endpoints.list.first().map(weighted_addr);
    match (&endpoints.source, target) {
        (Source::Unknown, _) => DestinationProfile::default(),
        (
            Source::Service {
                key, port, opaque, ..
            },
            target,
        ) => {
            let one_pod = matches!(
                target,
                Target::Name {
                    hostname: Some(_),
                    ..
                }
            );
            let node_port = matches!(target, Target::Address(address) if address.port() != *port);
            DestinationProfile {
                fully_qualified_name: if one_pod || node_port {
                    String::new()
                } else {
                    format!("{}.{}.svc.{cluster_domain}", key.name, key.namespace)
                },
                opaque_protocol: *opaque,
                endpoint: endpoint().filter(|_| one_pod),
                parent_ref: Some(service_reference(key, *port)),
                ..DestinationProfile::default()
            }
        }
        (Source::Pod { opaque, .. }, _) => DestinationProfile {
            opaque_protocol: *opaque,
            endpoint: endpoint(),
            ..DestinationProfile::default()
        },
    }
}
