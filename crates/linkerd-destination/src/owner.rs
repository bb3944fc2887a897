//! Which workload a pod is part of. Entry: [`owner_of`].
//! Pure: what is known of ReplicaSets and Jobs comes in as a lookup.

use k8s_openapi::api::{apps::v1::ReplicaSet, batch::v1::Job};
use kube::core::PartialObjectMeta;
use linkerd_names::{Owner, OwnerKind};

use crate::pod::{Controller, Pod};

/// Names an object between a pod and its workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinkKey {
    /// [`OwnerKind::ReplicaSet`] or [`OwnerKind::Job`].
    pub kind: OwnerKind,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

/// A ReplicaSet or a Job, and what manages it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kind, namespace and name.
    pub key: LinkKey,
    /// The object that made it; none when people did.
    pub controller: Option<Controller>,
}

/// Returns the workload of a pod: what inject wrote onto it, else the top of the chain of
/// controllers as far as their kinds are ours, else the pod itself.
///
/// None while the pod's ReplicaSet or Job is not known: guessing from its name could be wrong.
pub fn owner_of<'a>(pod: &Pod, lookup: impl FnOnce(&LinkKey) -> Option<&'a Link>) -> Option<Owner> {
    let namespace = pod.key.namespace.clone();
    if let Some((kind, name)) = &pod.labelled_owner {
        return Some(Owner {
            namespace,
            kind: *kind,
            name: name.clone(),
        });
    }
    let Some((kind, name)) = part_of(OwnerKind::Pod, pod.controller.as_ref()) else {
        return Some(Owner {
            namespace,
            kind: OwnerKind::Pod,
            name: pod.key.name.clone(),
        });
    };
    let mut top = (kind, name);
    let key = LinkKey {
        kind,
        namespace: namespace.clone(),
        name: name.to_owned(),
    };
    if matches!(kind, OwnerKind::ReplicaSet | OwnerKind::Job) {
        let link = lookup(&key)?;
        top = part_of(kind, link.controller.as_ref()).unwrap_or(top);
    }
    let (kind, name) = top;
    Some(Owner {
        namespace,
        kind,
        name: name.to_owned(),
    })
}

/// Kind and name of the workload that an object of `kind` is a part of.
fn part_of(kind: OwnerKind, controller: Option<&Controller>) -> Option<(OwnerKind, &str)> {
    let controller = controller?;
    let above = kind.part_of(&controller.api_version, &controller.kind)?;
    Some((above, &controller.name))
}

impl From<PartialObjectMeta<ReplicaSet>> for Link {
    fn from(object: PartialObjectMeta<ReplicaSet>) -> Self {
        Self::new(OwnerKind::ReplicaSet, object.metadata)
    }
}

impl From<PartialObjectMeta<Job>> for Link {
    fn from(object: PartialObjectMeta<Job>) -> Self {
        Self::new(OwnerKind::Job, object.metadata)
    }
}

impl Link {
    fn new(kind: OwnerKind, metadata: kube::core::ObjectMeta) -> Self {
        Self {
            key: LinkKey {
                kind,
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name.unwrap_or_default(),
            },
            controller: Controller::of(metadata.owner_references),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::PodKey;

    fn controlled_by(kind: &str, name: &str) -> Option<Controller> {
        let known = kind.parse().map(OwnerKind::api_version);
        Some(Controller {
            api_version: known.unwrap_or("example.com/v1").into(),
            kind: kind.into(),
            name: name.into(),
        })
    }

    fn owner(pod: &Pod, link: Option<&Link>) -> Option<String> {
        owner_of(pod, |key| link.filter(|link| link.key == *key)).map(|owner| owner.to_string())
    }

    #[test]
    fn the_owner_is_the_top_of_the_chain_of_known_kinds() {
        for (controller, above, expected) in [
            (None, None, "pod/p.ns"),
            (controlled_by("Node", "n"), None, "pod/p.ns"),
            (controlled_by("Gizmo", "g"), None, "pod/p.ns"),
            (
                controlled_by("StatefulSet", "db"),
                None,
                "statefulset/db.ns",
            ),
            (controlled_by("DaemonSet", "d"), None, "daemonset/d.ns"),
            (
                controlled_by("ReplicaSet", "a.b-1"),
                None,
                "replicaset/a.b-1.ns",
            ),
            (
                controlled_by("ReplicaSet", "r"),
                controlled_by("Deployment", "a.b"),
                "deployment/a.b.ns",
            ),
            (
                controlled_by("ReplicaSet", "r"),
                controlled_by("Rollout", "x"),
                "replicaset/r.ns",
            ),
            (
                controlled_by("Job", "j"),
                controlled_by("CronJob", "nightly"),
                "cronjob/nightly.ns",
            ),
            (controlled_by("Job", "j"), None, "job/j.ns"),
        ] {
            let key = PodKey {
                namespace: "ns".into(),
                name: "p".into(),
            };
            let pod = Pod {
                key,
                controller,
                ..Pod::default()
            };
            let link = pod.controller.as_ref().and_then(|controller| {
                let key = LinkKey {
                    kind: controller.kind.parse().ok()?,
                    namespace: "ns".into(),
                    name: controller.name.clone(),
                };
                Some(Link {
                    key,
                    controller: above,
                })
            });
            assert_eq!(owner(&pod, link.as_ref()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_kind_of_the_same_name_in_another_api_group_is_no_workload() {
        let of_another_group = Controller {
            api_version: "apps.kruise.io/v1beta1".into(),
            kind: "StatefulSet".into(),
            name: "db".into(),
        };
        let pod = Pod {
            controller: Some(of_another_group),
            ..Pod::default()
        };
        assert_eq!(owner(&pod, None).as_deref(), Some("pod/."));
    }

    #[test]
    fn the_owner_waits_for_a_replica_set_that_is_not_known() {
        let pod = Pod {
            controller: controlled_by("ReplicaSet", "web-5d4f"),
            ..Pod::default()
        };
        assert_eq!(owner(&pod, None), None);
    }

    #[test]
    fn what_inject_wrote_needs_no_lookup() {
        let pod = Pod {
            controller: controlled_by("ReplicaSet", "web-5d4f"),
            labelled_owner: Some((OwnerKind::Deployment, "web".into())),
            ..Pod::default()
        };
        assert_eq!(owner(&pod, None).as_deref(), Some("deployment/web."));
    }
}
