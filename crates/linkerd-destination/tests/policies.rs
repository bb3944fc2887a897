//! What a proxy of Linkerd asks beside endpoints: policies and profiles, spoken by the published
//! client to our server over real sockets, and judged as strictly as that proxy judges them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;
#[path = "common/strict.rs"]
mod strict;

use std::net::SocketAddr;

use common::*;
use linkerd_destination::{
    destination::DestinationService, index::Index, metrics::Metrics, pod::Pod, server,
    service::Service, streams::Streams,
};
use linkerd2_proxy_api::{
    destination::{
        DestinationProfile, GetDestination, WeightedAddr, destination_client::DestinationClient,
        protocol_hint,
    },
    inbound::{PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient},
    net::TcpAddress,
    outbound::{
        OutboundPolicy, TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec,
    },
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use strict::{inbound, outbound};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, Streaming, transport::Channel};

/// Clients of one server, on one connection.
struct Harness {
    outbound: OutboundPoliciesClient<Channel>,
    inbound: InboundServerPoliciesClient<Channel>,
    destination: DestinationClient<Channel>,
    shutdown: CancellationToken,
    _guard: DropGuard,
}

async fn harness(index: &Index) -> Harness {
    let shutdown = CancellationToken::new();
    let service = DestinationService {
        index: index.clone(),
        cluster_domain: "cluster.local".to_owned(),
        metrics: Metrics::register(index, &mut Registry::default()),
        streams: Streams::default(),
        shutdown: shutdown.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = server::serve(listener, service, shutdown.clone());
    tokio::spawn(serving);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    Harness {
        outbound: OutboundPoliciesClient::new(channel.clone()),
        inbound: InboundServerPoliciesClient::new(channel.clone()),
        destination: DestinationClient::new(channel),
        _guard: shutdown.clone().drop_guard(),
        shutdown,
    }
}

impl Harness {
    async fn watch(&mut self, target: &str) -> Result<Streaming<OutboundPolicy>, Status> {
        let policies = self.outbound.watch(traffic(target)).await?;
        Ok(policies.into_inner())
    }

    /// The policy as it stands, in the words of [`outbound`].
    async fn policy(&mut self, target: &str) -> String {
        let policy = self.outbound.get(traffic(target)).await.unwrap();
        outbound(policy.into_inner())
    }

    async fn refusal(&mut self, spec: TrafficSpec) -> Code {
        let got = self.outbound.get(spec.clone()).await.expect_err("a status");
        let watched = self.outbound.watch(spec).await.expect_err("a status");
        assert_eq!(got.code(), watched.code());
        assert!(!got.message().is_empty());
        got.code()
    }

    async fn watch_port(&mut self, pod: &str, port: u32) -> Result<Streaming<Server>, Status> {
        let servers = self.inbound.watch_port(port_spec(pod, port)).await?;
        Ok(servers.into_inner())
    }

    async fn profile(&mut self, path: &str) -> DestinationProfile {
        let request = GetDestination {
            path: path.to_owned(),
            ..GetDestination::default()
        };
        let profiles = self.destination.get_profile(request).await.unwrap();
        profiles.into_inner().message().await.unwrap().unwrap()
    }
}

/// An address is asked for as such, a name as an authority.
fn traffic(target: &str) -> TrafficSpec {
    let target = match target.parse::<SocketAddr>() {
        Ok(address) => traffic_spec::Target::Addr(address.into()),
        Err(_) => traffic_spec::Target::Authority(target.to_owned()),
    };
    TrafficSpec {
        source_workload: r#"{"ns":"ns","pod":"client"}"#.to_owned(),
        target: Some(target),
    }
}

fn port_spec(workload: &str, port: u32) -> PortSpec {
    PortSpec {
        workload: workload.to_owned(),
        port,
    }
}

async fn next(policies: &mut Streaming<OutboundPolicy>) -> String {
    outbound(policies.message().await.unwrap().expect("a policy"))
}

async fn next_port(servers: &mut Streaming<Server>) -> String {
    inbound(servers.message().await.unwrap().expect("a policy"))
}

const WEB: &str = "detect core/Service/web.ns:80 -> balance web.ns.svc.cluster.local:80";
const WEB_A: &str = "detect core/Pod/web-a.ns:8080 -> 10.1.0.1:8080 \
    web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";

#[tokio::test]
async fn a_service_is_balanced_by_its_name_whatever_it_was_asked_as() {
    let index = web();
    index.apply(node("node-1", "192.0.2.10"));
    let spec = json!({
        "clusterIP": "10.0.0.2",
        "clusterIPs": ["10.0.0.2", "fd00::2"],
        "ports": [
            { "name": "http", "port": 80, "targetPort": "http", "nodePort": 30080 },
            { "name": "admin", "port": 9000, "targetPort": 9001 },
        ],
    });
    index.apply(service("shop", spec));
    let mut harness = harness(&index).await;
    let shop = "detect core/Service/shop.ns:80 -> balance shop.ns.svc.cluster.local:80";
    for (target, expected) in [
        ("10.0.0.1:80", WEB),
        ("[::ffff:10.0.0.1]:80", WEB),
        ("web.ns.svc.cluster.local:80", WEB),
        ("web.ns.svc.cluster.local", WEB),
        ("10.0.0.2:80", shop),
        ("[fd00::2]:80", shop),
        ("192.0.2.10:30080", shop),
        (
            "10.0.0.2:9000",
            "detect core/Service/shop.ns:9000 -> balance shop.ns.svc.cluster.local:9000",
        ),
    ] {
        assert_eq!(harness.policy(target).await, expected, "{target}");
        let mut policies = harness.watch(target).await.unwrap();
        assert_eq!(next(&mut policies).await, expected, "{target}");
    }
}

#[tokio::test]
async fn a_pod_is_one_endpoint_with_its_identity() {
    let index = web();
    index.apply(pod(plain_pod("plain", "10.1.0.2")));
    index.apply(pod(meshed_pod("six", "fd00::1", "six")));
    let mut harness = harness(&index).await;
    for (target, expected) in [
        ("10.1.0.1:8080", WEB_A),
        (
            "10.1.0.2:80",
            "detect core/Pod/plain.ns:80 -> 10.1.0.2:80 -",
        ),
        (
            "[fd00::1]:80",
            "detect core/Pod/six.ns:80 -> [fd00::1]:80 \
             six.deployment.ns.linkerd-managed.linkerd.svc.cluster.local",
        ),
    ] {
        assert_eq!(harness.policy(target).await, expected, "{target}");
    }
}

#[tokio::test]
async fn a_headless_service_is_balanced_by_name_and_one_of_its_pods_too() {
    let index = web();
    let spec = json!({ "clusterIP": "None", "clusterIPs": ["None"], "ports": [{ "port": 5432 }] });
    index.apply(service("db", spec));
    let mut endpoint = ready("db-0", "10.1.0.5");
    endpoint["hostname"] = json!("db-0");
    index.apply(slice("db-1", "db", 5432, json!([endpoint])));
    index.apply(pod(meshed_pod("db-0", "10.1.0.5", "db")));
    let mut harness = harness(&index).await;
    for (target, expected) in [
        (
            "db.ns.svc.cluster.local:5432",
            "opaque core/Service/db.ns:5432 -> balance db.ns.svc.cluster.local:5432",
        ),
        (
            "db-0.db.ns.svc.cluster.local:5432",
            "opaque core/Service/db.ns:5432 -> balance db-0.db.ns.svc.cluster.local:5432",
        ),
        (
            "10.1.0.5:5432",
            "opaque core/Pod/db-0.ns:5432 -> 10.1.0.5:5432 \
             db.deployment.ns.linkerd-managed.linkerd.svc.cluster.local",
        ),
    ] {
        assert_eq!(harness.policy(target).await, expected, "{target}");
    }
}

#[tokio::test]
async fn an_opaque_port_is_not_read() {
    let index = web();
    let mut db = meshed_pod("db-0", "10.1.0.9", "db");
    db["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "5432" });
    index.apply(pod(db));
    index.apply(opaque_service("25,80"));
    let mut harness = harness(&index).await;
    for (target, expected) in [
        (
            "10.0.0.1:80",
            "opaque core/Service/web.ns:80 -> balance web.ns.svc.cluster.local:80",
        ),
        (
            "10.1.0.9:5432",
            "opaque core/Pod/db-0.ns:5432 -> 10.1.0.9:5432 \
             db.deployment.ns.linkerd-managed.linkerd.svc.cluster.local",
        ),
    ] {
        assert_eq!(harness.policy(target).await, expected, "{target}");
        // A proxy that believed the two to differ would read opaque bytes as HTTP.
        assert!(harness.profile(target).await.opaque_protocol, "{target}");
    }
}

#[tokio::test]
async fn ports_that_are_never_http_by_custom_are_not_read() {
    let index = web();
    let spec = json!({
        "clusterIP": "10.0.0.3",
        "clusterIPs": ["10.0.0.3"],
        "ports": [{ "name": "a", "port": 3306 }, { "name": "b", "port": 3307 }],
    });
    index.apply(service("mysql", spec));
    let mut harness = harness(&index).await;
    for (port, word) in [(3306, "opaque"), (3307, "detect")] {
        let policy = harness.policy(&format!("10.0.0.3:{port}")).await;
        assert!(policy.starts_with(word), "{policy}");
        let profile = harness.profile(&format!("10.0.0.3:{port}")).await;
        assert_eq!(profile.opaque_protocol, word == "opaque");
        let server = harness.inbound.get_port(port_spec("ns:web-a", port)).await;
        let server = inbound(server.unwrap().into_inner());
        assert_eq!(server, format!("{word} for 10.1.0.1"));
    }
    // The annotation has the last word.
    let mut other = meshed_pod("web-a", "10.1.0.1", "web");
    other["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "" });
    index.apply(pod(other));
    let server = harness.inbound.get_port(port_spec("ns:web-a", 3306)).await;
    assert_eq!(inbound(server.unwrap().into_inner()), "detect for 10.1.0.1");
}

#[tokio::test]
async fn what_is_nothing_in_the_cluster_is_not_found() {
    let index = web();
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    index.apply(service("external", external));
    let mut harness = harness(&index).await;
    for target in [
        "198.51.100.1:443",
        "[2001:db8::1]:443",
        "10.0.0.1:81",
        "web.ns.svc.cluster.local:81",
        "nobody.ns.svc.cluster.local:80",
        "external.ns.svc.cluster.local:80",
        "example.com:443",
    ] {
        let code = harness.refusal(traffic(target)).await;
        assert_eq!(code, Code::NotFound, "{target}");
    }
}

#[tokio::test]
async fn what_is_no_target_is_an_invalid_argument() {
    let mut harness = harness(&web()).await;
    let mut specs = vec![TrafficSpec::default()];
    specs.extend(["10.0.0.1:0", "web.ns.svc:http", "a b:80", "a.b.c.d.svc:80"].map(traffic));
    for address in [
        TcpAddress::default(),
        TcpAddress {
            port: 65_536,
            .."10.0.0.1:80".parse::<SocketAddr>().unwrap().into()
        },
    ] {
        specs.push(TrafficSpec {
            target: Some(traffic_spec::Target::Addr(address)),
            ..TrafficSpec::default()
        });
    }
    for spec in specs {
        let code = harness.refusal(spec.clone()).await;
        assert_eq!(code, Code::InvalidArgument, "{spec:?}");
    }
}

#[tokio::test]
async fn a_policy_follows_what_stands_at_an_address() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut policies = harness.watch("10.1.0.1:8080").await.unwrap();
    assert_eq!(next(&mut policies).await, WEB_A);

    index.delete::<Pod>(&pod(plain_pod("web-a", "10.1.0.1")).key);
    assert_eq!(
        next(&mut policies).await,
        "detect default/off-cluster -> 10.1.0.1:8080 -"
    );
    index.apply(pod(meshed_pod("shop-a", "10.1.0.1", "shop")));
    assert_eq!(
        next(&mut policies).await,
        "detect core/Pod/shop-a.ns:8080 -> 10.1.0.1:8080 \
         shop.deployment.ns.linkerd-managed.linkerd.svc.cluster.local"
    );
}

#[tokio::test]
async fn a_policy_is_sent_again_only_when_it_differs() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut policies = harness.watch("10.0.0.1:80").await.unwrap();
    assert_eq!(next(&mut policies).await, WEB);
    // Endpoints come and go, which is what `Destination/Get` tells.
    index.apply(slice("web-1", "web", 9999, json!([])));
    index.apply(opaque_service("80"));
    assert_eq!(next(&mut policies).await, WEB.replace("detect", "opaque"));
}

#[tokio::test]
async fn a_name_keeps_its_policy_while_its_service_is_made_anew() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut policies = harness.watch("web.ns.svc:80").await.unwrap();
    assert_eq!(next(&mut policies).await, WEB);
    index.delete::<Service>(&web_service("10.0.0.1", 80).key);
    index.apply(opaque_service("80"));
    assert_eq!(next(&mut policies).await, WEB.replace("detect", "opaque"));
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_policy() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut policies = harness.watch("10.1.0.1:8080").await.unwrap();
    let mut servers = harness.watch_port("ns:web-a", 8080).await.unwrap();
    next(&mut policies).await;
    next_port(&mut servers).await;
    for number in 0..10_000 {
        let owner = format!("web-{number}");
        index.apply(pod(meshed_pod("web-a", "10.1.0.1", &owner)));
    }
    let mut opaque = meshed_pod("web-a", "10.1.0.1", "last");
    opaque["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "8080" });
    index.apply(pod(opaque));
    let mut messages = 0;
    while !next(&mut policies).await.contains(" last.deployment.") {
        messages += 1;
    }
    assert!(messages < 1_000, "{messages} states in between");
    assert_eq!(next_port(&mut servers).await, "opaque for 10.1.0.1");
}

#[tokio::test]
async fn nothing_is_answered_before_everything_is_listed() {
    let index = Index::new("linkerd");
    let mut harness = harness(&index).await;
    let (mut outbound_client, mut inbound_client) =
        (harness.outbound.clone(), harness.inbound.clone());
    let policy = outbound_client.get(traffic("10.0.0.1:80"));
    let server = inbound_client.get_port(port_spec("ns:web-a", 8080));
    let mut both = std::pin::pin!(async { tokio::join!(policy, server) });
    assert!(futures::poll!(&mut both).is_pending());
    // A round trip on the same connection: the server had its chance to say something.
    harness.refusal(TrafficSpec::default()).await;
    assert!(futures::poll!(&mut both).is_pending());

    index.apply(web_service("10.0.0.1", 80));
    index.apply(pod(meshed_pod("web-a", "10.1.0.1", "web")));
    index.set_complete();
    let (policy, server) = both.await;
    assert_eq!(outbound(policy.unwrap().into_inner()), WEB);
    assert_eq!(inbound(server.unwrap().into_inner()), "detect for 10.1.0.1");
}

#[tokio::test]
async fn a_pods_port_lets_everybody_in() {
    let index = web();
    let mut dual = meshed_pod("dual", "10.1.0.3", "dual");
    dual["status"]["podIPs"] = json!([{ "ip": "10.1.0.3" }, { "ip": "fd00::3" }]);
    dual["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "25,3000-3010" });
    index.apply(pod(dual));
    let mut harness = harness(&index).await;
    for (workload, port, expected) in [
        (r#"{"ns":"ns","pod":"web-a"}"#, 8080, "detect for 10.1.0.1"),
        ("ns:web-a", 4191, "detect for 10.1.0.1"),
        ("ns:dual", 24, "detect for 10.1.0.3 fd00::3"),
        ("ns:dual", 3005, "opaque for 10.1.0.3 fd00::3"),
    ] {
        let server = harness.inbound.get_port(port_spec(workload, port)).await;
        assert_eq!(inbound(server.unwrap().into_inner()), expected);
        let mut servers = harness.watch_port(workload, port).await.unwrap();
        assert_eq!(next_port(&mut servers).await, expected, "{workload} {port}");
    }
}

#[tokio::test]
async fn a_pod_whose_proxy_starts_before_it_runs_is_known() {
    let index = web();
    let mut pending = meshed_pod("web-b", "10.1.0.2", "web");
    pending["status"] = json!({ "phase": "Pending" });
    index.apply(pod(pending));
    let mut harness = harness(&index).await;
    let mut servers = harness.watch_port("ns:web-b", 8080).await.unwrap();
    assert_eq!(next_port(&mut servers).await, "detect for");
    index.apply(pod(meshed_pod("web-b", "10.1.0.2", "web")));
    assert_eq!(next_port(&mut servers).await, "detect for 10.1.0.2");
    let mut opaque = meshed_pod("web-b", "10.1.0.2", "web");
    opaque["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "8080" });
    index.apply(pod(opaque));
    assert_eq!(next_port(&mut servers).await, "opaque for 10.1.0.2");
}

#[tokio::test]
async fn a_port_of_no_pod_is_refused() {
    let mut harness = harness(&web()).await;
    for (workload, port, expected) in [
        ("ns:nobody", 80, Code::NotFound),
        (r#"{"ns":"other","pod":"web-a"}"#, 80, Code::NotFound),
        ("web-a", 80, Code::InvalidArgument),
        ("", 80, Code::InvalidArgument),
        ("ns:web-a", 0, Code::InvalidArgument),
        ("ns:web-a", 65_536, Code::InvalidArgument),
    ] {
        let got = harness.inbound.get_port(port_spec(workload, port)).await;
        let watched = harness.watch_port(workload, port).await;
        for code in [got.expect_err("a status"), watched.expect_err("a status")].map(|s| s.code()) {
            assert_eq!(code, expected, "{workload} {port}");
        }
    }
}

/// A pod whose proxy says at which port it takes connections.
fn with_proxy(mut pod: Value, place: &str, port: u16) -> Pod {
    let ports = json!([{ "name": "linkerd-proxy", "containerPort": port }]);
    pod["spec"][place] = json!([
        { "name": "app", "ports": [{ "containerPort": 8080 }] },
        { "name": "linkerd-proxy", "ports": ports },
    ]);
    pod["metadata"]["annotations"] = json!({
        "config.linkerd.io/opaque-ports": "5432",
        "config.linkerd.io/skip-inbound-ports": "9000",
    });
    common::pod(pod)
}

#[tokio::test]
async fn an_endpoint_tells_how_a_proxy_of_linkerd_may_reach_it() {
    let index = web();
    let sidecar = meshed_pod("sidecar", "10.1.0.5", "web");
    index.apply(with_proxy(sidecar, "containers", 4143));
    let native = meshed_pod("native", "10.1.0.6", "web");
    index.apply(with_proxy(native, "initContainers", 5143));
    let plain = plain_pod("plain", "10.1.0.7");
    index.apply(with_proxy(plain, "containers", 4143));
    let mut harness = harness(&index).await;
    for (target, expected) in [
        ("10.1.0.5:8080", "HTTP/2 within, or opaque through 4143"),
        ("10.1.0.5:5432", "opaque through 4143"),
        ("10.1.0.6:8080", "HTTP/2 within, or opaque through 5143"),
        // The port goes around the proxy, there is no identity, nobody knows the port.
        ("10.1.0.5:9000", "as it is"),
        ("10.1.0.7:8080", "as it is"),
        ("10.1.0.1:8080", "as it is"),
    ] {
        let endpoint = harness.profile(target).await.endpoint.unwrap();
        assert_eq!(hint(&endpoint), expected, "{target}");
    }
}

/// How the endpoint may be reached.
fn hint(endpoint: &WeightedAddr) -> String {
    let Some(hint) = &endpoint.protocol_hint else {
        return "as it is".to_owned();
    };
    let port = hint.opaque_transport.expect("a port").inbound_port;
    match hint.protocol.expect("a protocol") {
        protocol_hint::Protocol::H2(_) => format!("HTTP/2 within, or opaque through {port}"),
        protocol_hint::Protocol::Opaque(_) => format!("opaque through {port}"),
    }
}

#[tokio::test]
async fn a_profile_names_nothing_that_a_proxy_would_find_wrong() {
    let index = web();
    index.apply(node("node-1", "192.0.2.10"));
    let mut endpoint = ready("db-0", "10.1.0.5");
    endpoint["hostname"] = json!("db-0");
    let spec = json!({
        "clusterIP": "10.0.0.5",
        "clusterIPs": ["10.0.0.5"],
        "ports": [{ "port": 5432, "nodePort": 30432 }],
    });
    index.apply(service("db", spec));
    index.apply(slice("db-1", "db", 5432, json!([endpoint])));
    index.apply(pod(meshed_pod("db-0", "10.1.0.5", "db")));
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    index.apply(service("external", external));
    let mut harness = harness(&index).await;

    let service = harness.profile("10.0.0.5:5432").await;
    assert_eq!(service.fully_qualified_name, "db.ns.svc.cluster.local");
    // A proxy would join the name with the port that it asked for.
    let node_port = harness.profile("192.0.2.10:30432").await;
    assert_eq!(node_port.fully_qualified_name, "");
    assert_eq!(node_port.parent_ref, service.parent_ref);
    // A proxy would balance the one pod's traffic over all of them.
    let one_pod = harness.profile("db-0.db.ns.svc:5432").await;
    assert_eq!(one_pod.fully_qualified_name, "");
    let endpoint = one_pod.endpoint.expect("the pod");
    assert_eq!(
        SocketAddr::try_from(endpoint.addr.unwrap()).unwrap(),
        "10.1.0.5:5432".parse().unwrap()
    );
    assert!(endpoint.tls_identity.is_some());
    let external = harness.profile("external.ns.svc:80").await;
    assert_eq!(external, DestinationProfile::default());
}

#[tokio::test]
async fn the_shutdown_ends_every_watch() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut policies = harness.watch("10.0.0.1:80").await.unwrap();
    let mut servers = harness.watch_port("ns:web-a", 80).await.unwrap();
    next(&mut policies).await;
    next_port(&mut servers).await;
    harness.shutdown.cancel();
    let status = policies.message().await.expect_err("the stream ended");
    assert_eq!(status.code(), Code::Unavailable);
    let status = servers.message().await.expect_err("the stream ended");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn questions_leave_nothing_behind() {
    let index = web();
    let mut harness = harness(&index).await;
    let policies = harness.watch("10.0.0.1:80").await.unwrap();
    let servers = harness.watch_port("ns:web-a", 80).await.unwrap();
    harness.policy("web.ns.svc:80").await;
    harness.refusal(traffic("198.51.100.1:443")).await;
    assert_eq!(index.target_count(), 2);
    drop((policies, servers));
    while index.target_count() > 0 {
        tokio::task::yield_now().await;
    }
}

fn opaque_service(ports: &str) -> Service {
    let object = json!({
        "metadata": {
            "name": "web",
            "namespace": "ns",
            "annotations": { "config.linkerd.io/opaque-ports": ports },
        },
        "spec": { "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{ "port": 80 }] },
    });
    serde_json::from_value::<k8s_openapi::api::core::v1::Service>(object)
        .unwrap()
        .into()
}
