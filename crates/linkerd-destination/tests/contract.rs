//! The public proxy API, spoken by its published client to our server over real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::net::SocketAddr;

use common::*;
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use linkerd_destination::{
    destination::DestinationService, index::Index, metrics::Metrics, pod::Pod, server,
    service::Service, streams::Streams,
};
use linkerd_proto::destination::destination_server::Destination;
use linkerd2_proxy_api::{
    destination::{
        GetDestination, Update, WeightedAddr, destination_client::DestinationClient,
        tls_identity::Strategy, update,
    },
    meta,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Streaming,
    transport::{Channel, Endpoint},
};

type Client = DestinationClient<Channel>;

/// A server on a port of its own, and a client of it.
struct Harness {
    client: Client,
    address: SocketAddr,
    registry: Registry,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

async fn harness(index: &Index) -> Harness {
    bounded_harness(index, Streams::default()).await
}

async fn bounded_harness(index: &Index, streams: Streams) -> Harness {
    let mut registry = Registry::default();
    let shutdown = CancellationToken::new();
    let service = DestinationService {
        streams,
        ..service_of(index, &mut registry, &shutdown)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server::serve(listener, service, shutdown.clone());
    let server = tokio::spawn(serving);
    let client = Client::connect(format!("http://{address}")).await.unwrap();
    Harness {
        client,
        address,
        registry,
        shutdown,
        server,
    }
}

fn service_of(
    index: &Index,
    registry: &mut Registry,
    shutdown: &CancellationToken,
) -> DestinationService {
    DestinationService {
        index: index.clone(),
        cluster_domain: "cluster.local".to_owned(),
        metrics: Metrics::register(index, registry),
        streams: Streams::default(),
        shutdown: shutdown.clone(),
    }
}

fn ask(path: &str) -> GetDestination {
    GetDestination {
        path: path.to_owned(),
        ..GetDestination::default()
    }
}

async fn get(client: &mut Client, path: &str) -> Streaming<Update> {
    client.get(ask(path)).await.unwrap().into_inner()
}

/// The next message in short: `+address=identity`, `-address`, or `none exists=…`.
async fn next(updates: &mut Streaming<Update>) -> String {
    match updates
        .message()
        .await
        .unwrap()
        .expect("an update")
        .update
        .expect("not empty")
    {
        update::Update::Add(set) => {
            let addrs = set.addrs.iter().map(|addr| {
                let identity = identity(addr);
                format!("+{}={}", address(addr), identity.as_deref().unwrap_or("-"))
            });
            addrs.collect::<Vec<_>>().join(" ")
        }
        update::Update::Remove(set) => {
            let addrs = set
                .addrs
                .into_iter()
                .map(|addr| format!("-{}", SocketAddr::try_from(addr).unwrap()));
            addrs.collect::<Vec<_>>().join(" ")
        }
        update::Update::NoEndpoints(none) => format!("none exists={}", none.exists),
    }
}

fn metrics(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

fn address(addr: &WeightedAddr) -> SocketAddr {
    SocketAddr::try_from(addr.addr.expect("an address")).unwrap()
}

fn identity(addr: &WeightedAddr) -> Option<String> {
    match addr.tls_identity.clone()?.strategy? {
        Strategy::DnsLikeIdentity(identity) => Some(identity.name),
        Strategy::UriLikeIdentity(identity) => Some(identity.uri),
    }
}

const ADDED: &str = "+10.1.0.1:8080=web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";

#[tokio::test]
async fn an_endpoint_carries_address_weight_labels_and_identity() {
    let mut harness = harness(&web()).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    let Some(update::Update::Add(set)) = updates.message().await.unwrap().unwrap().update else {
        panic!("not an add");
    };
    let labels = [("namespace", "ns"), ("service", "web")];
    assert_eq!(
        set.metric_labels,
        labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    let [addr] = &set.addrs[..] else {
        panic!("not one endpoint")
    };
    assert_eq!(address(addr), "10.1.0.1:8080".parse().unwrap());
    assert_eq!(addr.weight, 10_000);
    let labels = [
        ("pod", "web-a"),
        ("deployment", "web"),
        ("control_plane_ns", "linkerd"),
        ("pod_template_hash", "5d4f"),
    ];
    assert_eq!(
        addr.metric_labels,
        labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(
        identity(addr).as_deref(),
        Some("web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local")
    );
    assert_eq!(addr.protocol_hint, None);
}

#[tokio::test]
async fn the_stream_tells_each_step() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut updates = get(&mut harness.client, "web.ns.svc.cluster.local:80").await;
    assert_eq!(next(&mut updates).await, ADDED);

    let both = json!([ready("web-a", "10.1.0.1"), { "addresses": ["fd00::1"] }, { "addresses": ["192.0.2.1"] }]);
    index.apply(slice("web-1", "web", 8080, both));
    assert_eq!(next(&mut updates).await, "+192.0.2.1:8080=-");

    let mut unmarked = meshed_pod("web-a", "10.1.0.1", "web");
    unmarked["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("linkerd.io/tls-mode");
    index.apply(pod(unmarked));
    assert_eq!(next(&mut updates).await, "+10.1.0.1:8080=-");

    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([{ "addresses": ["192.0.2.2"] }]),
    ));
    assert_eq!(next(&mut updates).await, "+192.0.2.2:8080=-");
    assert_eq!(next(&mut updates).await, "-10.1.0.1:8080 -192.0.2.1:8080");

    index.apply(slice("web-1", "web", 8080, json!([])));
    assert_eq!(next(&mut updates).await, "none exists=true");
}

#[tokio::test]
async fn the_endpoints_of_a_silent_node_stay_while_there_are_no_others() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    assert_eq!(next(&mut updates).await, ADDED);

    // Kubernetes writes the pod first, then the slice; and again when the node is back.
    let meshed = meshed_pod("web-a", "10.1.0.1", "web");
    index.apply(pod(on_silent_node(meshed.clone())));
    let endpoints = json!([unready("web-a", "10.1.0.1")]);
    index.apply(slice("web-1", "web", 8080, endpoints));
    let both = json!([unready("web-a", "10.1.0.1"), ready("web-b", "10.1.0.2")]);
    index.apply(slice("web-1", "web", 8080, both));
    // What comes first is the new pod: nothing was said meanwhile.
    index.apply(pod(plain_pod("web-b", "10.1.0.2")));
    assert_eq!(next(&mut updates).await, "+10.1.0.2:8080=-");
    assert_eq!(next(&mut updates).await, "-10.1.0.1:8080");

    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([unready("web-a", "10.1.0.1")]),
    ));
    assert_eq!(next(&mut updates).await, ADDED);
    assert_eq!(next(&mut updates).await, "-10.1.0.2:8080");
    index.apply(pod(with_failing_probe(meshed)));
    assert_eq!(next(&mut updates).await, "none exists=true");
}

#[tokio::test]
async fn a_pod_whose_own_probe_fails_is_taken_out_at_once() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    assert_eq!(next(&mut updates).await, ADDED);
    let meshed = meshed_pod("web-a", "10.1.0.1", "web");
    index.apply(pod(with_failing_probe(meshed)));
    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([unready("web-a", "10.1.0.1")]),
    ));
    assert_eq!(next(&mut updates).await, "none exists=true");
}

#[tokio::test]
async fn a_subscriber_survives_that_the_service_is_deleted_and_created_again() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut by_address = get(&mut harness.client, "10.0.0.1:80").await;
    let mut by_name = get(&mut harness.client, "web.ns.svc:80").await;
    let service = web_service("10.0.0.1", 80);
    for updates in [&mut by_address, &mut by_name] {
        assert_eq!(next(updates).await, ADDED);
    }
    index.delete::<Service>(&service.key);
    for updates in [&mut by_address, &mut by_name] {
        assert_eq!(next(updates).await, "none exists=false");
    }
    index.apply(service);
    for updates in [&mut by_address, &mut by_name] {
        assert_eq!(next(updates).await, ADDED);
    }
}

#[tokio::test]
async fn the_first_answer_says_whether_the_target_exists() {
    let index = web();
    index.apply(slice("web-1", "web", 8080, json!([])));
    index.apply(pod(meshed_pod("six", "fd00::1", "six")));
    let mut harness = harness(&index).await;
    for (path, expected) in [
        ("10.0.0.1:80", "none exists=true"),
        ("10.0.0.1:81", "none exists=false"),
        ("198.51.100.1:443", "none exists=false"),
        (
            "[fd00::1]:80",
            "+[fd00::1]:80=six.deployment.ns.linkerd-managed.linkerd.svc.cluster.local",
        ),
    ] {
        let mut updates = get(&mut harness.client, path).await;
        assert_eq!(next(&mut updates).await, expected, "{path}");
    }
}

#[tokio::test]
async fn malformed_targets_are_invalid_arguments() {
    let mut harness = harness(&web()).await;
    for path in [
        "",
        "example.com:80",
        "web.ns.svc:http",
        "10.0.0.1:99999",
        "a.b.c.d.svc:1",
    ] {
        let status = harness.client.get(ask(path)).await.expect_err(path);
        assert_eq!(status.code(), Code::InvalidArgument, "{path}");
        assert!(!status.message().is_empty(), "{path}");
        let status = harness.client.get_profile(ask(path)).await.expect_err(path);
        assert_eq!(status.code(), Code::InvalidArgument, "{path}");
    }
    let request = GetDestination {
        scheme: "dns".to_owned(),
        ..ask("10.0.0.1:80")
    };
    let status = harness.client.get(request).await.expect_err("scheme");
    assert_eq!(status.message(), "unsupported scheme \"dns\": use \"k8s\"");
}

#[tokio::test]
async fn nothing_is_answered_before_everything_is_listed() {
    let index = Index::new("linkerd");
    let mut harness = harness(&index).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    let mut first = std::pin::pin!(updates.message());
    // A round trip on the same connection: the server had its chance to say something.
    harness
        .client
        .get(ask("nonsense"))
        .await
        .expect_err("malformed");
    assert!(futures::poll!(&mut first).is_pending());

    index.apply(web_service("10.0.0.1", 80));
    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([{ "addresses": ["192.0.2.1"] }]),
    ));
    index.set_complete();
    let update = first.await.unwrap().unwrap().update.unwrap();
    assert!(matches!(update, update::Update::Add(_)), "{update:?}");
}

#[tokio::test]
async fn a_slow_reader_skips_states_and_gets_the_last() {
    let index = web();
    let mut registry = Registry::default();
    let service = service_of(&index, &mut registry, &CancellationToken::new());
    let request = linkerd_proto::destination::GetDestination {
        path: "10.0.0.1:80".to_owned(),
        ..Default::default()
    };
    let mut updates = service
        .get(tonic::Request::new(request))
        .await
        .unwrap()
        .into_inner();
    updates.next().await.unwrap().unwrap();
    for number in 2..=200 {
        let endpoints = json!([{ "addresses": [format!("192.0.2.{number}")] }]);
        index.apply(slice("web-1", "web", 8080, endpoints));
    }
    for expected in ["192.0.2.200", "10.1.0.1"] {
        let update = updates.next().await.unwrap().unwrap();
        let addr = match update.update.unwrap() {
            linkerd_proto::destination::update::Update::Add(set) => set.addrs[0].addr,
            linkerd_proto::destination::update::Update::Remove(set) => Some(set.addrs[0]),
            other => panic!("{other:?}"),
        };
        let address = SocketAddr::try_from(addr.unwrap()).unwrap();
        assert_eq!(address.ip().to_string(), expected);
    }
    assert!(futures::poll!(updates.next()).is_pending());
}

#[tokio::test]
async fn ten_thousand_endpoints_fit_into_what_a_client_takes_by_default() {
    let index = index();
    index.apply(web_service("10.0.0.1", 80));
    let name = |number: usize| format!("web-{number}-{}", "x".repeat(40));
    let ip = |number: usize| format!("10.1.{}.{}", number / 250, number % 250);
    for part in 0..10 {
        let numbers = part * 1_000..(part + 1) * 1_000;
        let endpoints: Vec<_> = numbers.clone().map(|n| ready(&name(n), &ip(n))).collect();
        index.apply(slice(&format!("web-{part}"), "web", 8080, json!(endpoints)));
        for number in numbers {
            index.apply(pod(meshed_pod(&name(number), &ip(number), &"w".repeat(60))));
        }
    }
    let mut harness = harness(&index).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    let mut count = 0;
    while count < 10_000 {
        match updates.message().await.unwrap().unwrap().update.unwrap() {
            update::Update::Add(set) => count += set.addrs.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count, 10_000);
}

#[tokio::test]
async fn a_profile_names_the_service_or_is_the_pod() {
    let index = web();
    let mut opaque = meshed_pod("db-0", "10.1.0.9", "db");
    opaque["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "5432" });
    index.apply(pod(opaque));
    let mut harness = harness(&index).await;

    let mut profile = async |path: &str| {
        let mut profiles = harness
            .client
            .get_profile(ask(path))
            .await
            .unwrap()
            .into_inner();
        profiles.message().await.unwrap().unwrap()
    };
    for path in ["10.0.0.1:80", "web.ns.svc.cluster.local:80"] {
        let profile = profile(path).await;
        assert_eq!(profile.fully_qualified_name, "web.ns.svc.cluster.local");
        assert_eq!(profile.endpoint, None);
        let resource = meta::Resource {
            group: "core".to_owned(),
            kind: "Service".to_owned(),
            name: "web".to_owned(),
            namespace: "ns".to_owned(),
            section: String::new(),
            port: 80,
        };
        let parent = profile.parent_ref.unwrap().kind;
        assert_eq!(parent, Some(meta::metadata::Kind::Resource(resource)));
    }
    for (path, is_opaque) in [("10.1.0.9:5432", true), ("10.1.0.9:80", false)] {
        let profile = profile(path).await;
        assert_eq!(profile.fully_qualified_name, "");
        assert_eq!(profile.opaque_protocol, is_opaque, "{path}");
        let endpoint = profile.endpoint.unwrap();
        assert_eq!(address(&endpoint), path.parse().unwrap());
        assert!(
            identity(&endpoint)
                .unwrap()
                .starts_with("db.deployment.ns.")
        );
    }
    for path in ["10.0.0.1:81", "198.51.100.1:443"] {
        assert_eq!(profile(path).await, Default::default(), "{path}");
    }
}

#[tokio::test]
async fn a_profile_is_sent_again_only_when_it_differs() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut profiles = harness
        .client
        .get_profile(ask("10.1.0.1:80"))
        .await
        .unwrap()
        .into_inner();
    let first = profiles.message().await.unwrap().unwrap();
    assert!(first.endpoint.is_some());
    index.apply(slice("web-1", "web", 9999, json!([])));
    index.delete::<Pod>(&pod(plain_pod("web-a", "10.1.0.1")).key);
    assert_eq!(
        profiles.message().await.unwrap().unwrap(),
        Default::default()
    );
}

#[tokio::test]
async fn the_shutdown_ends_streams_so_that_proxies_ask_another() {
    let mut harness = harness(&web()).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    assert_eq!(next(&mut updates).await, ADDED);
    harness.shutdown.cancel();
    let status = updates.message().await.expect_err("the stream ended");
    assert_eq!(status.code(), Code::Unavailable);
    harness.server.await.unwrap();
}

#[tokio::test]
async fn streams_and_messages_are_counted_and_leave_nothing_behind() {
    let index = web();
    let mut harness = harness(&index).await;
    let mut updates = get(&mut harness.client, "10.0.0.1:80").await;
    assert_eq!(next(&mut updates).await, ADDED);
    let text = metrics(&harness.registry);
    for line in [
        "destination_streams{method=\"get\"} 1",
        "destination_messages_sent_total{method=\"get\"} 1",
        "destination_pods 1",
        "destination_targets 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    drop(updates);
    while index.target_count() > 0 {
        tokio::task::yield_now().await;
    }
    let text = metrics(&harness.registry);
    assert!(
        text.contains("destination_streams{method=\"get\"} 0"),
        "{text}"
    );
}

/// A client that is not where the server is.
async fn client_elsewhere(server: SocketAddr) -> Client {
    let connect = tower::service_fn(move |_| async move {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.2:0".parse().unwrap())?;
        Ok::<_, std::io::Error>(TokioIo::new(socket.connect(server).await?))
    });
    let endpoint = Endpoint::from_static("http://destination");
    Client::new(endpoint.connect_with_connector(connect).await.unwrap())
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let index = web();
    let mut harness = bounded_harness(&index, Streams::new(3, 1)).await;
    let mut elsewhere = client_elsewhere(harness.address).await;
    let refused = async |client: &mut Client| {
        let status = client.get(ask("web.ns.svc:80")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        status.message().to_owned()
    };
    let mut share = get(&mut elsewhere, "10.0.0.1:80").await;
    assert_eq!(
        refused(&mut elsewhere).await,
        "127.0.0.2 has too many streams open: try again later"
    );
    // From the server's own address our proxy brings those of many.
    let first = get(&mut harness.client, "10.0.0.1:80").await;
    let _second = get(&mut harness.client, "10.1.0.1:80").await;
    assert_eq!(
        refused(&mut harness.client).await,
        "the destination service has too many streams open: try again later"
    );
    let text = metrics(&harness.registry);
    let counted = "destination_streams_refused_total{method=\"get\"} 2";
    assert!(text.contains(counted), "{text}");

    assert_eq!(next(&mut share).await, ADDED);
    index.apply(slice("web-1", "web", 8080, json!([])));
    assert_eq!(next(&mut share).await, "none exists=true");
    drop(first);
    // Until the server has seen the end.
    while harness.client.get(ask("10.0.0.1:80")).await.is_err() {
        tokio::task::yield_now().await;
    }
}
