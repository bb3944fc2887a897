//! Reads policies as a proxy of Linkerd does: what that would refuse makes a test fail. The rest of
//! a policy becomes one line.

use std::{net::SocketAddr, time::Duration};

use linkerd2_proxy_api::{
    destination::{WeightedAddr, tls_identity::Strategy},
    http_route::path_match,
    inbound::{self, Server, authn::Permit},
    meta::{Metadata, metadata},
    outbound::{self, Backend, OutboundPolicy, backend},
};

/// `detect` or `opaque`, what the policy is about, and where everything goes.
pub(crate) fn outbound(policy: OutboundPolicy) -> String {
    use outbound::proxy_protocol::Kind;
    let about = reference(policy.metadata);
    let (word, targets) = match policy.protocol.unwrap().kind.unwrap() {
        Kind::Opaque(opaque) => ("opaque", vec![opaque_target(opaque)]),
        Kind::Detect(detect) => {
            assert_eq!(duration(detect.timeout), Duration::from_secs(10));
            let targets = [
                http_target(detect.http1.expect("HTTP/1 must be there").routes),
                http_target(detect.http2.expect("HTTP/2 must be there").routes),
                opaque_target(detect.opaque.expect("opaque must be there")),
            ];
            ("detect", targets.to_vec())
        }
        other => panic!("{other:?}"),
    };
    let target = &targets[0];
    assert!(targets.iter().all(|other| other == target), "{targets:?}");
    format!("{word} {about} -> {target}")
}

fn http_target(routes: Vec<outbound::HttpRoute>) -> String {
    use outbound::http_route::distribution::Kind;
    let [route] = <[_; 1]>::try_from(routes).expect("one route");
    reference(route.metadata);
    assert_eq!(route.hosts, []);
    let [rule] = <[_; 1]>::try_from(route.rules).expect("one rule");
    let [request] = <[_; 1]>::try_from(rule.matches).expect("one match");
    let path = request.path.unwrap().kind;
    assert_eq!(path, Some(path_match::Kind::Prefix("/".to_owned())));
    assert!(request.headers.is_empty() && request.query_params.is_empty());
    assert_eq!(request.method, None);
    let Some(Kind::FirstAvailable(first)) = rule.backends.unwrap().kind else {
        panic!("no first available backend");
    };
    let [backend] = <[_; 1]>::try_from(first.backends).expect("one backend");
    target(backend.backend.unwrap())
}

fn opaque_target(opaque: outbound::proxy_protocol::Opaque) -> String {
    use outbound::opaque_route::distribution::Kind;
    let [route] = <[_; 1]>::try_from(opaque.routes).expect("one route");
    reference(route.metadata);
    let [rule] = <[_; 1]>::try_from(route.rules).expect("one rule");
    let Some(Kind::FirstAvailable(first)) = rule.backends.unwrap().kind else {
        panic!("no first available backend");
    };
    let [backend] = <[_; 1]>::try_from(first.backends).expect("one backend");
    target(backend.backend.unwrap())
}

fn target(backend: Backend) -> String {
    use backend::{balance_p2c::Load, endpoint_discovery};
    reference(backend.metadata);
    let queue = backend.queue.expect("a queue");
    assert_eq!(queue.capacity, 100);
    assert_eq!(duration(queue.failfast_timeout), Duration::from_secs(3));
    match backend.kind.expect("where to") {
        backend::Kind::Forward(endpoint) => {
            let address = SocketAddr::try_from(endpoint.addr.unwrap()).unwrap();
            format!("{address} {}", identity(&endpoint))
        }
        backend::Kind::Balancer(balancer) => {
            let Some(Load::PeakEwma(load)) = balancer.load else {
                panic!("no peak EWMA: {:?}", balancer.load);
            };
            assert_eq!(duration(load.default_rtt), Duration::from_millis(30));
            assert_eq!(duration(load.decay), Duration::from_secs(10));
            let endpoint_discovery::Kind::Dst(get) = balancer.discovery.unwrap().kind.unwrap();
            format!("balance {}", get.path)
        }
    }
}

fn identity(endpoint: &WeightedAddr) -> &str {
    assert!(endpoint.weight > 0);
    let Some(identity) = &endpoint.tls_identity else {
        return "-";
    };
    match identity.strategy.as_ref().expect("an identity") {
        Strategy::DnsLikeIdentity(identity) => &identity.name,
        Strategy::UriLikeIdentity(identity) => &identity.uri,
    }
}

/// `group/kind/name.namespace:port`, or `default/name`. No part of it may be empty.
fn reference(metadata: Option<Metadata>) -> String {
    match metadata.expect("metadata").kind.expect("a kind") {
        metadata::Kind::Default(name) => {
            assert!(!name.is_empty());
            format!("default/{name}")
        }
        metadata::Kind::Resource(resource) => {
            let (group, kind) = (resource.group, resource.kind);
            let (name, namespace) = (resource.name, resource.namespace);
            for part in [&group, &kind, &name, &namespace] {
                assert!(!part.is_empty());
            }
            format!("{group}/{kind}/{name}.{namespace}:{}", resource.port)
        }
    }
}

/// `detect` or `opaque`, and the addresses. Everybody must be let in.
pub(crate) fn inbound(server: Server) -> String {
    use inbound::proxy_protocol::Kind;
    let word = match server.protocol.unwrap().kind.unwrap() {
        Kind::Opaque(_) => "opaque",
        Kind::Detect(detect) => {
            assert_eq!(duration(detect.timeout), Duration::from_secs(10));
            // Then those of the server are those of its requests.
            assert_eq!(detect.http_routes, []);
            "detect"
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(server.labels["name"], "all-unauthenticated");
    assert_eq!(server.labels["kind"], "default");
    assert_eq!(server.labels["group"], "");
    let [authorization] = <[_; 1]>::try_from(server.authorizations).expect("one authorization");
    reference(authorization.metadata);
    let permit = authorization.authentication.unwrap().permit;
    assert!(matches!(permit, Some(Permit::Unauthenticated(_))));
    let networks = authorization.networks.into_iter().map(|network| {
        assert_eq!(network.except, []);
        let net = network.net.unwrap();
        let ip = std::net::IpAddr::try_from(net.ip.unwrap()).unwrap();
        format!("{ip}/{}", net.prefix_len)
    });
    assert_eq!(networks.collect::<Vec<_>>(), ["0.0.0.0/0", "::/0"]);
    let ips = server.server_ips.into_iter().map(|ip| {
        let ip = std::net::IpAddr::try_from(ip).unwrap();
        format!(" {ip}")
    });
    format!("{word} for{}", ips.collect::<String>())
}

fn duration(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .expect("a duration")
        .try_into()
        .expect("not negative")
}
