//! Why running pods have no proxy, and what to do about it, in words. Entries: [`Reason`] and [`note`]. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use linkerd_names::{Owner, OwnerKind};

use crate::decision::NotMeshed;

/// Why pods that should have a proxy have none.
#[derive(Debug)]
pub enum Reason {
    /// They would get none either if they were created now.
    NotMeshed(NotMeshed),
    /// They would get one if they were created now.
    NeedsRestart,
}

impl Reason {
    const NEEDS_RESTART: &'static str = "needs_restart";

    /// Every value of the metric label `reason`.
    pub fn words() -> impl Iterator<Item = &'static str> {
        NotMeshed::WORDS.into_iter().chain([Self::NEEDS_RESTART])
    }

    /// Value of the metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotMeshed(reason) => reason.as_str(),
            Self::NeedsRestart => Self::NEEDS_RESTART,
        }
    }
}

/// The pod that stands for those that are alike.
#[derive(Debug)]
pub struct Example {
    /// Its name.
    pub name: String,
    /// Tells it from an earlier one of the same name.
    pub uid: Option<String>,
    /// Who has made it.
    pub controller: Option<OwnerReference>,
}

/// What an Event about `count` pods of `owner` says, of which `pod` is one.
pub fn note(
    reason: &Reason,
    pod: &Example,
    count: usize,
    owner: Option<&Owner>,
    namespace: &str,
) -> String {
    let name = &pod.name;
    let subject = match count.saturating_sub(1) {
        0 => format!("pod {name} has no proxy"),
        others => format!("pod {name} (and {others} more like it) has no proxy"),
    };
    match reason {
        Reason::NotMeshed(reason) => format!("{subject}: {reason}"),
        Reason::NeedsRestart => format!(
            "{subject}: it was created before it was asked for, or while linkerd-injector could not be asked; {}",
            remedy(pod, owner, namespace)
        ),
    }
}

/// How pods like these are replaced.
fn remedy(pod: &Example, owner: Option<&Owner>, namespace: &str) -> String {
    let delete = format!("kubectl delete pod {} -n {namespace}", pod.name);
    let Some(Owner { kind, name, .. }) = owner else {
        return match &pod.controller {
            Some(controller) => format!(
                "delete the pod, and its {} {} makes another: {delete}",
                controller.kind, controller.name
            ),
            None => format!("delete the pod and create it again: {delete}"),
        };
    };
    match kind {
        OwnerKind::Deployment | OwnerKind::DaemonSet | OwnerKind::StatefulSet => {
            format!("restart the workload: kubectl rollout restart {kind}/{name} -n {namespace}")
        }
        OwnerKind::CronJob => "its next run has one".to_owned(),
        // A pod that is deleted counts as failed, and may be the last that the Job tries.
        OwnerKind::Job => {
            format!("delete {kind}/{name} in namespace {namespace} and create it again")
        }
        OwnerKind::ReplicaSet | OwnerKind::ReplicationController | OwnerKind::Pod => {
            format!("delete the pod, and another is made for {kind}/{name}: {delete}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(controller: Option<&str>) -> Example {
        Example {
            name: "web-1".to_owned(),
            uid: None,
            controller: controller.map(|kind| OwnerReference {
                kind: kind.to_owned(),
                name: "web".to_owned(),
                ..OwnerReference::default()
            }),
        }
    }

    fn owner(kind: OwnerKind) -> Owner {
        Owner {
            namespace: "shop".to_owned(),
            kind,
            name: "web".to_owned(),
        }
    }

    #[test]
    fn each_kind_of_workload_has_its_own_remedy() {
        let restart = |kind: &str| {
            format!("restart the workload: kubectl rollout restart {kind}/web -n shop")
        };
        let another = |kind: &str| {
            format!(
                "delete the pod, and another is made for {kind}/web: kubectl delete pod web-1 -n shop"
            )
        };
        for kind in OwnerKind::ALL {
            let expected = match kind {
                OwnerKind::Deployment => restart("deployment"),
                OwnerKind::DaemonSet => restart("daemonset"),
                OwnerKind::StatefulSet => restart("statefulset"),
                // No such owner is ever found: a bare pod has none.
                OwnerKind::Pod => continue,
                OwnerKind::CronJob => "its next run has one".to_owned(),
                OwnerKind::Job => "delete job/web in namespace shop and create it again".to_owned(),
                kind => another(kind.as_str()),
            };
            let note = note(
                &Reason::NeedsRestart,
                &example(Some("X")),
                1,
                Some(&owner(kind)),
                "shop",
            );
            assert_eq!(
                note,
                format!(
                    "pod web-1 has no proxy: it was created before it was asked for, or while \
                     linkerd-injector could not be asked; {expected}"
                )
            );
        }
    }

    #[test]
    fn a_pod_without_a_workload_of_ours_is_deleted() {
        let bare = note(&Reason::NeedsRestart, &example(None), 1, None, "shop");
        let expected = "delete the pod and create it again: kubectl delete pod web-1 -n shop";
        assert!(bare.ends_with(expected), "{bare}");
        let other = note(
            &Reason::NeedsRestart,
            &example(Some("Rollout")),
            1,
            None,
            "shop",
        );
        let expected =
            "delete the pod, and its Rollout web makes another: kubectl delete pod web-1 -n shop";
        assert!(other.ends_with(expected), "{other}");
    }

    #[test]
    fn many_pods_are_one_sentence() {
        let reason = Reason::NotMeshed(NotMeshed::UnknownWord("on".to_owned()));
        let note = note(
            &reason,
            &example(None),
            3,
            Some(&owner(OwnerKind::Job)),
            "shop",
        );
        assert_eq!(
            note,
            "pod web-1 (and 2 more like it) has no proxy: the annotation linkerd.io/inject is \"on\", which is \
             neither \"enabled\" nor \"disabled\""
        );
    }
}
