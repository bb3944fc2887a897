//! The proxy says whether the application listens, as kubelet has it ask.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use common::{Authority, Running, app, config, get, identity, start, with_tls};
use linkerd_proxy::Config;
use tokio::net::TcpStream;

/// A proxy that may be asked about this port, at any address.
fn proxy(port: u16, timeout: Duration) -> Running {
    start(Config {
        metrics_listener: "0.0.0.0:0".parse().unwrap(),
        tcp_probes: vec![(port, timeout)],
        ..config()
    })
}

/// What it answers on an address of its own.
async fn ask(proxy: &Running, ip: &str, port: impl std::fmt::Display) -> (u16, String) {
    let address = SocketAddr::new(ip.parse().unwrap(), proxy.admin.port());
    get(address, &format!("/probe/tcp/{port}")).await
}

#[tokio::test]
async fn a_probe_passes_while_the_application_listens() {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = proxy(address.port(), Duration::from_secs(5));
    let (status, body) = ask(&proxy, "127.0.0.2", address.port()).await;
    assert_eq!((status, body.as_str()), (200, "connected\n"));
    // As the probe of a port with a name has it.
    let named = format!("{}?name=sql", address.port());
    assert_eq!(ask(&proxy, "127.0.0.2", named).await.0, 200);

    drop(listener);
    let (status, body) = ask(&proxy, "127.0.0.2", address.port()).await;
    assert_eq!(status, 503);
    let expected = format!("cannot connect to {address}: Connection refused (os error 111)\n");
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_application_is_asked_at_the_address_at_which_the_probe_came() {
    let address = app::echo_at("127.0.0.3:0").await;
    let proxy = proxy(address.port(), Duration::from_secs(5));
    assert_eq!(ask(&proxy, "127.0.0.3", address.port()).await.0, 200);
    assert_eq!(ask(&proxy, "127.0.0.1", address.port()).await.0, 503);
}

#[tokio::test]
async fn nobody_learns_of_ports_that_no_probe_is_for() {
    let [probed, other] = [app::echo().await, app::echo().await];
    let proxy = proxy(probed.port(), Duration::from_secs(5));
    let other = other.port().to_string();
    for port in [other.as_str(), "0", "65536", "", "x", "127.0.0.1:80"] {
        let (status, body) = ask(&proxy, "127.0.0.2", port).await;
        let expected = (404, "no TCP probe of this pod is for that port\n");
        assert_eq!((status, body.as_str()), expected, "{port}");
    }
    // A pod without such probes.
    let without = start(config());
    let path = format!("/probe/tcp/{other}");
    assert_eq!(get(without.admin, &path).await.0, 404);
}

/// With TLS the port looks at what comes before it answers.
#[tokio::test]
async fn a_probe_in_plaintext_passes_where_there_is_mesh_tls() {
    let authority = Authority::new();
    let address = app::echo().await;
    let config = with_tls(config(), &authority.issue("server"), &identity("server"));
    let proxy = start(Config {
        tcp_probes: vec![(address.port(), Duration::from_secs(5))],
        ..config
    });
    // Before there is a certificate, too: others are told of that by `/ready`.
    let path = format!("/probe/tcp/{}", address.port());
    assert_eq!(get(proxy.admin, &path).await.0, 200);
}

#[tokio::test]
async fn a_probe_of_an_application_that_accepts_nothing_more_fails_before_kubelet_gives_up() {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.2:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queue.push(connected.unwrap());
    }

    let proxy = proxy(address.port(), Duration::from_millis(600));
    let (status, body) = ask(&proxy, "127.0.0.2", address.port()).await;
    let expected = format!("{address} has not accepted within 500ms\n");
    assert_eq!((status, body), (503, expected));
}
