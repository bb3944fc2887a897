//! The workload a pod belongs to: its kind, its name, and what is named after it.

use std::{fmt, str::FromStr};

use crate::{Identity, InvalidIdentity, labels};

/// Kinds of workload that can own pods of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` ReplicaSet without an owner of its own.
    ReplicaSet,
    /// `v1` ReplicationController.
    ReplicationController,
    /// `batch/v1` Job without an owner of its own.
    Job,
    /// `batch/v1` CronJob.
    CronJob,
    /// `v1` Pod without an owner.
    Pod,
}

/// The text is not the name of a kind in [`OwnerKind::ALL`].
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownKind(pub String);

impl OwnerKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Deployment,
        Self::DaemonSet,
        Self::StatefulSet,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::Job,
        Self::CronJob,
        Self::Pod,
    ];

    /// The kind in lower case, as in identities, Secret names and metric labels: `deployment`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::DaemonSet => "daemonset",
            Self::StatefulSet => "statefulset",
            Self::ReplicaSet => "replicaset",
            Self::ReplicationController => "replicationcontroller",
            Self::Job => "job",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
        }
    }

    /// The kind as the Kubernetes API writes it: `Deployment`.
    pub const fn api_kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::StatefulSet => "StatefulSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Pod => "Pod",
        }
    }

    /// The API version of the kind: `apps/v1`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::DaemonSet | Self::StatefulSet | Self::ReplicaSet => "apps/v1",
            Self::Job | Self::CronJob => "batch/v1",
            Self::ReplicationController | Self::Pod => "v1",
        }
    }

    /// The kind as `apiVersion` and `kind` of an object say it, in any version. None for what another API
    /// group calls by the same name (`apps.kruise.io/v1beta1` StatefulSet): that is no workload of Kubernetes.
    pub fn from_api(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let found = Self::ALL.into_iter().find(|it| it.api_kind() == kind)?;
        let (own, _) = found.api_version().split_once('/').unwrap_or_default();
        // Where Deployments, DaemonSets, ReplicaSets and Jobs were before they had groups of their own.
        let is_old = group == "extensions" && !own.is_empty();
        (group == own || is_old).then_some(found)
    }

    /// The kind of workload that an object of this kind is a part of, so that it has that workload's
    /// identity, when a controller with this `apiVersion` and `kind` has made it: a Deployment for its
    /// ReplicaSets, a CronJob for its Jobs, any workload for its pods.
    ///
    /// None for what others make, such as operators: it stands for itself.
    pub fn part_of(self, api_version: &str, controller: &str) -> Option<Self> {
        let above = Self::from_api(api_version, controller)?;
        let is_part = match self {
            Self::Pod => above != Self::Pod,
            Self::ReplicaSet => above == Self::Deployment,
            Self::Job => above == Self::CronJob,
            Self::Deployment
            | Self::DaemonSet
            | Self::StatefulSet
            | Self::ReplicationController
            | Self::CronJob => false,
        };
        is_part.then_some(above)
    }

    /// The label by which a pod names its owner, `linkerd.io/proxy-deployment`; none for a bare pod.
    pub fn pod_label(self) -> Option<String> {
        (self != Self::Pod).then(|| format!("{}{}", labels::PROXY_OWNER_PREFIX, self.as_str()))
    }

    /// The metric label of this kind: `deployment`, and `k8s_job` for Jobs because Prometheus uses
    /// `job` itself.
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Job => "k8s_job",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for OwnerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OwnerKind {
    type Err = UnknownKind;

    /// Reads a kind in any case: `Deployment`, `deployment`.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a kind of workload", self.0)
    }
}

impl std::error::Error for UnknownKind {}

/// A workload: what certificates are issued for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Namespace of the workload and its pods.
    pub namespace: String,
    /// Kind of the workload.
    pub kind: OwnerKind,
    /// Name of the workload; may contain dots.
    pub name: String,
}

impl Owner {
    /// The workload's identity under the control plane in `control_plane_namespace`.
    ///
    /// # Errors
    /// [`InvalidIdentity`] when the names make a DNS name of more than 253 characters, or one label
    /// of more than 63.
    pub fn identity(&self, control_plane_namespace: &str) -> Result<Identity, InvalidIdentity> {
        Identity::new(
            &self.name,
            self.kind,
            &self.namespace,
            control_plane_namespace,
        )
    }

    /// Name of the Secret with the workload's certificate and key: `web-deployment-tls-linkerd-io`.
    pub fn secret_name(&self) -> String {
        format!("{}-{}-tls-linkerd-io", self.name, self.kind)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.kind, self.name, self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_workload_makes_is_a_part_of_it_and_what_others_make_is_not() {
        use OwnerKind::{
            CronJob, Deployment, Job, Pod, ReplicaSet, ReplicationController, StatefulSet,
        };
        for (kind, api_version, controller, expected) in [
            (Pod, "apps/v1", "ReplicaSet", Some(ReplicaSet)),
            (Pod, "apps/v1", "StatefulSet", Some(StatefulSet)),
            (
                Pod,
                "v1",
                "ReplicationController",
                Some(ReplicationController),
            ),
            (Pod, "v1", "Node", None),
            (ReplicaSet, "apps/v1", "Deployment", Some(Deployment)),
            (ReplicaSet, "argoproj.io/v1alpha1", "Rollout", None),
            (ReplicaSet, "batch/v1", "CronJob", None),
            (Job, "batch/v1", "CronJob", Some(CronJob)),
            (Job, "argoproj.io/v1alpha1", "Workflow", None),
            (Deployment, "apps/v1", "Deployment", None),
            (StatefulSet, "example.com/v1", "Database", None),
            // Of the same name, and another's.
            (Pod, "apps.kruise.io/v1beta1", "StatefulSet", None),
            (Pod, "apps.kruise.io/v1alpha1", "DaemonSet", None),
            (Pod, "batch.volcano.sh/v1alpha1", "Job", None),
            (Job, "batch.example.com/v1", "CronJob", None),
        ] {
            assert_eq!(
                kind.part_of(api_version, controller),
                expected,
                "{kind} of {api_version} {controller}"
            );
        }
    }

    #[test]
    fn a_kind_is_the_same_in_every_version_of_its_group() {
        for kind in OwnerKind::ALL {
            let from_api = |api_version| OwnerKind::from_api(api_version, kind.api_kind());
            assert_eq!(from_api(kind.api_version()), Some(kind));
            assert_eq!(from_api("example.com/v1"), None);
        }
        for (api_version, api_kind) in [
            ("apps/v1beta1", "Deployment"),
            ("apps/v1beta2", "StatefulSet"),
            ("extensions/v1beta1", "Deployment"),
            ("extensions/v1beta1", "DaemonSet"),
            ("extensions/v1beta1", "ReplicaSet"),
            ("batch/v1beta1", "CronJob"),
            ("batch/v2alpha1", "CronJob"),
        ] {
            let kind = OwnerKind::from_api(api_version, api_kind).map(OwnerKind::api_kind);
            assert_eq!(kind, Some(api_kind), "{api_version}");
        }
        assert_eq!(OwnerKind::from_api("extensions/v1beta1", "Pod"), None);
        assert_eq!(OwnerKind::from_api("v1", "Deployment"), None);
    }

    #[test]
    fn kinds_are_read_in_any_case() {
        for kind in OwnerKind::ALL {
            assert_eq!(kind.api_kind().parse(), Ok(kind));
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!(
            "Service".parse::<OwnerKind>(),
            Err(UnknownKind("Service".into()))
        );
    }

    #[test]
    fn the_secret_is_named_after_the_owner() {
        let owner = Owner {
            namespace: "ns".into(),
            kind: OwnerKind::Deployment,
            name: "a.b".into(),
        };
        assert_eq!(owner.secret_name(), "a.b-deployment-tls-linkerd-io");
    }
}
