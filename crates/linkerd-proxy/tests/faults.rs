//! What breaks around the proxy: certificates in rotation, the destination service, endpoints, and
//! the proxy's own end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{
    Authority, Endpoint, PATIENCE, SERVICE, app, config, destination, get, identity, mesh, start,
    with_control, with_tls,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use linkerd_proxy::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

async fn hello() -> std::net::SocketAddr {
    app::http1(|_| async { Response::new(app::full("hello")) }).await
}

#[tokio::test]
async fn certificates_rotate_under_load_without_a_failed_request() {
    let mesh = mesh(hello().await).await;
    let folder = mesh.authority.issue("server");
    let requests = Arc::new(AtomicUsize::new(0));
    let outbound = mesh.client.outbound;
    let counted = requests.clone();
    let load = tokio::spawn(async move {
        loop {
            assert_eq!(get(outbound, "/").await, (200, "hello".to_owned()));
            counted.fetch_add(1, Relaxed);
        }
    });
    for n in 2..=20 {
        common::identity::project(
            &folder,
            &mesh.authority.root,
            &mesh.authority.leaf("server"),
        );
        let reloaded = ["tls_config_reload_total{status=\"reloaded\"}"];
        mesh.server.metric_reaches(&reloaded, f64::from(n)).await;
        let before = requests.load(Relaxed);
        while requests.load(Relaxed) < before + 3 && !load.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    assert!(!load.is_finished(), "every request was answered");
    load.abort();
    let failures = mesh
        .client
        .metric(&["response_total", "classification=\"failure\""])
        .await;
    assert_eq!(failures, None);
    let plain = mesh
        .client
        .metric(&["response_total", "no_tls_reason"])
        .await;
    assert_eq!(plain, None, "every request was encrypted");
}

#[tokio::test]
async fn the_certificate_in_use_says_when_it_ends_and_who_vouches_for_it() {
    let mesh = mesh(hello().await).await;
    let folder = mesh.authority.issue("server");
    let issued = mesh.authority.leaf("server");
    common::identity::project(&folder, &mesh.authority.root, &issued);
    let reloaded = ["tls_config_reload_total{status=\"reloaded\"}"];
    mesh.server.metric_reaches(&reloaded, 2.0).await;
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs() as f64;
    let leaf = &issued.leaf;
    let anchor =
        "identity_trust_anchor_expiration_timestamp_seconds{name=\"Cluster-local Managed Pod CA\"";
    for (name, at) in [
        (
            "identity_cert_expiration_timestamp_seconds",
            leaf.not_after(),
        ),
        ("identity_cert_renewal_timestamp_seconds", leaf.renew_at()),
        (anchor, mesh.authority.root.not_after()),
    ] {
        assert_eq!(
            mesh.server.metric(&[name]).await,
            Some(seconds(at)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn torn_and_wrong_files_leave_the_old_credentials_in_force() {
    let mesh = mesh(hello().await).await;
    let folder = mesh.authority.issue("server").join("..data");
    let good = mesh.authority.leaf("server");
    let other = mesh.authority.leaf("other");
    let foreign = Authority::new().leaf("server");
    let bad: [(&str, &[u8], &str); 7] = [
        (
            "certificate.crt",
            &good.leaf.as_der()[..100],
            "invalid_end_entity_cert",
        ),
        ("certificate.crt", b"", "invalid_end_entity_cert"),
        (
            "certificate.crt",
            other.leaf.as_der(),
            "invalid_end_entity_cert",
        ),
        (
            "certificate.crt",
            foreign.leaf.as_der(),
            "invalid_end_entity_cert",
        ),
        (
            "private-key.p8",
            good.key.as_pkcs8_der(),
            "invalid_private_key",
        ),
        ("private-key.p8", b"garbage", "invalid_private_key"),
        (
            "trust-anchors.pem",
            b"-----BEGIN nothing",
            "invalid_trust_anchors",
        ),
    ];
    for (file, bytes, status) in bad {
        let old = std::fs::read(folder.join(file)).unwrap();
        let parts = [&*format!("tls_config_reload_total{{status=\"{status}\"")];
        let before = mesh.server.metric(&parts).await.unwrap_or(0.0);
        std::fs::write(folder.join(file), bytes).unwrap();
        mesh.server.metric_reaches(&parts, before + 1.0).await;
        assert_eq!(get(mesh.client.outbound, "/").await.0, 200);
        std::fs::write(folder.join(file), old).unwrap();
    }
    let plain = mesh
        .client
        .metric(&["response_total", "no_tls_reason"])
        .await;
    assert_eq!(plain, None, "every request was encrypted");
}

#[tokio::test]
async fn known_endpoints_stay_while_the_destination_service_is_away_and_follow_it_afterwards() {
    let mesh = mesh(hello().await).await;
    assert_eq!(get(mesh.client.outbound, "/").await.0, 200);
    mesh.destination.stop();
    // New connections to known and to unknown addresses: at once.
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(get(mesh.client.outbound, "/").await.0, 200);
        assert!(started.elapsed() < Duration::from_millis(500));
    }
    let again = mesh.destination.restart().await;
    let other = app::http1(|_| async { Response::new(app::full("other")) }).await;
    again.set(SERVICE, &[Endpoint::plain(other)]);
    timeout(PATIENCE, async {
        while get(mesh.client.outbound, "/").await.1 != "other" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it follows after the restart");
}

#[tokio::test]
async fn a_service_without_endpoints_is_waited_for_and_then_named_in_the_error() {
    let destination = destination::start().await;
    let mut config = Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(config(), destination.address)
    };
    config.limits.endpoint_wait = Duration::from_millis(200);
    let client = start(config);
    destination.set(SERVICE, &[Endpoint::plain(hello().await)]);
    assert_eq!(get(client.outbound, "/").await.0, 200);
    destination.tell(SERVICE, destination::none(true));
    let request = "GET / HTTP/1.1\r\nHost: web.ns\r\nConnection: close\r\n\r\n";
    let answer = timeout(PATIENCE, async {
        loop {
            let answer = common::request(client.outbound, request).await;
            if !answer.starts_with("HTTP/1.1 200") {
                return answer;
            }
        }
    })
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("l5d-proxy-error: web.ns has no ready endpoints"),
        "{answer}"
    );
    assert_eq!(
        common::exchange(client.outbound, b"\0").await,
        b"",
        "bytes: closed"
    );
    client
        .metric_reaches(
            &[
                "response_total",
                "dst_namespace=\"ns\",dst_service=\"web\"",
                "status_code=\"503\"",
            ],
            1.0,
        )
        .await;

    // An endpoint that comes while a request waits serves it.
    let waiting = tokio::spawn(async move { common::request(client.outbound, request).await });
    destination.set(SERVICE, &[Endpoint::plain(hello().await)]);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_go_round_an_endpoint_that_is_down() {
    let mesh = mesh(hello().await).await;
    let dead = "127.0.0.2:1".parse().unwrap();
    let alive = mesh.server.inbound;
    let server = identity("server");
    mesh.destination.set(
        SERVICE,
        &[
            Endpoint::meshed(dead, &server),
            Endpoint::meshed(alive, &server),
        ],
    );
    for _ in 0..30 {
        assert_eq!(get(mesh.client.outbound, "/").await.0, 200);
        assert_eq!(
            common::exchange(mesh.client.outbound, b"GET / HTTP/1.0\r\n\r\n").await[9..12],
            *b"200"
        );
    }
}

#[tokio::test]
async fn a_request_that_broke_off_is_not_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let app = app::tcp(move |mut stream| {
        let counted = counted.clone();
        async move {
            let mut buffer = [0; 1024];
            if let Ok(n @ 1..) = stream.read(&mut buffer).await {
                counted.fetch_add(usize::from(n > 0), Relaxed);
            }
        }
    })
    .await;
    let mesh = mesh(app).await;
    let request =
        "POST / HTTP/1.1\r\nHost: web.ns\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    let answer = common::request(mesh.client.outbound, request).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(seen.load(Relaxed), 1);
}

#[tokio::test]
async fn the_end_lets_what_is_under_way_finish() {
    // Answers when told to.
    let (release, released) = tokio::sync::watch::channel(false);
    let app = app::http1(move |_: Request<Incoming>| {
        let mut released = released.clone();
        async move {
            released.wait_for(|r| *r).await.unwrap();
            Response::new(app::full("late"))
        }
    })
    .await;
    let mesh = mesh(app).await;
    let inbound = mesh.server.inbound;
    let request = "GET / HTTP/1.1\r\nHost: web.ns\r\n\r\n";
    let under_way = tokio::spawn(async move { common::request(inbound, request).await });
    mesh.server
        .metric_reaches(
            &["tcp_open_connections{direction=\"inbound\",peer=\"dst\""],
            1.0,
        )
        .await;

    mesh.server.shutdown.cancel();
    timeout(PATIENCE, async {
        while TcpStream::connect(inbound).await.is_ok() {}
    })
    .await
    .expect("nothing new is accepted");
    assert!(!mesh.server.task.is_finished());
    // The application may still call out.
    assert!(TcpStream::connect(mesh.server.outbound).await.is_ok());
    release.send(true).unwrap();
    let answer = under_way.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("late"),
        "{answer}"
    );
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    timeout(PATIENCE, mesh.server.task)
        .await
        .expect("then it ends")
        .unwrap();
}

#[tokio::test]
async fn the_end_comes_in_time_even_when_a_connection_does_not_end() {
    let app = app::echo().await;
    let mut config = Config {
        inbound_forward: Some(app),
        ..config()
    };
    config.limits.drain_timeout = Duration::from_millis(100);
    let server = start(config);
    let mut client = TcpStream::connect(server.inbound).await.unwrap();
    client.write_all(b"\0").await.unwrap();
    client.read_u8().await.unwrap();
    server.shutdown.cancel();
    timeout(PATIENCE, server.task)
        .await
        .expect("it ends")
        .unwrap();
}

#[tokio::test]
async fn http2_clients_are_told_to_go_away_at_the_end() {
    let app = app::http2(|_| async { Response::new(app::full("x")) }).await;
    let server = start(Config {
        inbound_forward: Some(app),
        ..config()
    });
    let mut client = app::http2_client(server.inbound).await;
    let request = || Request::get("http://web.ns/").body(app::full("")).unwrap();
    let response = client.send_request(request()).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "x"
    );
    server.shutdown.cancel();
    timeout(PATIENCE, server.task)
        .await
        .expect("it ends")
        .unwrap();
    assert!(client.send_request(request()).await.is_err());
}

#[tokio::test]
async fn readiness_waits_for_the_first_certificate_and_not_for_ever() {
    let authority = Authority::new();
    let folder = authority.empty("a");
    let waiting = start(with_tls(config(), &folder, &identity("a")));
    assert_eq!(get(waiting.admin, "/ready").await.0, 503);
    assert_eq!(get(waiting.admin, "/live").await.0, 200);
    common::identity::project(&folder, &authority.root, &authority.leaf("a"));
    waiting.ready().await;

    let mut never = with_tls(config(), &authority.empty("b"), &identity("b"));
    never.limits.ready_timeout = Duration::from_millis(50);
    start(never).ready().await;
}

#[tokio::test]
async fn connections_to_the_proxy_itself_are_refused() {
    let server = start(config());
    for address in [server.inbound, server.outbound] {
        assert_eq!(
            common::exchange(address, b"GET / HTTP/1.1\r\n\r\n").await,
            b""
        );
    }
}

/// A handshake that came while the application was down was closed, and the peer took that for a
/// proxy without TLS.
#[tokio::test]
async fn an_application_that_is_down_is_told_through_mutual_tls() {
    let mesh = mesh("127.0.0.2:1".parse().unwrap()).await;
    // The other side is slow enough to be dialled for.
    let wire = common::wire::slow_to(mesh.server.inbound).await;
    mesh.destination
        .set(SERVICE, &[Endpoint::meshed(wire, &identity("server"))]);
    let request = "GET / HTTP/1.1\r\nHost: web.ns\r\nConnection: close\r\n\r\n";
    let answer = common::request(mesh.client.outbound, request).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("Connection refused"), "{answer}");
    mesh.client
        .metric_reaches(&["response_total", "tls=\"true\"", "\"502\""], 1.0)
        .await;
}
