//! The pods of many objects, without a look at every pod for each of them. Entry: [`PodIndex::pods_of`].
//! Lists a namespace once, when it is first asked for, and does not see what changes afterwards.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use kube::core::{Expression, Selector, SelectorExt as _};
use linkerd_names::{OwnerKind, ResourceType};

use crate::{cluster::Cluster, pod::Pod, selection::Object};

/// A pod with its name.
type Named = (String, Arc<Pod>);

/// For one request; a new one sees the cluster as it is by then.
pub(crate) struct PodIndex<'a> {
    cluster: &'a Cluster,
    namespaces: HashMap<String, Namespace>,
}

/// The pods of one namespace.
struct Namespace {
    /// Sorted by name.
    pods: Vec<Named>,
    hasher: RandomState,
    /// Places among `pods` by the hash of a label and its value. Selectors look again, so it does no harm
    /// when another label has the same hash.
    by_label: HashMap<u64, Vec<usize>>,
    /// Places among `pods` by the unique id of the CronJob that made the pod's Job.
    by_cron_job: HashMap<String, Vec<usize>>,
}

impl<'a> PodIndex<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            namespaces: HashMap::new(),
        }
    }

    /// Returns the pods of an object of the type, sorted by name.
    pub(crate) fn pods_of(&mut self, kind: ResourceType, object: &Object) -> Vec<Named> {
        let Some(workload) = &object.workload else {
            let pod = self.cluster.pods.get(&object.namespace, &object.name);
            return pod
                .map(|pod| (object.name.clone(), pod))
                .into_iter()
                .collect();
        };
        if kind == ResourceType::Namespace {
            return self.namespace(&object.name).pods.clone();
        }
        let namespace = self.namespace(&object.namespace);
        match (kind, &workload.selector) {
            (ResourceType::Workload(OwnerKind::CronJob), _) => {
                namespace.at(namespace.by_cron_job.get(&workload.uid))
            }
            (_, Some(selector)) => namespace.selected(selector),
            (_, None) => Vec::new(),
        }
    }

    fn namespace(&mut self, name: &str) -> &Namespace {
        let cluster = self.cluster;
        let entry = self.namespaces.entry(name.to_owned());
        entry.or_insert_with(|| Namespace::of(cluster, name))
    }
}

impl Namespace {
    fn of(cluster: &Cluster, name: &str) -> Self {
        let mut cron_jobs: HashMap<String, String> = HashMap::new();
        for (_, job) in cluster.jobs.list(name) {
            if let Some(above) = &job.controller {
                cron_jobs.insert(job.uid.clone(), above.uid.clone());
            }
        }
        let pods = cluster.pods.list(name).into_iter();
        let mut namespace = Self {
            pods: pods.map(|((_, name), pod)| (name, pod)).collect(),
            hasher: RandomState::new(),
            by_label: HashMap::new(),
            by_cron_job: HashMap::new(),
        };
        for (place, (_, pod)) in namespace.pods.iter().enumerate() {
            for label in &pod.labels {
                let hash = namespace.hasher.hash_one(label);
                namespace.by_label.entry(hash).or_default().push(place);
            }
            let job = pod.controller.as_ref();
            if let Some(above) = job.and_then(|job| cron_jobs.get(&job.uid)) {
                let places = namespace.by_cron_job.entry(above.clone());
                places.or_default().push(place);
            }
        }
        namespace
    }

    /// Looks at those pods only that have the rarest of the labels that the selector names.
    fn selected(&self, selector: &Selector) -> Vec<Named> {
        let places = selector.clone().into_iter().filter_map(|it| match it {
            Expression::Equal(key, value) => {
                let places = self.by_label.get(&self.hasher.hash_one((&key, &value)));
                Some(places.map_or(&[][..], Vec::as_slice))
            }
            _ => None,
        });
        let fits = |(_, pod): &&Named| selector.matches(&pod.labels);
        match places.min_by_key(|places| places.len()) {
            Some(places) => {
                let pods = places.iter().filter_map(|place| self.pods.get(*place));
                pods.filter(fits).cloned().collect()
            }
            None => self.pods.iter().filter(fits).cloned().collect(),
        }
    }

    fn at(&self, places: Option<&Vec<usize>>) -> Vec<Named> {
        let places = places.into_iter().flatten();
        places
            .filter_map(|place| self.pods.get(*place))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        table::Key,
        workload::{Controller, Workload},
    };

    const CRON_JOB: ResourceType = ResourceType::Workload(OwnerKind::CronJob);
    const DEPLOYMENT: ResourceType = ResourceType::Workload(OwnerKind::Deployment);

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
        let mut index = PodIndex::new(cluster);
        let objects = cluster.objects(kind, "ns", name).expect("found");
        let pods = objects
            .iter()
            .flat_map(|object| index.pods_of(kind, object));
        pods.map(|(name, _)| name).collect()
    }

    #[test]
    fn every_expression_of_a_selector_is_honoured() {
        let cluster = Cluster::default();
        for (name, labels) in [
            ("blue", [("app", "web"), ("track", "blue")]),
            ("green", [("app", "web"), ("track", "green")]),
            ("other", [("app", "other"), ("track", "blue")]),
        ] {
            cluster.pods.insert(key(name), pod(&labels));
        }
        let not_green = json!([{"key": "track", "operator": "NotIn", "values": ["green"]}]);
        for (selector, expected) in [
            (
                json!({"matchLabels": {"app": "web"}, "matchExpressions": not_green}),
                &["blue"][..],
            ),
            (json!({"matchExpressions": not_green}), &["blue", "other"]),
            (
                json!({"matchLabels": {"app": "web", "track": "blue"}}),
                &["blue"],
            ),
            (json!({"matchLabels": {"app": "nobody"}}), &[]),
            (json!({}), &["blue", "green", "other"]),
        ] {
            let text = selector.to_string();
            cluster
                .deployments
                .insert(key("web"), by_selector(selector));
            assert_eq!(pods_of(&cluster, DEPLOYMENT, "web"), expected, "{text}");
        }
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
    fn a_namespace_has_its_own_pods() {
        let cluster = Cluster::default();
        for namespace in ["ns", "other"] {
            let name = (String::new(), namespace.to_owned());
            cluster.namespaces.insert(name, Workload::default());
            let pod_of_it = (namespace.to_owned(), format!("in-{namespace}"));
            cluster.pods.insert(pod_of_it, pod(&[]));
        }
        // In no order, and each of several objects has its own.
        assert_eq!(
            pods_of(&cluster, ResourceType::Namespace, ""),
            ["in-ns", "in-other"]
        );
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
}
