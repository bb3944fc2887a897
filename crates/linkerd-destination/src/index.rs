//! Who follows which target: one `watch` channel for each target that somebody follows.
//! Entry: [`Index::subscribe`]. Objects come in by [`Index::apply`]; a slow reader skips states.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    cluster::{Affected, Cluster, Sizes},
    endpoints::{Endpoints, Source, Workload},
    pod::{PodKey, Stage},
    tables::Object,
    target::{ServiceKey, Target},
};

/// The cluster and all who follow a part of it. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Index(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    complete: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    entries: HashMap<Target, Entry>,
    targets_by_service: HashMap<ServiceKey, HashSet<Target>>,
    targets_by_ip: HashMap<IpAddr, HashSet<Target>>,
    targets_by_pod: HashMap<PodKey, HashSet<Target>>,
}

#[derive(Debug)]
struct Entry {
    endpoints: watch::Sender<Arc<Endpoints>>,
    /// The Service whose changes matter; an address may change its Service.
    service: Option<ServiceKey>,
    /// Subscriptions that have not ended. Not the channel's own count: that still has a receiver whose
    /// subscription ends elsewhere at the same moment.
    followers: usize,
}

/// Follows a target for as long as it lives, through deletion and creation of what it names.
#[derive(Debug)]
pub struct Subscription {
    index: Index,
    target: Target,
    endpoints: watch::Receiver<Arc<Endpoints>>,
}

/// A pod, as far as a token can be compared with it.
#[derive(Clone, Debug)]
pub struct KnownPod {
    /// Tells it from an earlier pod of the same name.
    pub uid: String,
    /// Where it stands in its life.
    pub stage: Stage,
    /// Whose pod it is.
    pub workload: Arc<Workload>,
}

impl Index {
    /// An index that knows nothing yet and is not complete.
    pub fn new(control_plane_namespace: &str) -> Self {
        let state = State {
            cluster: Cluster::new(control_plane_namespace),
            entries: HashMap::new(),
            targets_by_service: HashMap::new(),
            targets_by_ip: HashMap::new(),
            targets_by_pod: HashMap::new(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            complete: watch::Sender::new(false),
        }))
    }

    /// Takes in the present state of an object.
    pub fn apply<T: Object>(&self, object: T) {
        let mut state = self.0.state.lock();
        let affected = object.apply(&mut state.cluster);
        state.publish(&affected);
    }

    /// Takes in that an object is gone.
    pub fn delete<T: Object>(&self, key: &T::Key) {
        let mut state = self.0.state.lock();
        let affected = T::delete(key, &mut state.cluster);
        state.publish(&affected);
    }

    /// Declares that everything that exists has been taken in once.
    pub fn set_complete(&self) {
        self.0.complete.send_replace(true);
    }

    /// Waits until the index is complete. Before that, an answer could be a lie: what is not known
    /// yet would look like what does not exist.
    pub async fn wait_complete(&self) {
        let mut complete = self.0.complete.subscribe();
        complete
            .wait_for(|complete| *complete)
            .await
            .expect("the sender lives in self");
    }

    /// Whether everything that exists has been taken in once.
    pub fn is_complete(&self) -> bool {
        *self.0.complete.borrow()
    }

    /// What is known of a pod now.
    pub fn pod(&self, key: &PodKey) -> Option<KnownPod> {
        let state = self.0.state.lock();
        let (pod, workload) = state.cluster.pods.get(key)?;
        Some(KnownPod {
            uid: pod.uid.clone(),
            stage: pod.stage,
            workload: Arc::clone(workload),
        })
    }

    /// The name of the pod that has an address now.
    pub fn pod_at(&self, ip: IpAddr) -> Option<PodKey> {
        let state = self.0.state.lock();
        Some(state.cluster.pod_at(ip)?.0.key.clone())
    }

    /// Follows `target`.
    pub fn subscribe(&self, target: Target) -> Subscription {
        let mut state = self.0.state.lock();
        let endpoints = state.subscribe(&target);
        Subscription {
            index: self.clone(),
            target,
            endpoints,
        }
    }

    /// Counts the objects.
    pub fn sizes(&self) -> Sizes {
        self.0.state.lock().cluster.sizes()
    }

    /// How many different targets are followed.
    pub fn target_count(&self) -> usize {
        self.0.state.lock().entries.len()
    }
}

impl Subscription {
    /// The latest state.
    pub fn latest(&mut self) -> Arc<Endpoints> {
        Arc::clone(&self.endpoints.borrow_and_update())
    }

    /// Waits for a state later than the one that [`Self::latest`] returned. Cancel-safe.
    pub async fn changed(&mut self) {
        self.endpoints
            .changed()
            .await
            .expect("an entry outlives its subscriptions");
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.index.0.state.lock().release(&self.target);
    }
}

impl State {
    fn subscribe(&mut self, target: &Target) -> watch::Receiver<Arc<Endpoints>> {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.followers += 1;
            return entry.endpoints.subscribe();
        }
        let (sender, receiver) = watch::channel(Arc::new(self.cluster.resolve(target)));
        let service = service_of(target, &receiver.borrow());
        if let Some(service) = &service {
            insert_target(&mut self.targets_by_service, service, target);
        }
        match target {
            Target::Name { .. } => {}
            Target::Address(address) => {
                insert_target(&mut self.targets_by_ip, &address.ip(), target);
            }
            Target::Pod { pod, .. } => insert_target(&mut self.targets_by_pod, pod, target),
        }
        self.entries.insert(
            target.clone(),
            Entry {
                endpoints: sender,
                service,
                followers: 1,
            },
        );
        receiver
    }

    /// Ends one subscription, and forgets the target with the last.
    fn release(&mut self, target: &Target) {
        let Some(entry) = self.entries.get_mut(target) else {
            return;
        };
        entry.followers -= 1;
        if entry.followers > 0 {
            return;
        }
        if let Some(service) = &entry.service {
            remove_target(&mut self.targets_by_service, service, target);
        }
        match target {
            Target::Name { .. } => {}
            Target::Address(address) => {
                remove_target(&mut self.targets_by_ip, &address.ip(), target);
            }
            Target::Pod { pod, .. } => remove_target(&mut self.targets_by_pod, pod, target),
        }
        self.entries.remove(target);
    }

    fn publish(&mut self, affected: &Affected) {
        let by_service = affected
            .services
            .iter()
            .filter_map(|s| self.targets_by_service.get(s));
        let by_ip = affected
            .ips
            .iter()
            .filter_map(|ip| self.targets_by_ip.get(ip));
        let by_pod = affected
            .pods
            .iter()
            .filter_map(|pod| self.targets_by_pod.get(pod));
        let targets: HashSet<Target> = by_service
            .chain(by_ip)
            .chain(by_pod)
            .flatten()
            .cloned()
            .collect();
        for target in targets {
            self.refresh(&target);
        }
    }

    fn refresh(&mut self, target: &Target) {
        let Some(entry) = self.entries.get_mut(target) else {
            return;
        };
        let endpoints = self.cluster.resolve(target);
        let service = service_of(target, &endpoints);
        if service != entry.service {
            if let Some(before) = &entry.service {
                remove_target(&mut self.targets_by_service, before, target);
            }
            if let Some(now) = &service {
                insert_target(&mut self.targets_by_service, now, target);
            }
            entry.service = service;
        }
        entry.endpoints.send_if_modified(|before| {
            let differs = **before != endpoints;
            if differs {
                *before = Arc::new(endpoints);
            }
            differs
        });
    }
}

fn service_of(target: &Target, endpoints: &Endpoints) -> Option<ServiceKey> {
    match (target, &endpoints.source) {
        (Target::Name { service, .. }, _) => Some(service.clone()),
        (Target::Address(_), Source::Service { key, .. }) => Some(key.clone()),
        (Target::Address(_) | Target::Pod { .. }, _) => None,
    }
}

fn insert_target<K: Clone + Eq + std::hash::Hash>(
    targets: &mut HashMap<K, HashSet<Target>>,
    key: &K,
    target: &Target,
) {
    targets
        .entry(key.clone())
        .or_default()
        .insert(target.clone());
}

fn remove_target<K: Eq + std::hash::Hash>(
    targets: &mut HashMap<K, HashSet<Target>>,
    key: &K,
    target: &Target,
) {
    if let Some(set) = targets.get_mut(key) {
        set.remove(target);
        if set.is_empty() {
            targets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_forgotten_when_its_last_two_subscriptions_end_at_once() {
        let index = Index::new("linkerd");
        let target = Target::parse("k8s", "10.0.0.1:80", "cluster.local").expect("an address");
        let both = [0, 1].map(|_| index.subscribe(target.clone()));
        // Two threads: each has had its turn under the lock, and neither has dropped its receiver yet.
        for subscription in &both {
            index.0.state.lock().release(&subscription.target);
        }
        assert_eq!(index.target_count(), 0);
        assert!(index.0.state.lock().targets_by_ip.is_empty());
    }
}
