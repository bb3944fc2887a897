//! The pods of the cluster, and which of them have reported metrics. Entry: [`list_pods`].

use std::collections::BTreeSet;

use kube::core::{Selector as Labels, SelectorExt as _};
use linkerd_names::{OwnerKind, labels};
use linkerd_proto::public::{self, ListPodsResponse, pod::Owner};

use crate::{
    cluster::Cluster,
    metrics::{Metrics, MetricsError, Snapshot},
    pod::Pod,
    query::{Aggregate, Condition, Function, Metric, Part, Query},
    table::Key,
};

/// Nobody meshes the pods of this namespace, and there are many.
const NAMESPACE_IGNORED: &str = "kube-system";

/// Returns the pods with these labels of a namespace, or of all namespaces when it is empty, sorted by namespace
/// and name. Pods are listed also when nobody knows their metrics; the answer then says so.
pub(crate) async fn list_pods(
    cluster: &Cluster,
    metrics: &Metrics,
    namespace: &str,
    wanted: &Labels,
) -> ListPodsResponse {
    let (reported, metrics_error) = match reported(metrics).await {
        Ok(reported) => (reported, String::new()),
        Err(error) => (BTreeSet::new(), error.to_string()),
    };
    let pods = cluster
        .pods
        .list(namespace)
        .into_iter()
        .filter(|((namespace, _), _)| namespace != NAMESPACE_IGNORED)
        .filter(|(_, pod)| wanted.matches(&pod.labels))
        .map(|(key, pod)| describe(cluster, &key, &pod, reported.contains(&key)))
        .collect();
    ListPodsResponse {
        pods,
        metrics_error,
        selected: true,
    }
}

/// A proxy that reports metrics reports when it started. So do other programs, but of no control plane.
fn starts_of_proxies() -> Query {
    let of_proxy = ("control_plane_ns".to_owned(), Condition::is_set());
    Query {
        aggregate: Aggregate::Max,
        function: Function::Latest,
        metric: Metric::StartTime,
        parts: vec![Part {
            selector: [of_proxy].into(),
            by: vec!["pod".to_owned(), "namespace".to_owned()],
        }],
    }
}

async fn reported(metrics: &Metrics) -> Result<BTreeSet<Key>, MetricsError> {
    let ask = async |metrics: Snapshot<'_>| metrics.query(starts_of_proxies()).await;
    let samples = metrics.at_once(ask).await?;
    Ok(samples
        .into_iter()
        .filter_map(|mut sample| {
            Some((
                sample.labels.remove("namespace")?,
                sample.labels.remove("pod")?,
            ))
        })
        .collect())
}

fn describe(cluster: &Cluster, (namespace, name): &Key, pod: &Pod, added: bool) -> public::Pod {
    let status = if pod.terminating {
        "Terminating"
    } else {
        &pod.phase
    };
    public::Pod {
        name: format!("{namespace}/{name}"),
        pod_ip: pod.ip.clone(),
        status: status.to_owned(),
        added,
        controller_namespace: pod.control_plane_namespace().unwrap_or_default().to_owned(),
        control_plane: pod.labels.contains_key(labels::CONTROL_PLANE_COMPONENT),
        owner: owner(cluster, namespace, pod),
    }
}

fn owner(cluster: &Cluster, namespace: &str, pod: &Pod) -> Option<Owner> {
    let (kind, name) = cluster.owner_of(namespace, pod)?;
    let name = format!("{namespace}/{name}");
    Some(match kind {
        OwnerKind::Deployment => Owner::Deployment(name),
        OwnerKind::ReplicaSet => Owner::ReplicaSet(name),
        OwnerKind::CronJob => Owner::CronJob(name),
        OwnerKind::Job => Owner::Job(name),
        OwnerKind::ReplicationController => Owner::ReplicationController(name),
        OwnerKind::StatefulSet => Owner::StatefulSet(name),
        OwnerKind::DaemonSet => Owner::DaemonSet(name),
        OwnerKind::Pod => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        label_selector,
        prometheus::Prometheus,
        workload::{Controller, Workload},
    };

    fn managed_by(kind: &str, name: &str) -> Option<Controller> {
        let known = kind.parse().map(OwnerKind::api_version);
        Some(Controller {
            api_version: known.unwrap_or("example.com/v1").into(),
            kind: kind.into(),
            name: name.into(),
            uid: String::new(),
        })
    }

    fn owner_of(cluster: &Cluster, kind: &str, name: &str) -> Option<Owner> {
        owner(
            cluster,
            "ns",
            &Pod {
                controller: managed_by(kind, name),
                ..Pod::default()
            },
        )
    }

    #[test]
    fn owners_are_followed_to_the_workload_that_people_know() {
        let cluster = Cluster::default();
        let managed = |kind, name| Workload {
            controller: managed_by(kind, name),
            ..Workload::default()
        };
        cluster
            .replica_sets
            .insert(("ns".into(), "web-1".into()), managed("Deployment", "web"));
        let rolled = managed("Rollout", "rolled");
        cluster
            .replica_sets
            .insert(("ns".into(), "rolled-1".into()), rolled);
        cluster
            .jobs
            .insert(("ns".into(), "tick-1".into()), managed("CronJob", "tick"));
        let cases = [
            (
                "ReplicaSet",
                "web-1",
                Some(Owner::Deployment("ns/web".into())),
            ),
            (
                "ReplicaSet",
                "own",
                Some(Owner::ReplicaSet("ns/own".into())),
            ),
            ("Job", "tick-1", Some(Owner::CronJob("ns/tick".into()))),
            (
                "ReplicaSet",
                "rolled-1",
                Some(Owner::ReplicaSet("ns/rolled-1".into())),
            ),
            ("DaemonSet", "log", Some(Owner::DaemonSet("ns/log".into()))),
            ("Node", "a", None),
        ];
        for (kind, name, expected) in cases {
            assert_eq!(owner_of(&cluster, kind, name), expected, "{kind}/{name}");
        }
    }

    #[test]
    fn a_kind_of_the_same_name_in_another_api_group_is_no_workload() {
        let controller = managed_by("StatefulSet", "db").map(|it| Controller {
            api_version: "apps.kruise.io/v1beta1".into(),
            ..it
        });
        let pod = Pod {
            controller,
            ..Pod::default()
        };
        assert_eq!(owner(&Cluster::default(), "ns", &pod), None);
    }

    #[test]
    fn only_proxies_are_asked_for() {
        assert_eq!(
            crate::promql::render(&starts_of_proxies()),
            "max(process_start_time_seconds{control_plane_ns!=\"\"}) by (pod, namespace)"
        );
    }

    #[tokio::test]
    async fn pods_are_listed_without_prometheus_and_the_answer_says_so() {
        let cluster = Cluster::default();
        cluster
            .pods
            .insert(("ns".into(), "web".into()), Pod::default());
        cluster
            .pods
            .insert(("kube-system".into(), "dns".into()), Pod::default());
        // Port 1 of loopback is closed.
        let prometheus = Prometheus::new("http://127.0.0.1:1").expect("a URL");
        let metrics = Metrics::Prometheus(Box::new(prometheus));
        let answer = list_pods(&cluster, &metrics, "", &Labels::default()).await;
        assert_eq!(
            answer
                .pods
                .iter()
                .map(|pod| pod.name.as_str())
                .collect::<Vec<_>>(),
            ["ns/web"]
        );
        assert!(
            answer.metrics_error.contains("127.0.0.1:1"),
            "{}",
            answer.metrics_error
        );
    }

    #[tokio::test]
    async fn labels_choose_pods_and_the_answer_says_so() {
        let cluster = Cluster::default();
        for app in ["web", "db"] {
            let labels = [("app".to_owned(), app.to_owned())].into();
            let pod = Pod {
                labels,
                ..Pod::default()
            };
            cluster.pods.insert(("ns".into(), app.into()), pod);
        }
        let prometheus = Prometheus::new("http://127.0.0.1:1").expect("a URL");
        let metrics = Metrics::Prometheus(Box::new(prometheus));
        let wanted = label_selector::parse("app notin (web)").expect("a selector");
        let answer = list_pods(&cluster, &metrics, "ns", &wanted).await;
        let names: Vec<&str> = answer.pods.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!((names, answer.selected), (vec!["ns/db"], true));
    }
}
