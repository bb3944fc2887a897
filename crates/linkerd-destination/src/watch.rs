//! Follows the objects of the Kubernetes API into the [`Index`]. Entry: [`watch_cluster`].
//! Watches never end: a failure is logged, counted and tried again after a pause.

use std::{collections::HashSet, fmt::Debug, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    batch::v1::Job,
    core::v1::{Node as ApiNode, Pod as ApiPod, Service as ApiService},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, Resource, core::PartialObjectMeta};
use kube_runtime::{
    WatchStreamExt,
    utils::Backoff,
    watcher::{self, DefaultBackoff, Event, watcher},
};
use linkerd_kubernetes::watch_config;
use linkerd_process::Readiness;
use serde::de::DeserializeOwned;
use tokio::{sync::oneshot, task::JoinSet};
use tracing::{info, warn};

use crate::{
    index::Index,
    metrics::{KindLabels, Metrics},
    node::Node,
    owner::Link,
    pod::Pod,
    service::Service,
    slice::{SERVICE_NAME_LABEL, Slice},
    tables::Object,
};

/// The longest pause after a failure: what we tell is stale meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Keeps `index` like the cluster, and declares it complete, and the process ready, when every kind
/// has been listed once. Returns only if a watch task dies.
///
/// # Errors
/// [`tokio::task::JoinError`] of the task that died: a broken invariant.
pub async fn watch_cluster(
    client: Client,
    index: Index,
    metrics: Metrics,
    readiness: Readiness,
) -> Result<(), tokio::task::JoinError> {
    let mut watches = JoinSet::new();
    let plain = watch_config();
    let slices = plain.clone().labels(SERVICE_NAME_LABEL);
    let mut start = Start {
        client: &client,
        index: &index,
        metrics: &metrics,
        tasks: &mut watches,
    };
    let lists = [
        start.watch::<ApiService, Service>("services", plain.clone()),
        start.watch::<EndpointSlice, Slice>("endpointslices", slices),
        start.watch::<ApiPod, Pod>("pods", plain.clone()),
        start.watch::<ApiNode, Node>("nodes", plain.clone()),
        start.watch::<PartialObjectMeta<ReplicaSet>, Link>("replicasets", plain.clone()),
        start.watch::<PartialObjectMeta<Job>, Link>("jobs", plain),
    ];
    let completed = async {
        for listed in lists {
            // A sender is dropped only when its task died, which ends the whole below.
            if listed.await.is_err() {
                return;
            }
        }
        index.set_complete();
        readiness.set_ready(true);
        info!(sizes = ?index.sizes(), "everything is listed, answering");
    };
    let died = async { watches.join_next().await.expect("watches were started") };
    let ((), died) = tokio::join!(completed, died);
    died
}

/// What every watch is started with.
struct Start<'a> {
    client: &'a Client,
    index: &'a Index,
    metrics: &'a Metrics,
    tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    /// Starts a watch; the receiver hears when the first list is complete.
    fn watch<K, T>(&mut self, kind: &'static str, config: watcher::Config) -> oneshot::Receiver<()>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        T: Object + From<K> + Send + 'static,
    {
        let (listed, receiver) = oneshot::channel();
        let events = watcher(Api::<K>::all(self.client.clone()), config)
            .backoff(Pauses(DefaultBackoff::default()));
        let errors = self
            .metrics
            .watch_errors
            .get_or_create_owned(&KindLabels { kind });
        let counted = events.filter_map(move |event| {
            let event = event
                .inspect_err(|error| {
                    errors.inc();
                    warn!(kind, %error, "a watch failed and will be tried again");
                })
                .ok();
            std::future::ready(event)
        });
        self.tasks
            .spawn(follow::<K, T>(counted, self.index.clone(), listed));
        receiver
    }
}

/// The usual growing pauses, up to [`PAUSE_MAX`].
struct Pauses(DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(PAUSE_MAX))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Applies events for as long as they come. What a repeated list no longer has is deleted.
async fn follow<K, T: Object + From<K>>(
    events: impl Stream<Item = Event<K>>,
    index: Index,
    listed: oneshot::Sender<()>,
) {
    let mut listed = Some(listed);
    let mut known: HashSet<T::Key> = HashSet::new();
    let mut unlisted: HashSet<T::Key> = HashSet::new();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Init => unlisted.clone_from(&known),
            Event::InitApply(object) | Event::Apply(object) => {
                let object = T::from(object);
                let key = object.key();
                unlisted.remove(&key);
                known.insert(key);
                index.apply(object);
            }
            Event::Delete(object) => {
                let key = T::from(object).key();
                known.remove(&key);
                index.delete::<T>(&key);
            }
            Event::InitDone => {
                for key in unlisted.drain() {
                    known.remove(&key);
                    index.delete::<T>(&key);
                }
                if let Some(listed) = listed.take() {
                    // Nobody listens when the process is about to end.
                    listed.send(()).ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::cluster::Sizes;

    fn node(name: &str) -> ApiNode {
        let mut node = ApiNode::default();
        node.metadata.name = Some(name.to_owned());
        node
    }

    async fn follow_all(events: Vec<Event<ApiNode>>) -> (Sizes, oneshot::Receiver<()>) {
        let index = Index::new("linkerd");
        let (listed, receiver) = oneshot::channel();
        follow::<ApiNode, Node>(stream::iter(events), index.clone(), listed).await;
        (index.sizes(), receiver)
    }

    #[tokio::test]
    async fn a_repeated_list_deletes_what_it_no_longer_has() {
        let (sizes, listed) = follow_all(vec![
            Event::Init,
            Event::InitApply(node("a")),
            Event::InitApply(node("b")),
            Event::InitDone,
            Event::Apply(node("c")),
            Event::Delete(node("a")),
            Event::Init,
            Event::InitApply(node("c")),
            Event::InitApply(node("d")),
            Event::InitDone,
        ])
        .await;
        assert_eq!(sizes.nodes, 2);
        assert_eq!(listed.await, Ok(()));
    }

    #[tokio::test]
    async fn a_list_that_breaks_off_deletes_nothing_and_is_not_complete() {
        let (sizes, mut listed) = follow_all(vec![
            Event::Init,
            Event::InitApply(node("a")),
            Event::Init,
            Event::InitApply(node("b")),
        ])
        .await;
        assert_eq!(sizes.nodes, 2);
        assert!(listed.try_recv().is_err());
    }
}
