//! Whose proxies the pods of each workload have, by their labels: where two control planes are asked for the
//! same pods, the pods say whose they became, and whatever a pod template says today, they say what they were made
//! with. Entry: [`Marks::apply`], [`Marks::proxies`]. Pure.

use std::{collections::BTreeMap, mem};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use linkerd_names::{Owner, OwnerKind, labels};

use crate::{
    mirror::{Change, Mirror},
    workloads::{self, Source},
};

/// What a pod with a proxy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose pod it is; the pod itself when it names no other.
    pub workload: Owner,
    /// Namespace of the control plane that its proxy belongs to.
    pub control_plane_namespace: String,
    /// Where its proxy gets its certificate.
    pub source: Source,
}

/// Whose proxies the pods of one workload have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// No pod has one.
    None,
    /// All are of this control plane.
    Ours,
    /// All are of other control planes.
    Others,
    /// Some are of this control plane, and some are not.
    Mixed,
}

/// The right of this control plane to a workload's Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The workload is marked for us and for nobody else: another control plane's Secret is a left-over.
    Sole,
    /// Another control plane may have the same right: whose Secret is there first keeps it.
    FirstCome,
}

/// The marks of all pods.
#[derive(Debug, Default)]
pub struct Marks {
    pods: Mirror<Owner, Mark>,
    /// How many pods of a workload have proxies of a control plane, with certificates from one source.
    counts: BTreeMap<(Owner, String, Source), usize>,
}

/// Reads a pod with a proxy.
pub fn read(metadata: &ObjectMeta) -> Option<Mark> {
    let labels = metadata.labels.as_ref()?;
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let named = OwnerKind::ALL
        .into_iter()
        .find_map(|kind| Some((kind, labels.get(&kind.pod_label()?)?.clone())));
    let (kind, name) = named.unwrap_or_else(|| {
        let name = metadata.name.clone().unwrap_or_default();
        (OwnerKind::Pod, name)
    });
    Some(Mark {
        workload: Owner {
            namespace,
            kind,
            name,
        },
        control_plane_namespace: labels.get(labels::CONTROL_PLANE_NAMESPACE)?.clone(),
        source: workloads::source_of(labels),
    })
}

impl Marks {
    /// Takes in what the watch tells of pods and returns the workloads whose control planes, or whose
    /// sources of certificates, are others now.
    pub fn apply(&mut self, change: Change<Owner, Mark>) -> Vec<Owner> {
        let is_new_list = matches!(change, Change::RelistDone);
        let before = match &change {
            Change::Set(pod, _) | Change::Remove(pod) => self.pods.get(pod).cloned(),
            Change::Relist | Change::Listed(..) | Change::RelistDone => None,
        };
        let changed = self.pods.apply(change);
        if is_new_list {
            return self.count_anew();
        }
        let mut workloads = Vec::new();
        // One pod at most.
        for pod in changed {
            let after = self.pods.get(&pod).cloned();
            workloads.extend(before.clone().and_then(|mark| self.uncount(mark)));
            workloads.extend(after.and_then(|mark| self.count(mark)));
        }
        workloads
    }

    /// Whether the first list has been complete.
    pub fn is_complete(&self) -> bool {
        self.pods.is_complete()
    }

    /// Whose proxies the pods of `workload` have.
    pub fn proxies(&self, workload: &Owner, control_plane_namespace: &str) -> Proxies {
        let first = (workload.clone(), String::new(), Source::Secret);
        let of_workload = self
            .counts
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|(owner, ..)| owner == workload);
        sum(of_workload.map(|(_, namespace, _)| namespace == control_plane_namespace))
    }

    /// Whether a pod of `workload` has a proxy of this control plane that has its certificate from a Secret.
    pub fn mount_secret_of(&self, workload: &Owner, control_plane_namespace: &str) -> bool {
        let namespace = control_plane_namespace.to_owned();
        let key = (workload.clone(), namespace, Source::Secret);
        self.counts.contains_key(&key)
    }

    /// Whose proxies the pods in `namespace` have.
    pub fn proxies_in(&self, namespace: &str, control_plane_namespace: &str) -> Proxies {
        let first = Owner {
            namespace: namespace.to_owned(),
            kind: OwnerKind::ALL[0],
            name: String::new(),
        };
        let in_namespace = self
            .counts
            .range((first, String::new(), Source::Secret)..)
            .map(|(key, _)| key)
            .take_while(|(owner, ..)| owner.namespace == namespace);
        sum(in_namespace.map(|(_, of, _)| of == control_plane_namespace))
    }

    /// Returns the workload if this is its first such pod.
    fn count(&mut self, mark: Mark) -> Option<Owner> {
        let Mark {
            workload,
            control_plane_namespace,
            source,
        } = mark;
        let key = (workload.clone(), control_plane_namespace, source);
        let count = self.counts.entry(key).or_default();
        *count += 1;
        (*count == 1).then_some(workload)
    }

    /// Returns the workload if this was its last such pod.
    fn uncount(&mut self, mark: Mark) -> Option<Owner> {
        let Mark {
            workload,
            control_plane_namespace,
            source,
        } = mark;
        let key = (workload, control_plane_namespace, source);
        let count = self.counts.get_mut(&key)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.counts.remove(&key);
        Some(key.0)
    }

    fn count_anew(&mut self) -> Vec<Owner> {
        let before = mem::take(&mut self.counts);
        let marks: Vec<Mark> = self.pods.iter().map(|(_, mark)| mark.clone()).collect();
        for mark in marks {
            self.count(mark);
        }
        let gone = before.keys().filter(|key| !self.counts.contains_key(key));
        let new = self.counts.keys().filter(|key| !before.contains_key(key));
        gone.chain(new).map(|(owner, ..)| owner.clone()).collect()
    }
}

fn sum(mut are_ours: impl Iterator<Item = bool>) -> Proxies {
    let Some(first) = are_ours.next() else {
        return Proxies::None;
    };
    if are_ours.any(|is_ours| is_ours != first) {
        Proxies::Mixed
    } else if first {
        Proxies::Ours
    } else {
        Proxies::Others
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(kind: OwnerKind, name: &str) -> Owner {
        Owner {
            namespace: "ns".into(),
            kind,
            name: name.into(),
        }
    }

    fn web() -> Owner {
        owner(OwnerKind::Deployment, "web")
    }

    fn pod(name: &str) -> Owner {
        owner(OwnerKind::Pod, name)
    }

    fn mark(control_plane_namespace: &str) -> Mark {
        Mark {
            workload: web(),
            control_plane_namespace: control_plane_namespace.into(),
            source: Source::Secret,
        }
    }

    fn proxies(marks: &Marks) -> Proxies {
        marks.proxies(&web(), "linkerd")
    }

    #[test]
    fn a_pod_says_whose_it_is_and_whose_its_proxy() {
        let labels = |labels| {
            let metadata = json!({"namespace": "ns", "name": "web-1", "labels": labels});
            read(&serde_json::from_value(metadata).expect("metadata"))
        };
        let mut expected = mark("other");
        let plane = "linkerd.io/control-plane-ns";
        let with_owner = json!({plane: "other", "linkerd.io/proxy-deployment": "web"});
        assert_eq!(labels(with_owner).as_ref(), Some(&expected));
        expected.workload = pod("web-1");
        assert_eq!(labels(json!({plane: "other"})).as_ref(), Some(&expected));
        expected.source = Source::Service;
        let without_secret = json!({plane: "other", "linkerd.io/identity-mode": "service"});
        assert_eq!(labels(without_secret), Some(expected));
        assert_eq!(labels(json!({})), None);
    }

    #[test]
    fn the_pods_say_whether_they_mount_a_secret_of_ours() {
        let mut marks = Marks::default();
        let of_service = |plane| Mark {
            source: Source::Service,
            ..mark(plane)
        };
        let steps = [
            (Change::Set(pod("1"), of_service("linkerd")), false, true),
            (Change::Set(pod("2"), mark("other")), false, true),
            (Change::Set(pod("3"), mark("linkerd")), true, true),
            (Change::Set(pod("4"), mark("linkerd")), true, false),
            (Change::Remove(pod("3")), true, false),
            (Change::Remove(pod("4")), false, true),
        ];
        for (change, expected, is_told) in steps {
            let text = format!("{change:?}");
            let told = marks.apply(change);
            let mounts = marks.mount_secret_of(&web(), "linkerd");
            assert_eq!(mounts, expected, "{text}");
            assert_eq!(told.contains(&web()), is_told, "{text}");
        }
        assert_eq!(proxies(&marks), Proxies::Mixed);
    }

    #[test]
    fn the_pods_say_whose_their_workload_is() {
        let mut marks = Marks::default();
        assert_eq!(proxies(&marks), Proxies::None);
        let steps = [
            (Change::Set(pod("1"), mark("other")), Proxies::Others, true),
            (Change::Set(pod("1"), mark("other")), Proxies::Others, false),
            (Change::Set(pod("2"), mark("third")), Proxies::Others, true),
            (Change::Set(pod("3"), mark("linkerd")), Proxies::Mixed, true),
            (
                Change::Set(pod("4"), mark("linkerd")),
                Proxies::Mixed,
                false,
            ),
            (Change::Remove(pod("1")), Proxies::Mixed, true),
            (Change::Set(pod("2"), mark("linkerd")), Proxies::Ours, true),
            (Change::Remove(pod("2")), Proxies::Ours, false),
            (Change::Remove(pod("3")), Proxies::Ours, false),
            (Change::Remove(pod("4")), Proxies::None, true),
        ];
        for (change, expected, is_told) in steps {
            let text = format!("{change:?}");
            let told = marks.apply(change);
            assert_eq!(proxies(&marks), expected, "{text}");
            assert_eq!(told.contains(&web()), is_told, "{text}");
        }
        assert!(marks.counts.is_empty());
    }

    #[test]
    fn a_new_list_is_counted_anew() {
        let mut marks = Marks::default();
        marks.apply(Change::Set(pod("1"), mark("other")));
        marks.apply(Change::Relist);
        marks.apply(Change::Listed(pod("2"), mark("linkerd")));
        assert_eq!(proxies(&marks), Proxies::Others);
        assert_eq!(marks.apply(Change::RelistDone), [web(), web()]);
        assert_eq!(proxies(&marks), Proxies::Ours);
        assert!(marks.is_complete());
    }

    #[test]
    fn a_namespace_has_the_proxies_of_its_pods() {
        let mut marks = Marks::default();
        marks.apply(Change::Set(pod("1"), mark("linkerd")));
        assert_eq!(marks.proxies_in("ns", "linkerd"), Proxies::Ours);
        assert_eq!(marks.proxies_in("ns", "other"), Proxies::Others);
        for namespace in ["nr", "nt"] {
            assert_eq!(marks.proxies_in(namespace, "linkerd"), Proxies::None);
        }
        let mut bare = mark("other");
        bare.workload = pod("2");
        marks.apply(Change::Set(pod("2"), bare));
        assert_eq!(marks.proxies_in("ns", "linkerd"), Proxies::Mixed);
    }
}
