//! Checks of the category linkerd-data-plane: whether the proxies run, are of our version, and have
//! loaded their certificates. Entry: [`check`].

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use linkerd_names::{annotations, component, labels, ports};

use super::{
    problem::Problem,
    report::{Finding, Report, Stop, list},
    retry::Retry,
    row::Row,
};
use crate::control_plane::{CallError, Kubernetes, TIMEOUT, causes, no_permission, within};

/// Port-forwards at once.
const CONCURRENCY: usize = 8;
/// A proxy's metrics are shorter.
const METRICS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The proxy has this metric as soon as it has loaded a certificate.
const LOADED: &str = "tls_config_last_reload_seconds";

/// Says what is wrong with the proxies of a namespace, or of all namespaces.
pub(super) async fn check(
    report: &mut Report,
    kubernetes: &Kubernetes,
    control_plane: &str,
    namespace: Option<&str>,
    expected_version: &str,
    retry: &Retry,
) -> Result<(), Stop> {
    report.category("linkerd-data-plane");
    if let Some(namespace) = namespace {
        check_namespace(report, kubernetes, namespace).await?;
    }
    let pods = retry.run(|| async {
        let pods = meshed(kubernetes, control_plane, namespace).await?;
        let problems: Vec<String> = pods.iter().filter_map(problem).collect();
        list(&problems)?;
        Ok::<_, Problem>(pods)
    });
    let pods = report.require(Row::DataPlaneReady, pods.await)?;
    if pods.is_empty() {
        report.add(
            Row::DataPlaneMeshed,
            Finding::Warning("no pod is".to_owned()),
        );
        return Ok(());
    }
    let other: Vec<String> = pods
        .iter()
        .filter_map(|pod| other_version(pod, expected_version))
        .collect();
    report.add(
        Row::DataPlaneVersion,
        list(&other).map_or_else(Finding::Warning, |()| Finding::Success(None)),
    );
    let unloaded = retry.run(|| async {
        // Pods come and go while certificates are waited for.
        let pods = meshed(kubernetes, control_plane, namespace).await?;
        let marked = pods
            .iter()
            .filter(|pod| pod.labels().contains_key(labels::TLS_MODE));
        let asked = stream::iter(marked)
            .map(|pod| async move { (pod, has_loaded(&kubernetes.client, pod).await) })
            .buffered(CONCURRENCY);
        let mut asked = std::pin::pin!(asked);
        let mut unloaded = Vec::new();
        // One for each namespace, however many pods are in it.
        let mut rights = BTreeSet::new();
        while let Some((pod, loaded)) = asked.next().await {
            match loaded {
                Ok(()) => {}
                Err(Problem::Found(what)) => unloaded.push(format!("{}: {what}", name(pod))),
                Err(Problem::Unseen(right)) => drop(rights.insert(right)),
            }
        }
        let found = !unloaded.is_empty();
        unloaded.extend(rights);
        list(&unloaded).map_err(if found {
            Problem::Found
        } else {
            Problem::Unseen
        })
    });
    let unloaded = unloaded.await;
    report.add(
        Row::DataPlaneLoaded,
        unloaded.map_or_else(Finding::from, |()| Finding::Success(None)),
    );
    Ok(())
}

/// A mistyped namespace has no pods, which would look well.
async fn check_namespace(
    report: &mut Report,
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<(), Stop> {
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    match within(namespaces.get_opt(namespace)).await {
        Ok(Some(_)) => report.add(Row::DataPlaneNamespace, Finding::Success(None)),
        Ok(None) => {
            let error = format!("The {namespace:?} namespace does not exist");
            report.add(Row::DataPlaneNamespace, Finding::Error(error));
            return Err(Stop);
        }
        Err(error) => {
            let asked = format!("the namespace {namespace:?}");
            let problem = Problem::of(kubernetes, &error, "get", &asked, None);
            report.add(Row::DataPlaneNamespace, problem);
        }
    }
    Ok(())
}

async fn meshed(
    kubernetes: &Kubernetes,
    control_plane: &str,
    namespace: Option<&str>,
) -> Result<Vec<Pod>, Problem> {
    let api: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(kubernetes.client.clone(), namespace),
        None => Api::all(kubernetes.client.clone()),
    };
    let selector = format!("{}={control_plane}", labels::CONTROL_PLANE_NAMESPACE);
    let pods = within(api.list(&ListParams::default().labels(&selector))).await;
    let pods = pods.map_err(|error| Problem::of(kubernetes, &error, "list", "pods", namespace))?;
    let lives = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(pods.items.into_iter().filter(lives).collect())
}

fn name(pod: &Pod) -> String {
    format!(
        "pod {}/{}",
        pod.namespace().unwrap_or_default(),
        pod.name_any()
    )
}

/// Why a pod's proxy does not run; none when it does.
fn problem(pod: &Pod) -> Option<String> {
    let statuses = pod.status.iter().flat_map(|status| {
        // A native sidecar is an init container.
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
    });
    let proxy = statuses
        .into_iter()
        .find(|it| it.name == component::PROXY_CONTAINER);
    match proxy {
        Some(status) if status.ready => None,
        Some(_) => Some(format!("{}: the proxy is not ready", name(pod))),
        None => Some(format!("{}: there is no proxy yet", name(pod))),
    }
}

fn other_version(pod: &Pod, expected: &str) -> Option<String> {
    let version = pod
        .annotations()
        .get(annotations::PROXY_VERSION)
        .map_or("unknown", String::as_str);
    (version != expected).then(|| format!("{}: version {version}", name(pod)))
}

/// Asks the proxy itself, by port-forward.
async fn has_loaded(client: &Client, pod: &Pod) -> Result<(), Problem> {
    let metrics = tokio::time::timeout(TIMEOUT, metrics(client, pod));
    let metrics = metrics
        .await
        .map_err(|_| CallError::Timeout.to_string())??;
    let loaded = metrics.lines().any(|line| {
        let value = line
            .strip_prefix(LOADED)
            .and_then(|rest| rest.rsplit(' ').next());
        value
            .and_then(|value| value.parse::<f64>().ok())
            .is_some_and(|at| at > 0.0)
    });
    if loaded {
        Ok(())
    } else {
        Err(Problem::Found("no certificate is loaded".to_owned()))
    }
}

/// Where the pod says that its proxy shows its metrics: `--metrics-port` may have changed it.
fn metrics_port(pod: &Pod) -> u16 {
    let spec = pod.spec.iter();
    // A native sidecar is an init container.
    let mut containers = spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    let proxy = containers.find(|it| it.name == component::PROXY_CONTAINER);
    let mut ports = proxy.iter().flat_map(|proxy| proxy.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(component::METRICS_PORT_NAME));
    named
        .and_then(|port| u16::try_from(port.container_port).ok())
        .unwrap_or(ports::PROXY_METRICS)
}

async fn metrics(client: &Client, pod: &Pod) -> Result<String, Problem> {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let port = metrics_port(pod);
    let mut forward = within(api.portforward(&pod.name_any(), &[port]))
        .await
        .map_err(|error| {
            if error.is_forbidden() {
                let resource = "pods/portforward";
                return Problem::Unseen(no_permission(
                    "get and create",
                    resource,
                    Some(&namespace),
                ));
            }
            Problem::Found(error.to_string())
        })?;
    let stream = forward.take_stream(port).expect("a port is taken once");
    let failed = |error: hyper::Error| Problem::Found(causes(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let request = Request::get("/metrics")
        .header("host", "proxy")
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let body = Limited::new(response.into_body(), METRICS_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| causes(error.as_ref()))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection is driven here. Where it has ended in order, what it has brought is still to be read.
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(failed(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn with_proxy(kind: &str, ports: Value) -> Pod {
        let proxy = json!([{"name": "linkerd-proxy", "ports": ports}]);
        let app =
            json!([{"name": "app", "ports": [{"name": "linkerd-metrics", "containerPort": 1}]}]);
        let mut spec = json!({"initContainers": [], "containers": app});
        if kind == "containers" {
            spec["containers"] = json!([app[0], proxy[0]]);
        } else {
            spec[kind] = proxy;
        }
        serde_json::from_value(json!({"spec": spec})).expect("a pod")
    }

    #[test]
    fn the_proxy_is_asked_on_the_port_that_its_pod_names() {
        let named = json!([
            {"name": "linkerd-proxy", "containerPort": 4143},
            {"name": "linkerd-metrics", "containerPort": 5191},
        ]);
        for kind in ["containers", "initContainers"] {
            assert_eq!(metrics_port(&with_proxy(kind, named.clone())), 5191);
        }
        assert_eq!(metrics_port(&with_proxy("containers", json!([]))), 4191);
    }
}
