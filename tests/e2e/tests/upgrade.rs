//! Under load the control plane goes to another version, and then the data plane: no request is lost,
//! and a connection that was there before lives through all of it.
//!
//! `E2E_PREVIOUS_LINKERD` names an older program `linkerd` whose images the nodes have. Without it the
//! version before is this one under another tag: a local cluster gives its images that.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    Cluster, Metrics, Namespace, Watch, Workload, all_served, end_all, eventually, on_cluster,
    report, rolling_servers, run, service, steady_load, with_control_plane, with_namespace,
};
use serde_json::Value;

/// The tag of the version before, where it is made.
const PREVIOUS_TAG: &str = "previous";
const IMAGES: [&str; 5] = ["proxy", "proxy-init", "ca", "destination", "api"];
const SERVERS: [&str; 2] = ["emoji", "server"];
/// One opens a connection for each request, the other keeps its connections.
const CLIENTS: [&str; 2] = ["fresh", "kept"];
/// How often the long connection says a line.
const LINE_INTERVAL_MS: u64 = 50;

#[test]
fn nothing_is_lost_while_control_plane_and_data_plane_are_upgraded() -> Result<()> {
    on_cluster("upgrade", |cluster| {
        let Some(previous) = previous(cluster)? else {
            return Ok(());
        };
        let mut flags = previous.inject_flags.clone();
        // One injector is enough for the cluster.
        flags.push("--set=injector.enabled=false");
        with_control_plane(&previous, "upgrade", &flags, |plane| {
            with_namespace(&plane.cluster, "upgrade", |before| {
                let after = Namespace {
                    cluster: Cluster {
                        control_plane_namespace: plane.name.clone(),
                        ..cluster.clone()
                    },
                    name: before.name.clone(),
                };
                upgrade(plane, before, &after)
            })
        })
    })
}

/// The cluster as the version before sees it; none where there is no such version.
fn previous(cluster: &Cluster) -> Result<Option<Cluster>> {
    let mut previous = cluster.clone();
    if let Some(program) = env::var_os("E2E_PREVIOUS_LINKERD") {
        previous.linkerd = program.into();
        return Ok(Some(previous));
    }
    let Some(xtask) = &cluster.xtask else {
        report("skipped: neither E2E_PREVIOUS_LINKERD nor E2E_XTASK is set: no version before");
        return Ok(None);
    };
    let version = cluster
        .linkerd(&["version", "--client", "--short"], "")?
        .ok()?;
    for image in IMAGES {
        tag(xtask, image, version.trim())?;
    }
    previous.inject_flags.push("--linkerd-version=previous");
    Ok(Some(previous))
}

fn tag(xtask: &Path, image: &str, version: &str) -> Result<()> {
    let name = |tag: &str| format!("localhost/linkerd/{image}:{tag}");
    let mut tag = Command::new(xtask);
    tag.args(["cluster", "tag", &name(version), &name(PREVIOUS_TAG)]);
    run(&mut tag, "", Duration::from_secs(60))?.ok()?;
    Ok(())
}

/// `before` and `after` are the same namespace, with the program of the one and the other version.
fn upgrade(plane: &Namespace, before: &Namespace, after: &Namespace) -> Result<()> {
    let image = &before.cluster.image;
    let servers = rolling_servers(image, 2);
    let clients = steady_load(image, "fresh", &["--fresh"]) + &steady_load(image, "kept", &[]);
    before.apply_meshed(&(servers.clone() + &echo(image)))?;
    before.wait_until_ready(&["emoji", "server", "echo"])?;
    let pods = Watch::start(before, "pods")?;
    before.apply_meshed(&(clients.clone() + &stream(image)))?;
    before.wait_until_ready(&["fresh", "kept", "stream"])?;
    eventually("the long connection is over mutual TLS", || {
        let metrics = Metrics(before.proxy_metrics("stream")?);
        let labels = ["direction=\"outbound\"", "peer=\"dst\"", "tls=\"true\""];
        let encrypted = metrics.sum("tcp_open_total", &labels);
        let all = metrics.sum("tcp_open_total", &labels[..2]);
        ensure!(encrypted >= 1.0 && encrypted >= all, "{}", metrics.0);
        Ok(())
    })?;
    let old = proxy_images(before)?;
    ensure!(old.len() == 1, "one version: {old:?}");

    let started = Instant::now();
    let args = ["upgrade", "--set=image.tag="];
    let manifests = after.cluster.linkerd(&args, "")?.ok()?;
    plane.apply(&manifests)?;
    plane.wait_until_all_ready()?;
    report(&format!("  control plane: {:.1?}", started.elapsed()));
    ensure!(proxy_images(before)? == old, "the data plane has changed");
    let planes = proxy_images(plane)?;
    ensure!(
        planes.len() == 1 && planes != old,
        "the control plane has {planes:?}"
    );

    let started = Instant::now();
    for (manifests, names) in [(servers, SERVERS), (clients, CLIENTS)] {
        after.apply_meshed(&manifests)?;
        after.wait_until_ready(&names)?;
    }
    report(&format!("  data plane: {:.1?}", started.elapsed()));
    for name in SERVERS.into_iter().chain(CLIENTS) {
        for pod in after.pods(name)? {
            let pod = after.get(&["pod", &pod])?;
            let image = proxy_image(&pod).context("no proxy")?;
            ensure!(planes.iter().any(|new| new == image), "{name} has {image}");
        }
    }

    let lines = lines_of(after)?;
    end_all(after, &CLIENTS)?;
    let mut served = 0;
    for name in CLIENTS {
        let clients = all_served(&pods, name)?;
        ensure!(clients.len() >= 2, "{name} was not rolled out: {clients:?}");
        served += clients.iter().map(|client| client.ok).sum::<u64>();
    }
    eventually("the long connection still says lines", || {
        let now = lines_of(after)?;
        ensure!(now > lines, "{now} lines, {lines} before");
        Ok(())
    })?;
    end_all(after, &["stream"])?;
    let code = eventually("the long connection has ended", || {
        exit_code(&pods, "stream")
    })?;
    ensure!(code == 0, "the long connection ended with {code}");
    report(&format!(
        "  {served} requests answered, 0 failed; {lines} lines"
    ));
    Ok(())
}

/// A server that is not rolled out, and so whoever talks to it stays connected.
fn echo(image: &str) -> String {
    let workload = Workload {
        port: Some(9000),
        ..Workload::new("echo", image, &["tcp-server"])
    };
    workload.deployment() + &service("echo", "echo", 9000, 9000)
}

/// Says lines on one connection and checks their echo; it ends with an error when one does not come.
fn stream(image: &str) -> String {
    let interval = LINE_INTERVAL_MS.to_string();
    let args = [
        "tcp-client",
        "echo:9000",
        "--interval-ms",
        &interval,
        "--retry-for-ms=10000",
    ];
    Workload::new("stream", image, &args).deployment()
}

/// How many lines have come back on the one connection of `stream`.
fn lines_of(namespace: &Namespace) -> Result<u64> {
    let logs = namespace.logs("stream")?;
    let last = logs.lines().last().context("no line has come back")?;
    let last: Value = serde_json::from_str(last).with_context(|| last.to_owned())?;
    last["echo"].as_u64().with_context(|| last.to_string())
}

/// The exit code of the one container that a workload's only pod ever had.
fn exit_code(pods: &Watch, workload: &str) -> Result<u64> {
    let events = pods.events();
    let mut of_workload = events
        .iter()
        .filter(|event| event.object["metadata"]["labels"]["app"] == workload);
    let last = of_workload.next_back().context("no pod was seen")?;
    let uid = &last.object["metadata"]["uid"];
    ensure!(
        of_workload.all(|event| event.object["metadata"]["uid"] == *uid),
        "{workload} had several pods"
    );
    let status = &last.object["status"]["containerStatuses"][0];
    ensure!(status["restartCount"] == 0, "restarted: {status}");
    status["state"]["terminated"]["exitCode"]
        .as_u64()
        .with_context(|| format!("still there: {status}"))
}

/// The images of the proxies in all pods of a namespace that stay.
fn proxy_images(namespace: &Namespace) -> Result<Vec<String>> {
    let pods = namespace.get(&["pods"])?;
    let pods = pods["items"].as_array().context("no pods")?;
    let mut images: Vec<String> = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|pod| proxy_image(pod).map(str::to_owned))
        .collect();
    images.sort();
    images.dedup();
    Ok(images)
}

fn proxy_image(pod: &Value) -> Option<&str> {
    let proxies = pod["spec"]["initContainers"].as_array()?;
    let proxy = proxies.iter().find(|it| it["name"] == "linkerd-proxy")?;
    proxy["image"].as_str()
}
