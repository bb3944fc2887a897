//! TLS of the application's own behind a load balancer, whose probes connect and say nothing: no
//! handshake waits for one of them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    Certificate, Metrics, Namespace, deployment, document, eventually, in_namespace, percentile,
    report,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::json;

/// Deployments and Services of the same names.
const PLAIN: &str = "ingress-plain";
const MESHED: &str = "ingress-meshed";
/// The name in the certificate of both.
const HOST: &str = "shop.test";
/// So long a probe stays connected in silence, like those of a cloud.
const PROBE_HOLD: Duration = Duration::from_secs(5);
/// Probes of each Service at once on the NodePort of each node.
const PROBES: usize = 4;
/// Handshakes with each Service.
const HANDSHAKES: usize = 300;
/// Far below [`PROBE_HOLD`], and far above what a busy machine takes: who waits for a probe waits for
/// half of its time on average.
const WAIT_MAX: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(20);

/// #1880: with `externalTrafficPolicy: Cluster` the probes of a load balancer reach the pod, and an
/// injected ingress answered a ClientHello after 2 to 3 s.
#[test]
fn no_handshake_behind_a_load_balancer_waits_for_a_silent_probe() -> Result<()> {
    in_namespace("balancer", |namespace| {
        let Some(nodes) = namespace.cluster.two_local_nodes()? else {
            report("skipped: only a local cluster is known to have a load balancer");
            return Ok(());
        };
        let certificate = Certificate::new(HOST)?;
        deploy(namespace, &certificate, &nodes)?;
        let services = [PLAIN, MESHED]
            .map(|name| Balanced::of(namespace, name))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let client = client(&certificate)?;
        for service in &services {
            eventually("the load balancer leads to the ingress", || {
                handshake(&client, service.address)
            })?;
        }
        let probes = Probes::start(&services);
        let outcome = among_probes(namespace, &services, &client, &probes);
        let held = probes.stop()?;
        let [plain, meshed] = outcome?;
        let figures = |times: &[u64]| -> Result<[f64; 3]> {
            let of = |percent| percentile(times, percent).context("nothing timed");
            Ok([
                of(50)? as f64 / 1e3,
                of(99)? as f64 / 1e3,
                of(100)? as f64 / 1e3,
            ])
        };
        for (name, times) in [("uninjected", &plain), ("injected", &meshed)] {
            let [p50, p99, max] = figures(times)?;
            let n = times.len();
            report(&format!(
                "  from ClientHello to ServerHello, {name}: p50 {p50:.1} ms, p99 {p99:.1} ms, \
                 max {max:.1} ms (n = {n})"
            ));
        }
        report(&format!(
            "  {held} probes were silent for {PROBE_HOLD:?} meanwhile"
        ));
        let [_, _, max] = figures(&meshed)?;
        ensure!(
            max < WAIT_MAX.as_secs_f64() * 1e3,
            "one waited for {max} ms"
        );
        Ok(())
    })
}

/// Handshakes with both Services in turns, in microseconds, until there are enough of them and every
/// probe has come to its end once.
fn among_probes(
    namespace: &Namespace,
    services: &[Balanced],
    client: &Arc<ClientConfig>,
    probes: &Probes,
) -> Result<[Vec<u64>; 2]> {
    eventually("the probes are connected to the injected pod", || {
        let metrics = Metrics(namespace.proxy_metrics(MESHED)?);
        // A client is counted when it has spoken, its connection to the application at once.
        let labels = ["direction=\"inbound\"", "peer=\"dst\""];
        let open = metrics.sum("tcp_open_connections", &labels);
        ensure!(open >= PROBES as f64, "{open} open connections");
        Ok(())
    })?;
    let mut times = [Vec::new(), Vec::new()];
    while times[0].len() < HANDSHAKES || probes.held() < probes.threads.len() {
        for (service, times) in services.iter().zip(&mut times) {
            let took = handshake(client, service.address).context(service.name)?;
            times.push(u64::try_from(took.as_micros())?);
        }
    }
    Ok(times)
}

/// Connects, and returns the time from the ClientHello to the first byte of the answer, which is the
/// ServerHello; then makes a request, so that all of the handshake is seen to be good.
fn handshake(client: &Arc<ClientConfig>, address: SocketAddr) -> Result<Duration> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut tls = ClientConnection::new(Arc::clone(client), ServerName::try_from(HOST)?)?;
    let started = Instant::now();
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    let answered = socket.peek(&mut [0])?;
    let took = started.elapsed();
    ensure!(answered == 1, "closed instead of a ServerHello");
    let mut stream = Stream::new(&mut tls, &mut socket);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.ends_with("hello over TLS\n"), "{answer}");
    Ok(took)
}

fn client(certificate: &Certificate) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.der.clone()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each handshake is a whole one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// A Service of type LoadBalancer, where clients and where probes reach it.
struct Balanced {
    name: &'static str,
    address: SocketAddr,
    node_ports: Vec<SocketAddr>,
}

impl Balanced {
    /// Waits for the address.
    fn of(namespace: &Namespace, name: &'static str) -> Result<Self> {
        let service = eventually("the load balancer has an address", || {
            let service = namespace.get(&["service", name])?;
            let ingress = &service["status"]["loadBalancer"]["ingress"][0]["ip"];
            ensure!(ingress.is_string(), "{}", service["status"]);
            Ok(service)
        })?;
        ensure!(
            service["spec"]["externalTrafficPolicy"] == "Cluster",
            "{}",
            service["spec"]
        );
        let ip = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        let ip: IpAddr = ip.context("no address")?.parse()?;
        let node_port = service["spec"]["ports"][0]["nodePort"].as_u64();
        let node_port = u16::try_from(node_port.context("no NodePort")?)?;
        let path = "jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
        let nodes = namespace.cluster.kubectl(&["get", "nodes", "-o", path])?;
        let node_ports = nodes
            .split_whitespace()
            .map(|ip| Ok(SocketAddr::new(ip.parse()?, node_port)))
            .collect::<Result<_>>()?;
        Ok(Self {
            name,
            address: SocketAddr::new(ip, 443),
            node_ports,
        })
    }
}

/// The load balancer's probes: each connects to a NodePort, is silent until its time is over, closes
/// and connects again.
struct Probes {
    threads: Vec<thread::JoinHandle<Result<()>>>,
    ending: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
}

impl Probes {
    fn start(services: &[Balanced]) -> Self {
        let (ending, held) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let targets = services.iter().flat_map(|service| &service.node_ports);
        let threads = targets
            .flat_map(|target| [*target; PROBES])
            .map(|target| {
                let (ending, held) = (Arc::clone(&ending), Arc::clone(&held));
                thread::spawn(move || {
                    while !ending.load(Ordering::Relaxed) {
                        probe(target).with_context(|| format!("probe of {target}"))?;
                        held.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        Self {
            threads,
            ending,
            held,
        }
    }

    /// How many have come to their end in silence so far.
    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits for the last ones; returns how many there were.
    fn stop(self) -> Result<usize> {
        let Self {
            threads,
            ending,
            held,
        } = self;
        ending.store(true, Ordering::Relaxed);
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a probe panicked"))??;
        }
        Ok(held.load(Ordering::Relaxed))
    }
}

fn probe(target: SocketAddr) -> Result<()> {
    let mut socket = TcpStream::connect_timeout(&target, TIMEOUT)?;
    socket.set_read_timeout(Some(PROBE_HOLD))?;
    match socket.read(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Ok(0) => bail!("closed before its time"),
        Ok(_) => bail!("was answered without a question"),
        Err(error) => Err(error.into()),
    }
}

/// Starts two ingresses that terminate TLS, one of them injected, and a load balancer for each.
fn deploy(namespace: &Namespace, certificate: &Certificate, nodes: &[String; 2]) -> Result<()> {
    let config = "worker_processes 1;\n\
                  events { worker_connections 1024; }\n\
                  http {\n\
                      access_log off;\n\
                      server {\n\
                          listen 8443 ssl;\n\
                          ssl_protocols TLSv1.3;\n\
                          ssl_certificate /tls/tls.crt;\n\
                          ssl_certificate_key /tls/tls.key;\n\
                          location / { return 200 \"hello over TLS\\n\"; }\n\
                      }\n\
                  }\n";
    let config = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "nginx" },
        "data": { "nginx.conf": config },
    });
    namespace.apply(&(certificate.secret("tls") + &document(&config)))?;
    let image = &namespace.cluster.servers_image;
    namespace.apply(&ingress(PLAIN, image, &nodes[1]))?;
    namespace.apply_meshed(&ingress(MESHED, image, &nodes[1]))?;
    for name in [PLAIN, MESHED] {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Cluster",
                "selector": { "app": name },
                "ports": [{ "port": 443, "targetPort": 8443 }],
            },
        });
        namespace.apply(&document(&service))?;
    }
    namespace.wait_until_ready(&[PLAIN, MESHED])
}

fn ingress(name: &str, image: &str, node: &str) -> String {
    let script = "exec nginx -c /config/nginx.conf -e stderr \
                  -g 'daemon off; pid /tmp/nginx.pid;'";
    let spec = json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": { "kubernetes.io/hostname": node },
        "securityContext": { "runAsUser": 1000, "fsGroup": 1000 },
        "containers": [{
            "name": "nginx",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "readinessProbe": { "exec": { "command": ["/emojivoto", "ready", "127.0.0.1:8443"] } },
            "volumeMounts": [
                { "name": "tls", "mountPath": "/tls", "readOnly": true },
                { "name": "config", "mountPath": "/config", "readOnly": true },
            ],
        }],
        "volumes": [
            { "name": "tls", "secret": { "secretName": "tls" } },
            { "name": "config", "configMap": { "name": "nginx" } },
        ],
    });
    deployment(name, 1, &spec)
}
