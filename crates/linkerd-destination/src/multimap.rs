//! A map from a key to the sorted set of all values put under it.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    hash::Hash,
};

/// Keys without values take no memory.
#[derive(Debug)]
pub(crate) struct Multimap<K, V>(HashMap<K, BTreeSet<V>>);

impl<K: Eq + Hash, V: Ord> Multimap<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(crate) fn remove(&mut self, key: K, value: &V) {
        if let Entry::Occupied(mut values) = self.0.entry(key) {
            values.get_mut().remove(value);
            if values.get().is_empty() {
                values.remove();
            }
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&BTreeSet<V>> {
        self.0.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}

impl<K, V> Default for Multimap<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}
