//! Shows on the running machine that the cluster works, survives, and leaves nothing behind.
//! Entry: [`run`]. It ends the present cluster, and starts and ends some of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::layout::{HOST, Layout, node_name};
use super::machine_state::MachineState;
use super::status::Status;
use super::{binaries, cgroups, clear, control_plane, load, process};
use crate::{command, images, progress};

/// The most that `up` may take once everything is built, and `up` on a running cluster.
const UP_MAX: Duration = Duration::from_secs(30);
const SECOND_UP_MAX: Duration = Duration::from_secs(5);
/// The most that `up` may take when only a kubelet is missing.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
const NODES: usize = 2;
const PROBE_IMAGE: &str = "localhost/linkerd-local-cluster/probe:1";
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs all parts of the test, one after the other; ends at the first that fails.
pub(super) fn run() -> Result<()> {
    let layout = Layout::find()?;
    super::prepare()?;
    super::down()?;
    let before = MachineState::read()?;
    claim("a cluster is up within 30 s", || up_within(UP_MAX))?;
    claim("a second up finds it and does nothing", || {
        let first = process_numbers(&layout)?;
        up_within(SECOND_UP_MAX)?;
        ensure!(process_numbers(&layout)? == first, "processes have changed");
        Ok(())
    })?;
    claim(
        "nothing listens beyond the loopback and the cluster's addresses",
        nothing_listens,
    )?;
    claim("an image is loaded once", || load_once(&layout))?;
    claim(
        "pods reach each other across nodes, by Service and DNS",
        || start_probes(&layout),
    )?;
    claim("logs, exec and port-forward work", || reach_probe(&layout))?;
    claim("a Service is reached at a load balancer's address", || {
        reach_balanced(&layout)
    })?;
    claim("pods go on without their kubelet, which comes back", || {
        without_kubelet(&layout)
    })?;
    claim(
        "a cluster whose processes were all killed starts anew",
        || {
            process::kill(|| clear::remaining(&layout, None))?;
            ensure!(
                Status::read(&layout)?.is_down(),
                "some components still run"
            );
            up_within(UP_MAX)?;
            load_once(&layout)?;
            start_probes(&layout)
        },
    )?;
    claim("down leaves nothing behind", || {
        super::down()?;
        let after = MachineState::read()?;
        let changes = before.changes(&after);
        ensure!(changes.is_empty(), "not as before:\n{}", changes.join("\n"));
        Ok(())
    })
}

fn claim(name: &str, show: impl FnOnce() -> Result<()>) -> Result<()> {
    progress::step(name, show).with_context(|| name.to_owned())
}

fn up_within(limit: Duration) -> Result<()> {
    let start = Instant::now();
    super::up(NODES)?;
    let taken = start.elapsed();
    ensure!(taken <= limit, "took {}", progress::seconds(taken));
    Ok(())
}

fn process_numbers(layout: &Layout) -> Result<Vec<i32>> {
    let mut numbers: Vec<i32> = process::find(&layout.state)?
        .into_iter()
        .map(|process| process.pid.as_raw_nonzero().get())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Looks at every port that a process of the cluster has open on the machine itself.
fn nothing_listens() -> Result<()> {
    let sockets = command::output(Command::new("ss").args(["-H", "-l", "-n", "-t", "-u", "-p"]))?;
    let mut ours = 0;
    for line in sockets
        .lines()
        .filter(|line| line.contains("\"kubernetes\""))
    {
        let local = line
            .split_whitespace()
            .nth(4)
            .context("ss prints a local address")?;
        let address = local.rsplit_once(':').map_or(local, |(address, _)| address);
        ensure!(["127.0.0.1", HOST].contains(&address), "{line}");
        ours += 1;
    }
    ensure!(ours > 0, "ss shows no port of the cluster");
    Ok(())
}

fn load_once(layout: &Layout) -> Result<()> {
    let archive = layout.state.join("probe.tar");
    images::pack_program(PROBE_IMAGE, &binaries::of_cluster(layout)?.probe, &archive)?;
    let load = || load::load(layout, NODES, &[&archive]);
    ensure!(load()?[0].imported == NODES, "not loaded into every node");
    ensure!(load()?[0].imported == 0, "loaded a second time");
    Ok(())
}

/// Starts a pod with a Service on each node, and lets each ask the other by name.
fn start_probes(layout: &Layout) -> Result<()> {
    for number in 1..=NODES {
        let (name, node) = (probe(number), node_name(number));
        let manifest = serde_json::json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": name, "labels": {"app": name}},
                    "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [{
                        "name": "probe",
                        "image": PROBE_IMAGE,
                        "args": ["serve", ":8080"],
                        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
                    }]},
                },
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": name},
                    "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
                },
            ],
        });
        let mut apply = control_plane::kubectl(layout);
        command::feed(
            apply.args(["apply", "-f", "-"]),
            manifest.to_string().as_bytes(),
        )?;
    }
    for number in 1..=NODES {
        let mut wait = control_plane::kubectl(layout);
        let pod = format!("pod/{}", probe(number));
        command::output(wait.args(["wait", "--for", "condition=Ready", "--timeout", "60s", &pod]))?;
    }
    for (from, to) in [(1, 2), (2, 1), (1, 1)] {
        asks(layout, from, to)?;
    }
    Ok(())
}

/// Lets the probe of one node ask the one of another by the name of its Service. Once DNS and the
/// nodes' rules know the Service, which takes a moment, the answer must be right.
fn asks(layout: &Layout, from: usize, to: usize) -> Result<()> {
    let url = format!("http://{}.default.svc.cluster.local/", probe(to));
    let mut last = String::new();
    process::wait(&format!("an answer to {url}"), PROBE_TIMEOUT, || {
        let mut ask = control_plane::kubectl(layout);
        ask.args(["exec", &probe(from), "--", "/probe", "get", &url]);
        match command::output(&mut ask) {
            Ok(answer) => {
                ensure!(
                    answer.trim() == probe(to),
                    "{url} is answered by {answer:?}"
                );
                Ok(true)
            }
            Err(error) => {
                last = format!("{error:#}");
                Ok(false)
            }
        }
    })
    .with_context(|| last)
}

fn reach_probe(layout: &Layout) -> Result<()> {
    let name = probe(NODES);
    let logs = command::output(control_plane::kubectl(layout).args(["logs", &name]))?;
    ensure!(logs.contains("GET /"), "the log shows no request: {logs:?}");

    let mut forward = control_plane::kubectl(layout);
    forward.args(["port-forward", &format!("pod/{name}"), ":8080"]);
    let mut child = forward
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let answer = ask_forwarded(&mut child);
    child.kill()?;
    child.wait()?;
    let answer = answer?;
    ensure!(
        answer.ends_with(&format!("{name}\n")),
        "port-forward brings {answer:?}"
    );
    Ok(())
}

fn ask_forwarded(child: &mut Child) -> Result<String> {
    // It stays open until the end: kubectl ends when nobody reads what it says of each connection.
    let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    // Forwarding from 127.0.0.1:40123 -> 8080
    let port = line
        .split_whitespace()
        .nth(2)
        .and_then(|address| address.rsplit_once(':'));
    let Some((_, port)) = port else {
        bail!("port-forward says {line:?}")
    };
    get(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?)))
}

fn get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Makes a probe's Service one of type LoadBalancer, asks it from the machine, and makes it what it was.
fn reach_balanced(layout: &Layout) -> Result<()> {
    let name = probe(NODES);
    let kubectl = |words: &[&str]| {
        let mut kubectl = control_plane::kubectl(layout);
        command::output(kubectl.args(words))
    };
    let patch = |kind: &str| {
        let patch = format!("{{\"spec\": {{\"type\": \"{kind}\"}}}}");
        kubectl(&["patch", "service", &name, "--patch", &patch])
    };
    patch("LoadBalancer")?;
    let ip = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let mut address = String::new();
    process::wait("the Service's address", PROBE_TIMEOUT, || {
        address = kubectl(&["get", "service", &name, "-o", ip])?;
        Ok(!address.is_empty())
    })?;
    let ip: Ipv4Addr = address.parse().context(address)?;
    // The nodes' rules may be a moment later than the address.
    process::wait("an answer at the Service's address", PROBE_TIMEOUT, || {
        Ok(get(SocketAddr::from((ip, 80)))
            .is_ok_and(|answer| answer.ends_with(&format!("{name}\n"))))
    })?;
    patch("ClusterIP")?;
    process::wait("the end of its route", PROBE_TIMEOUT, || {
        let routes = command::output(Command::new("ip").arg("route"))?;
        Ok(!routes.contains(&ip.to_string()))
    })
}

fn without_kubelet(layout: &Layout) -> Result<()> {
    super::stop_kubelet(2)?;
    ensure!(
        !Status::read(layout)?.is_healthy(),
        "status sees no missing kubelet"
    );
    asks(layout, 1, 2)?;
    super::start_kubelet(2)?;
    process::wait("a healthy cluster", PROBE_TIMEOUT, || {
        Ok(Status::read(layout)?.is_healthy())
    })?;
    let before = cgroups::pids()?.len();
    asks(layout, 2, 1)?;
    ensure!(
        cgroups::pids()?.len() >= before,
        "the new kubelet has ended pods"
    );
    super::stop_kubelet(1)?;
    up_within(RECOVERY_MAX)?;
    asks(layout, 2, 1)
}

fn probe(number: usize) -> String {
    format!("probe{number}")
}
