//! Kubelet's `tcpSocket` probe of a meshed pod means what it meant: it fails while nobody listens, although the
//! proxy takes every connection, and the workload gets its probe back when it leaves the mesh.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Namespace, eventually_within, in_namespace};
use serde_json::{Value, json};

const NAME: &str = "late";
/// The port that the probe is about.
const PORT: u16 = 9000;
/// Another one, on which the application listens from its start.
const OTHER_PORT: u16 = 9001;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_tcp_probe_fails_while_the_application_does_not_listen() -> Result<()> {
    in_namespace("tcp-probes", |namespace| {
        deploy(namespace)?;
        let pod = eventually_within(PATIENCE, "a pod whose probe has failed", || {
            let pod = namespace.pod(NAME)?;
            let about = format!("involvedObject.name={pod},reason=Unhealthy");
            let events = namespace.get(&["events", "--field-selector", &about])?;
            let told = events["items"].to_string();
            ensure!(
                told.contains("Readiness probe failed: HTTP probe failed with statuscode: 503"),
                "{told}"
            );
            Ok(pod)
        })?;
        ensure!(ready(namespace, &pod)? == "False", "nobody listens");
        eventually_within(PATIENCE, "the reason in the proxy's log", || {
            let log = namespace.kubectl(&["logs", &pod, "-c", "linkerd-proxy"])?;
            let told = ["TCP probe failed", "Connection refused"];
            ensure!(told.iter().all(|part| log.contains(part)), "{log}");
            Ok(())
        })?;

        // It listens on the pod's address alone, as some do.
        let listen = format!(
            "/emojivoto tcp-server --addr $POD_IP:{PORT} </dev/null >/tmp/log 2>&1 & echo $! >/tmp/pid"
        );
        exec(namespace, &pod, &listen)?;
        becomes_ready(namespace, &pod, "True")?;
        ask_proxy(namespace, &pod, PORT)?;
        exec(namespace, &pod, "read pid </tmp/pid && kill $pid")?;
        becomes_ready(namespace, &pod, "False")?;

        // Nobody learns of a port that no probe is about.
        let error = format!("{:#}", ask_proxy(namespace, &pod, OTHER_PORT).unwrap_err());
        ensure!(error.contains("NotFound"), "{error}");
        unless_it_has_changed_meanwhile(|| leaves_as_it_came(namespace))
    })
}

/// Makes the Deployment outside of the mesh, then takes it in as it stands in the cluster, where nobody has
/// noted down for `kubectl apply` that the probe is to go.
fn deploy(namespace: &Namespace) -> Result<()> {
    let args = ["--namespace", &namespace.name, "create", "-f", "-"];
    let manifest = deployment(&namespace.cluster).to_string();
    namespace.cluster.kubectl_with(&args, &manifest)?;
    unless_it_has_changed_meanwhile(|| {
        let deployment = namespace.get(&["deployment", NAME])?.to_string();
        namespace.apply_meshed(&deployment)
    })?;
    let live = probe(&namespace.get(&["deployment", NAME])?);
    ensure!(
        live["tcpSocket"].is_null() && live["httpGet"]["port"] == 4191,
        "{live:#}"
    );
    namespace.kubectl(&["scale", "deployment", NAME, "--replicas=1"])?;
    Ok(())
}

fn deployment(cluster: &Cluster) -> Value {
    let labels = json!({ "app": NAME });
    let container = json!({
        "name": NAME,
        "image": cluster.servers_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/emojivoto", "tcp-server", "--addr", format!("0.0.0.0:{OTHER_PORT}")],
        "env": [{
            "name": "POD_IP",
            "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } },
        }],
        "ports": [{ "name": "late", "containerPort": PORT }],
        "readinessProbe": {
            "tcpSocket": { "port": "late" },
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": NAME },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": { "runAsNonRoot": true, "runAsUser": 1000 },
                    "containers": [container],
                },
            },
        },
    })
}

/// The API server accepts what `linkerd uninject` makes of the live object, and the probe is the first one.
fn leaves_as_it_came(namespace: &Namespace) -> Result<()> {
    let live = namespace.get(&["deployment", NAME])?.to_string();
    let output = namespace.cluster.linkerd(&["uninject", "-"], &live)?;
    let manifest = output.ok().context("linkerd uninject")?;
    let args = ["--namespace", &namespace.name, "apply", "-f", "-"];
    let dry_run = [&args[..], &["--dry-run=server", "-o", "json"]].concat();
    let back: Value = serde_json::from_str(&namespace.cluster.kubectl_with(&dry_run, &manifest)?)?;
    let back = probe(&back);
    ensure!(
        back["tcpSocket"] == json!({ "port": "late" }) && back["httpGet"].is_null(),
        "{back:#}"
    );
    Ok(())
}

/// What `kubectl get` has shown can be applied as long as its `resourceVersion` is the object's.
fn unless_it_has_changed_meanwhile(apply: impl FnMut() -> Result<()>) -> Result<()> {
    eventually_within(PATIENCE, "it is applied", apply)
}

/// The probe of a Deployment.
fn probe(deployment: &Value) -> Value {
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"].clone()
}

/// What the pod's proxy says of a port.
fn ask_proxy(namespace: &Namespace, pod: &str, port: u16) -> Result<String> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}:4191/proxy/probe/tcp/{port}",
        namespace.name
    );
    namespace.cluster.kubectl(&["get", "--raw", &path])
}

fn exec(namespace: &Namespace, pod: &str, script: &str) -> Result<String> {
    namespace.kubectl(&["exec", pod, "-c", NAME, "--", "sh", "-c", script])
}

fn becomes_ready(namespace: &Namespace, pod: &str, wanted: &str) -> Result<()> {
    eventually_within(PATIENCE, &format!("Ready is {wanted}"), || {
        let found = ready(namespace, pod)?;
        ensure!(found == wanted, "Ready is {found}");
        Ok(())
    })
}

/// The pod's condition `Ready`.
fn ready(namespace: &Namespace, pod: &str) -> Result<String> {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    namespace.kubectl(&["get", "pod", pod, "-o", path])
}
