//! Who needs a certificate or a trust bundle of ours, by all that the watches have told.

use linkerd_names::Owner;
use tokio::time::{Duration, Instant};

use super::{Controller, Item};
use crate::{
    marks::{Claim, Proxies},
    mirror::Mirror,
    queue::Finish,
    work::Task,
    workloads::{Source, Wanted, Workload},
};

/// So long a namespace keeps its trust bundle without a workload of ours: one that is deleted and applied
/// again finds it there.
const UNUSED_GRACE: Duration = Duration::from_secs(15);

impl Controller {
    /// Every workload of a namespace whose pods to come may have a certificate.
    pub(super) fn known_in(&self, namespace: &str) -> Vec<Owner> {
        let known = self.workloads.values().flat_map(Mirror::iter);
        known
            .filter(|(_, workload)| workload.wanted != Wanted::WhileMounted)
            .map(|(owner, _)| owner)
            .filter(|owner| owner.namespace == namespace)
            .cloned()
            .collect()
    }

    /// The workload, if it is to have a certificate.
    pub(super) fn workload(&self, owner: &Owner) -> Option<&Workload> {
        let workload = self.workloads.get(&owner.kind)?.get(owner)?;
        self.is_wanted(workload).then_some(workload)
    }

    /// Every workload that is to have a certificate.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&Owner, &Workload)> {
        let known = self.workloads.values().flat_map(Mirror::iter);
        known.filter(|(_, workload)| self.is_wanted(workload))
    }

    fn is_wanted(&self, workload: &Workload) -> bool {
        let namespace = &workload.owner.namespace;
        let asks = match workload.wanted {
            Wanted::Marked => return true,
            Wanted::Annotated => true,
            Wanted::WhereInjected => self.injected_namespaces.get(namespace).is_some(),
            Wanted::WhileMounted => return self.is_mounted(workload),
        };
        match self.proxies(workload) {
            Proxies::Ours | Proxies::Mixed => true,
            Proxies::Others => false,
            // Where the injector of another control plane was first with all neighbours, it will be again.
            Proxies::None => asks && !self.left_to_others.contains(namespace),
        }
    }

    /// Whether the workload's Secret is to be right: for pods that are to come, and for those that mount it,
    /// whatever has become of the pod template and of the injector since they were made.
    pub(super) fn needs_secret(&self, workload: &Workload) -> bool {
        let will_be_mounted = workload.source == Source::Secret && self.is_wanted(workload);
        will_be_mounted || self.is_mounted(workload)
    }

    fn is_mounted(&self, workload: &Workload) -> bool {
        let ours = &self.context.control_plane_namespace;
        self.marks.mount_secret_of(&workload.owner, ours)
    }

    fn proxies(&self, workload: &Workload) -> Proxies {
        let ours = &self.context.control_plane_namespace;
        self.marks.proxies(&workload.owner, ours)
    }

    /// A pod template with marks is of one control plane alone; other ones the injectors share, until the pods
    /// say whose they are.
    pub(super) fn claim(&self, workload: &Workload) -> Claim {
        match (workload.wanted, self.proxies(workload)) {
            (Wanted::Marked, _) | (_, Proxies::Ours) => Claim::Sole,
            (_, Proxies::None | Proxies::Others | Proxies::Mixed) => Claim::FirstCome,
        }
    }

    /// Whether pods in the namespace mount the trust bundle, or will. Pods of the control plane do always; those
    /// of a workload that is gone or unmarked do until they end; and where pods get proxies as they are made, the
    /// next one may be of nobody's workload, and the first that we hear of.
    pub(super) fn is_in_use(&self, namespace: &str) -> bool {
        let ours = &self.context.control_plane_namespace;
        let mut known = self.workloads.values().flat_map(Mirror::iter);
        namespace == ours
            || known.any(|(owner, it)| owner.namespace == namespace && self.is_wanted(it))
            || match self.marks.proxies_in(namespace, ours) {
                Proxies::Ours | Proxies::Mixed => true,
                Proxies::None => {
                    let namespace = namespace.to_owned();
                    self.injected_namespaces.get(&namespace).is_some()
                }
                Proxies::Others => false,
            }
    }

    /// A bundle that nobody needs goes after a while: a namespace that has gone over to another control plane
    /// gets that one's.
    pub(super) fn unused_bundle(&mut self, namespace: &str, now: Instant) -> Result<Task, Finish> {
        let ours = &self.context.control_plane_namespace;
        let held = self.bundles.get(&namespace.to_owned());
        let Some(held) = held.filter(|held| held.control_plane_namespace.as_ref() == Some(ours))
        else {
            self.unused_since.remove(namespace);
            self.restraint.forget(&Item::Bundle(namespace.to_owned()));
            return Err(Finish::Forget);
        };
        let version = held.version.clone();
        let namespace = namespace.to_owned();
        let since = *self.unused_since.entry(namespace.clone()).or_insert(now);
        if now < since + UNUSED_GRACE {
            return Err(Finish::Again(since + UNUSED_GRACE));
        }
        if !self.knows_all_users() {
            return Err(Finish::Again(now + UNUSED_GRACE));
        }
        Ok(Task::RemoveBundle { namespace, version })
    }

    /// Before everything that may need a bundle is known, none is removed.
    fn knows_all_users(&self) -> bool {
        let knows_namespaces =
            self.context.injected.is_none() || self.injected_namespaces.is_complete();
        let mut workloads = self.workloads.values();
        knows_namespaces && self.marks.is_complete() && workloads.all(Mirror::is_complete)
    }

    /// Workloads in `namespace` without a pod follow the others' pods, where another control plane was first with one
    /// that asks for an injector: a workload that `linkerd inject` has given it proves nothing.
    pub(super) fn follow_neighbours(&mut self, namespace: &str, now: Instant) {
        let ours = &self.context.control_plane_namespace;
        let lost = self.marks.proxies_in(namespace, ours) == Proxies::Others
            && self
                .known_in(namespace)
                .iter()
                .any(|owner| self.marks.proxies(owner, ours) == Proxies::Others);
        let is_different = if lost {
            self.left_to_others.insert(namespace.to_owned())
        } else {
            self.left_to_others.remove(namespace)
        };
        if is_different {
            for neighbour in self.known_in(namespace) {
                self.look_at(neighbour, now);
            }
        }
    }
}
