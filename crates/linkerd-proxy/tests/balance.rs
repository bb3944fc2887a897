//! Endpoints that turn slow, fail, come back or go, under load through real proxies.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{
    Authority, Destination, Endpoint, PATIENCE, Running, SERVICE, app, config, destination,
    identity, start, with_control, with_tls,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use linkerd_proxy::Config;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// All tests of this file run at once, and each with as much load as the machine can take.
const LOADED_PATIENCE: Duration = Duration::from_secs(60);

const GOOD: usize = 0;
const SLOW: usize = 1;
const FAILING: usize = 2;

/// An application behind a proxy of its own.
struct Pod {
    asked: Arc<AtomicUsize>,
    mode: Arc<AtomicUsize>,
    proxy: Running,
    endpoint: Endpoint,
}

/// A client's proxy and the pods of the Service that it calls.
struct World {
    authority: Authority,
    destination: Destination,
    client: Running,
    pods: Vec<Pod>,
}

async fn pod(authority: &Authority) -> Pod {
    let (asked, mode) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(GOOD)),
    );
    let (asked_app, mode_app) = (asked.clone(), mode.clone());
    let app = app::http1(move |_| {
        asked_app.fetch_add(1, Relaxed);
        let mode = mode_app.load(Relaxed);
        async move {
            if mode == SLOW {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let mut response = Response::new(app::full("hello"));
            if mode == FAILING {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    })
    .await;
    let name = identity("server");
    let proxy = start(Config {
        inbound_forward: Some(app),
        ..with_tls(config(), &authority.issue("server"), &name)
    });
    proxy.ready().await;
    let endpoint = Endpoint::meshed(proxy.inbound, &name);
    Pod {
        asked,
        mode,
        proxy,
        endpoint,
    }
}

async fn world(pods: usize) -> World {
    let authority = Authority::new();
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    };
    config.limits.ejection_pause = (Duration::from_millis(100), Duration::from_millis(400));
    let client = start(config);
    client.ready().await;
    let mut world = World {
        authority,
        destination,
        client,
        pods: Vec::new(),
    };
    for _ in 0..pods {
        world.pods.push(pod(&world.authority).await);
    }
    world.tell();
    world
}

impl World {
    /// Tells the destination service who is there.
    fn tell(&self) {
        let endpoints: Vec<Endpoint> = self.pods.iter().map(|p| p.endpoint.clone()).collect();
        self.destination.set(SERVICE, &endpoints);
    }

    /// Waits until the share of the first pod, of some hundred requests, is what `is_good` wants.
    async fn share_of_first(&self, is_good: impl Fn(f64) -> bool) {
        let counts = || -> Vec<usize> { self.pods.iter().map(|p| p.asked.load(Relaxed)).collect() };
        let wait = async {
            loop {
                let before = counts();
                let window = loop {
                    let after = counts();
                    let window: Vec<usize> =
                        after.iter().zip(&before).map(|(a, b)| a - b).collect();
                    if window.iter().sum::<usize>() >= 300 {
                        break window;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                };
                let share = window[0] as f64 / window.iter().sum::<usize>() as f64;
                if is_good(share) {
                    return;
                }
            }
        };
        timeout(LOADED_PATIENCE, wait)
            .await
            .expect("the share in time");
    }
}

/// Requests without a pause until it is dropped or ended.
struct Load {
    workers: Vec<tokio::task::JoinHandle<()>>,
    failed: Arc<AtomicUsize>,
    stop: tokio_util::sync::CancellationToken,
}

impl Load {
    /// Each worker keeps one connection.
    fn start(proxy: SocketAddr) -> Self {
        let failed = Arc::new(AtomicUsize::new(0));
        let stop = tokio_util::sync::CancellationToken::new();
        let workers = (0..20)
            .map(|_| tokio::spawn(work(proxy, failed.clone(), stop.clone())))
            .collect();
        Self {
            workers,
            failed,
            stop,
        }
    }

    /// Ends it; how many requests had another answer than 200.
    async fn end(self) -> usize {
        self.stop.cancel();
        for worker in self.workers {
            worker.await.unwrap();
        }
        self.failed.load(Relaxed)
    }
}

async fn work(
    proxy: SocketAddr,
    failed: Arc<AtomicUsize>,
    stop: tokio_util::sync::CancellationToken,
) {
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    while !stop.is_cancelled() {
        let request = Request::get("/").header("host", "web.ns");
        sender.ready().await.unwrap();
        let response = sender
            .send_request(request.body(app::full("")).unwrap())
            .await
            .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        if status != 200 || body != "hello" {
            failed.fetch_add(1, Relaxed);
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_turns_slow_is_left() {
    let world = world(3).await;
    let load = Load::start(world.client.outbound);
    world.share_of_first(|share| share > 0.1).await;
    world.pods[0].mode.store(SLOW, Relaxed);
    world.share_of_first(|share| share < 0.05).await;
    assert_eq!(load.end().await, 0);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_and_found_again() {
    let world = world(2).await;
    let load = Load::start(world.client.outbound);
    world.share_of_first(|share| share > 0.1).await;
    world.pods[0].mode.store(FAILING, Relaxed);
    let ejected = ["endpoint_ejections_total", "failing"];
    world.client.metric_reaches(&ejected, 1.0).await;
    let count = ["outbound_endpoints", "service=\"web.ns\"", "ejected"];
    world.client.metric_reaches(&count, 1.0).await;
    world.share_of_first(|share| share < 0.05).await;
    world.pods[0].mode.store(GOOD, Relaxed);
    world.share_of_first(|share| share > 0.1).await;
    let back = ["endpoint_recoveries_total"];
    world.client.metric_reaches(&back, 1.0).await;
    // Those that ejected it, those under way then, and probes; not a third of all.
    let failed = load.end().await;
    assert!((1..100).contains(&failed), "{failed}");
}

#[tokio::test]
async fn where_all_fail_all_are_used() {
    let world = world(3).await;
    let load = Load::start(world.client.outbound);
    for pod in &world.pods {
        pod.mode.store(FAILING, Relaxed);
    }
    let count = ["outbound_endpoints", "service=\"web.ns\"", "ejected"];
    world.client.metric_reaches(&count, 3.0).await;
    world.share_of_first(|share| share > 0.1).await;
    for pod in &world.pods {
        pod.mode.store(GOOD, Relaxed);
    }
    let ready = ["outbound_endpoints", "service=\"web.ns\"", "ready"];
    world.client.metric_reaches(&ready, 3.0).await;
    world.share_of_first(|share| share > 0.1).await;
    assert!(load.end().await > 0);
}

/// A rollout: a new pod comes, an old one is taken out and ends once its connections are gone.
#[tokio::test]
async fn endpoints_that_come_and_go_under_load_cost_no_request() {
    let mut world = world(3).await;
    let load = Load::start(world.client.outbound);
    for _ in 0..4 {
        world.share_of_first(|share| share > 0.1).await;
        world.pods.push(pod(&world.authority).await);
        let gone = world.pods.remove(0);
        world.tell();
        let open = [
            "tcp_open_connections{direction=\"inbound\",peer=\"src\"",
            "tls=\"true\"",
        ];
        let left = async {
            while gone.proxy.metric(&open).await.is_some_and(|n| n > 0.0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LOADED_PATIENCE, left)
            .await
            .expect("it is left, idle connections too");
        drop(gone);
    }
    assert_eq!(load.end().await, 0);
}

#[tokio::test]
async fn connections_go_round_an_endpoint_that_is_down_and_find_it_when_it_is_back() {
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(config(), destination.address)
    };
    config.limits.ejection_pause = (Duration::from_millis(100), Duration::from_millis(400));
    let client = start(config);
    let says = |name: &'static str| {
        move |mut stream: TcpStream| async move {
            let _ = stream.write_all(name.as_bytes()).await;
        }
    };
    let alive = app::tcp(says("alive")).await;
    // The same port of another address: nobody listens there.
    let down = SocketAddr::new([127, 0, 0, 3].into(), alive.port());
    destination.set(SERVICE, &[Endpoint::plain(down), Endpoint::plain(alive)]);
    for _ in 0..30 {
        assert_eq!(common::exchange(client.outbound, b"\0").await, b"alive");
    }
    let ejected = ["endpoint_ejections_total", "unreachable"];
    client.metric_reaches(&ejected, 1.0).await;
    app::tcp_at(&down.to_string(), says("back")).await;
    let found = async { while common::exchange(client.outbound, b"\0").await != b"back" {} };
    timeout(PATIENCE, found).await.expect("it is found again");
}

/// Its proxy takes every connection.
#[tokio::test]
async fn bytes_go_round_a_meshed_application_that_is_down_and_find_it_when_it_is_back() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    };
    config.limits.ejection_pause = (Duration::from_secs(1), Duration::from_secs(4));
    let client = start(config);
    client.ready().await;
    let alive = app::greeter().await;
    // The same port of another address: nobody listens there.
    let down = SocketAddr::new([127, 0, 0, 3].into(), alive.port());
    let name = identity("server");
    let mut proxies = Vec::new();
    for app in [down, alive] {
        let proxy = start(Config {
            inbound_forward: Some(app),
            ..with_tls(common::config(), &authority.issue("server"), &name)
        });
        proxy.ready().await;
        proxies.push(proxy);
    }
    let endpoints: Vec<_> = proxies
        .iter()
        .map(|proxy| Endpoint::meshed(proxy.inbound, &name))
        .collect();
    destination.set(SERVICE, &endpoints);
    let mut lost = 0;
    for _ in 0..40 {
        let answer = common::exchange(client.outbound, b"\0").await;
        lost += usize::from(answer != b"220 hello\r\n\0");
    }
    // The first one and probes, not each second.
    assert!((1..=6).contains(&lost), "{lost}");
    let ejected = ["endpoint_ejections_total", "unreachable"];
    client.metric_reaches(&ejected, 1.0).await;
    app::echo_at(&down.to_string()).await;
    let found = async { while common::exchange(client.outbound, b"\0").await != b"\0" {} };
    timeout(PATIENCE, found).await.expect("it is found again");
    client
        .metric_reaches(&["endpoint_recoveries_total"], 1.0)
        .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_although_nobody_asks_again() {
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(config(), destination.address)
    };
    config.limits.idle_connection_age = Duration::from_millis(100);
    let client = start(config);
    let app = app::http1(|_| async { Response::new(app::full("hello")) }).await;
    destination.set(SERVICE, &[Endpoint::plain(app)]);
    let open = ["tcp_open_connections", "peer=\"dst\"", "peer_not_meshed"];
    assert_eq!(common::get(client.outbound, "/").await.0, 200);
    let closed = async {
        while client.metric(&open).await.is_none_or(|n| n > 0.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it is closed");
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_closed_and_one_in_use_is_not() {
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(config(), destination.address)
    };
    config.limits.shared_idle = Duration::from_millis(20);
    let client = start(config);
    let app = app::http2(|request| async move {
        let endless = futures::stream::pending();
        Response::new(match request.uri().path() {
            "/endless" => BodyExt::boxed(http_body_util::StreamBody::new(endless)),
            _ => app::full("hello"),
        })
    })
    .await;
    destination.set(SERVICE, &[Endpoint::plain(app)]);
    let get = async |path: &str| {
        let mut sender = app::http2_client(client.outbound).await;
        let request = Request::get(format!("http://web.ns{path}"));
        let request = request.body(app::full("")).unwrap();
        timeout(PATIENCE, sender.send_request(request)).await
    };
    let of_app = ["peer=\"dst\"", "peer_not_meshed"];
    let opened = [of_app.as_slice(), &["tcp_open_total"]].concat();
    let open = [of_app.as_slice(), &["tcp_open_connections"]].concat();
    let endless = get("/endless").await.unwrap().unwrap();
    // Many times the limit.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(get("/").await.unwrap().unwrap().status(), 200);
    assert_eq!(client.metric(&opened).await, Some(1.0));
    drop(endless);
    let closed = async {
        while client.metric(&open).await.is_none_or(|n| n > 0.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it is closed");
    assert_eq!(get("/").await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn an_error_of_ours_says_which_service_and_how_its_endpoints_are() {
    let destination = destination::start().await;
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(config(), destination.address)
    });
    let dead = ["127.0.0.2:1", "127.0.0.3:1"].map(|a| Endpoint::plain(a.parse().unwrap()));
    destination.set(SERVICE, &dead);
    let census = "endpoints: 2 known, 0 ready, 2 ejected";
    let request = "GET / HTTP/1.1\r\nHost: web.ns\r\nConnection: close\r\n\r\n";
    let answer = common::request(client.outbound, request).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let header = answer.lines().find(|l| l.starts_with("l5d-proxy-error: "));
    let header = header.unwrap();
    for part in [
        "web.ns: tried 2 of 2 endpoints",
        "Connection refused",
        census,
    ] {
        assert!(header.contains(part), "{header}");
    }

    let mut grpc = app::http2_client(client.outbound).await;
    let request = Request::post("http://web.ns/a.B/C")
        .header("content-type", "application/grpc")
        .body(app::full(""))
        .unwrap();
    let response = grpc.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains(census), "{message}");
}

#[tokio::test]
async fn an_idle_connection_between_proxies_ends_in_good_order() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    };
    config.limits.idle_connection_age = Duration::from_millis(50);
    let client = start(config);
    client.ready().await;
    let pod = pod(&authority).await;
    destination.set(SERVICE, std::slice::from_ref(&pod.endpoint));
    assert_eq!(common::get(client.outbound, "/").await.0, 200);
    let closed = ["tcp_close_total", "inbound", "peer=\"src\"", "tls=\"true\""];
    pod.proxy.metric_reaches(&closed, 1.0).await;
    let failed = [closed.as_slice(), &["failure"]].concat();
    assert_eq!(pod.proxy.metric(&failed).await, None);
}
