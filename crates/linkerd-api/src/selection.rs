//! Which objects a request means. Entries: [`Cluster::objects`], [`Cluster::check`]; `pod_index.rs` knows their pods.
//! Pure: reads the tables, asks nobody.

use std::sync::Arc;

use kube::core::{Selector, SelectorExt as _};
use linkerd_names::{OwnerKind, ResourceType};

use crate::{
    cluster::Cluster,
    stat_request::Target,
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
    pub(crate) workload: Option<Arc<Workload>>,
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

    /// Checks that what is named exists: the object, which without a namespace may be in any, or else the
    /// namespace. An object without pods exists, and an authority is no object.
    ///
    /// # Errors
    /// [`NotFound`] is about the namespace where that is missing too.
    pub(crate) fn check(&self, target: &Target) -> Result<(), NotFound> {
        let Target {
            kind,
            namespace,
            name,
        } = target;
        let is_namespace = |name: &str| name.is_empty() || self.namespaces.get("", name).is_some();
        let exists = match *kind {
            ResourceType::All | ResourceType::Authority => true,
            ResourceType::Namespace => is_namespace(name),
            _ if name.is_empty() => is_namespace(namespace),
            ResourceType::Workload(OwnerKind::Pod) => has(&self.pods, namespace, name),
            kind => self
                .table(kind)
                .is_some_and(|table| has(table, namespace, name)),
        };
        if exists {
            return Ok(());
        }
        if *kind != ResourceType::Namespace && !is_namespace(namespace) {
            return Err(NotFound::of(ResourceType::Namespace, namespace));
        }
        Err(NotFound::of(*kind, name))
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
        None => Err(NotFound::of(kind, name)),
    }
}

/// Whether there is such an object; in any namespace when `namespace` is empty.
fn has<T>(table: &Table<T>, namespace: &str, name: &str) -> bool {
    if !namespace.is_empty() {
        return table.get(namespace, name).is_some();
    }
    let all = table.list("");
    all.iter().any(|((_, present), _)| present == name)
}

impl NotFound {
    fn of(kind: ResourceType, name: &str) -> Self {
        Self {
            resource: api_resource(kind),
            name: name.to_owned(),
        }
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
    use super::*;
    use crate::{pod::Pod, workload::Controller};

    const DEPLOYMENT: ResourceType = ResourceType::Workload(OwnerKind::Deployment);
    const REPLICA_SET: ResourceType = ResourceType::Workload(OwnerKind::ReplicaSet);
    const JOB: ResourceType = ResourceType::Workload(OwnerKind::Job);
    const STATEFUL_SET: ResourceType = ResourceType::Workload(OwnerKind::StatefulSet);
    const POD: ResourceType = ResourceType::Workload(OwnerKind::Pod);

    fn key(name: &str) -> Key {
        ("ns".to_owned(), name.to_owned())
    }

    fn pod(phase: &str) -> Pod {
        Pod {
            phase: phase.into(),
            ..Pod::default()
        }
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
    fn what_is_named_has_to_exist_and_may_be_without_pods() {
        let cluster = Cluster::default();
        let namespace = (String::new(), "ns".to_owned());
        cluster.namespaces.insert(namespace, Workload::default());
        cluster.deployments.insert(key("idle"), Workload::default());
        cluster.pods.insert(key("ended"), pod("Succeeded"));
        for (kind, namespace, name, expected) in [
            (DEPLOYMENT, "ns", "idle", None),
            (DEPLOYMENT, "", "idle", None),
            (DEPLOYMENT, "ns", "", None),
            (DEPLOYMENT, "", "", None),
            (POD, "ns", "ended", None),
            (ResourceType::Namespace, "", "ns", None),
            (ResourceType::Authority, "nope", "nope:80", None),
            (
                DEPLOYMENT,
                "ns",
                "nope",
                Some("deployment.apps \"nope\" not found"),
            ),
            (
                DEPLOYMENT,
                "",
                "nope",
                Some("deployment.apps \"nope\" not found"),
            ),
            (
                ResourceType::Service,
                "ns",
                "idle",
                Some("service \"idle\" not found"),
            ),
            (POD, "", "idle", Some("pod \"idle\" not found")),
            (DEPLOYMENT, "no", "idle", Some("namespace \"no\" not found")),
            (DEPLOYMENT, "no", "", Some("namespace \"no\" not found")),
            (
                ResourceType::Namespace,
                "",
                "no",
                Some("namespace \"no\" not found"),
            ),
        ] {
            let checked = cluster.check(&Target {
                kind,
                namespace: namespace.into(),
                name: name.into(),
            });
            let error = checked.err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{kind} {namespace}/{name}");
        }
    }

    #[test]
    fn pods_that_end_have_no_row() {
        let cluster = Cluster::default();
        cluster.pods.insert(key("done"), pod("Succeeded"));
        let ending = Pod {
            terminating: true,
            ..pod("Running")
        };
        cluster.pods.insert(key("ending"), ending);
        cluster.pods.insert(key("runs"), pod("Running"));
        let objects = cluster.objects(POD, "", "").expect("all");
        let names: Vec<_> = objects.into_iter().map(|pod| pod.name).collect();
        assert_eq!(names, ["runs"]);
    }

    #[test]
    fn an_unknown_name_is_not_found() {
        let error = Cluster::default()
            .objects(DEPLOYMENT, "ns", "x")
            .expect_err("nothing there");
        assert_eq!(error.to_string(), "deployment.apps \"x\" not found");
    }
}
