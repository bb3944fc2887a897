//! What one proxy costs that knows many targets with many endpoints: memory and processor time, at
//! rest and while endpoints come and go. Needs root and iptables.
//!
//! `cargo bench -p linkerd-proxy --bench scale -- [TARGETS] [ENDPOINTS] [UPDATES_PER_SECOND]`

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use linkerd_names::env;
use linkerd_proto::destination::{
    AddrSet, DestinationProfile, GetDestination, TlsIdentity, Update, WeightedAddr,
    WeightedAddrSet,
    destination_server::{Destination as Service, DestinationServer},
    tls_identity::{DnsLikeIdentity, Strategy},
    update,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status};

/// Set for the process in the network namespace.
const INSIDE: &str = "LINKERD_PROXY_SCALE_INSIDE";
const SERVER_PORT: u16 = 8080;
const CHURN: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(10);
/// Of the kernel's clock in /proc/PID/stat.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() {
    let numbers: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let number = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    let scale = Scale {
        targets: number(0, 1_000),
        endpoints: number(1, 100),
        updates_per_second: number(2, 100),
    };
    if std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .arg("--net")
            .arg(std::env::current_exe().unwrap())
            .args(std::env::args().skip(1))
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "see above");
        return;
    }
    for command in [
        "ip link set lo up",
        "ip address add 10.97.0.1/32 dev lo",
        "ip route add 10.96.0.0/16 dev lo src 10.97.0.1",
        "iptables -t nat -A OUTPUT -p tcp -d 10.96.0.0/16 -j REDIRECT --to-ports 4140",
    ] {
        let mut words = command.split_whitespace();
        let status = Command::new(words.next().unwrap()).args(words).status();
        assert!(status.unwrap().success(), "{command}");
    }
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(measure(scale));
}

#[derive(Clone, Copy)]
struct Scale {
    targets: u32,
    endpoints: u32,
    updates_per_second: u32,
}

async fn measure(scale: Scale) {
    serve_http().await;
    let destination = Destination::start(scale).await;
    let proxy = Proxy::start(destination.address);
    while get("127.0.0.1:4191", "/ready").await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Scale {
        targets,
        endpoints,
        updates_per_second,
    } = scale;
    println!("| {targets} targets with {endpoints} endpoints each | |\n|---|---|");
    let at_start = proxy.rss_kb();
    println!("| memory at the start | {:.1} MB |", mb(at_start));

    let before = proxy.cpu_seconds();
    for target in 0..targets {
        assert!(get(&address(target), "/").await.is_some(), "{target}");
    }
    let cpu = proxy.cpu_seconds() - before;
    let known = proxy.rss_kb();
    let each = f64::from(known - at_start) * 1024.0 / f64::from(targets * endpoints);
    println!("| memory with all targets known | {:.1} MB |", mb(known));
    println!("| of that for each endpoint | {each:.0} bytes |");
    let per_target_ms = cpu * 1_000.0 / f64::from(targets);
    println!("| processor time to learn a target and serve a request | {per_target_ms:.2} ms |");

    let before = proxy.cpu_seconds();
    tokio::time::sleep(REST).await;
    let share = (proxy.cpu_seconds() - before) / REST.as_secs_f64() * 100.0;
    println!("| one processor, at rest | {share:.1} % |");

    let before = proxy.cpu_seconds();
    destination.churn(scale, CHURN).await;
    let share = (proxy.cpu_seconds() - before) / CHURN.as_secs_f64() * 100.0;
    println!("| one processor, {updates_per_second} updates a second | {share:.1} % |");
    println!(
        "| memory after {CHURN:?} of that | {:.1} MB |",
        mb(proxy.rss_kb())
    );

    let before = proxy.cpu_seconds();
    let (mut count, started) = (0_u32, Instant::now());
    for round in 0..5 {
        for target in 0..targets {
            assert!(
                get(&address(target), "/").await.is_some(),
                "{round} {target}"
            );
            count += 1;
        }
    }
    let cpu_us = (proxy.cpu_seconds() - before) * 1e6 / f64::from(count);
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    println!(
        "| processor time of a request on a new connection, {rate:.0} a second | {cpu_us:.0} µs |"
    );
    println!("| memory after that | {:.1} MB |", mb(proxy.rss_kb()));
    tokio::time::sleep(REST).await;
    println!("| memory {REST:?} later | {:.1} MB |", mb(proxy.rss_kb()));

    let started = Instant::now();
    let metrics = get("127.0.0.1:4191", "/metrics").await.unwrap();
    let took_ms = started.elapsed().as_millis();
    let series = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count();
    let size = metrics.len() / 1024;
    println!("| a scrape of {series} series, {size} kB | {took_ms} ms |");
}

fn mb(kb: u32) -> f64 {
    f64::from(kb) / 1024.0
}

struct Proxy(Child);

impl Proxy {
    fn start(destination: SocketAddr) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_linkerd-proxy"))
            .env(env::POD_NAMESPACE, "ns")
            .env(env::CONTROL_URL, format!("tcp://{destination}"))
            .env(env::LOG, "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn proc(&self, file: &str) -> String {
        let path = Path::new("/proc").join(self.0.id().to_string()).join(file);
        std::fs::read_to_string(path).unwrap()
    }

    fn rss_kb(&self) -> u32 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').unwrap().1;
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.map(|t| t.parse::<f64>().unwrap()).sum::<f64>() / TICKS_PER_SECOND
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn address(target: u32) -> String {
    format!("10.96.{}.{}:80", target / 250, target % 250 + 1)
}

fn endpoint(target: u32, index: u32) -> SocketAddr {
    let numbers = [target / 250 + 1, target % 250 + 1, index + 1];
    let [a, b, c] = numbers.map(|n| u8::try_from(n).expect("at most 250 endpoints"));
    (Ipv4Addr::new(127, a, b, c), SERVER_PORT).into()
}

/// A body of a GET on a connection of its own, unless it fails.
async fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// All endpoints: any address of 127.0.0.0/8.
async fn serve_http() {
    let listener = TcpListener::bind(("0.0.0.0", SERVER_PORT)).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                // Requests are small and come whole.
                while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A destination service that tells each target's endpoints and then what changes.
struct Destination {
    address: SocketAddr,
    streams: Streams,
}

type Streams = Arc<Mutex<HashMap<String, mpsc::Sender<Result<Update, Status>>>>>;

struct Server {
    streams: Streams,
    scale: Scale,
}

impl Destination {
    async fn start(scale: Scale) -> Self {
        let streams = Streams::default();
        let server = Server {
            streams: streams.clone(),
            scale,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tonic::transport::Server::builder()
            .add_service(DestinationServer::new(server))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { serve.await.unwrap() });
        Self { address, streams }
    }

    /// Takes turns among the targets; adds an endpoint and takes it away again.
    async fn churn(&self, scale: Scale, duration: Duration) {
        let pause = Duration::from_secs(1) / scale.updates_per_second;
        let mut ticks = tokio::time::interval(pause);
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < duration {
            ticks.tick().await;
            let target = count / 2 % scale.targets;
            let index = scale.endpoints + count / 2 / scale.targets % 10;
            let update = match count % 2 {
                0 => add(target, index..index + 1),
                _ => update::Update::Remove(AddrSet {
                    addrs: vec![endpoint(target, index).into()],
                }),
            };
            let sender = self.streams.lock().get(&address(target)).unwrap().clone();
            let update = Update {
                update: Some(update),
            };
            sender.send(Ok(update)).await.unwrap();
            count += 1;
        }
    }
}

/// Named and labelled as `linkerd-destination` does it.
fn add(target: u32, indices: std::ops::Range<u32>) -> update::Update {
    let map = |pairs: &[(&str, String)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        pairs.collect()
    };
    let name = format!("web-{target}");
    let identity = format!("{name}.deployment.ns.linkerd-managed.linkerd.svc.cluster.local");
    let addrs = indices
        .map(|index| WeightedAddr {
            addr: Some(endpoint(target, index).into()),
            weight: 10_000,
            metric_labels: map(&[
                ("pod", format!("{name}-5d4f9c7b68-{index:05}")),
                ("deployment", name.clone()),
                ("pod_template_hash", "5d4f9c7b68".to_owned()),
                ("control_plane_ns", "linkerd".to_owned()),
            ]),
            tls_identity: Some(TlsIdentity {
                strategy: Some(Strategy::DnsLikeIdentity(DnsLikeIdentity {
                    name: identity.clone(),
                })),
                ..TlsIdentity::default()
            }),
            ..WeightedAddr::default()
        })
        .collect();
    update::Update::Add(WeightedAddrSet {
        addrs,
        metric_labels: map(&[("namespace", "ns".to_owned()), ("service", name.clone())]),
    })
}

#[tonic::async_trait]
impl Service for Server {
    type GetStream = Pin<Box<dyn Stream<Item = Result<Update, Status>> + Send>>;
    type GetProfileStream = Pin<Box<dyn Stream<Item = Result<DestinationProfile, Status>> + Send>>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let path = request.into_inner().path;
        let target = (0..self.scale.targets).find(|target| address(*target) == path);
        let target = target.ok_or_else(|| Status::invalid_argument(path.clone()))?;
        let (sender, updates) = mpsc::channel(16);
        let all = Update {
            update: Some(add(target, 0..self.scale.endpoints)),
        };
        sender.send(Ok(all)).await.unwrap();
        self.streams.lock().insert(path, sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(updates))))
    }

    async fn get_profile(
        &self,
        _: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        Err(Status::unimplemented("no profiles"))
    }
}
