//! The pods without a proxy, as far as their metadata tells, and which of them ask for one. Entry:
//! [`Unmeshed::groups`]. Pure: `audit.rs` watches, and finds out why.

use std::{collections::BTreeMap, mem};

use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{core::PartialObjectMeta, runtime::watcher::Event};
use linkerd_names::annotations;

use crate::decision::{Decision, asked};

/// Namespaces, and pods without a proxy.
#[derive(Debug, Default)]
pub struct Unmeshed {
    namespaces: Mirror<Annotations>,
    pods: Mirror<FoundPod>,
}

/// What makes pods alike, so that one reason holds for all of them: who has made them, and what they and their
/// namespace say to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// Their namespace.
    pub namespace: String,
    /// Uid of their controller, or of the one pod that has none.
    pub maker: String,
    annotations: Annotations,
    namespace_annotations: Annotations,
}

/// Pods that are alike: each of them should have a proxy, and has none.
#[derive(Clone, Debug)]
pub struct Group {
    /// Name of the first of them.
    pub pod: String,
    /// How many they are.
    pub count: usize,
}

/// Those that mean us.
type Annotations = BTreeMap<String, String>;

/// What is kept of a pod: little, for there may be many that never ask for a proxy.
#[derive(Debug)]
struct FoundPod {
    maker: String,
    annotations: Annotations,
}

/// What a watch has told so far, by namespace (none for namespaces) and name.
#[derive(Debug)]
struct Mirror<V> {
    values: BTreeMap<(Option<String>, String), V>,
    /// The list that comes in; it replaces all values when it is complete.
    listed: BTreeMap<(Option<String>, String), V>,
    is_complete: bool,
}

impl Unmeshed {
    /// Takes in what the watch of namespaces tells.
    pub fn see_namespace(&mut self, event: Event<PartialObjectMeta<Namespace>>) {
        self.namespaces.apply(event, |metadata| {
            // Nothing can be written about what is in one that goes away.
            let lives = metadata.deletion_timestamp.is_none();
            lives.then(|| ours(metadata.annotations))
        });
    }

    /// Takes in what the watch of pods without a proxy tells.
    pub fn see_pod(&mut self, event: Event<PartialObjectMeta<Pod>>) {
        self.pods.apply(event, FoundPod::read);
    }

    /// Whether both watches have told all that was there at their beginning.
    pub fn is_complete(&self) -> bool {
        self.namespaces.is_complete && self.pods.is_complete
    }

    /// The pods that ask for a proxy, themselves or by their namespace.
    pub fn groups(&self) -> BTreeMap<Alike, Group> {
        let mut groups: BTreeMap<Alike, Group> = BTreeMap::new();
        for ((namespace, name), pod) in &self.pods.values {
            let namespace = namespace.clone().unwrap_or_default();
            let Some(inherited) = self.namespaces.values.get(&(None, namespace.clone())) else {
                continue;
            };
            let own = pod.annotations.get(annotations::INJECT);
            if let Err(Decision::LeftAlone(_)) = asked(own.map(String::as_str), inherited) {
                continue;
            }
            let alike = Alike {
                namespace,
                maker: pod.maker.clone(),
                annotations: pod.annotations.clone(),
                namespace_annotations: inherited.clone(),
            };
            let group = groups.entry(alike).or_insert_with(|| Group {
                pod: name.clone(),
                count: 0,
            });
            group.count += 1;
        }
        groups
    }
}

impl FoundPod {
    /// None for a pod that goes away, or that needs no proxy whatever its namespace says.
    fn read(metadata: ObjectMeta) -> Option<Self> {
        let annotations = ours(metadata.annotations);
        let own = annotations.get(annotations::INJECT);
        if metadata.deletion_timestamp.is_some()
            || own.is_some_and(|word| word == annotations::INJECT_DISABLED)
        {
            return None;
        }
        let mut owners = metadata.owner_references.into_iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        Some(Self {
            maker: controller
                .map(|controller| controller.uid)
                .or(metadata.uid)
                .unwrap_or_default(),
            annotations,
        })
    }
}

impl<V> Default for Mirror<V> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
        }
    }
}

impl<V> Mirror<V> {
    /// `read` reduces an object to what is kept of it; none when it does not concern us.
    fn apply<K>(&mut self, event: Event<PartialObjectMeta<K>>, read: fn(ObjectMeta) -> Option<V>) {
        let key = |metadata: &ObjectMeta| {
            let name = metadata.name.clone().unwrap_or_default();
            (metadata.namespace.clone(), name)
        };
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let key = key(&object.metadata);
                self.listed
                    .extend(read(object.metadata).map(|value| (key, value)));
            }
            Event::InitDone => {
                self.values = mem::take(&mut self.listed);
                self.is_complete = true;
            }
            Event::Apply(object) => {
                let key = key(&object.metadata);
                match read(object.metadata) {
                    Some(value) => drop(self.values.insert(key, value)),
                    None => drop(self.values.remove(&key)),
                }
            }
            Event::Delete(object) => drop(self.values.remove(&key(&object.metadata))),
        }
    }
}

/// The annotations that a decision can depend on. They are collected anew: a map that has lost all its entries
/// keeps half a kilobyte.
fn ours(annotations: Option<Annotations>) -> Annotations {
    let annotations = annotations.into_iter().flatten();
    annotations
        .filter(|(key, _)| {
            key == annotations::INJECT || key.starts_with(annotations::CONFIG_PREFIX)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn namespace(metadata: Value) -> PartialObjectMeta<Namespace> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        serde_json::from_value(object).expect("a namespace")
    }

    /// A pod of the ReplicaSet with this uid.
    fn pod(name: &str, maker: &str, annotations: Value) -> PartialObjectMeta<Pod> {
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": maker, "controller": true,
        });
        let metadata = json!({
            "name": name, "namespace": "shop", "uid": name, "annotations": annotations,
            "ownerReferences": [owner],
        });
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        serde_json::from_value(object).expect("a pod")
    }

    /// The namespace `shop`, which asks for proxies, and these pods.
    fn listed(pods: impl IntoIterator<Item = PartialObjectMeta<Pod>>) -> Unmeshed {
        let mut unmeshed = Unmeshed::default();
        unmeshed.see_namespace(Event::Init);
        let annotations = json!({"linkerd.io/inject": "enabled"});
        let shop = namespace(json!({"name": "shop", "annotations": annotations}));
        unmeshed.see_namespace(Event::InitApply(shop));
        unmeshed.see_namespace(Event::InitDone);
        relist(&mut unmeshed, pods);
        unmeshed
    }

    fn relist(unmeshed: &mut Unmeshed, pods: impl IntoIterator<Item = PartialObjectMeta<Pod>>) {
        unmeshed.see_pod(Event::Init);
        for pod in pods {
            unmeshed.see_pod(Event::InitApply(pod));
        }
        unmeshed.see_pod(Event::InitDone);
    }

    /// The first pod of each group, and how many there are.
    fn groups(unmeshed: &Unmeshed) -> Vec<(String, usize)> {
        let groups = unmeshed.groups().into_values();
        groups.map(|group| (group.pod, group.count)).collect()
    }

    #[test]
    fn pods_of_one_maker_with_the_same_wishes_are_alike() {
        let level = json!({"config.linkerd.io/proxy-log-level": "debug"});
        let unmeshed = listed([
            pod("b", "1", json!({})),
            pod("a", "1", json!({"prometheus.io/scrape": "true"})),
            pod("c", "1", level),
            pod("d", "2", json!({})),
        ]);
        let expected = [("a", 2), ("c", 1), ("d", 1)].map(|(pod, count)| (pod.to_owned(), count));
        assert_eq!(groups(&unmeshed), expected);
    }

    #[test]
    fn what_a_new_list_does_not_have_is_gone_when_it_is_complete() {
        let mut unmeshed = listed([pod("a", "1", json!({})), pod("b", "2", json!({}))]);
        assert_eq!(groups(&unmeshed).len(), 2);
        unmeshed.see_pod(Event::Init);
        assert_eq!(groups(&unmeshed).len(), 2);
        relist(&mut unmeshed, [pod("b", "2", json!({}))]);
        assert_eq!(groups(&unmeshed), [("b".to_owned(), 1)]);
    }

    #[test]
    fn nothing_is_known_before_both_lists_are_complete() {
        let mut unmeshed = Unmeshed::default();
        unmeshed.see_namespace(Event::Init);
        unmeshed.see_namespace(Event::InitDone);
        assert!(!unmeshed.is_complete());
        relist(&mut unmeshed, []);
        assert!(unmeshed.is_complete());
    }
}
