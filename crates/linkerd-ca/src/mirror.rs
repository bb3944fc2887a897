//! What a watch has told so far: the latest value of every object. Entry: [`Mirror::apply`], which
//! returns the keys of the objects that are different now. Pure.

use std::{collections::BTreeMap, mem};

/// One thing that a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<K, V> {
    /// The watch begins anew: everything that is there follows.
    Relist,
    /// One object of the list.
    Listed(K, V),
    /// The list is complete; what was not in it is gone.
    RelistDone,
    /// An object is new or has changed.
    Set(K, V),
    /// An object is gone, or no longer concerns us.
    Remove(K),
}

impl<K: PartialEq, V> Change<K, V> {
    /// Whether it may be about the object `key`: a complete list is about every object.
    pub fn concerns(&self, key: &K) -> bool {
        match self {
            Self::Set(of, _) | Self::Remove(of) => of == key,
            Self::RelistDone => true,
            Self::Relist | Self::Listed(..) => false,
        }
    }
}

impl<K, V> Change<K, V> {
    /// The same about another value of the object; an object without one is gone.
    pub fn filter_map<W>(self, value_of: impl FnOnce(V) -> Option<W>) -> Option<Change<K, W>> {
        Some(match self {
            Self::Relist => Change::Relist,
            Self::Listed(key, value) => Change::Listed(key, value_of(value)?),
            Self::RelistDone => Change::RelistDone,
            Self::Set(key, value) => match value_of(value) {
                Some(value) => Change::Set(key, value),
                None => Change::Remove(key),
            },
            Self::Remove(key) => Change::Remove(key),
        })
    }
}

/// The objects of one watch.
#[derive(Debug)]
pub struct Mirror<K, V> {
    values: BTreeMap<K, V>,
    relisted: BTreeMap<K, V>,
    is_complete: bool,
}

impl<K, V> Default for Mirror<K, V> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            relisted: BTreeMap::new(),
            is_complete: false,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Mirror<K, V> {
    /// Takes in what the watch tells and returns the keys whose value has changed.
    pub fn apply(&mut self, change: Change<K, V>) -> Vec<K> {
        match change {
            Change::Relist => {
                self.relisted.clear();
                Vec::new()
            }
            Change::Listed(key, value) => {
                self.relisted.insert(key, value);
                Vec::new()
            }
            Change::RelistDone => {
                self.is_complete = true;
                let before = mem::replace(&mut self.values, mem::take(&mut self.relisted));
                let gone = before.keys().filter(|key| !self.values.contains_key(key));
                let new = self
                    .values
                    .iter()
                    .filter(|&(key, value)| before.get(key) != Some(value));
                gone.chain(new.map(|(key, _)| key)).cloned().collect()
            }
            Change::Set(key, value) => {
                if self.values.get(&key) == Some(&value) {
                    return Vec::new();
                }
                self.values.insert(key.clone(), value);
                vec![key]
            }
            Change::Remove(key) => match self.values.remove(&key) {
                Some(_) => vec![key],
                None => Vec::new(),
            },
        }
    }

    /// Notes what we have written ourselves, before the watch tells it.
    pub fn note(&mut self, key: K, value: V) {
        self.values.insert(key, value);
    }

    /// The latest value.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// Every object.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter()
    }

    /// Whether the first list has been complete.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::{Change::*, *};

    const NOTHING: [u8; 0] = [];

    fn mirror(values: &[(u8, char)]) -> Mirror<u8, char> {
        let mut mirror = Mirror::default();
        for &(key, value) in values {
            mirror.apply(Set(key, value));
        }
        mirror
    }

    #[test]
    fn only_what_is_different_is_reported() {
        let mut mirror = mirror(&[(1, 'a')]);
        assert_eq!(mirror.apply(Set(1, 'a')), NOTHING);
        assert_eq!(mirror.apply(Set(1, 'b')), [1]);
        assert_eq!(mirror.apply(Set(2, 'b')), [2]);
        assert_eq!(mirror.apply(Remove(2)), [2]);
        assert_eq!(mirror.apply(Remove(2)), NOTHING);
    }

    #[test]
    fn after_a_relist_what_is_gone_new_or_changed_is_reported() {
        let mut mirror = mirror(&[(1, 'a'), (2, 'b'), (3, 'c')]);
        assert!(!mirror.is_complete());
        assert_eq!(mirror.apply(Relist), NOTHING);
        for (key, value) in [(2, 'b'), (3, 'x'), (4, 'd')] {
            assert_eq!(mirror.apply(Listed(key, value)), NOTHING);
        }
        assert_eq!(
            mirror.get(&1),
            Some(&'a'),
            "the old values stand until the list is complete"
        );
        assert_eq!(mirror.apply(RelistDone), [1, 3, 4]);
        assert_eq!(mirror.get(&1), None);
        assert!(mirror.is_complete());
    }

    #[test]
    fn a_relist_that_broke_off_leaves_no_trace() {
        let mut mirror = mirror(&[(1, 'a')]);
        mirror.apply(Relist);
        mirror.apply(Listed(9, 'z'));
        mirror.apply(Relist);
        mirror.apply(Listed(1, 'a'));
        assert_eq!(mirror.apply(RelistDone), NOTHING);
        assert_eq!(mirror.get(&9), None);
    }

    #[test]
    fn an_object_without_the_value_is_gone() {
        let digit = |of: char| of.to_digit(10);
        assert_eq!(Set(1, '7').filter_map(digit), Some(Set(1, 7)));
        assert_eq!(Set(1, 'a').filter_map(digit), Some(Remove(1)));
        assert_eq!(Listed(1, 'a').filter_map(digit), None);
        assert_eq!(Remove(1).filter_map(digit), Some(Remove(1)));
        assert_eq!(RelistDone::<u8, _>.filter_map(digit), Some(RelistDone));
    }

    #[test]
    fn the_echo_of_our_own_write_is_no_change() {
        let mut mirror = mirror(&[(1, 'a')]);
        mirror.note(1, 'b');
        assert_eq!(mirror.apply(Set(1, 'b')), NOTHING);
    }
}
