//! How a proxy is to treat traffic to a target: read it as HTTP where it is, and send it to the
//! target's endpoints. Entry: [`policy`]. Pure: the same state gives the same message.

use linkerd_proto::{
    http_route::{HttpRouteMatch, PathMatch, path_match},
    outbound::{
        Backend, HttpRoute, OpaqueRoute, OutboundPolicy, ProxyProtocol, Queue, backend, http_route,
        opaque_route, proxy_protocol,
    },
};
use prost_types::Duration;

use crate::{
    endpoints::{Endpoint, Endpoints, Source},
    reference::{default_reference, pod_reference, service_reference},
    target::{ServiceKey, Target},
    update::weighted_addr,
};

/// How long a proxy waits for a client's first bytes before it takes them for no HTTP.
const DETECT_TIMEOUT: Duration = seconds(10);
/// Requests that wait for an endpoint; a burst of new clients is far smaller.
const QUEUE_CAPACITY: u32 = 100;
/// After this time without an endpoint, requests fail at once.
const FAILFAST_TIMEOUT: Duration = seconds(3);
/// The latency of an endpoint that was not tried yet: small, so that it is tried.
const DEFAULT_RTT: Duration = Duration {
    seconds: 0,
    nanos: 30_000_000,
};
/// How fast a latency is forgotten.
const LATENCY_DECAY: Duration = seconds(10);

/// Returns the policy of `target`, whose endpoints are known as `endpoints`.
///
/// A Service is balanced over what `Destination/Get` tells of it, under its name and own port. A pod,
/// and an address that is nothing in the cluster, are one endpoint. None for a name that is nothing.
pub fn policy(
    target: &Target,
    endpoints: &Endpoints,
    cluster_domain: &str,
) -> Option<OutboundPolicy> {
    let (metadata, kind, opaque) = match (&endpoints.source, target) {
        (
            Source::Service {
                key, port, opaque, ..
            },
            _,
        ) => {
            let path = service_path(target, key, *port, cluster_domain);
            (service_reference(key, *port), balancer(path), *opaque)
        }
        (Source::Pod { opaque, .. }, _) => {
            let endpoint = endpoints.list.first()?;
            let pod = &endpoint.workload.as_ref()?.pod;
            let metadata = pod_reference(pod, endpoint.address.port());
            (
                metadata,
                backend::Kind::Forward(weighted_addr(endpoint)),
                *opaque,
            )
        }
        (Source::Unknown, Target::Address(address)) => {
            let endpoint = Endpoint {
                address: *address,
                workload: None,
            };
            let metadata = default_reference("off-cluster");
            (
                metadata,
                backend::Kind::Forward(weighted_addr(&endpoint)),
                false,
            )
        }
        (Source::Unknown, Target::Name { .. } | Target::Pod { .. }) => return None,
    };
    let backend = Backend {
        metadata: Some(metadata.clone()),
        queue: Some(Queue {
            capacity: QUEUE_CAPACITY,
            failfast_timeout: Some(FAILFAST_TIMEOUT),
        }),
        kind: Some(kind),
    };
    Some(OutboundPolicy {
        protocol: Some(protocol(backend, opaque)),
        metadata: Some(metadata),
    })
}

/// What is to be asked of `Destination/Get`: always a name, because a proxy's balancer takes no address.
fn service_path(target: &Target, key: &ServiceKey, port: u16, cluster_domain: &str) -> String {
    let hostname = match target {
        Target::Name {
            hostname: Some(hostname),
            ..
        } => format!("{hostname}."),
        _ => String::new(),
    };
    let ServiceKey { name, namespace } = key;
    format!("{hostname}{name}.{namespace}.svc.{cluster_domain}:{port}")
}

fn balancer(path: String) -> backend::Kind {
    use backend::{BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery};
    let get = endpoint_discovery::DestinationGet { path };
    backend::Kind::Balancer(BalanceP2c {
        discovery: Some(EndpointDiscovery {
            kind: Some(endpoint_discovery::Kind::Dst(get)),
        }),
        load: Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
            default_rtt: Some(DEFAULT_RTT),
            decay: Some(LATENCY_DECAY),
        })),
    })
}

/// With detection every part must be there: a proxy answers 500 to everything where one is missing.
fn protocol(backend: Backend, is_opaque: bool) -> ProxyProtocol {
    let opaque = proxy_protocol::Opaque {
        routes: vec![every_connection(backend.clone())],
    };
    let kind = if is_opaque {
        proxy_protocol::Kind::Opaque(opaque)
    } else {
        let routes = vec![every_request(backend)];
        proxy_protocol::Kind::Detect(proxy_protocol::Detect {
            timeout: Some(DETECT_TIMEOUT),
            opaque: Some(opaque),
            http1: Some(proxy_protocol::Http1 {
                routes: routes.clone(),
                failure_accrual: None,
            }),
            http2: Some(proxy_protocol::Http2 {
                routes,
                failure_accrual: None,
            }),
        })
    };
    ProxyProtocol { kind: Some(kind) }
}

/// A route for every request, whatever its host and path.
fn every_request(backend: Backend) -> HttpRoute {
    use http_route::{Distribution, RouteBackend, Rule, distribution};
    let every_path = HttpRouteMatch {
        path: Some(PathMatch {
            kind: Some(path_match::Kind::Prefix("/".to_owned())),
        }),
        ..HttpRouteMatch::default()
    };
    let first_available = distribution::FirstAvailable {
        backends: vec![RouteBackend {
            backend: Some(backend),
            ..RouteBackend::default()
        }],
    };
    HttpRoute {
        metadata: Some(default_reference("http")),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![every_path],
            backends: Some(Distribution {
                kind: Some(distribution::Kind::FirstAvailable(first_available)),
            }),
            ..Rule::default()
        }],
    }
}

/// A route for every connection.
fn every_connection(backend: Backend) -> OpaqueRoute {
    use opaque_route::{Distribution, RouteBackend, Rule, distribution};
    let first_available = distribution::FirstAvailable {
        backends: vec![RouteBackend {
            backend: Some(backend),
            ..RouteBackend::default()
        }],
    };
    OpaqueRoute {
        metadata: Some(default_reference("opaque")),
        rules: vec![Rule {
            backends: Some(Distribution {
                kind: Some(distribution::Kind::FirstAvailable(first_available)),
            }),
            ..Rule::default()
        }],
    }
}

const fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}
