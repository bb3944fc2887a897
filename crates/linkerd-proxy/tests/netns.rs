//! Real redirection: a pod and a peer are network namespaces that each test makes for itself.
//! Needs root and iptables; says so on stderr where they lack.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;
#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "common/linkerd.rs"]
mod linkerd;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    Authority, Endpoint, PATIENCE, app, config, destination, identity, start, with_control,
    with_tls,
};
use linkerd_proxy::Config;
use tokio::{io::AsyncReadExt, time::timeout};

/// Set for the process inside of the pod's namespace.
const INSIDE: &str = "LINKERD_PROXY_TEST_INSIDE";
/// Set for a process that acts as a client elsewhere: what it is to do.
const CLIENT: &str = "LINKERD_PROXY_TEST_CLIENT";
const POD: &str = "10.99.0.2";
const PEER: &str = "10.99.0.1";
const POD6: &str = "fd00:99::2";
/// A Service's address: nobody has it.
const CLUSTER_IP: &str = "192.0.2.7:80";

fn run(command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn obstacle() -> Option<String> {
    for command in [
        "unshare --net true",
        "iptables --version",
        "nsenter --version",
        "ip -V",
        "setpriv --version",
    ] {
        let mut words = command.split_whitespace();
        match Command::new(words.next().unwrap()).args(words).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                return Some(format!(
                    "{command}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
            Err(error) => return Some(format!("{command}: {error}")),
        }
    }
    None
}

/// Runs the test `name` again in a namespace of its own. True in that one.
fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Some(reason) = obstacle() {
        // Not eprintln!, which the harness keeps to itself.
        let line = format!("skipped: {name}: {reason}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return false;
    }
    let output = Command::new("unshare")
        .args(["--net"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    false
}

/// The peer's namespace, joined to ours by a wire. It goes when this is dropped.
struct Peer(Child);

impl Peer {
    fn start() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let peer = Self(child);
        run("ip link set lo up");
        run(&format!(
            "ip link add eth0 type veth peer name eth0 netns {}",
            peer.0.id()
        ));
        run(&format!("ip address add {POD}/24 dev eth0"));
        run(&format!("ip address add {POD6}/64 dev eth0 nodad"));
        run("ip link set eth0 up");
        peer.run("ip link set lo up");
        peer.run(&format!("ip address add {PEER}/24 dev eth0"));
        peer.run("ip address add fd00:99::1/64 dev eth0 nodad");
        peer.run("ip link set eth0 up");
        run(&format!("ip route add default via {PEER}"));
        peer
    }

    fn run(&self, command: &str) {
        run(&format!(
            "nsenter --net=/proc/{}/ns/net {command}",
            self.0.id()
        ));
    }

    /// Runs the client test of this file over there. Returns what it says.
    async fn client(&self, what: &str) -> String {
        self.try_client(what).await.unwrap()
    }

    /// The same, or what went wrong.
    async fn try_client(&self, what: &str) -> Result<String, String> {
        let namespace = format!("--net=/proc/{}/ns/net", self.0.id());
        try_client(Command::new("nsenter").arg(namespace), what).await
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// The proxy is this process: user 0. Its connections are left alone.
fn redirect(inbound: SocketAddr, outbound: SocketAddr) {
    for iptables in ["iptables", "ip6tables"] {
        run(&format!(
            "{iptables} -t nat -A OUTPUT -m owner --uid-owner 0 -j RETURN"
        ));
        run(&format!("{iptables} -t nat -A OUTPUT -o lo -j RETURN"));
        run(&format!(
            "{iptables} -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports {}",
            outbound.port()
        ));
        run(&format!(
            "{iptables} -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports {}",
            inbound.port()
        ));
    }
}

async fn client(through: &mut Command, what: &str) -> String {
    try_client(through, what).await.unwrap()
}

async fn try_client(through: &mut Command, what: &str) -> Result<String, String> {
    through
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "client_elsewhere", "--nocapture"])
        .env(CLIENT, what);
    let mut command =
        tokio::process::Command::from(std::mem::replace(through, Command::new("true")));
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(text + &String::from_utf8_lossy(&output.stderr));
    }
    let answer = text
        .split("answer: ")
        .nth(1)
        .unwrap_or_else(|| panic!("no answer: {text}"));
    Ok(answer.lines().next().unwrap().to_owned())
}

/// Not a test of its own: what other processes of the tests below run.
#[test]
fn client_elsewhere() {
    let Ok(what) = std::env::var(CLIENT) else {
        return;
    };
    let mut words = what.split_whitespace();
    let (task, address) = (words.next().unwrap(), words.next().unwrap());
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    };
    let answer = match task {
        "greeting" => {
            let mut greeting = [0; 9];
            connect().read_exact(&mut greeting).unwrap();
            String::from_utf8_lossy(&greeting).into_owned()
        }
        "connect" => connect().peer_addr().unwrap().to_string(),
        "http-status" => {
            let path = words.next().unwrap();
            let mut stream = connect();
            let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            String::from_utf8_lossy(&status[9..]).into_owned()
        }
        "hello-among-silent" => {
            let _silent: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
            let hello = common::client_hello("shop.example.com");
            let mut worst = Duration::ZERO;
            for _ in 0..20 {
                let started = Instant::now();
                let mut stream = connect();
                stream.write_all(&hello).unwrap();
                let mut answer = [0; 16];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, hello[..16]);
                worst = worst.max(started.elapsed());
            }
            worst.as_micros().to_string()
        }
        "headed-greeting" => {
            let (port, folder) = (words.next().unwrap(), words.next().unwrap());
            let mut greeting = [0; 9];
            on_a_runtime(async {
                let mut stream = linkerd::connect_through(
                    Path::new(folder),
                    address.parse().unwrap(),
                    port.parse().unwrap(),
                    None,
                )
                .await;
                let read = AsyncReadExt::read_exact(&mut stream, &mut greeting);
                timeout(PATIENCE, read).await.unwrap().unwrap();
            });
            String::from_utf8_lossy(&greeting).into_owned()
        }
        other => panic!("no task {other}"),
    };
    println!("answer: {answer}");
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// The proxy of the pod, with TLS, and the application's greeting behind it.
fn pod_config(authority: &Authority) -> Config {
    let mut config = with_tls(config(), &authority.issue("server"), &identity("server"));
    config.inbound_listener = "[::]:0".parse().unwrap();
    config
}

#[test]
fn connections_reach_the_address_and_port_that_the_client_meant() {
    if !inside("connections_reach_the_address_and_port_that_the_client_meant") {
        return;
    }
    on_a_runtime(async {
        let peer = Peer::start();
        let authority = Authority::new();
        let destination = destination::start().await;
        let proxy = start(with_control(pod_config(&authority), destination.address));
        proxy.ready().await;
        redirect(proxy.inbound, proxy.outbound);
        let app = app::greeter_at("[::]:2525").await;
        let inbound = peer.client(&format!("greeting {POD}:{}", app.port())).await;
        assert_eq!(inbound, "220 hello");
        let inbound = peer
            .client(&format!("greeting [{POD6}]:{}", app.port()))
            .await;
        assert_eq!(inbound, "220 hello");

        // An application of the pod (not the proxy's user) calls a Service, whose endpoint is far.
        let far = app::greeter_at("127.0.0.2:0").await;
        destination.set(CLUSTER_IP, &[Endpoint::plain(far)]);
        let user = ["--reuid=1000", "--clear-groups"];
        let outbound = client(
            Command::new("setpriv").args(user),
            &format!("greeting {CLUSTER_IP}"),
        )
        .await;
        assert_eq!(outbound, "220 hello");
        let labels = [
            "tcp_open_total{direction=\"outbound\"",
            "peer=\"dst\"",
            "peer_not_meshed",
        ];
        proxy.metric_reaches(&labels, 1.0).await;
    });
}

/// As a proxy of Linkerd does it.
#[test]
fn a_connection_to_the_proxys_own_port_goes_where_its_header_says() {
    if !inside("a_connection_to_the_proxys_own_port_goes_where_its_header_says") {
        return;
    }
    on_a_runtime(async {
        let peer = Peer::start();
        let authority = Authority::new();
        let mut config = pod_config(&authority);
        config.control_listener = "[::]:0".parse().unwrap();
        let proxy = start(config);
        proxy.ready().await;
        redirect(proxy.inbound, proxy.outbound);
        let app = app::greeter_at("[::]:2525").await;
        let folder = authority.issue("client");
        let ask = async |pod: &str, port: u16| {
            let (inbound, folder) = (proxy.inbound.port(), folder.display());
            peer.try_client(&format!("headed-greeting {pod}:{inbound} {port} {folder}"))
                .await
        };
        for pod in [POD, &format!("[{POD6}]")] {
            assert_eq!(ask(pod, app.port()).await.unwrap(), "220 hello", "{pod}");
        }
        // Tap answers whoever comes from within the pod, and that is where the proxy is.
        for port in [proxy.control.port(), proxy.inbound.port()] {
            let error = ask(POD, port).await.unwrap_err();
            assert!(error.contains("UnexpectedEof"), "{error}");
        }
    });
}

/// #1880: TLS of the application's own, behind a load balancer whose probes stay silent.
#[test]
fn a_handshake_is_answered_at_once_among_silent_probes() {
    if !inside("a_handshake_is_answered_at_once_among_silent_probes") {
        return;
    }
    on_a_runtime(async {
        let peer = Peer::start();
        let authority = Authority::new();
        let proxy = start(pod_config(&authority));
        proxy.ready().await;
        redirect(proxy.inbound, proxy.outbound);
        let app = app::echo_at("[::]:4433").await;
        let worst = peer
            .client(&format!("hello-among-silent {POD}:{}", app.port()))
            .await;
        let worst = Duration::from_micros(worst.parse().unwrap());
        println!("worst of 20 handshakes: {worst:?}");
        assert!(worst < Duration::from_millis(100), "{worst:?}");
    });
}

/// Kubelet is the peer: its own connection proves nothing, and what the proxy says does.
#[test]
fn a_tcp_probe_finds_out_whether_the_application_listens_behind_the_rules() {
    if !inside("a_tcp_probe_finds_out_whether_the_application_listens_behind_the_rules") {
        return;
    }
    on_a_runtime(async {
        /// The only port that the system has for the near end of a connection.
        const EPHEMERAL: u16 = 40_001;
        let peer = Peer::start();
        let authority = Authority::new();
        let mut config = pod_config(&authority);
        config.metrics_listener = "[::]:0".parse().unwrap();
        config.tcp_probes = [2525, EPHEMERAL].map(|port| (port, PATIENCE)).to_vec();
        let proxy = start(config);
        proxy.ready().await;
        let metrics = proxy.admin.port();
        redirect(proxy.inbound, proxy.outbound);
        for iptables in ["iptables", "ip6tables"] {
            run(&format!(
                "{iptables} -t nat -I PREROUTING -p tcp --dport {metrics} -j RETURN"
            ));
        }
        let probe = async |pod: &str, port: u16| {
            peer.client(&format!("http-status {pod}:{metrics} /probe/tcp/{port}"))
                .await
        };
        let pod6 = &format!("[{POD6}]");

        for pod in [POD, pod6] {
            let address = format!("{pod}:2525");
            assert_eq!(peer.client(&format!("connect {address}")).await, address);
            assert_eq!(probe(pod, 2525).await, "503", "{pod}");
        }
        // Kubelet asks for the pod's address, and there are applications that listen nowhere else.
        let _app = app::greeter_at(&format!("{POD}:2525")).await;
        assert_eq!(probe(POD, 2525).await, "200");
        assert_eq!(probe(pod6, 2525).await, "503");

        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        std::fs::write(range, format!("{EPHEMERAL} {EPHEMERAL}")).unwrap();
        assert_eq!(probe(POD, EPHEMERAL).await, "503", "it has met itself");
    });
}
