//! The pods of a tap, as they come and go. Entries: [`Follower::pods`], [`Follower::follow`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicU32},
};

use linkerd_names::ResourceType;
use linkerd_proto::public::TapByResourceResponse;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tracing::debug;

use super::{FOLLOW_INTERVAL, observe::Observer, question::Question, rate::Rate, taps::Slot};
use crate::{cluster::Cluster, pod_index::PodIndex, selected::Selected, selection::NotFound};

/// A pod with a proxy that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Watched {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Where its proxy serves tap.
    pub(super) address: SocketAddr,
}

/// What follows the pods of one tap.
pub(super) struct Follower {
    pub(super) cluster: Arc<Cluster>,
    pub(super) control_plane_namespace: String,
    pub(super) question: Question,
    /// Another's when nothing is watched any more.
    pub(super) slot: Slot,
    pub(super) updates: mpsc::Sender<TapByResourceResponse>,
}

impl Follower {
    /// The running pods of the targets that this control plane has meshed, each once.
    ///
    /// # Errors
    /// [`NotFound`] when a target was named and does not exist.
    pub(super) fn pods(&self) -> Result<BTreeSet<Watched>, NotFound> {
        let mut watched = BTreeSet::new();
        let mut index = PodIndex::new(&self.cluster);
        for selected in &self.question.targets {
            self.add_pods_of(selected, &mut index, &mut watched)?;
        }
        Ok(watched)
    }

    /// As [`Self::pods`], of those targets that exist.
    fn pods_left(&self) -> BTreeSet<Watched> {
        let mut watched = BTreeSet::new();
        let mut index = PodIndex::new(&self.cluster);
        for selected in &self.question.targets {
            if let Err(error) = self.add_pods_of(selected, &mut index, &mut watched) {
                debug!(%error, "a target is not there any more");
            }
        }
        watched
    }

    fn add_pods_of(
        &self,
        selected: &Selected,
        index: &mut PodIndex<'_>,
        watched: &mut BTreeSet<Watched>,
    ) -> Result<(), NotFound> {
        let target = &selected.target;
        let objects = self
            .cluster
            .objects(target.kind, &target.namespace, &target.name)?;
        let wanted = objects.iter().filter(|object| {
            selected.has_labels_of(&self.cluster, &object.namespace, &object.name)
        });
        for object in wanted {
            let namespace = match target.kind {
                ResourceType::Namespace => &object.name,
                _ => &object.namespace,
            };
            for (name, pod) in index.pods_of(target.kind, object) {
                let ours =
                    pod.control_plane_namespace() == Some(self.control_plane_namespace.as_str());
                let runs = pod.is_alive() && pod.phase == "Running";
                let (Ok(ip), Some(port)) = (pod.ip.parse::<IpAddr>(), pod.tap_port) else {
                    continue;
                };
                if ours && runs {
                    watched.insert(Watched {
                        namespace: namespace.clone(),
                        name,
                        address: SocketAddr::new(ip, port),
                    });
                }
            }
        }
        Ok(())
    }

    /// Watches every pod for as long as it is one of the targets', until the client has gone.
    pub(super) async fn follow(self) {
        let mut changes = self.cluster.pods.changes();
        let mut observers = JoinSet::new();
        let mut watched: BTreeMap<Watched, AbortHandle> = BTreeMap::new();
        let limit = watch::Sender::new(1);
        let rate = Arc::new(Rate::new(self.question.max_rps, Instant::now()));
        let next_base = Arc::new(AtomicU32::new(1));
        let addresses = self.slot.taps.addresses.of(&self.cluster);
        loop {
            // A target that is deleted while it is watched may come again; the others go on.
            let pods = self.pods_left();
            let share = share(self.question.max_rps, pods.len());
            limit.send_if_modified(|limit| std::mem::replace(limit, share) != share);
            watched.retain(|pod, observer| {
                let stays = pods.contains(pod);
                if !stays {
                    observer.abort();
                }
                stays
            });
            for pod in pods {
                watched.entry(pod.clone()).or_insert_with(|| {
                    let observer = Observer {
                        pod,
                        wanted: self.question.wanted.clone(),
                        traffic: self.question.traffic.clone(),
                        limit: limit.subscribe(),
                        rate: rate.clone(),
                        addresses: addresses.latest.clone(),
                        next_base: next_base.clone(),
                        updates: self.updates.clone(),
                    };
                    observers.spawn(observer.run())
                });
            }
            while observers.try_join_next().is_some() {}
            tokio::select! {
                () = self.updates.closed() => return,
                _ = changes.changed() => {}
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }
}

/// Requests and connections a second that one of `pods` pods may report; at least one, which for many pods is
/// more than is shown.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturates, as wanted"
)]
fn share(max_rps: f32, pods: usize) -> u32 {
    ((max_rps / pods.max(1) as f32) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_shared_and_every_pod_has_some_of_it() {
        assert_eq!(share(100.0, 1), 100);
        assert_eq!(share(100.0, 3), 33);
        assert_eq!(share(0.5, 3), 1);
        assert_eq!(share(10.0, 0), 10);
        assert_eq!(share(f32::MAX, 1), u32::MAX);
    }
}
