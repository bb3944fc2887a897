//! Linkerd's own proxy, as its project builds it, on our control plane. Runs when `LINKERD2_PROXY_BIN`
//! names the binary: it is no part of this repository.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    convert::Infallible,
    ffi::OsString,
    io::Write as _,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, SystemTime},
};

use common::{good_token, index, meshed_pod, pod};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use kube::{Client, client::Body};
use linkerd_destination::{
    destination::DestinationService,
    identity::{self, Settings},
    index::Index,
    metrics::{IdentityMetrics, Metrics},
    server,
    streams::Streams,
};
use linkerd_issuer::{NewRequest, Root};
use linkerd_names::Identity;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_util::sync::CancellationToken;

const WEB: &str = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
const CONTROL_PLANE: &str =
    "linkerd-destination.deployment.linkerd.linkerd-managed.linkerd.svc.cluster.local";
/// Certificate and policies take milliseconds; that proxy itself tries again after seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn linkerds_own_proxy_gets_its_certificate_and_its_policies_from_us() {
    let Some(binary) = std::env::var_os("LINKERD2_PROXY_BIN") else {
        // Not by a macro: the test runner would keep the line to itself.
        let line = b"skipped: LINKERD2_PROXY_BIN is not set, so Linkerd's own proxy was not run\n";
        std::io::stderr().write_all(line).unwrap();
        return;
    };
    let index = index();
    let mut web = meshed_pod("web-a", "10.1.0.1", "web");
    web["metadata"]["uid"] = json!("1");
    index.apply(pod(web));
    let root = Root::generate(SystemTime::now()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::default();
    let identity = certify(&index, &root, folder.path()).await;
    let destination = discover(&index, &mut registry).await;
    let admin = free_port().await;

    let mut proxy = Command::new(binary)
        .envs(environment(&root, folder.path(), identity, destination))
        .env("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", admin.to_string())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // It is ready once it has a certificate that it finds valid.
    eventually(&mut proxy, async || {
        get(admin, "/ready").await.starts_with("HTTP/1.1 200")
    })
    .await;
    let metrics = get(admin, "/metrics").await;
    assert!(
        metrics.contains("identity_cert_expiration_timestamp_seconds"),
        "{metrics}"
    );
    // It follows the policies of its ports.
    eventually(&mut proxy, async || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let sent = "destination_messages_sent_total{method=\"watch_inbound\"} ";
        text.lines()
            .filter_map(|line| line.strip_prefix(sent))
            .any(|count| count != "0")
    })
    .await;
}

async fn eventually(proxy: &mut Child, done: impl AsyncFn() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(PATIENCE, wait) => done.expect("in time"),
        ended = proxy.wait() => panic!("the proxy has ended: {ended:?}"),
    }
}

/// The identity service, at an address that is no loopback: there that proxy would speak no TLS.
async fn certify(index: &Index, root: &Root, folder: &Path) -> SocketAddr {
    std::fs::write(folder.join("ca.crt"), root.certificate_pem()).unwrap();
    std::fs::write(folder.join("ca.key"), root.private_key_pem().as_bytes()).unwrap();
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent; this only asks for the address that would be used.
    probe
        .connect("192.0.2.1:9")
        .expect("this machine has a network");
    let ip: IpAddr = probe.local_addr().unwrap().ip();
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings {
        root_dir: folder.to_owned(),
        leaf_lifetime: Duration::from_secs(3600),
        control_plane_namespace: "linkerd".to_owned(),
    };
    let metrics = IdentityMetrics::register(&mut Registry::default());
    let shutdown = CancellationToken::new();
    let serving = identity::run(
        listener,
        settings,
        kubernetes(),
        index.clone(),
        metrics,
        shutdown,
    );
    tokio::spawn(async { serving.await.unwrap() });
    address
}

/// An API server to which every token is that of pod `web-a`.
fn kubernetes() -> Client {
    let answer = |request: Request<Body>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        review["status"] = good_token();
        let body = Full::new(Bytes::from(review.to_string()));
        let response = Response::builder().status(StatusCode::CREATED).body(body);
        Ok::<_, Infallible>(response.unwrap())
    };
    Client::new(tower::service_fn(answer), "default")
}

async fn discover(index: &Index, registry: &mut Registry) -> SocketAddr {
    let shutdown = CancellationToken::new();
    let service = DestinationService {
        index: index.clone(),
        cluster_domain: "cluster.local".to_owned(),
        metrics: Metrics::register(index, registry),
        streams: Streams::default(),
        shutdown: shutdown.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, service, shutdown));
    address
}

/// What that proxy cannot do without.
fn environment(
    root: &Root,
    folder: &Path,
    identity: SocketAddr,
    destination: SocketAddr,
) -> Vec<(String, OsString)> {
    let own = NewRequest::generate(&WEB.parse::<Identity>().unwrap()).unwrap();
    std::fs::write(folder.join("csr.der"), &own.der).unwrap();
    std::fs::write(folder.join("key.p8"), own.key.as_pkcs8_der()).unwrap();
    std::fs::write(folder.join("token"), "token-of-web-a").unwrap();
    let workload = r#"{"ns":"ns","pod":"web-a"}"#;
    let variables: [(&str, OsString); 18] = [
        ("IDENTITY_TRUST_ANCHORS", root.certificate_pem().into()),
        ("IDENTITY_LOCAL_NAME", WEB.into()),
        ("IDENTITY_DIR", folder.into()),
        ("IDENTITY_TOKEN_FILE", folder.join("token").into()),
        ("IDENTITY_SVC_ADDR", identity.to_string().into()),
        ("IDENTITY_SVC_NAME", CONTROL_PLANE.into()),
        ("DESTINATION_SVC_ADDR", destination.to_string().into()),
        ("POLICY_SVC_ADDR", destination.to_string().into()),
        ("POLICY_WORKLOAD", workload.into()),
        ("POLICY_CLUSTER_NETWORKS", "10.0.0.0/8".into()),
        ("DESTINATION_PROFILE_NETWORKS", "10.0.0.0/8".into()),
        ("DESTINATION_CONTEXT", workload.into()),
        ("INBOUND_IPS", "10.1.0.1".into()),
        ("INBOUND_PORTS", "8080".into()),
        ("INBOUND_DEFAULT_POLICY", "all-unauthenticated".into()),
        ("INBOUND_LISTEN_ADDR", "127.0.0.1:0".into()),
        ("OUTBOUND_LISTEN_ADDR", "127.0.0.1:0".into()),
        ("CONTROL_LISTEN_ADDR", "127.0.0.1:0".into()),
    ];
    variables
        .map(|(name, value)| (format!("LINKERD2_PROXY_{name}"), value))
        .into()
}

async fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// The whole answer; empty while nobody listens.
async fn get(address: SocketAddr, path: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    exchange.await.unwrap_or_default()
}
