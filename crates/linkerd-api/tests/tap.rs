//! The whole way of a tap: gRPC client, service, and proxies and a Kubernetes that do what the test
//! wants.

mod support;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use linkerd_api::{Cluster, Pod, Workload};
use linkerd_names::tap;
use linkerd_proto::{
    public::{
        Resource, ResourceSelection, TapByResourceRequest, TapByResourceResponse,
        api_client::ApiClient,
        tap_by_resource_request::{
            Match,
            r#match::{Match as Kind, Seq},
        },
        tap_by_resource_response::Response as Update,
    },
    tap::{
        ObserveRequest, TapEvent,
        observe_request::Traffic,
        tap_event::{
            Event, Tcp,
            http::StreamId,
            tcp::{self, Open},
        },
        tap_server::{Tap, TapServer},
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Answer, api_with, closed_url, kubernetes_that};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Server, server::TcpIncoming},
};

const PATIENCE: Duration = Duration::from_secs(10);
const SECRET: [u8; tap::SECRET_BYTES] = [7; tap::SECRET_BYTES];

/// One of many that are known.
fn secret(number: u8) -> [u8; tap::SECRET_BYTES] {
    [number; tap::SECRET_BYTES]
}

/// Where the API server has the proof of a secret.
fn path_of_proof(secret: &[u8]) -> String {
    let name = tap::proof_name(&Sha256::digest(secret));
    format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}")
}

/// A proxy that reports as many connections a second as it is asked for.
#[derive(Clone, Default)]
struct FakeProxy {
    /// The limit of the last call.
    limit: Arc<AtomicU32>,
    refuses: bool,
}

#[tonic::async_trait]
impl Tap for FakeProxy {
    type ObserveStream = ReceiverStream<Result<TapEvent, Status>>;

    async fn observe(
        &self,
        request: Request<ObserveRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        if self.refuses {
            return Err(Status::permission_denied("only linkerd-api may watch"));
        }
        let ObserveRequest {
            limit,
            r#match,
            extract: _,
            traffic,
            limit_per_second,
        } = request.into_inner();
        assert!(r#match.is_some(), "proxies refuse a call without a match");
        assert_eq!(traffic, [i32::from(Traffic::Connections)]);
        assert!(limit_per_second, "a call has no end of its own");
        self.limit.store(limit, Relaxed);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            for stream in 1.. {
                if (stream - 1) % u64::from(limit) == 0 {
                    seconds.tick().await;
                }
                // Ends when nobody listens any more.
                if sender.send(Ok(begun(stream))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn begun(stream: u64) -> TapEvent {
    let source: SocketAddr = "10.9.9.9:1".parse().expect("valid");
    let id = StreamId { base: 77, stream };
    TapEvent {
        source: Some(source.into()),
        event: Some(Event::Tcp(Tcp {
            event: Some(tcp::Event::Open(Open {
                id: Some(id),
                ..Open::default()
            })),
        })),
        ..TapEvent::default()
    }
}

impl FakeProxy {
    async fn start(&self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let service = TapServer::new(self.clone());
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .expect("served");
        });
        (address, server)
    }
}

fn key(name: &str) -> (String, String) {
    ("shop".to_owned(), name.to_owned())
}

fn pod(address: SocketAddr) -> Pod {
    let labels = [("app", "web"), ("linkerd.io/control-plane-ns", "linkerd")];
    Pod {
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        phase: "Running".into(),
        ip: address.ip().to_string(),
        tap_port: Some(address.port()),
        ..Pod::default()
    }
}

/// Deployment web without pods, and a client's pod.
fn cluster() -> Arc<Cluster> {
    let cluster = Cluster::default();
    let namespace = (String::new(), "shop".to_owned());
    cluster.namespaces.insert(namespace, Workload::default());
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let web = Workload::by_labels(ObjectMeta::default(), Some(labels));
    cluster.deployments.insert(key("web"), web);
    let client = Pod {
        phase: "Running".into(),
        ip: "10.9.9.9".into(),
        ..Pod::default()
    };
    cluster.pods.insert(key("client"), client);
    Arc::new(cluster)
}

/// Lets jane watch deployments/tap in shop of these names.
fn kubernetes(allowed: &'static [&'static str]) -> kube::Client {
    kubernetes_letting(move |name| allowed.contains(&name))
}

/// Knows proofs, made by jane just now, and lets her watch deployments/tap in shop of the names that are allowed.
fn kubernetes_letting(allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> kube::Client {
    let proof = |name: &str, conditions: Value| {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name, "creationTimestamp": now, "resourceVersion": "5"},
            "spec": {
                "request": "", "signerName": "linkerd.io/tap",
                "username": "jane", "groups": ["dev"], "uid": "u1",
            },
            "status": {"conditions": conditions},
        })
    };
    let known = (100..=u8::MAX).map(secret).chain([SECRET]);
    let known: BTreeSet<String> = known.map(|secret| path_of_proof(&secret)).collect();
    let used = parking_lot::Mutex::new(BTreeSet::new());
    kubernetes_that(move |method, asked, body| -> Answer {
        let mut used = used.lock();
        let path = asked.strip_suffix("/approval").unwrap_or(asked);
        let name = path.rsplit('/').next().expect("a name");
        if known.contains(asked) && method == "GET" {
            let denied = json!([{"type": "Denied", "status": "True"}]);
            let conditions = if used.contains(path) {
                denied
            } else {
                json!([])
            };
            return (200, proof(name, conditions).to_string());
        }
        if known.contains(path) {
            assert_eq!(
                (method, &body["metadata"]["resourceVersion"]),
                ("PATCH", &json!("5"))
            );
            assert_eq!(body["status"]["conditions"][0]["type"], "Denied");
            used.insert(path.to_owned());
            return (200, proof(name, json!([])).to_string());
        }
        if asked == "/apis/authorization.k8s.io/v1/subjectaccessreviews" {
            let spec = &body["spec"];
            assert_eq!(
                (&spec["user"], &spec["groups"]),
                (&json!("jane"), &json!(["dev"]))
            );
            let attributes = &spec["resourceAttributes"];
            let right = json!({
                "group": "tap.linkerd.io", "version": "v1alpha1", "verb": "watch",
                "resource": "deployments", "subresource": "tap",
                "namespace": "shop", "name": attributes["name"],
            });
            assert_eq!(*attributes, right);
            let name = attributes["name"].as_str().expect("a name");
            let allowed = allowed(name);
            let answer = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "metadata": {}, "spec": spec, "status": {"allowed": allowed},
            });
            return (201, answer.to_string());
        }
        let missing = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found",
            "reason": "NotFound", "code": 404,
        });
        (404, missing.to_string())
    })
}

fn deployment(name: &str) -> ResourceSelection {
    ResourceSelection {
        resource: Some(Resource {
            namespace: "shop".into(),
            r#type: "deployment".into(),
            name: name.into(),
        }),
        label_selector: String::new(),
    }
}

fn request(secret: &[u8]) -> TapByResourceRequest {
    TapByResourceRequest {
        target: Some(deployment("web")),
        max_rps: 8.0,
        proof: secret.to_vec().into(),
        traffic: vec![Traffic::Connections.into()],
        ..TapByResourceRequest::default()
    }
}

async fn client(cluster: &Arc<Cluster>, allowed: &'static [&'static str]) -> ApiClient<Channel> {
    api_with(cluster.clone(), &closed_url(), kubernetes(allowed)).await
}

async fn next(updates: &mut Streaming<TapByResourceResponse>) -> Update {
    let update = timeout(PATIENCE, updates.message()).await.expect("in time");
    let update = update.expect("no error").expect("no end");
    update.response.expect("set")
}

#[tokio::test]
async fn events_of_all_pods_come_with_names_and_ids_of_their_own() {
    let proxies = [FakeProxy::default(), FakeProxy::default()];
    let cluster = cluster();
    for (index, proxy) in proxies.iter().enumerate() {
        let (address, _) = proxy.start().await;
        cluster
            .pods
            .insert(key(&format!("web-{index}")), pod(address));
    }
    let mut client = client(&cluster, &["web"]).await;
    let answer = client.tap_by_resource(request(&SECRET)).await;
    let mut updates = answer.expect("allowed").into_inner();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let Update::Event(event) = next(&mut updates).await else {
            panic!("a trouble")
        };
        let labels = event.source_meta.expect("known").labels;
        assert_eq!(labels["pod"], "client");
        let Some(Event::Tcp(Tcp {
            event: Some(tcp::Event::Open(open)),
        })) = event.event
        else {
            panic!("another event")
        };
        let id = open.id.expect("set");
        assert!(ids.insert((id.base, id.stream)), "{id:?} twice");
    }
    // Eight requests a second are four of each.
    assert!(proxies.iter().all(|proxy| proxy.limit.load(Relaxed) == 4));
    // The next second brings the next ones.
    assert!(matches!(next(&mut updates).await, Update::Event(_)));
}

#[tokio::test]
async fn the_rate_is_that_of_all_pods_together_however_many_they_are() {
    let cluster = cluster();
    for index in 0..5 {
        let (address, _) = FakeProxy::default().start().await;
        let key = key(&format!("web-{index}"));
        cluster.pods.insert(key, pod(address));
    }
    let mut client = client(&cluster, &["web"]).await;
    let one = TapByResourceRequest {
        max_rps: 1.0,
        ..request(&SECRET)
    };
    let began = Instant::now();
    let answer = client.tap_by_resource(one).await;
    let mut updates = answer.expect("allowed").into_inner();
    for _ in 0..3 {
        assert!(matches!(next(&mut updates).await, Update::Event(_)));
    }
    // Each of the five tells of one a second.
    assert!(began.elapsed() >= Duration::from_secs(2), "{began:?}");
}

#[tokio::test]
async fn several_targets_need_the_right_to_each_and_their_pods_are_all_watched() {
    let cluster = cluster();
    let labels = [("app".to_owned(), "db".to_owned())].into();
    let db = Workload::by_labels(ObjectMeta::default(), Some(labels));
    cluster.deployments.insert(key("db"), db);
    let proxies = [FakeProxy::default(), FakeProxy::default()];
    for (app, proxy) in ["web", "db"].iter().zip(&proxies) {
        let (address, _) = proxy.start().await;
        let mut pod = pod(address);
        pod.labels.insert("app".into(), (*app).into());
        cluster.pods.insert(key(&format!("{app}-1")), pod);
    }
    let both = || TapByResourceRequest {
        other_targets: vec![deployment("db"), deployment("web")],
        ..request(&SECRET)
    };
    let mut of_one = client(&cluster, &["web"]).await;
    let status = of_one.tap_by_resource(both()).await.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut of_both = client(&cluster, &["web", "db"]).await;
    let answer = of_both.tap_by_resource(both()).await;
    let mut updates = answer.expect("allowed").into_inner();
    for _ in 0..8 {
        assert!(matches!(next(&mut updates).await, Update::Event(_)));
    }
    // The pod of the target that was named twice is watched once.
    assert!(proxies.iter().all(|proxy| proxy.limit.load(Relaxed) == 4));
}

#[tokio::test]
async fn labels_choose_among_the_targets() {
    let cluster = cluster();
    let (address, _) = FakeProxy::default().start().await;
    cluster.pods.insert(key("web-1"), pod(address));
    let selector = [("app".to_owned(), "web".to_owned())];
    let metadata = ObjectMeta {
        labels: Some([("tier".to_owned(), "front".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let web = Workload::by_labels(metadata, Some(selector.into()));
    cluster.deployments.insert(key("web"), web);
    let answer = async |labels: &str| {
        let mut request = request(&SECRET);
        request.target = Some(ResourceSelection {
            label_selector: labels.into(),
            ..deployment("")
        });
        let mut client = client(&cluster, &[""]).await;
        client.tap_by_resource(request).await
    };
    let mut updates = answer("tier=front").await.expect("allowed").into_inner();
    assert!(matches!(next(&mut updates).await, Update::Event(_)));
    let status = answer("tier=back").await.expect_err("none has it");
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn pods_that_come_are_watched_and_trouble_with_one_ends_nothing() {
    let cluster = cluster();
    let closed: SocketAddr = closed_url()
        .strip_prefix("http://")
        .and_then(|address| address.parse().ok())
        .expect("an address");
    cluster.pods.insert(key("web-gone"), pod(closed));
    let mut client = client(&cluster, &["web"]).await;
    let answer = client.tap_by_resource(request(&SECRET)).await;
    let mut updates = answer.expect("allowed").into_inner();
    let Update::Trouble(trouble) = next(&mut updates).await else {
        panic!("an event")
    };
    assert_eq!(trouble.pod, "shop/web-gone");
    assert_eq!(
        trouble.error,
        format!("its proxy cannot be reached at {closed}")
    );
    let (address, _) = FakeProxy::default().start().await;
    cluster.pods.insert(key("web-late"), pod(address));
    assert!(matches!(next(&mut updates).await, Update::Event(_)));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_with_what_to_do() {
    let cluster = cluster();
    let proxy = FakeProxy {
        refuses: true,
        ..FakeProxy::default()
    };
    let (address, _) = proxy.start().await;
    cluster.pods.insert(key("web-1"), pod(address));
    let mut client = client(&cluster, &["web"]).await;
    let answer = client.tap_by_resource(request(&SECRET)).await;
    let mut updates = answer.expect("allowed").into_inner();
    let Update::Trouble(trouble) = next(&mut updates).await else {
        panic!("an event")
    };
    assert!(
        trouble.error.contains("--tls=optional"),
        "{}",
        trouble.error
    );
}

#[tokio::test]
async fn nobody_watches_without_a_proof_nor_with_one_that_has_served() {
    let cluster = cluster();
    let (address, _) = FakeProxy::default().start().await;
    cluster.pods.insert(key("web-1"), pod(address));
    let mut client = client(&cluster, &["web"]).await;
    let other = [8; tap::SECRET_BYTES];
    for (secret, words) in [
        (&[][..], "does not prove who asks"),
        (&other[..], "not known to the API server"),
    ] {
        let status = client
            .tap_by_resource(request(secret))
            .await
            .expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(words), "{status}");
    }
    let first = client.tap_by_resource(request(&SECRET)).await;
    assert!(first.is_ok(), "{first:?}");
    let status = client
        .tap_by_resource(request(&SECRET))
        .await
        .expect_err("used up");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("served before"), "{status}");
}

#[tokio::test]
async fn a_user_without_the_right_is_refused_and_told_which_it_is() {
    let mut client = client(&cluster(), &[]).await;
    let status = client
        .tap_by_resource(request(&SECRET))
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "user \"jane\" cannot watch resource \"deployments/tap\" in API group \"tap.linkerd.io\" \
         in the namespace \"shop\": ask for that right"
    );
}

#[tokio::test]
async fn a_user_may_have_so_many_taps_and_one_more_when_one_has_ended() {
    let cluster = cluster();
    let (address, _) = FakeProxy::default().start().await;
    cluster.pods.insert(key("web-1"), pod(address));
    let mut client = client(&cluster, &["web"]).await;
    let mut secrets = (100..=u8::MAX).map(secret);
    let mut next = || secrets.next().expect("there are enough");
    let mut taps = Vec::new();
    let refusal = loop {
        match client.tap_by_resource(request(&next())).await {
            Ok(tap) => taps.push(tap.into_inner()),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(
        (taps.len(), refusal.code(), refusal.message()),
        (
            12,
            Code::ResourceExhausted,
            "user \"jane\" has 12 taps under way, and nobody may have more: end one of them first"
        )
    );
    // The server hears a moment later that the client has gone.
    taps.pop();
    while let Err(refusal) = client.tap_by_resource(request(&next())).await {
        assert_eq!(refusal.code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn a_tap_ends_when_the_right_to_it_is_taken_away() {
    let cluster = cluster();
    let (address, _) = FakeProxy::default().start().await;
    cluster.pods.insert(key("web-1"), pod(address));
    let may = Arc::new(AtomicBool::new(true));
    let asked = may.clone();
    let kubernetes = kubernetes_letting(move |_| asked.load(Relaxed));
    let mut client = api_with(cluster, &closed_url(), kubernetes).await;
    let answer = client.tap_by_resource(request(&SECRET)).await;
    let mut updates = answer.expect("allowed").into_inner();
    assert!(matches!(next(&mut updates).await, Update::Event(_)));
    may.store(false, Relaxed);
    // The minutes until the API server is asked again pass at once.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let status = loop {
        match updates.message().await {
            Ok(update) => assert!(update.is_some(), "it ends without a word"),
            Err(status) => break status,
        }
        assert!(began.elapsed() < Duration::from_secs(300), "it goes on");
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status
            .message()
            .starts_with("the right to it is gone: user \"jane\" cannot watch"),
        "{status}"
    );
}

#[tokio::test]
async fn a_target_without_meshed_pods_is_an_error() {
    let mut client = client(&cluster(), &["web"]).await;
    let status = client
        .tap_by_resource(request(&SECRET))
        .await
        .expect_err("nothing to watch");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("is meshed"), "{status}");
}

/// A question about what goes to a resource.
fn to(kind: &str, namespace: &str, name: &str) -> TapByResourceRequest {
    let destination = Kind::Destination(Resource {
        namespace: namespace.into(),
        r#type: kind.into(),
        name: name.into(),
    });
    let destination = Match {
        r#match: Some(destination),
    };
    TapByResourceRequest {
        r#match: Some(Match {
            r#match: Some(Kind::All(Seq {
                matches: vec![destination],
            })),
        }),
        ..request(&SECRET)
    }
}

#[tokio::test]
async fn a_destination_that_does_not_exist_is_an_error_and_no_silence() {
    let cluster = cluster();
    let (address, _) = FakeProxy::default().start().await;
    cluster.pods.insert(key("web-1"), pod(address));
    for (destination, message) in [
        (
            to("deployment", "", "nope"),
            "deployment.apps \"nope\" not found",
        ),
        (to("service", "shop", "web"), "service \"web\" not found"),
        (to("namespace", "", "nope"), "namespace \"nope\" not found"),
    ] {
        let mut client = client(&cluster, &["web"]).await;
        let status = client.tap_by_resource(destination).await;
        let status = status.expect_err("not there");
        assert_eq!((status.code(), status.message()), (Code::NotFound, message));
    }
    // Named without a namespace it may be in any.
    let mut client = client(&cluster, &["web"]).await;
    let answer = client.tap_by_resource(to("deployment", "", "web")).await;
    let mut updates = answer.expect("there").into_inner();
    assert!(matches!(next(&mut updates).await, Update::Event(_)));
}

#[tokio::test]
async fn an_empty_and_a_missing_namespace_are_told_apart() {
    let cluster = cluster();
    let all = TapByResourceRequest {
        target: Some(deployment("")),
        ..request(&SECRET)
    };
    let mut client_of_all = client(&cluster, &[""]).await;
    let status = client_of_all.tap_by_resource(all.clone()).await;
    assert_eq!(
        status.expect_err("no pod").message(),
        "no running pod of any deployment in namespace \"shop\" is meshed by this control plane"
    );
    cluster
        .namespaces
        .remove(&(String::new(), "shop".to_owned()));
    let mut client = client(&cluster, &[""]).await;
    let status = client.tap_by_resource(all).await.expect_err("nothing");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "namespace \"shop\" not found")
    );
}
