//! The streams of a connection: by place for their owners, by id for frames.
//!
//! Invariant: a stream that frames may still reach is found by its id; one whose owner holds on to it keeps its place, even
//! when it is over. Ids come in order, so a table that is indexed by their lower bits has hardly a collision.

use super::stream::Stream;

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u32);

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Option<Stream>>,
    free: Vec<u32>,
    ids: Ids,
}

impl Streams {
    /// How many there are, over or not.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many of them frames may still reach.
    pub(super) fn open(&self) -> usize {
        self.ids.len
    }

    pub(super) fn add(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let key = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.places.get_mut(place as usize) {
                    *free = Some(stream);
                }
                Key(place)
            }
            None => {
                self.places.push(Some(stream));
                Key(u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX))
            }
        };
        if id != 0 {
            self.ids.insert(id, key);
        }
        key
    }

    /// Makes a stream that had no id reachable.
    pub(super) fn name(&mut self, key: Key, id: u32) {
        if let Some(stream) = self.get(key) {
            stream.id = id;
            self.ids.insert(id, key);
        }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Stream> {
        self.places.get_mut(key.0 as usize)?.as_mut()
    }

    pub(super) fn find(&self, id: u32) -> Option<Key> {
        self.ids.get(id)
    }

    /// No frame reaches it any more.
    pub(super) fn close(&mut self, id: u32) -> bool {
        self.ids.remove(id)
    }

    /// Its owner lets it go.
    pub(super) fn remove(&mut self, key: Key) -> Option<Stream> {
        let stream = self.places.get_mut(key.0 as usize)?.take()?;
        self.free.push(key.0);
        if self.free.len() == self.places.len() && self.places.len() > 16 {
            // Many were open once; an idle connection is small.
            *self = Self::default();
        }
        Some(stream)
    }

    pub(super) fn iter(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().flatten()
    }
}

/// Ids and their places: a table with open addresses, at most half full.
#[derive(Debug, Default)]
struct Ids {
    /// Id 0 is a free slot. The length is a power of two, or nothing.
    slots: Vec<(u32, Key)>,
    len: usize,
}

impl Ids {
    fn slot(&self, id: u32) -> usize {
        (id >> 1) as usize & (self.slots.len() - 1)
    }

    fn place(&self, id: u32) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.slot(id);
        loop {
            match self.slots.get(at)?.0 {
                0 => return None,
                other if other == id => return Some(at),
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    fn get(&self, id: u32) -> Option<Key> {
        self.place(id).and_then(|at| self.slots.get(at)).map(|slot| slot.1)
    }

    fn insert(&mut self, id: u32, key: Key) {
        if (self.len + 1) * 2 > self.slots.len() {
            let size = (self.slots.len() * 2).max(8);
            let old = std::mem::replace(&mut self.slots, vec![(0, Key(0)); size]);
            for (id, key) in old.into_iter().filter(|slot| slot.0 != 0) {
                self.put(id, key);
            }
        }
        self.put(id, key);
        self.len += 1;
    }

    fn put(&mut self, id: u32, key: Key) {
        let mut at = self.slot(id);
        while self.slots[at].0 != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = (id, key);
    }

    fn remove(&mut self, id: u32) -> bool {
        let Some(mut hole) = self.place(id) else { return false };
        let mask = self.slots.len() - 1;
        self.slots[hole].0 = 0;
        self.len -= 1;
        // What came to lie behind it because of it moves up.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let (id, _) = self.slots[at];
            if id == 0 {
                return true;
            }
            let home = self.slot(id);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[at];
                self.slots[at].0 = 0;
                hole = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn ids_are_found_until_they_are_removed_however_they_collide() {
        let mut ids = Ids::default();
        let mut model = BTreeMap::new();
        let mut random = 1_u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (random >> 20) % 97 * 2 + 1 + (random >> 30) * 64;
            if model.remove(&id).is_some() {
                assert!(ids.remove(id));
            } else {
                assert!(!ids.remove(id));
                ids.insert(id, Key(random));
                model.insert(id, Key(random));
            }
            assert_eq!(ids.len, model.len());
            assert!(model.iter().all(|(id, key)| ids.get(*id) == Some(*key)));
        }
    }
}
