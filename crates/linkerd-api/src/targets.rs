//! What is to be scraped, and with which labels. Entries: [`proxies`], for the own history, and [`router`],
//! as Prometheus' HTTP service discovery reads it. So Prometheus needs no right in the cluster, and any
//! build of it will do.

use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, sync::Arc};

use axum::{Json, Router, extract::State, routing::get};
use linkerd_names::{OwnerKind, labels};
use serde::Serialize;

use crate::{Cluster, Pod};

/// The labels of a pod, besides those of its owner, that its series get, and as what.
///
/// No others: whoever may label a pod chooses them, and a target's label comes before the proxy's own of that name, be it
/// `tls` or `classification`.
const POD_LABELS: [(&str, &str); 2] = [
    (labels::CONTROL_PLANE_NAMESPACE, "control_plane_ns"),
    (labels::TLS_MODE, "tls_mode"),
];

/// What is asked of the cluster.
#[derive(Clone)]
struct Source {
    cluster: Arc<Cluster>,
    control_plane_namespace: Arc<str>,
}

/// One target with its labels, see Prometheus' `http_sd_config`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Target {
    /// Its address.
    pub(crate) targets: [SocketAddr; 1],
    /// Labels that its series get.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Serves `/prometheus/proxies` and `/prometheus/controllers`.
pub fn router(cluster: Arc<Cluster>, control_plane_namespace: &str) -> Router {
    Router::new()
        .route("/prometheus/proxies", get(serve_proxies))
        .route("/prometheus/controllers", get(controllers))
        .with_state(Source {
            cluster,
            control_plane_namespace: control_plane_namespace.into(),
        })
}

async fn serve_proxies(State(source): State<Source>) -> Json<Vec<Target>> {
    let Source {
        cluster,
        control_plane_namespace,
    } = source;
    Json(proxies(&cluster, &control_plane_namespace))
}

/// The proxies of this control plane, in every namespace.
pub(crate) fn proxies(cluster: &Cluster, control_plane_namespace: &str) -> Vec<Target> {
    let pods = cluster.pods.list("");
    let targets = pods.iter().filter_map(|((namespace, name), pod)| {
        let ours = pod.control_plane_namespace() == Some(control_plane_namespace);
        let address = address(pod, pod.metrics_port.filter(|_| ours)?)?;
        Some(Target {
            targets: [address],
            labels: proxy_labels(namespace, name, pod),
        })
    });
    targets.collect()
}

/// The processes of the control plane.
async fn controllers(State(source): State<Source>) -> Json<Vec<Target>> {
    let Source {
        cluster,
        control_plane_namespace,
    } = source;
    let mut targets = Vec::new();
    for ((namespace, name), pod) in cluster.pods.list(&control_plane_namespace) {
        for (container, port) in &pod.admin_ports {
            let Some(address) = address(&pod, *port) else {
                continue;
            };
            let labels = [
                ("component", container),
                ("namespace", &namespace),
                ("pod", &name),
            ];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.clone()));
            targets.push(Target {
                targets: [address],
                labels: labels.into(),
            });
        }
    }
    Json(targets)
}

/// The address to scrape; none when nothing runs there.
fn address(pod: &Pod, port: u16) -> Option<SocketAddr> {
    // A pod that has ended may keep an address that another pod has by now.
    if matches!(pod.phase.as_str(), "Failed" | "Succeeded") {
        return None;
    }
    let ip: IpAddr = pod.ip.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// `linkerd.io/proxy-deployment: web` becomes `deployment="web"`.
fn proxy_labels(namespace: &str, name: &str, pod: &Pod) -> BTreeMap<String, String> {
    let owners = pod.labels.iter().filter_map(|(key, value)| {
        let kind = key.strip_prefix(labels::PROXY_OWNER_PREFIX)?;
        Some((kind.parse::<OwnerKind>().ok()?.metric_label(), value))
    });
    let others = POD_LABELS
        .iter()
        .filter_map(|(key, of_target)| Some((*of_target, pod.labels.get(*key)?)));
    let mut of_target: BTreeMap<_, _> = owners
        .chain(others)
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    of_target.insert("namespace".to_owned(), namespace.to_owned());
    of_target.insert("pod".to_owned(), name.to_owned());
    of_target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(labels: &[(&str, &str)]) -> Pod {
        Pod {
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            phase: "Running".into(),
            ip: "10.0.0.1".into(),
            metrics_port: Some(4191),
            admin_ports: vec![("ca".into(), 9990)],
            ..Pod::default()
        }
    }

    fn source(pods: Vec<(&str, &str, Pod)>) -> State<Source> {
        let cluster = Cluster::default();
        for (namespace, name, pod) in pods {
            cluster.pods.insert((namespace.into(), name.into()), pod);
        }
        let control_plane_namespace = "linkerd".into();
        State(Source {
            cluster: Arc::new(cluster),
            control_plane_namespace,
        })
    }

    #[tokio::test]
    async fn a_proxy_has_the_labels_of_its_owner() {
        let labels = [
            ("linkerd.io/control-plane-ns", "linkerd"),
            ("linkerd.io/proxy-job", "migrate"),
            ("app", "web"),
        ];
        let Json(targets) = serve_proxies(source(vec![("shop", "web-1", pod(&labels))])).await;
        let json = serde_json::to_value(&targets).expect("serializable");
        let expected = serde_json::json!([{
            "targets": ["10.0.0.1:4191"],
            "labels": {
                "control_plane_ns": "linkerd",
                "k8s_job": "migrate",
                "namespace": "shop",
                "pod": "web-1",
            },
        }]);
        assert_eq!(json, expected);
    }

    #[tokio::test]
    async fn no_label_of_a_pod_hides_what_its_proxy_says() {
        let labels = [
            ("linkerd.io/control-plane-ns", "linkerd"),
            ("linkerd.io/tls-mode", "optional"),
            ("linkerd.io/tls", "true"),
            ("linkerd.io/classification", "success"),
            ("linkerd.io/direction", "outbound"),
            ("linkerd.io/job", "other"),
            ("linkerd.io/dst-service", "shop"),
            ("linkerd.io/proxy-tls", "true"),
            ("linkerd.io/namespace", "other"),
        ];
        let Json(targets) = serve_proxies(source(vec![("shop", "web-1", pod(&labels))])).await;
        let expected = [
            ("control_plane_ns", "linkerd"),
            ("namespace", "shop"),
            ("pod", "web-1"),
            ("tls_mode", "optional"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(targets[0].labels, expected.into());
    }

    #[tokio::test]
    async fn pods_of_others_and_pods_that_ended_are_no_targets() {
        let ours = ("linkerd.io/control-plane-ns", "linkerd");
        let ended = Pod {
            phase: "Succeeded".into(),
            ..pod(&[ours])
        };
        let pending = Pod {
            ip: String::new(),
            ..pod(&[ours])
        };
        let pods = vec![
            (
                "shop",
                "foreign",
                pod(&[("linkerd.io/control-plane-ns", "other")]),
            ),
            ("shop", "ended", ended),
            ("shop", "pending", pending),
            ("shop", "unmeshed", pod(&[])),
        ];
        assert_eq!(serve_proxies(source(pods)).await.0, []);
    }

    #[tokio::test]
    async fn controllers_are_named_by_their_container() {
        let Json(targets) = controllers(source(vec![
            ("linkerd", "linkerd-ca-1", pod(&[])),
            ("shop", "not-ours", pod(&[])),
        ]))
        .await;
        assert_eq!(targets.len(), 1);
        assert_eq!(
            targets[0].targets.map(|it| it.to_string()),
            ["10.0.0.1:9990"]
        );
        assert_eq!(targets[0].labels["component"], "ca");
    }
}
