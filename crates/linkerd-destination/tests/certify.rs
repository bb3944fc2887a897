//! `Certify` over TLS, asked by the published client of the public proxy API; Kubernetes is scripted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use std::{
    convert::Infallible,
    io::ErrorKind,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use common::{good_token, index, meshed_pod, plain_pod, pod};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use linkerd_destination::{
    identity::{self, Settings},
    index::Index,
    metrics::IdentityMetrics,
};
use linkerd_issuer::{Leaf, NewRequest, Root};
use linkerd_names::Identity;
use linkerd2_proxy_api::identity::{
    CertifyRequest, CertifyResponse, identity_client::IdentityClient,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

type Bytes = hyper::body::Bytes;

const WEB: &str = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
const OWN: &str =
    "linkerd-destination.deployment.linkerd.linkerd-managed.linkerd.svc.cluster.local";
const LIFETIME: Duration = Duration::from_secs(3600);
/// No test waits longer for an event.
const PATIENCE: Duration = Duration::from_secs(10);

/// An API server that says of every token what it is told to, and remembers the questions.
struct Reviews {
    status: Mutex<(StatusCode, Value)>,
    questions: Mutex<Vec<Value>>,
}

impl Reviews {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            status: Mutex::new((StatusCode::CREATED, good_token())),
            questions: Mutex::default(),
        })
    }

    /// What the API server says from now on.
    fn say(&self, status: Value) {
        *self.status.lock().unwrap() = (StatusCode::CREATED, status);
    }

    fn client(self: &Arc<Self>) -> Client {
        let reviews = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let reviews = Arc::clone(&reviews);
            async move { Ok::<_, Infallible>(reviews.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        assert_eq!(path, "/apis/authentication.k8s.io/v1/tokenreviews");
        assert_eq!(request.method(), http::Method::POST);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        self.questions.lock().unwrap().push(review["spec"].clone());
        let (code, status) = self.status.lock().unwrap().clone();
        review["status"] = status;
        let body = Full::new(Bytes::from(review.to_string()));
        Response::builder().status(code).body(body).unwrap()
    }
}

/// The identity service on a port of its own.
struct Harness {
    address: SocketAddr,
    root: Arc<Root>,
    folder: tempfile::TempDir,
    reviews: Arc<Reviews>,
    index: Index,
    registry: Registry,
    server: JoinHandle<()>,
    shutdown: CancellationToken,
    _guard: DropGuard,
}

/// A cluster with pod `web-a` of Deployment `web`.
fn cluster() -> Index {
    let index = index();
    let mut web = meshed_pod("web-a", "10.1.0.1", "web");
    web["metadata"]["uid"] = json!("1");
    index.apply(pod(web));
    index
}

fn write(folder: &Path, root: &Root) {
    std::fs::write(folder.join("ca.crt"), root.certificate_pem()).unwrap();
    std::fs::write(folder.join("ca.key"), root.private_key_pem().as_bytes()).unwrap();
}

async fn harness() -> Harness {
    let harness = start(cluster(), true).await;
    harness
        .metric_reaches("identity_root_not_after_seconds", 1)
        .await;
    harness
}

async fn start(index: Index, with_root: bool) -> Harness {
    let folder = tempfile::tempdir().unwrap();
    let root = Arc::new(Root::generate(SystemTime::now()).unwrap());
    if with_root {
        write(folder.path(), &root);
    }
    let reviews = Reviews::new();
    let mut registry = Registry::default();
    let metrics = IdentityMetrics::register(&mut registry);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings {
        root_dir: folder.path().to_owned(),
        leaf_lifetime: LIFETIME,
        control_plane_namespace: "linkerd".to_owned(),
    };
    let shutdown = CancellationToken::new();
    let serving = identity::run(
        listener,
        settings,
        reviews.client(),
        index.clone(),
        metrics,
        shutdown.clone(),
    );
    Harness {
        address,
        root,
        folder,
        reviews,
        index,
        registry,
        server: tokio::spawn(async { serving.await.unwrap() }),
        _guard: shutdown.clone().drop_guard(),
        shutdown,
    }
}

impl Harness {
    async fn client(&self) -> IdentityClient<Channel> {
        self.connect(&self.root).await.unwrap()
    }

    /// Connects as a proxy does: trusting `root` alone, expecting the control plane's name.
    async fn connect(
        &self,
        root: &Root,
    ) -> Result<IdentityClient<Channel>, tonic::transport::Error> {
        let (address, root) = (self.address, root.certificate_der().clone());
        let connect = tower::service_fn(move |_| {
            let root = root.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(connect_tls(address, root).await?)) }
        });
        let endpoint = Endpoint::from_static("http://identity");
        let channel = endpoint.connect_with_connector(connect).await?;
        Ok(IdentityClient::new(channel))
    }

    async fn certify(&self, request: CertifyRequest) -> Result<CertifyResponse, Status> {
        let answer = self.client().await.certify(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The code of a refusal, and that it was counted under `reason`.
    async fn refusal(&self, request: CertifyRequest, reason: &str) -> Code {
        let status = self.certify(request).await.expect_err(reason);
        let counter = format!("identity_refusals_total{{reason=\"{reason}\"}}");
        assert!(self.metric(&counter) >= 1, "{reason}: {status}");
        status.code()
    }

    fn metric(&self, name: &str) -> i64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    async fn metric_reaches(&self, name: &str, value: i64) {
        let wait = async {
            while self.metric(name) < value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(name);
    }

    fn reviewed(&self) -> usize {
        self.reviews.questions.lock().unwrap().len()
    }
}

/// Trusts `root` alone, and expects the control plane's name.
async fn connect_tls(
    address: SocketAddr,
    root: CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(OWN).unwrap();
    connector.connect(name, socket).await
}

/// A good question, and the key that stays at home.
fn question(identity: &str) -> (CertifyRequest, NewRequest) {
    let own = NewRequest::generate(&identity.parse::<Identity>().unwrap()).unwrap();
    let request = CertifyRequest {
        identity: identity.to_owned(),
        token: b"token-of-web-a".to_vec(),
        certificate_signing_request: own.der.clone(),
    };
    (request, own)
}

#[tokio::test]
async fn a_pod_that_proves_itself_gets_a_certificate_for_its_key() {
    let harness = harness().await;
    let (request, own) = question(WEB);
    let before = SystemTime::now();
    let answer = harness.certify(request).await.unwrap();

    let leaf = Leaf::parse(&answer.leaf_certificate).unwrap();
    assert_eq!(leaf.identity().as_str(), WEB);
    assert!(leaf.issued_by(&harness.root));
    assert!(leaf.key_fits(own.key.as_pkcs8_der()));
    assert!(answer.intermediate_certificates.is_empty());
    let until = SystemTime::try_from(answer.valid_until.unwrap()).unwrap();
    assert_eq!(until, leaf.not_after());
    assert!(until + Duration::from_secs(1) >= before + LIFETIME);
    assert!(until <= SystemTime::now() + LIFETIME);
    assert_eq!(harness.metric("identity_certificates_issued_total"), 1);
    let asked = harness.reviews.questions.lock().unwrap().clone();
    let expected = json!({"audiences": ["identity.l5d.io"], "token": "token-of-web-a"});
    assert_eq!(asked, [expected]);
}

/// What an upstream proxy sends: Go's request, with the name in the subject as well.
#[tokio::test]
async fn a_proxy_of_linkerd_gets_a_certificate_for_its_service_account() {
    let harness = harness().await;
    let name = "robot.ns.serviceaccount.identity.linkerd.cluster.local";
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let request = CertifyRequest {
        identity: name.to_owned(),
        token: b"token".to_vec(),
        certificate_signing_request: params.serialize_request(&key).unwrap().der().to_vec(),
    };
    let answer = harness.certify(request).await.unwrap();
    let leaf = Leaf::parse(&answer.leaf_certificate).unwrap();
    assert_eq!(leaf.identity().as_str(), name);
    assert!(leaf.key_fits(&key.serialize_der()));
}

#[tokio::test]
async fn nobody_gets_the_identity_of_another() {
    let harness = harness().await;
    let other = "emoji.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
    let code = harness.refusal(question(other).0, "other_identity").await;
    assert_eq!(code, Code::FailedPrecondition);

    let (mut request, _) = question(other);
    request.identity = WEB.to_owned();
    let code = harness
        .refusal(request, "signing_request_for_another")
        .await;
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(harness.metric("identity_certificates_issued_total"), 0);
}

#[tokio::test]
async fn questions_that_cannot_be_right_never_reach_the_api_server() {
    let harness = harness().await;
    let with = |change: &dyn Fn(&mut CertifyRequest)| {
        let (mut request, _) = question(WEB);
        change(&mut request);
        request
    };
    let spoilt = |request: &mut CertifyRequest| {
        *request.certificate_signing_request.last_mut().unwrap() ^= 1;
    };
    let two_names = |request: &mut CertifyRequest| {
        let names = vec![WEB.to_owned(), "second.example".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let key = KeyPair::generate().unwrap();
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        request.certificate_signing_request = der;
    };
    for (request, reason, code) in [
        (
            with(&|request| request.identity.clear()),
            "missing_field",
            Code::InvalidArgument,
        ),
        (
            with(&|request| request.token.clear()),
            "missing_field",
            Code::InvalidArgument,
        ),
        (
            with(&|request| request.certificate_signing_request.clear()),
            "missing_field",
            Code::InvalidArgument,
        ),
        (
            with(&|request| request.identity = "a..b".to_owned()),
            "invalid_identity",
            Code::InvalidArgument,
        ),
        (
            with(&|request| request.certificate_signing_request = b"garbage".to_vec()),
            "invalid_signing_request",
            Code::InvalidArgument,
        ),
        (
            with(&spoilt),
            "invalid_signing_request",
            Code::InvalidArgument,
        ),
        (
            with(&two_names),
            "invalid_signing_request",
            Code::FailedPrecondition,
        ),
        (
            with(&|request| request.token = vec![0xff, 0xfe]),
            "token_rejected",
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(harness.refusal(request, reason).await, code, "{reason}");
    }
    assert_eq!(harness.reviewed(), 0);
}

#[tokio::test]
async fn a_token_without_a_clear_yes_proves_nothing_and_is_reviewed_once() {
    let harness = harness().await;
    let after = |pointer: &str, value: Value| {
        let mut status = good_token();
        *status.pointer_mut(pointer).unwrap() = value;
        status
    };
    let rejected = json!({"error": "[invalid bearer token, token audiences [\"x\"] is invalid]"});
    for (status, reason, code) in [
        (rejected, "token_rejected", Code::InvalidArgument),
        (json!({}), "not_authenticated", Code::FailedPrecondition),
        (
            after("/audiences", json!(["https://kubernetes.default.svc"])),
            "wrong_audience",
            Code::FailedPrecondition,
        ),
        (
            after("/user/username", json!("system:node:a")),
            "not_a_service_account",
            Code::FailedPrecondition,
        ),
        (
            after("/user/extra", json!({})),
            "token_not_bound",
            Code::FailedPrecondition,
        ),
    ] {
        harness.reviews.say(status);
        let before = harness.reviewed();
        let code_told = harness.refusal(question(WEB).0, reason).await;
        assert_eq!(code_told, code, "{reason}");
        // Never a second question without the audience.
        assert_eq!(harness.reviewed(), before + 1, "{reason}");
    }
}

#[tokio::test]
async fn an_api_server_that_fails_is_not_taken_for_a_yes() {
    let harness = harness().await;
    let failure = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no"});
    *harness.reviews.status.lock().unwrap() = (StatusCode::FORBIDDEN, failure);
    let code = harness.refusal(question(WEB).0, "review_failed").await;
    assert_eq!(code, Code::Internal);
}

#[tokio::test]
async fn the_pod_of_the_token_must_be_the_one_that_is_known() {
    let harness = harness().await;
    let extra = |key: &str, value: &str| {
        let mut status = good_token();
        status["user"]["extra"][key] = json!([value]);
        status
    };
    let uid = "authentication.kubernetes.io/pod-uid";
    harness.reviews.say(extra(uid, "2"));
    let code = harness.refusal(question(WEB).0, "pod_unknown").await;
    assert_eq!(code, Code::Unavailable);

    harness.index.apply(pod(plain_pod("plain", "10.1.0.2")));
    let mut status = extra("authentication.kubernetes.io/pod-name", "plain");
    status["user"]["extra"][uid] = json!([""]);
    harness.reviews.say(status);
    let code = harness.refusal(question(WEB).0, "token_not_bound").await;
    assert_eq!(code, Code::FailedPrecondition);

    let mut plain = plain_pod("plain", "10.1.0.2");
    plain["metadata"]["uid"] = json!("3");
    harness.index.apply(pod(plain));
    let mut status = extra("authentication.kubernetes.io/pod-name", "plain");
    status["user"]["extra"][uid] = json!(["3"]);
    harness.reviews.say(status);
    let code = harness.refusal(question(WEB).0, "no_identity").await;
    assert_eq!(code, Code::FailedPrecondition);
}

#[tokio::test]
async fn an_index_that_is_not_complete_knows_nobody() {
    let harness = start(Index::new("linkerd"), true).await;
    harness
        .metric_reaches("identity_root_not_after_seconds", 1)
        .await;
    let code = harness.refusal(question(WEB).0, "pod_unknown").await;
    assert_eq!(code, Code::Unavailable);
}

#[tokio::test]
async fn one_address_cannot_ask_for_ever() {
    let harness = harness().await;
    let mut client = harness.client().await;
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(
            client
                .certify(question(WEB).0)
                .await
                .err()
                .map(|s| s.code()),
        );
    }
    assert!(codes[..10].iter().all(Option::is_none), "{codes:?}");
    assert!(codes.contains(&Some(Code::ResourceExhausted)), "{codes:?}");
    assert!(harness.reviewed() < 30);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let harness = harness().await;
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(harness.address).await.unwrap()
    };
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(connect().await);
    }
    let closed = tokio::time::timeout(PATIENCE, connect().await.read_u8()).await;
    assert!(closed.expect("closed at once").is_err());
    for socket in &open {
        let read = socket.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock), "still open");
    }
    assert!(harness.certify(question(WEB).0).await.is_ok());
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let harness = harness().await;
    let mut socket = connect_tls(harness.address, harness.root.certificate_der().clone())
        .await
        .unwrap();
    // HTTP/2 and nothing more: who is told to go does not even say that it has heard.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    socket.write_all(preface).await.unwrap();
    let mut said = [0; 9];
    socket.read_exact(&mut said).await.unwrap();

    // From here a minute passes in no time when nothing else happens.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    // How it is closed does not matter.
    socket.read_to_end(&mut Vec::new()).await.ok();
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_question_without_tls_is_not_answered() {
    let harness = harness().await;
    let mut socket = TcpStream::connect(harness.address).await.unwrap();
    socket
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    drop(read.expect("closed in time"));
    // An alert of TLS at most.
    assert!(answer.len() <= 7, "{answer:?}");
}

#[tokio::test]
async fn without_a_root_connections_are_closed_until_there_is_one() {
    let harness = start(cluster(), false).await;
    assert!(harness.connect(&harness.root).await.is_err());
    write(harness.folder.path(), &harness.root);
    harness
        .metric_reaches("identity_root_not_after_seconds", 1)
        .await;
    assert!(harness.certify(question(WEB).0).await.is_ok());
}

#[tokio::test]
async fn a_new_root_signs_at_once_and_a_broken_one_not_at_all() {
    let harness = harness().await;
    std::fs::write(harness.folder.path().join("ca.key"), "garbage").unwrap();
    assert!(harness.certify(question(WEB).0).await.is_ok());

    let next = Root::generate(SystemTime::now() + Duration::from_secs(60)).unwrap();
    write(harness.folder.path(), &next);
    let until = next.not_after().duration_since(SystemTime::UNIX_EPOCH);
    let until = i64::try_from(until.unwrap().as_secs()).unwrap();
    harness
        .metric_reaches("identity_root_not_after_seconds", until)
        .await;
    assert!(harness.connect(&harness.root).await.is_err());
    let mut client = harness.connect(&next).await.unwrap();
    let answer = client.certify(question(WEB).0).await.unwrap().into_inner();
    assert!(
        Leaf::parse(&answer.leaf_certificate)
            .unwrap()
            .issued_by(&next)
    );
}

#[tokio::test]
async fn the_service_ends_with_the_process() {
    let harness = harness().await;
    let _client = harness.client().await;
    harness.shutdown.cancel();
    tokio::time::timeout(PATIENCE, harness.server)
        .await
        .expect("ended in time")
        .unwrap();
}
