//! The latest state of all Kubernetes objects of one kind, reduced to what we need of them.
//! Entry: [`Table::follow`].

use std::{collections::BTreeMap, fmt::Debug, mem, pin::pin, sync::Arc};

use futures::StreamExt as _;
use kube::{Api, Resource};
use kube_runtime::{
    WatchStreamExt as _,
    watcher::{Event, watcher},
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

/// Namespace (empty for objects without one) and name.
pub type Key = (String, String);

/// Objects of one kind by namespace and name, each reduced to a `T`.
#[derive(Debug)]
pub struct Table<T> {
    rows: RwLock<BTreeMap<Key, Arc<T>>>,
    synced: watch::Sender<bool>,
    /// Changes so far.
    version: watch::Sender<u64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: RwLock::default(),
            synced: watch::Sender::new(false),
            version: watch::Sender::new(0),
        }
    }
}

impl<T> Table<T> {
    /// Adds or replaces one object.
    pub fn insert(&self, key: Key, object: T) {
        self.rows.write().insert(key, Arc::new(object));
        self.changed();
    }

    /// Removes one object.
    pub fn remove(&self, key: &Key) {
        self.rows.write().remove(key);
        self.changed();
    }

    /// Wakes whoever waits for the next change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Returns one object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.rows
            .read()
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Returns the objects of a namespace, or all objects when `namespace` is empty, sorted.
    pub fn list(&self, namespace: &str) -> Vec<(Key, Arc<T>)> {
        let rows = self.rows.read();
        let copy = |(key, object): (&Key, &Arc<T>)| (key.clone(), object.clone());
        if namespace.is_empty() {
            return rows.iter().map(copy).collect();
        }
        rows.range((namespace.to_owned(), String::new())..)
            .take_while(|((of, _), _)| of == namespace)
            .map(copy)
            .collect()
    }

    /// Waits until the first complete list has arrived.
    pub async fn wait_synced(&self) {
        self.synced
            .subscribe()
            .wait_for(|synced| *synced)
            .await
            .expect("the sender lives in self");
    }

    /// Keeps the table equal to the cluster, for ever. Failing watches are logged and tried again
    /// with a growing pause; the last known state stays.
    pub async fn follow<K>(&self, api: Api<K>, reduce: fn(K) -> T)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(watcher(api, linkerd_kubernetes::watch_config()).default_backoff());
        let mut fresh = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => fresh.clear(),
                Ok(Event::InitApply(object)) => {
                    fresh.insert(key(&object), Arc::new(reduce(object)));
                }
                Ok(Event::InitDone) => {
                    *self.rows.write() = mem::take(&mut fresh);
                    self.changed();
                    self.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.insert(key(&object), reduce(object)),
                Ok(Event::Delete(object)) => self.remove(&key(&object)),
                Err(error) => warn!(kind = %K::kind(&()), %error, "cannot watch"),
            }
        }
    }
}

fn key(object: &impl kube::ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_whose_name_begins_alike_is_not_listed() {
        let table = Table::default();
        for (namespace, name) in [
            ("a", "1"),
            ("a-b", "2"),
            ("ab", "3"),
            ("b", "4"),
            ("a", "0"),
        ] {
            table.insert((namespace.into(), name.into()), ());
        }
        let names = |namespace| -> Vec<String> {
            table
                .list(namespace)
                .into_iter()
                .map(|((_, name), _)| name)
                .collect()
        };
        assert_eq!(names("a"), ["0", "1"]);
        assert_eq!(names("").len(), 5);
        assert_eq!(names("c").len(), 0);
    }
}
