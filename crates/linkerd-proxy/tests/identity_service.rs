//! Credentials from the identity service: the key stays here, bad answers change nothing, and while there
//! is no certificate connections are plaintext and say so.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{
    Destination, Endpoint, PATIENCE, Running, SERVICE, app, config, destination, identity,
    identity_service::{Answer, IdentityService, Rule, honest, own_name, start as start_identity},
    start, wire, with_control,
};
use http::Response;
use linkerd_issuer::{Root, SigningRequest, TrustBundle};
use linkerd_proxy::Config;
use tonic::Status;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SECRET: &str = "attack at dawn";

fn root() -> Arc<Root> {
    Arc::new(Root::generate(SystemTime::now()).unwrap())
}

/// A folder as a pod has it: the trust anchors and a token.
fn folder(bundle: &TrustBundle) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trust-anchors.pem"), bundle.to_pem()).unwrap();
    std::fs::write(folder.path().join("token"), "token-of-the-pod\n").unwrap();
    folder
}

/// A client's and a server's proxy, both served by the identity service.
struct Pair {
    client: Running,
    server: Running,
    destination: Destination,
    folder: tempfile::TempDir,
}

async fn pair(service: &IdentityService, bundle: &TrustBundle) -> Pair {
    let folder = folder(bundle);
    let app = app::http1(|_| async { Response::new(app::full(SECRET)) }).await;
    let destination = destination::start().await;
    let server = start(Config {
        inbound_forward: Some(app),
        ..service.configure(config(), folder.path(), &identity("server"))
    });
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            service.configure(config(), folder.path(), &identity("client")),
            destination.address,
        )
    });
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    Pair {
        client,
        server,
        destination,
        folder,
    }
}

impl Pair {
    /// Sends a request, and waits until it is counted with `tls` by both sides.
    async fn request(&self, client_tls: &str, server_tls: &str, count: f64) {
        let (status, body) = common::get(self.client.outbound, "/").await;
        assert_eq!((status, body.as_str()), (200, SECRET));
        let outbound = ["response_total{", "direction=\"outbound\"", client_tls];
        self.client.metric_reaches(&outbound, count).await;
        let inbound = ["response_total{", "direction=\"inbound\"", server_tls];
        self.server.metric_reaches(&inbound, count).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_due_at_once_is_not_asked_for_without_a_pause() {
    let now = SystemTime::now();
    let root = Arc::new(Root::generate(now - DAY).unwrap());
    let issuer = root.clone();
    // To a proxy whose clock is 20 hours ahead.
    let late = move |request: &SigningRequest| {
        let then = SystemTime::now() - DAY * 20 / 24;
        let leaf = issuer.issue_from_request(request, DAY, then).unwrap();
        Ok(leaf.as_der().to_vec())
    };
    let service = start_identity(&root, &own_name(), late).await;
    let folder = folder(&root.trust_bundle());
    let mut config = service.configure(config(), folder.path(), &identity("client"));
    let pause = Duration::from_millis(200);
    config.limits.certify_backoff = (pause, pause);
    let client = start(config);
    client.ready().await;
    let before = service.asked().len();
    tokio::time::sleep(5 * pause).await;
    // A quarter less of each pause at most.
    let asked = service.asked().len() - before;
    assert!((1..8).contains(&asked), "{asked}");
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect(what);
}

fn reloads(status: &str) -> String {
    format!("tls_config_reload_total{{status=\"{status}\"}}")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn proxies_of_the_identity_service_speak_mutual_tls_and_write_no_key() {
    let root = root();
    let service = start_identity(&root, &own_name(), honest(&root, DAY)).await;
    let pair = pair(&service, &root.trust_bundle()).await;
    let before = files(pair.folder.path());
    pair.client.ready().await;
    pair.server.ready().await;
    let wire = wire::to(pair.server.inbound).await;
    pair.destination.set(
        SERVICE,
        &[Endpoint::meshed(wire.address, &identity("server"))],
    );
    pair.request("tls=\"true\"", "tls=\"true\"", 1.0).await;
    assert!(wire.bytes() > 1_000 && !wire.carried(SECRET));

    let asked = service.asked();
    let mut names: Vec<&str> = asked.iter().map(|one| one.identity.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [identity("client").as_str(), identity("server").as_str()]
    );
    for question in &asked {
        assert_eq!(question.token, "token-of-the-pod");
        let request = SigningRequest::parse(&question.certificate_signing_request).unwrap();
        assert_eq!(request.identity().as_str(), question.identity);
    }
    assert_eq!(files(pair.folder.path()), before, "nothing is written");
}

#[tokio::test]
async fn every_renewal_has_a_key_of_its_own() {
    let root = root();
    let lifetime = Duration::from_secs(3);
    let service = start_identity(&root, &own_name(), honest(&root, lifetime)).await;
    let folder = folder(&root.trust_bundle());
    let proxy = start(service.configure(config(), folder.path(), &identity("web")));
    proxy.metric_reaches(&[&reloads("reloaded")], 3.0).await;
    let mut requests: Vec<_> = service
        .asked()
        .into_iter()
        .map(|question| question.certificate_signing_request)
        .collect();
    let count = requests.len();
    assert!(count >= 3);
    let public_keys: std::collections::HashSet<Vec<u8>> =
        requests.drain(..).map(|der| public_key(&der)).collect();
    assert_eq!(public_keys.len(), count);
}

/// The uncompressed point of a P-256 key in a signing request.
fn public_key(der: &[u8]) -> Vec<u8> {
    let marker = [0x03, 0x42, 0x00, 0x04];
    let at = der.windows(4).position(|part| part == marker).unwrap();
    der[at..at + 67].to_vec()
}

#[tokio::test]
async fn wrong_answers_are_refused_and_connections_are_plaintext_meanwhile() {
    let root = root();
    let stranger = Root::generate(SystemTime::now()).unwrap();
    let another_name = {
        let root = root.clone();
        move |_: &SigningRequest| {
            let other = linkerd_issuer::NewRequest::generate(&identity("another")).unwrap();
            let request = SigningRequest::parse(&other.der).unwrap();
            issue(&root, &request)
        }
    };
    let another_key = {
        let root = root.clone();
        move |request: &SigningRequest| {
            let issued = root.issue_leaf(request.identity(), DAY, SystemTime::now());
            Ok(issued.unwrap().leaf.as_der().to_vec())
        }
    };
    let rules: [(&str, Rule); 5] = [
        ("invalid_end_entity_cert", Box::new(another_name)),
        (
            "invalid_end_entity_cert",
            Box::new(move |request| issue(&stranger, request)),
        ),
        ("invalid_private_key", Box::new(another_key)),
        (
            "invalid_end_entity_cert",
            Box::new(|_| Ok(b"garbage".to_vec())),
        ),
        (
            "certify_failed",
            Box::new(|_| Err(Status::failed_precondition("no"))),
        ),
    ];
    let service = start_identity(&root, &own_name(), honest(&root, DAY)).await;
    for (status, rule) in rules {
        service.answer(rule);
        let pair = pair(&service, &root.trust_bundle()).await;
        pair.client.metric_reaches(&[&reloads(status)], 2.0).await;
        pair.server.metric_reaches(&[&reloads(status)], 1.0).await;
        assert_eq!(pair.client.metric(&[&reloads("reloaded")]).await, None);
        pair.request(
            "no_tls_reason=\"no_credentials\"",
            "no_tls_reason=\"peer_sent_plaintext\"",
            1.0,
        )
        .await;
        service.answer(honest(&root, DAY));
        pair.client.ready().await;
        pair.server.ready().await;
        pair.client
            .metric_reaches(&[&reloads("reloaded")], 1.0)
            .await;
    }
}

fn issue(root: &Root, request: &SigningRequest) -> Answer {
    let leaf = root.issue_from_request(request, DAY, SystemTime::now());
    Ok(leaf.unwrap().as_der().to_vec())
}

#[tokio::test]
async fn a_service_that_does_not_prove_itself_is_not_shown_the_token() {
    let (root, stranger) = (root(), root());
    for (of, name) in [(&stranger, own_name()), (&root, identity("mallory"))] {
        let service = start_identity(of, &name, honest(&root, DAY)).await;
        let folder = folder(&root.trust_bundle());
        let proxy = start(service.configure(config(), folder.path(), &identity("web")));
        proxy
            .metric_reaches(&[&reloads("certify_failed")], 2.0)
            .await;
        assert_eq!(service.asked(), []);
    }
}

#[tokio::test]
async fn without_trust_anchors_nobody_is_asked_until_they_are_there() {
    let root = root();
    let service = start_identity(&root, &own_name(), honest(&root, DAY)).await;
    let folder = folder(&root.trust_bundle());
    let anchors = folder.path().join("trust-anchors.pem");
    let pem = std::fs::read_to_string(&anchors).unwrap();
    std::fs::remove_file(&anchors).unwrap();
    let proxy = start(service.configure(config(), folder.path(), &identity("web")));
    let missing = [
        "tls_config_reload_total{status=\"io_error\"",
        "trust-anchors.pem",
    ];
    proxy.metric_reaches(&missing, 1.0).await;
    assert_eq!(service.asked(), []);
    std::fs::write(&anchors, pem).unwrap();
    proxy.ready().await;
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_old_credentials_in_force() {
    let root = root();
    let lifetime = Duration::from_secs(60);
    let service = start_identity(&root, &own_name(), honest(&root, lifetime)).await;
    let pair = pair(&service, &root.trust_bundle()).await;
    pair.client.ready().await;
    pair.server.ready().await;
    service.answer(|_| Err(Status::unavailable("not now")));
    // Of anchors that do not trust the certificate it is renewed at once.
    let stranger = Root::generate(SystemTime::now()).unwrap();
    std::fs::write(
        pair.folder.path().join("trust-anchors.pem"),
        stranger.trust_bundle().to_pem(),
    )
    .unwrap();
    pair.client
        .metric_reaches(&[&reloads("certify_failed")], 2.0)
        .await;
    pair.request("tls=\"true\"", "tls=\"true\"", 1.0).await;
}

#[tokio::test]
async fn another_root_in_the_trust_anchors_is_taken_up_without_asking() {
    let root = root();
    let service = start_identity(&root, &own_name(), honest(&root, DAY)).await;
    let folder = folder(&root.trust_bundle());
    let proxy = start(service.configure(config(), folder.path(), &identity("web")));
    proxy.ready().await;
    let next = Root::generate(SystemTime::now()).unwrap();
    let both = root.trust_bundle().to_pem() + &next.trust_bundle().to_pem();
    std::fs::write(folder.path().join("trust-anchors.pem"), both).unwrap();
    proxy.metric_reaches(&[&reloads("reloaded")], 2.0).await;
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn a_refusal_that_passes_is_asked_again() {
    let root = root();
    let service = start_identity(&root, &own_name(), |_| Err(Status::unavailable("not yet"))).await;
    let folder = folder(&root.trust_bundle());
    let proxy = start(service.configure(config(), folder.path(), &identity("web")));
    eventually("asked three times", || service.asked().len() >= 3).await;
    service.answer(honest(&root, DAY));
    proxy.ready().await;
}
