//! A map that is cheap to copy and cheap to change a little: what a snapshot is made of.
//!
//! In: single changes. Out: copies that share all shards that did not change since. Invariant: a copy never
//! changes. Order is by key within a shard only; whoever prints sorts.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const SHARDS: usize = 256;

/// A persistent map.
#[derive(Clone, Debug)]
pub(crate) struct ShardMap<K, V> {
    shards: Box<[Arc<BTreeMap<K, V>>]>,
    len: usize,
}

impl<K: Ord + Hash + Clone, V: Clone> Default for ShardMap<K, V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::default()).collect(), len: 0 }
    }
}

impl<K: Ord + Hash + Clone, V: Clone> ShardMap<K, V> {
    /// The value of a key.
    pub(crate) fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[shard_of(key)].get(key)
    }

    /// Sets the value of a key; the one it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = Arc::make_mut(&mut self.shards[shard_of(&key)]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes a key; the value it had.
    pub(crate) fn remove<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = &mut self.shards[shard_of(key)];
        if !shard.contains_key(key) {
            return None;
        }
        let old = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// Changes the value of a key in place, made by default if there is none; removes it if `keep` says so after.
    pub(crate) fn edit(&mut self, key: K, change: impl FnOnce(&mut V), keep: impl FnOnce(&V) -> bool)
    where
        V: Default,
    {
        match Arc::make_mut(&mut self.shards[shard_of(&key)]).entry(key) {
            Entry::Occupied(mut entry) => {
                change(entry.get_mut());
                if !keep(entry.get()) {
                    entry.remove();
                    self.len -= 1;
                }
            }
            Entry::Vacant(entry) => {
                let mut value = V::default();
                change(&mut value);
                if keep(&value) {
                    entry.insert(value);
                    self.len += 1;
                }
            }
        }
    }

    /// All pairs, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// All pairs by key.
    pub(crate) fn sorted(&self) -> Vec<(&K, &V)> {
        let mut pairs: Vec<_> = self.iter().collect();
        pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        pairs
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = Fnv::default();
    key.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

/// FNV-1a with a final mix: the same in every process, for what must not differ between two of them.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_change() {
        let mut map = ShardMap::<String, u32>::default();
        map.insert("a".into(), 1);
        let copy = map.clone();
        map.insert("a".into(), 2);
        map.edit("b".into(), |v| *v += 3, |v| *v != 0);
        map.edit("c".into(), |_| {}, |v| *v != 0);
        assert_eq!((copy.get("a"), copy.len()), (Some(&1), 1));
        assert_eq!((map.get("a"), map.get("b"), map.get("c"), map.len()), (Some(&2), Some(&3), None, 2));
        map.remove("a");
        assert_eq!(map.sorted(), [(&"b".to_owned(), &3)]);
    }
}
