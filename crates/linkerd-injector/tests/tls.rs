//! The webhook's port over real sockets: who calls it by which certificate, and a certificate that changes
//! while it runs.

mod common;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{Bench, pod, review};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use linkerd_injector::{certificate, server};
use linkerd_issuer::{LEAF_LIFETIME_DEFAULT, Root};
use linkerd_process::Readiness;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

/// A running webhook.
struct Running {
    address: std::net::SocketAddr,
    folder: tempfile::TempDir,
    tls: watch::Receiver<Option<Arc<rustls::ServerConfig>>>,
    readiness: Readiness,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    async fn start() -> Self {
        let bench = Bench::new(json!({"linkerd.io/inject": "enabled"}));
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (sender, tls) = watch::channel(None);
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let following = certificate::follow(
            folder.path().to_owned(),
            sender,
            readiness.clone(),
            bench.metrics.clone(),
        );
        tasks.spawn(following);
        let webhook = Arc::new(bench.webhook);
        tasks.spawn(server::serve(
            listener,
            tls.clone(),
            webhook,
            shutdown.clone(),
        ));
        Self {
            address,
            folder,
            tls,
            readiness,
            shutdown,
            tasks,
        }
    }

    /// Writes a certificate of `root`, and waits until it is in use.
    async fn use_certificate_of(&mut self, root: &Root) {
        write_certificate(root, self.folder.path());
        self.tls.changed().await.expect("it is followed");
    }

    async fn connect(&self, root: &Root) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(root.certificate_der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("linkerd-injector.linkerd.svc").expect("a name");
        let socket = TcpStream::connect(self.address).await?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, socket).await
    }
}

fn write_certificate(root: &Root, folder: &Path) {
    let now = SystemTime::now();
    let issued = root
        .issue_webhook("linkerd-injector", "linkerd", LEAF_LIFETIME_DEFAULT, now)
        .expect("a certificate");
    fs::write(folder.join("tls.key"), issued.key_pem().as_bytes()).expect("written");
    fs::write(folder.join("tls.crt"), issued.certificate.to_pem()).expect("written");
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let certificates = stream.get_ref().1.peer_certificates();
    certificates.expect("a certificate")[0].clone().into_owned()
}

async fn post(stream: TlsStream<TcpStream>, path: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("http");
    let request = Request::post(path)
        .header("host", "linkerd-injector.linkerd.svc")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answered = async {
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body");
        drop(sender);
        (status, body.to_bytes())
    };
    let (answer, _) = tokio::join!(answered, connection);
    answer
}

fn root() -> Root {
    Root::generate(SystemTime::now()).expect("a root")
}

#[tokio::test]
async fn the_api_server_is_answered_over_tls_that_our_root_vouches_for() {
    let root = root();
    let mut running = Running::start().await;
    assert!(!running.readiness.is_ready(), "there is no certificate yet");
    running.use_certificate_of(&root).await;
    let stream = running.connect(&root).await.expect("trusted");
    let body = serde_json::to_vec(&review(&pod())).expect("json");
    let (status, answer) = post(stream, "/inject", body).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&answer).expect("json");
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    running.shutdown.cancel();
}

#[tokio::test]
async fn whoever_trusts_another_root_gets_no_answer() {
    let mut running = Running::start().await;
    running.use_certificate_of(&root()).await;
    assert!(running.connect(&root()).await.is_err());
}

#[tokio::test]
async fn another_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let (old, new) = (root(), root());
    let mut running = Running::start().await;
    running.use_certificate_of(&old).await;
    let before = shown(&running.connect(&old).await.expect("trusted"));
    // The certificate without its key: kubelet is half done. The old pair stays in force.
    let elsewhere = tempfile::tempdir().expect("a folder");
    write_certificate(&old, elsewhere.path());
    let certificate = running.folder.path().join("tls.crt");
    fs::copy(elsewhere.path().join("tls.crt"), &certificate).expect("copied");
    let now = shown(&running.connect(&old).await.expect("trusted"));
    assert_eq!(now, before);
    running.use_certificate_of(&new).await;
    let after = shown(&running.connect(&new).await.expect("trusted"));
    assert_ne!(after, before);
    assert!(running.readiness.is_ready());
}

#[tokio::test]
async fn the_api_server_gets_through_whoever_holds_connections() {
    let root = root();
    let mut running = Running::start().await;
    running.use_certificate_of(&root).await;
    let mut held = Vec::new();
    for _ in 0..400 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 2], 0).into()).expect("loopback");
        held.push(socket.connect(running.address).await.expect("the backlog"));
    }
    // Less than the handshakes of these may take.
    let answered = timeout(Duration::from_secs(4), async {
        let stream = running.connect(&root).await.expect("trusted");
        let body = serde_json::to_vec(&review(&pod())).expect("json");
        post(stream, "/inject", body).await
    });
    assert_eq!(answered.await.expect("in time").0, StatusCode::OK);
    drop(held);
}

#[tokio::test]
async fn only_reviews_are_served() {
    let root = root();
    let mut running = Running::start().await;
    running.use_certificate_of(&root).await;
    for (path, expected) in [
        ("/inject", StatusCode::BAD_REQUEST),
        ("/metrics", StatusCode::NOT_FOUND),
    ] {
        let stream = running.connect(&root).await.expect("trusted");
        let (status, _) = post(stream, path, b"{}".to_vec()).await;
        assert_eq!(status, expected, "{path}");
    }
    running.shutdown.cancel();
    // The server ends by itself; the follower is dropped with its set.
    running
        .tasks
        .join_next()
        .await
        .expect("a task")
        .expect("no panic");
}
