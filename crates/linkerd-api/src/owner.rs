//! Whose pod a pod is. Entry: [`Cluster::owner_of`].

use linkerd_names::OwnerKind;

use crate::{cluster::Cluster, pod::Pod};

impl Cluster {
    /// The workload that people know: a ReplicaSet's Deployment, a Job's CronJob. None for a pod that
    /// stands for itself.
    pub(crate) fn owner_of(&self, namespace: &str, pod: &Pod) -> Option<(OwnerKind, String)> {
        let controller = pod.controller.as_ref()?;
        let kind = OwnerKind::Pod.part_of(&controller.api_version, &controller.kind)?;
        let between = match kind {
            OwnerKind::ReplicaSet => self.replica_sets.get(namespace, &controller.name),
            OwnerKind::Job => self.jobs.get(namespace, &controller.name),
            _ => None,
        };
        let above = between.and_then(|workload| {
            let manager = workload.controller.as_ref()?;
            let above = kind.part_of(&manager.api_version, &manager.kind)?;
            Some((above, manager.name.clone()))
        });
        Some(above.unwrap_or_else(|| (kind, controller.name.clone())))
    }
}
