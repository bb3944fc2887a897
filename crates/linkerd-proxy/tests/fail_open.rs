//! TLS is optional: whatever keeps two sides from it is told as a reason, and the application never
//! notices. Only a peer that is somebody else is never spoken to.

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
    Authority, Destination, Endpoint, PATIENCE, Running, SERVICE, app, config, destination, get,
    identity, start, with_control, with_tls,
};
use http::Response;
use linkerd_proxy::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

async fn hello() -> SocketAddr {
    app::http1(|_| async { Response::new(app::full("hello")) }).await
}

/// A client's proxy whose application connects to the Service.
fn client(config: Config, destination: &Destination) -> Running {
    let outbound_forward = Some(SERVICE.parse().unwrap());
    start(Config {
        outbound_forward,
        ..with_control(config, destination.address)
    })
}

fn server(config: Config, app: SocketAddr) -> Running {
    start(Config {
        inbound_forward: Some(app),
        ..config
    })
}

/// A request arrives, and both the label and the reason are right.
async fn arrives_in_plaintext(client: &Running, tls: &str, reason: &str) {
    let (status, body) = get(client.outbound, "/").await;
    assert_eq!((status, body.as_str()), (200, "hello"));
    let labels = format!("tls=\"{tls}\",no_tls_reason=\"{reason}\",classification=\"success\"");
    client
        .metric_reaches(&["response_total", "direction=\"outbound\"", &labels], 1.0)
        .await;
}

#[tokio::test]
async fn injected_without_tls() {
    let destination = destination::start().await;
    let client = client(config(), &destination);
    destination.set(
        SERVICE,
        &[Endpoint::meshed(hello().await, &identity("server"))],
    );
    arrives_in_plaintext(&client, "disabled", "disabled").await;
}

#[tokio::test]
async fn no_credentials_yet_and_tls_from_the_moment_they_are_there() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let server = server(
        with_tls(config(), &authority.issue("server"), &identity("server")),
        hello().await,
    );
    server.ready().await;
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    let folder = authority.empty("client");
    let client = client(
        with_tls(config(), &folder, &identity("client")),
        &destination,
    );

    arrives_in_plaintext(&client, "no_config", "no_credentials").await;
    let plain = [
        "direction=\"inbound\"",
        "no_tls_reason=\"peer_sent_plaintext\",classification=",
    ];
    server.metric_reaches(&plain, 1.0).await;

    common::identity::project(&folder, &authority.root, &authority.leaf("client"));
    client.ready().await;
    assert_eq!(get(client.outbound, "/").await.0, 200);
    client
        .metric_reaches(&["response_total", "tls=\"true\""], 1.0)
        .await;
}

/// Three requests on one connection of the application.
const THREE: &str = "GET / HTTP/1.1\r\nHost: web.ns\r\n\r\n\
    GET / HTTP/1.1\r\nHost: web.ns\r\n\r\n\
    GET / HTTP/1.1\r\nHost: web.ns\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_certificate_that_has_expired_is_as_none() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let server = server(
        with_tls(config(), &authority.issue("server"), &identity("server")),
        hello().await,
    );
    server.ready().await;
    let folder = authority.empty("client");
    let lifetime = Duration::from_secs(3);
    let project = |leaf| common::identity::project(&folder, &authority.root, &leaf);
    project(authority.leaf_for("client", lifetime));
    let mut config = with_control(
        with_tls(config(), &folder, &identity("client")),
        destination.address,
    );
    // Whether to speak TLS to it is decided by the certificate alone.
    config.control.as_mut().unwrap().identity = Some(identity("linkerd-destination"));
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..config
    });
    client.ready().await;
    tokio::time::sleep(lifetime).await;

    // Discovery answers, and the connection to the endpoint is kept.
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    let answers = common::request(client.outbound, THREE).await;
    assert_eq!(answers.matches("hello").count(), 3, "{answers}");
    let plain = "no_tls_reason=\"no_credentials\"";
    client
        .metric_reaches(&["response_total", "direction=\"outbound\"", plain], 3.0)
        .await;
    let opened = ["tcp_open_total", "peer=\"dst\"", "dst_pod=", plain];
    assert_eq!(client.metric(&opened).await, Some(1.0));

    project(authority.leaf("client"));
    let secured = async {
        while client
            .metric(&["response_total", "tls=\"true\""])
            .await
            .is_none()
        {
            assert_eq!(get(client.outbound, "/").await.0, 200);
        }
    };
    timeout(PATIENCE, secured).await.unwrap();
}

#[tokio::test]
async fn kubelets_probes_have_a_reason_of_their_own_and_nobody_elses_requests() {
    let mesh = common::mesh(hello().await).await;
    let get_as = |agent: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: web.ns\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
        )
    };
    for (address, agent, expected) in [
        (
            mesh.server.inbound,
            "kube-probe/1.34",
            "tls=\"no_proxy_tls\",no_tls_reason=\"probe\"",
        ),
        (
            mesh.server.inbound,
            "not-kube-probe/1.34",
            "tls=\"no_proxy_tls\",no_tls_reason=\"peer_sent_plaintext\"",
        ),
        // What comes over TLS is not kubelet's, whatever it calls itself.
        (mesh.client.outbound, "kube-probe/1.34", "tls=\"true\""),
    ] {
        let answer = common::request(address, &get_as(agent)).await;
        assert!(answer.ends_with("hello"), "{agent}: {answer}");
        let labels = format!("direction=\"inbound\",{expected},classification=\"success\"");
        let series = ["response_total", labels.as_str()];
        mesh.server.metric_reaches(&series, 1.0).await;
        assert_eq!(mesh.server.metric(&series).await, Some(1.0), "{agent}");
    }
}

#[tokio::test]
async fn the_peer_is_not_meshed() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;
    destination.set(SERVICE, &[Endpoint::plain(hello().await)]);
    arrives_in_plaintext(&client, "no_identity", "peer_not_meshed").await;
}

#[tokio::test]
async fn the_address_is_outside_of_the_cluster() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let outbound_forward = Some(hello().await);
    let client = start(Config {
        outbound_forward,
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    });
    client.ready().await;
    arrives_in_plaintext(&client, "no_identity", "off_cluster").await;
}

#[tokio::test]
async fn the_destination_service_is_down() {
    let authority = Authority::new();
    let nobody = "127.0.0.9:1".parse().unwrap();
    let outbound_forward = Some(hello().await);
    let client = start(Config {
        outbound_forward,
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            nobody,
        )
    });
    client.ready().await;
    arrives_in_plaintext(&client, "no_identity", "discovery_unavailable").await;
}

#[tokio::test]
async fn the_destination_service_takes_questions_and_does_not_answer() {
    let destination = destination::start().await;
    destination.mute();
    let outbound_forward = Some(hello().await);
    let mut config = Config {
        outbound_forward,
        ..with_control(config(), destination.address)
    };
    config.limits.discovery_timeout = Duration::from_millis(100);
    let client = start(config);
    arrives_in_plaintext(&client, "no_identity", "discovery_unavailable").await;
}

#[tokio::test]
async fn a_destination_service_that_only_takes_connections_is_left_alone_for_longer_and_longer() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let closing = app::tcp(move |_| {
        counted.fetch_add(1, Relaxed);
        async {}
    })
    .await;
    let outbound_forward = Some(hello().await);
    let client = start(Config {
        outbound_forward,
        ..with_control(config(), closing)
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The pauses are 0.2 s, 0.4 s, 0.8 s and so on, less a quarter at most.
    let connected = connections.load(Relaxed);
    assert!((2..8).contains(&connected), "{connected}");
    arrives_in_plaintext(&client, "no_identity", "discovery_unavailable").await;
}

#[tokio::test]
async fn the_destination_service_has_no_place_for_one_question_more() {
    let destination = destination::start().await;
    destination.exhausted(true);
    let app = hello().await;
    let mut config = with_control(config(), destination.address);
    // It does answer, so nothing waits for its answer.
    config.limits.discovery_timeout = 10 * PATIENCE;
    let client = start(Config {
        outbound_forward: Some(app),
        ..config
    });
    let arrives = arrives_in_plaintext(&client, "no_identity", "discovery_unavailable");
    timeout(PATIENCE, arrives).await.expect("no wait");

    destination.set(&app.to_string(), &[Endpoint::plain(hello().await)]);
    destination.exhausted(false);
    // It has asked again, and been told of a Service.
    client
        .metric_reaches(&["outbound_endpoints", "state=\"ready\""], 1.0)
        .await;
}

#[tokio::test]
async fn the_endpoint_is_in_the_clients_own_pod() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;
    let app = hello().await;
    // The proxy's connections to 127.0.0.1 come from 127.0.0.1.
    let own = common::wire::at("127.0.0.1", app).await;
    destination.set(
        SERVICE,
        &[Endpoint::meshed(own.address, &identity("client"))],
    );
    arrives_in_plaintext(&client, "internal_traffic", "loopback").await;
}

#[tokio::test]
async fn a_peer_without_credentials_refuses_at_once_and_a_pause_follows() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let folder = authority.empty("server");
    let server = server(
        with_tls(config(), &folder, &identity("server")),
        app::echo().await,
    );
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;

    for reason in ["handshake_failed", "handshake_backoff"] {
        assert_eq!(common::exchange(client.outbound, b"\0hi").await, b"\0hi");
        let labels = format!("peer=\"dst\",tls=\"handshake_failed\",no_tls_reason=\"{reason}\"");
        client
            .metric_reaches(&["tcp_open_total", &labels], 1.0)
            .await;
    }
}

#[tokio::test]
async fn a_peer_that_hangs_in_the_handshake_costs_one_time_limit() {
    let authority = Authority::new();
    let destination = destination::start().await;
    // It answers plaintext, and takes ClientHellos without a word.
    let app = app::tcp(|mut stream| async move {
        let mut first = [0];
        if stream.read_exact(&mut first).await.is_ok() {
            if first[0] == 22 {
                std::future::pending::<()>().await;
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            let mut rest = [0; 1024];
            let _ = stream.read(&mut rest).await;
            let _ = stream.write_all(answer).await;
        }
    })
    .await;
    destination.set(SERVICE, &[Endpoint::meshed(app, &identity("server"))]);
    let mut config = with_tls(config(), &authority.issue("client"), &identity("client"));
    config.limits.handshake_timeout = Duration::from_millis(100);
    let client = client(config, &destination);
    client.ready().await;
    arrives_in_plaintext(&client, "handshake_failed", "handshake_timeout").await;
}

#[tokio::test]
async fn a_peer_of_another_root() {
    let (authority, other) = (Authority::new(), Authority::new());
    let destination = destination::start().await;
    let server = server(
        with_tls(config(), &other.issue("server"), &identity("server")),
        hello().await,
    );
    server.ready().await;
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;
    arrives_in_plaintext(&client, "handshake_failed", "certificate_invalid").await;
}

#[tokio::test]
async fn a_peer_that_does_not_trust_us_refuses_before_anything_is_lost() {
    let (authority, other) = (Authority::new(), Authority::new());
    let destination = destination::start().await;
    let server = server(
        with_tls(config(), &other.issue("server"), &identity("server")),
        hello().await,
    );
    server.ready().await;
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    let folder = authority.issue("client");
    let both = authority.root.trust_bundle().to_pem() + &other.root.trust_bundle().to_pem();
    std::fs::write(folder.join("trust-anchors.pem"), both).unwrap();
    let client = client(
        with_tls(config(), &folder, &identity("client")),
        &destination,
    );
    client.ready().await;
    arrives_in_plaintext(&client, "handshake_failed", "handshake_failed").await;
}

/// Counts connections and answers.
async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let address = app::http1(move |_| {
        counted.fetch_add(1, Relaxed);
        async { Response::new(app::full("delivered")) }
    })
    .await;
    (address, count)
}

#[tokio::test]
async fn nothing_is_delivered_to_another_workload_at_a_reused_address() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let (app, delivered) = counting().await;
    let other = server(
        with_tls(config(), &authority.issue("other"), &identity("other")),
        app,
    );
    other.ready().await;
    destination.set(
        SERVICE,
        &[Endpoint::meshed(other.inbound, &identity("server"))],
    );
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;

    let answer = common::request(
        client.outbound,
        "GET / HTTP/1.1\r\nHost: web.ns\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("l5d-proxy-error: web.ns: tried 1 of 1 endpoints"),
        "{answer}"
    );
    assert_eq!(common::exchange(client.outbound, b"\0bytes").await, b"");
    assert_eq!(delivered.load(Relaxed), 0);
    // Discovery was asked again.
    timeout(PATIENCE, async {
        while destination.asked() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn many_clients_that_meet_somebody_else_do_not_keep_the_news_away() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let right = server(
        with_tls(config(), &authority.issue("server"), &identity("server")),
        hello().await,
    );
    right.ready().await;
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;
    destination.thinks_ms(50);
    // What is known of the address is out of date.
    destination.set(
        SERVICE,
        &[Endpoint::meshed(right.inbound, &identity("before"))],
    );
    let met = async {
        while destination.asked() < 2 {
            assert_eq!(get(client.outbound, "/").await.0, 502);
        }
    };
    timeout(PATIENCE, met).await.unwrap();
    destination.set(
        SERVICE,
        &[Endpoint::meshed(right.inbound, &identity("server"))],
    );
    let told = async { while get(client.outbound, "/").await.0 != 200 {} };
    timeout(PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn another_endpoint_is_taken_when_one_is_somebody_else() {
    let authority = Authority::new();
    let destination = destination::start().await;
    let (wrong, delivered) = counting().await;
    let other = server(
        with_tls(config(), &authority.issue("other"), &identity("other")),
        wrong,
    );
    let right = server(
        with_tls(config(), &authority.issue("server"), &identity("server")),
        hello().await,
    );
    other.ready().await;
    right.ready().await;
    let client = client(
        with_tls(config(), &authority.issue("client"), &identity("client")),
        &destination,
    );
    client.ready().await;
    destination.set(
        SERVICE,
        &[
            Endpoint::meshed(other.inbound, &identity("server")),
            Endpoint::meshed(right.inbound, &identity("server")),
        ],
    );
    for _ in 0..10 {
        assert_eq!(get(client.outbound, "/").await, (200, "hello".to_owned()));
    }
    assert_eq!(delivered.load(Relaxed), 0);
}

#[tokio::test]
async fn a_mesh_handshake_never_reaches_the_application() {
    let authority = Authority::new();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let app = app::tcp(move |mut stream| {
        let counted = counted.clone();
        async move {
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                counted.fetch_add(n, Relaxed);
            }
        }
    })
    .await;
    let folder = authority.empty("server");
    let server = server(with_tls(config(), &folder, &identity("server")), app);
    let hello = common::client_hello(identity("server").as_str());
    let other = common::client_hello(identity("other").as_str());
    for (hello, alert) in [(hello, 40), (other, 112)] {
        let mut stream = TcpStream::connect(server.inbound).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert]);
    }
    assert_eq!(seen.load(Relaxed), 0);
}
