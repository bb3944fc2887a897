//! Which objects a request means, and which pods belong to an object.
//! Entries: [`Cluster::objects`], [`Cluster::pods_of`]. Pure: reads the tables, asks nobody.

use std::{collections::BTreeSet, sync::Arc};

use kube::core::{Selector, SelectorExt as _};
use linkerd_names::{OwnerKind, ResourceType};

use crate::{
    cluster::Cluster,
    pod::Pod,
    table::{Key, Table},
    workload::Workload,
};

/// The object that was named does not exist. `deployment.apps "x" not found`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource} {name:?} not found")]
pub struct NotFound {
    resource: &'static str,
    name: String,
}

/// An object with a row of its own.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Empty for a Namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// None for a pod.
    workload: Option<Arc<Workload>>,
}

impl Cluster {
    /// Returns the objects with a row of their own: one when `name` is not empty, else all of the
    /// namespace (empty: of all namespaces), sorted.
    ///
    /// Left out are pods that have ended or are ending, and, unless named, workloads that are a part of
    /// another one: their traffic is counted with that one's. Authorities are no objects.
    ///
    /// # Errors
    /// [`NotFound`] when the named object does not exist.
    pub(crate) fn objects(
        &self,
        kind: ResourceType,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<Object>, NotFound> {
        if kind == ResourceType::Workload(OwnerKind::Pod) {
            return self.live_pods(namespace, name);
        }
        let Some(table) = self.table(kind) else {
            return Ok(Vec::new());
        };
        // Namespaces are in no namespace.
        let namespace = if kind == ResourceType::Namespace {
            ""
        } else {
            namespace
        };
        let found = select(table, kind, namespace, name)?;
        Ok(found
            .into_iter()
            .filter(|(_, workload)| !name.is_empty() || !is_part(kind, workload))
            .map(|((namespace, name), workload)| Object {
                namespace,
                name,
                workload: Some(workload),
            })
            .collect())
    }

    /// Returns the pods of an object, with their names, sorted.
    pub(crate) fn pods_of(&self, kind: ResourceType, object: &Object) -> Vec<(String, Arc<Pod>)> {
        let Some(workload) = &object.workload else {
            let pod = self.pods.get(&object.namespace, &object.name);
            return pod
                .into_iter()
                .map(|pod| (object.name.clone(), pod))
                .collect();
        };
        let (namespace, jobs) = match kind {
            ResourceType::Namespace => (object.name.as_str(), BTreeSet::new()),
            ResourceType::Workload(OwnerKind::CronJob) => (
                object.namespace.as_str(),
                self.job_uids(&object.namespace, workload),
            ),
            _ => (object.namespace.as_str(), BTreeSet::new()),
        };
        let belongs = |pod: &Pod| match kind {
            ResourceType::Namespace => true,
            ResourceType::Workload(OwnerKind::CronJob) => pod
                .controller
                .as_ref()
                .is_some_and(|job| jobs.contains(&job.uid)),
            _ => workload
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&pod.labels)),
        };
        self.pods
            .list(namespace)
            .into_iter()
            .filter(|(_, pod)| belongs(pod))
            .map(|((_, name), pod)| (name, pod))
            .collect()
    }

    /// Whether there is such an object, and its labels are those that `selector` wants.
    pub(crate) fn has_labels(
        &self,
        kind: ResourceType,
        namespace: &str,
        name: &str,
        selector: &Selector,
    ) -> bool {
        if kind == ResourceType::Workload(OwnerKind::Pod) {
            let pod = self.pods.get(namespace, name);
            return pod.is_some_and(|pod| selector.matches(&pod.labels));
        }
        let workload = self
            .table(kind)
            .and_then(|table| table.get(namespace, name));
        workload.is_some_and(|workload| selector.matches(&workload.labels))
    }

    fn live_pods(&self, namespace: &str, name: &str) -> Result<Vec<Object>, NotFound> {
        let pods = select(
            &self.pods,
            ResourceType::Workload(OwnerKind::Pod),
            namespace,
            name,
        )?;
        Ok(pods
            .into_iter()
            .filter(|(_, pod)| pod.is_alive())
            .map(|((namespace, name), _)| Object {
                namespace,
                name,
                workload: None,
            })
            .collect())
    }

    fn job_uids(&self, namespace: &str, cron_job: &Workload) -> BTreeSet<String> {
        let managed = |job: &Workload| {
            job.controller
                .as_ref()
                .is_some_and(|controller| controller.uid == cron_job.uid)
        };
        let jobs = self.jobs.list(namespace).into_iter();
        jobs.filter(|(_, job)| managed(job))
            .map(|(_, job)| job.uid.clone())
            .collect()
    }

    fn table(&self, kind: ResourceType) -> Option<&Table<Workload>> {
        Some(match kind {
            ResourceType::Namespace => &self.namespaces,
            ResourceType::Service => &self.services,
            ResourceType::Workload(OwnerKind::Deployment) => &self.deployments,
            ResourceType::Workload(OwnerKind::DaemonSet) => &self.daemon_sets,
            ResourceType::Workload(OwnerKind::StatefulSet) => &self.stateful_sets,
            ResourceType::Workload(OwnerKind::ReplicaSet) => &self.replica_sets,
            ResourceType::Workload(OwnerKind::ReplicationController) => {
                &self.replication_controllers
            }
            ResourceType::Workload(OwnerKind::Job) => &self.jobs,
            ResourceType::Workload(OwnerKind::CronJob) => &self.cron_jobs,
            ResourceType::All
            | ResourceType::Authority
            | ResourceType::Workload(OwnerKind::Pod) => return None,
        })
    }
}

/// Whether a workload is counted with the one that made it. What operators make is not.
fn is_part(kind: ResourceType, workload: &Workload) -> bool {
    let ResourceType::Workload(kind) = kind else {
        return false;
    };
    let controller = workload.controller.as_ref();
    controller.is_some_and(|it| kind.part_of(&it.api_version, &it.kind).is_some())
}

fn select<T>(
    table: &Table<T>,
    kind: ResourceType,
    namespace: &str,
    name: &str,
) -> Result<Vec<(Key, Arc<T>)>, NotFound> {
    if name.is_empty() {
        return Ok(table.list(namespace));
    }
    match table.get(namespace, name) {
        Some(object) => Ok(vec![((namespace.to_owned(), name.to_owned()), object)]),
        None => Err(NotFound {
            resource: api_resource(kind),
            name: name.to_owned(),
        }),
    }
}

/// The type with its API group, as in `deployment.apps "x" not found`.
fn api_resource(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Workload(OwnerKind::Deployment) => "deployment.apps",
        ResourceType::Workload(OwnerKind::DaemonSet) => "daemonset.apps",
        ResourceType::Workload(OwnerKind::StatefulSet) => "statefulset.apps",
        ResourceType::Workload(OwnerKind::ReplicaSet) => "replicaset.apps",
        ResourceType::Workload(OwnerKind::Job) => "job.batch",
        ResourceType::Workload(OwnerKind::CronJob) => "cronjob.batch",
        core => core.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
    use serde_json::{Value, json};

    use super::*;
    use crate::workload::Controller;

    const CRON_JOB: ResourceType = ResourceType::Workload(OwnerKind::CronJob);
    const DEPLOYMENT: ResourceType = ResourceType::Workload(OwnerKind::Deployment);
    const REPLICA_SET: ResourceType = ResourceType::Workload(OwnerKind::ReplicaSet);
    const JOB: ResourceType = ResourceType::Workload(OwnerKind::Job);
    const STATEFUL_SET: ResourceType = ResourceType::Workload(OwnerKind::StatefulSet);
    const POD: ResourceType = ResourceType::Workload(OwnerKind::Pod);

    fn key(name: &str) -> Key {
        ("ns".to_owned(), name.to_owned())
    }

    fn pod(labels: &[(&str, &str)]) -> Pod {
        let labels = labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        Pod {
            labels: labels.collect(),
            phase: "Running".into(),
            ..Pod::default()
        }
    }

    fn by_selector(selector: Value) -> Workload {
        let selector: LabelSelector = serde_json::from_value(selector).expect("a selector");
        Workload::by_selector(ObjectMeta::default(), Some(selector))
    }

    fn managed_by(uid: &str) -> Option<Controller> {
        Some(Controller {
            api_version: "example.com/v1".into(),
            kind: "Any".into(),
            name: "any".into(),
            uid: uid.into(),
        })
    }

    fn pods_of(cluster: &Cluster, kind: ResourceType, name: &str) -> Vec<String> {
        let objects = cluster.objects(kind, "ns", name).expect("found");
        let pods = objects
            .iter()
            .flat_map(|object| cluster.pods_of(kind, object));
        pods.map(|(name, _)| name).collect()
    }

    #[test]
    fn expressions_of_a_selector_are_honoured() {
        let cluster = Cluster::default();
        cluster
            .pods
            .insert(key("blue"), pod(&[("app", "web"), ("track", "blue")]));
        cluster
            .pods
            .insert(key("green"), pod(&[("app", "web"), ("track", "green")]));
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "track", "operator": "NotIn", "values": ["green"]}],
        });
        cluster
            .deployments
            .insert(key("web"), by_selector(selector));
        assert_eq!(pods_of(&cluster, DEPLOYMENT, "web"), ["blue"]);
    }

    #[test]
    fn a_service_without_selector_has_no_pods() {
        let cluster = Cluster::default();
        cluster.pods.insert(key("web"), pod(&[("app", "web")]));
        for labels in [None, Some(BTreeMap::new())] {
            let service = Workload::by_labels(ObjectMeta::default(), labels);
            cluster.services.insert(key("svc"), service);
            assert_eq!(pods_of(&cluster, ResourceType::Service, "svc"), [""; 0]);
        }
    }

    #[test]
    fn a_cron_job_has_the_pods_of_its_jobs() {
        let cluster = Cluster::default();
        let cron_job = Workload {
            uid: "c".into(),
            ..Workload::default()
        };
        cluster.cron_jobs.insert(key("tick"), cron_job);
        let job = |uid: &str, of| Workload {
            uid: uid.into(),
            controller: of,
            ..Workload::default()
        };
        cluster
            .jobs
            .insert(key("tick-1"), job("j1", managed_by("c")));
        cluster.jobs.insert(key("lone"), job("j2", None));
        cluster.pods.insert(
            key("a"),
            Pod {
                controller: managed_by("j1"),
                ..pod(&[])
            },
        );
        cluster.pods.insert(
            key("b"),
            Pod {
                controller: managed_by("j2"),
                ..pod(&[])
            },
        );
        assert_eq!(pods_of(&cluster, CRON_JOB, "tick"), ["a"]);
    }

    #[test]
    fn what_is_a_part_of_another_workload_is_listed_only_by_name() {
        let service = ResourceType::Service;
        for (kind, api_version, controller, has_row) in [
            (REPLICA_SET, "apps/v1", "Deployment", false),
            (REPLICA_SET, "argoproj.io/v1alpha1", "Rollout", true),
            (JOB, "batch/v1", "CronJob", false),
            (JOB, "argoproj.io/v1alpha1", "Workflow", true),
            (STATEFUL_SET, "monitoring.coreos.com/v1", "Prometheus", true),
            (DEPLOYMENT, "serving.knative.dev/v1", "Revision", true),
            (service, "serving.knative.dev/v1", "Route", true),
        ] {
            let cluster = Cluster::default();
            let made = Workload {
                controller: Some(Controller {
                    api_version: api_version.into(),
                    kind: controller.into(),
                    name: "above".into(),
                    uid: String::new(),
                }),
                ..Workload::default()
            };
            let table = cluster.table(kind).expect("a table");
            table.insert(key("made"), made);
            table.insert(key("own"), Workload::default());
            let listed = |name| cluster.objects(kind, "ns", name).expect("found");
            let names: Vec<_> = listed("").into_iter().map(|it| it.name).collect();
            let expected: &[&str] = if has_row { &["made", "own"] } else { &["own"] };
            assert_eq!(names, expected, "{kind} of {controller}");
            assert_eq!(listed("made").len(), 1, "{kind} of {controller}");
        }
    }

    #[test]
    fn pods_that_end_have_no_row() {
        let cluster = Cluster::default();
        cluster.pods.insert(
            key("done"),
            Pod {
                phase: "Succeeded".into(),
                ..pod(&[])
            },
        );
        cluster.pods.insert(
            key("ending"),
            Pod {
                terminating: true,
                ..pod(&[])
            },
        );
        cluster.pods.insert(key("runs"), pod(&[]));
        let objects = cluster.objects(POD, "", "").expect("all");
        assert_eq!(
            objects
                .iter()
                .map(|pod| pod.name.as_str())
                .collect::<Vec<_>>(),
            ["runs"]
        );
    }

    #[test]
    fn an_unknown_name_is_not_found() {
        let error = Cluster::default()
            .objects(DEPLOYMENT, "ns", "x")
            .expect_err("nothing there");
        assert_eq!(error.to_string(), "deployment.apps \"x\" not found");
    }
}
