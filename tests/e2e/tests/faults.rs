//! Parts of the mesh go away; requests go on. Each test counts failed requests of a meshed client
//! that opens a new connection for each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Emojivoto, Load, Namespace, eventually, find, in_namespace, report, rows, run};

/// Requests after a fault, 20 s of them, and while it lasts when it is one that lasts.
const AFTERWARDS: u64 = 400;

#[test]
fn requests_go_on_when_every_workload_secret_is_deleted() -> Result<()> {
    in_namespace("no-secrets", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        under_load(namespace, &app, None, |_| {
            let cluster = &namespace.cluster;
            let before = workload_secrets(cluster)?;
            ensure!(before.len() >= 4, "{before:?}");
            for (namespace, name) in &before {
                cluster.kubectl(&["delete", "secret", "-n", namespace, name])?;
            }
            let deleted = Instant::now();
            eventually("every Secret is written again", || {
                let now = workload_secrets(cluster)?;
                let missing: Vec<_> = before.iter().filter(|one| !now.contains(one)).collect();
                ensure!(missing.is_empty(), "{missing:?}");
                Ok(())
            })?;
            report(&format!(
                "  {} Secrets back after {:?}",
                before.len(),
                deleted.elapsed()
            ));
            Ok(())
        })
    })
}

#[test]
fn requests_go_on_when_the_root_secret_is_deleted() -> Result<()> {
    in_namespace("no-root", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        under_load(namespace, &app, None, |_| {
            let cluster = &namespace.cluster;
            let control_plane = ["-n", "linkerd"];
            let root = [
                &["get", "secret", "linkerd-ca-root", "-o", "name"],
                &control_plane[..],
            ];
            let root = root.concat();
            cluster.kubectl(&root)?;
            let delete = [&["delete", "secret", "linkerd-ca-root"], &control_plane[..]].concat();
            cluster.kubectl(&delete)?;
            eventually("the root is written again", || cluster.kubectl(&root))?;
            Ok(())
        })
    })
}

#[test]
fn requests_go_on_when_the_ca_is_deleted() -> Result<()> {
    in_namespace("no-ca", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        under_load(namespace, &app, None, |_| {
            delete_pods_of(&namespace.cluster, "linkerd-ca")
        })
    })
}

#[test]
fn requests_go_on_when_the_destination_service_is_deleted() -> Result<()> {
    in_namespace("no-destination", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        under_load(namespace, &app, None, |_| {
            delete_pods_of(&namespace.cluster, "linkerd-destination")
        })
    })
}

/// After 40 s Kubernetes takes the node's pods for lost and out of their Services; each Service has
/// another pod on the other node.
#[test]
fn requests_go_on_when_a_kubelet_stops() -> Result<()> {
    in_namespace("no-kubelet", |namespace| {
        without_kubelet(namespace, |kubelet, first, second| {
            let app = Emojivoto::deploy_twice(namespace)?;
            under_load(namespace, &app, Some(first), |load| {
                let before = load.totals()?;
                kubelet("stop-kubelet")?;
                wait_until_lost(namespace, second)?;
                load.goes_on_since(&before, AFTERWARDS)?;
                kubelet("start-kubelet")
            })
        })
    })
}

/// After 40 s no Service has a ready endpoint left, and every pod still serves. What comes after the
/// silence does not count: a kubelet that starts takes its pods for unready until they pass a probe.
#[test]
fn requests_go_on_while_the_kubelet_of_all_pods_is_stopped() -> Result<()> {
    in_namespace("no-kubelet-at-all", |namespace| {
        without_kubelet(namespace, |kubelet, first, second| {
            let app = Emojivoto::deploy_on(namespace, second)?;
            let stop = |_: &Load<'_>| {
                kubelet("stop-kubelet")?;
                wait_until_lost(namespace, second)
            };
            under_load_until(namespace, &app, Some(first), stop, || {
                kubelet("start-kubelet")
            })
        })
    })
}

/// Runs `test` with a way to stop and start the kubelet of the second node, and the names of the first
/// and the second node.
fn without_kubelet(
    namespace: &Namespace,
    test: impl FnOnce(&dyn Fn(&str) -> Result<()>, &str, &str) -> Result<()>,
) -> Result<()> {
    let Some(xtask) = namespace.cluster.xtask.clone() else {
        report("skipped: E2E_XTASK is not set, so no kubelet can be stopped");
        return Ok(());
    };
    let kubelet = |what: &str| {
        let mut command = std::process::Command::new(&xtask);
        command.args(["cluster", what, "2"]);
        run(&mut command, "", Duration::from_secs(60))?
            .ok()
            .context(what.to_owned())?;
        Ok(())
    };
    let nodes = namespace.cluster.nodes()?;
    let numbered = |number| {
        let node = nodes.iter().find(|node| node.ends_with(number));
        node.with_context(|| format!("no node{number}"))
    };
    let outcome = test(&kubelet, numbered('1')?, numbered('2')?);
    // Starting it twice does no harm; leaving it stopped would spoil the other tests.
    kubelet("start-kubelet")?;
    outcome
}

/// Waits until Kubernetes takes a node for lost, and the pods on it for unready in all of the namespace's
/// Services.
fn wait_until_lost(namespace: &Namespace, node: &str) -> Result<()> {
    eventually("the node is taken for lost", || {
        let found = namespace.get(&["node", node])?;
        let conditions = found["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready");
        let ready = ready.context("no condition Ready")?;
        ensure!(ready["status"] == "Unknown", "{ready}");
        let slices = namespace.get(&["endpointslices"])?;
        let slices = slices["items"].as_array().context("no list")?;
        let endpoints = slices.iter().filter_map(|it| it["endpoints"].as_array());
        let there = endpoints.flatten().filter(|it| it["nodeName"] == node);
        let ready: Vec<bool> = there.map(|it| it["conditions"]["ready"] == true).collect();
        ensure!(!ready.is_empty(), "no Service has a pod on {node}");
        ensure!(!ready.contains(&true), "pods on {node} are ready");
        Ok(())
    })
}

/// Runs `fault` while a pod on `node` sends requests; none may fail, and all are over TLS at the end.
fn under_load(
    namespace: &Namespace,
    app: &Emojivoto<'_>,
    node: Option<&str>,
    fault: impl FnOnce(&Load<'_>) -> Result<()>,
) -> Result<()> {
    under_load_until(namespace, app, node, fault, || Ok(()))
}

/// The same, with `end` to end the fault after the requests are counted.
fn under_load_until(
    namespace: &Namespace,
    app: &Emojivoto<'_>,
    node: Option<&str>,
    fault: impl FnOnce(&Load<'_>) -> Result<()>,
    end: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let url = format!("http://{}/api/list", app.authority("web-svc", 80));
    let load = Load::start(namespace, &[&url, "--rate", "20", "--fresh"], node)?;
    // From here on every request must succeed.
    let before = load.totals()?;
    fault(&load)?;
    load.goes_on_since(&before, AFTERWARDS)?;
    end()?;
    eventually("requests are over TLS", || {
        let rows = rows(&namespace.cluster, &["authority", "-n", &namespace.name])?;
        for (service, port) in [("emoji-svc", 8080), ("voting-svc", 8080), ("web-svc", 80)] {
            let row = find(&rows, &app.authority(service, port))?;
            ensure!(row.tls > Some(0.9999), "{row:?}");
        }
        Ok(())
    })
}

/// Namespace and name of the Secrets that hold a workload's certificate.
fn workload_secrets(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let columns = "custom-columns=:metadata.namespace,:metadata.name";
    let args = [
        "get",
        "secrets",
        "--all-namespaces",
        "--no-headers",
        "-o",
        columns,
    ];
    let secrets = cluster.kubectl(&args)?;
    // Those of an earlier test's namespace are about to go by themselves.
    let active = [
        "get",
        "namespaces",
        "--field-selector=status.phase=Active",
        "-o",
        "name",
    ];
    let active = cluster.kubectl(&active)?;
    Ok(secrets
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(namespace, name)| (namespace.to_owned(), name.trim().to_owned()))
        .filter(|(_, name)| name.ends_with("-tls-linkerd-io"))
        .filter(|(namespace, _)| {
            active
                .lines()
                .any(|one| one == format!("namespace/{namespace}"))
        })
        .collect())
}

/// Deletes the pods of one component at once, without letting them say good-bye.
fn delete_pods_of(cluster: &Cluster, component: &str) -> Result<()> {
    let pods = cluster.kubectl(&["get", "pods", "-n", "linkerd", "-o", "name"])?;
    let prefix = format!("pod/{component}-");
    let pods: Vec<_> = pods
        .lines()
        .filter(|pod| pod.starts_with(&prefix))
        .collect();
    ensure!(!pods.is_empty(), "no pod of {component}");
    let args = [
        &["delete", "-n", "linkerd", "--force", "--grace-period=0"],
        pods.as_slice(),
    ];
    cluster.kubectl(&args.concat())?;
    let deployment = format!("deployment/{component}");
    let args = [
        "rollout",
        "status",
        "-n",
        "linkerd",
        "--timeout=180s",
        &deployment,
    ];
    cluster.kubectl(&args)?;
    Ok(())
}
