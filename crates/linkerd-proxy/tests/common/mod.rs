//! Two proxies, a destination service and applications in one process, on loopback addresses.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::let_underscore_must_use,
    clippy::unwrap_used
)]

pub mod app;
pub mod destination;
pub mod identity;
pub mod identity_service;
pub mod wire;

use std::{net::SocketAddr, path::Path, time::Duration};

use linkerd_names::Identity;
use linkerd_proxy::{Config, ControlAddress, Limits, Proxy, TlsFiles, TlsSource};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use destination::{Destination, Endpoint};
pub use identity::Authority;

/// An address that only the destination service knows: a Service's.
pub const SERVICE: &str = "10.96.0.10:80";
/// No test waits longer for an event.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn identity(name: &str) -> Identity {
    format!("{name}.deployment.ns.linkerd-managed.linkerd.svc.cluster.local")
        .parse()
        .unwrap()
}

/// A running proxy. It stops when dropped.
pub struct Running {
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub admin: SocketAddr,
    pub control: SocketAddr,
    pub shutdown: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
    _guard: DropGuard,
}

/// Settings of a proxy on free ports; its own address is not the clients', as a pod's is not.
pub fn config() -> Config {
    let mut config =
        Config::from_env(|name| (name == linkerd_names::env::POD_NAMESPACE).then(|| "ns".into()))
            .unwrap();
    config.outbound_listener = "127.0.0.1:0".parse().unwrap();
    config.inbound_listener = "127.0.0.2:0".parse().unwrap();
    config.metrics_listener = "127.0.0.2:0".parse().unwrap();
    config.control_listener = "127.0.0.2:0".parse().unwrap();
    config.tap_identity = Some(identity("watcher"));
    // Far above what a busy machine needs: a test that is about a limit sets its own.
    config.limits = Limits {
        credentials_poll: Duration::from_millis(20),
        handshake_timeout: PATIENCE,
        accept_timeout: PATIENCE,
        idle_connection_age: PATIENCE,
        ..Limits::default()
    };
    config
}

pub fn with_tls(mut config: Config, folder: &Path, identity: &Identity) -> Config {
    config.tls = Some(TlsSource::Files(TlsFiles {
        trust_anchors: folder.join("trust-anchors.pem"),
        certificate: folder.join("certificate.crt"),
        private_key: folder.join("private-key.p8"),
        identity: identity.clone(),
    }));
    config
}

pub fn with_control(mut config: Config, control: SocketAddr) -> Config {
    let (host, port) = (control.ip().to_string(), control.port());
    config.control = Some(ControlAddress {
        host,
        port,
        identity: None,
    });
    config
}

pub fn start(config: Config) -> Running {
    let bound = Proxy::bind(config).unwrap();
    let shutdown = CancellationToken::new();
    let (outbound, inbound, admin, control) = (
        bound.outbound_address,
        bound.inbound_address,
        bound.metrics_address,
        bound.control_address,
    );
    let task = tokio::spawn(bound.run(shutdown.clone()));
    let _guard = shutdown.clone().drop_guard();
    Running {
        outbound,
        inbound,
        admin,
        control,
        shutdown,
        task,
        _guard,
    }
}

impl Running {
    /// The value of the first metric line that has all of `parts`.
    pub async fn metric(&self, parts: &[&str]) -> Option<f64> {
        let text = get(self.admin, "/metrics").await.1;
        let line = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .find(|line| parts.iter().all(|part| line.contains(part)))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until a metric line with all of `parts` has at least `value`.
    pub async fn metric_reaches(&self, parts: &[&str], value: f64) {
        let wait = async {
            while self.metric(parts).await.is_none_or(|found| found < value) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let text = get(self.admin, "/metrics").await.1;
            panic!("no {parts:?} >= {value} in:\n{text}");
        }
    }

    /// Waits for the first certificate.
    pub async fn ready(&self) {
        let wait = async {
            while get(self.admin, "/ready").await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("ready in time");
    }
}

/// A plain HTTP/1.1 GET: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let text = request(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: web.ns\r\nConnection: close\r\n\r\n"),
    )
    .await;
    let status = text
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (status, body)
}

/// Sends `bytes`, reads until the end.
pub async fn request(address: SocketAddr, bytes: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes.as_bytes()).await?;
        let mut answer = Vec::new();
        // A reset after the answer is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
        .unwrap()
}

/// Sends `bytes` and the end, reads until the end.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The peer may close at any time.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an end in time")
}

/// A client's pod, a server's pod, the service between them, and their authority.
pub struct Mesh {
    pub authority: Authority,
    pub destination: Destination,
    pub client: Running,
    pub server: Running,
}

/// Both sides meshed; `app` is behind the server's proxy and known as [`SERVICE`].
pub async fn mesh(app: SocketAddr) -> Mesh {
    let authority = Authority::new();
    let destination = destination::start().await;
    let server = start(Config {
        inbound_forward: Some(app),
        ..with_tls(config(), &authority.issue("server"), &identity("server"))
    });
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    });
    destination.set(
        SERVICE,
        &[Endpoint::meshed(server.inbound, &identity("server"))],
    );
    server.ready().await;
    client.ready().await;
    Mesh {
        authority,
        destination,
        client,
        server,
    }
}

/// The first flight of a TLS client for `name`.
pub fn client_hello(name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
