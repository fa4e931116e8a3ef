//! One part: what was said of it, and what of that the source no longer says.
//!
//! Invariant: sorted by name, each name once; what is absent was said, and is not removed yet.

use std::cmp::Ordering;

use hawser_mesh::Object;

use super::object::{by_key, is_instance};
use crate::Fingerprint;

/// One part of a source.
#[derive(Debug, Default)]
pub(super) struct Part {
    said: Vec<Said>,
    /// Of the answer it was taken from.
    pub(super) fingerprint: Option<Fingerprint>,
    /// It was heard in this run.
    pub(super) heard: bool,
    /// It was not in the last list of parts.
    pub(super) gone: bool,
    /// Instances that the source says now.
    pub(super) current: u32,
    /// Instances that it had when losses began to be held.
    pub(super) baseline: u32,
    /// It was there when losses began to be held.
    pub(super) counted: bool,
}

#[derive(Debug)]
struct Said {
    object: Object,
    absent: bool,
}

impl Part {
    /// A part as it was stored.
    pub(super) fn remembered(mut objects: Vec<Object>) -> Self {
        tidy(&mut objects);
        let current = instances(&objects);
        let said = objects.into_iter().map(|object| Said { object, absent: false }).collect();
        Self { said, current, baseline: current, counted: true, ..Self::default() }
    }

    /// A part that was removed, with so many instances, and is to be held after all.
    pub(super) fn lost_before(instances: u32) -> Self {
        Self { gone: true, heard: true, counted: true, baseline: instances, ..Self::default() }
    }

    /// Everything that was said and is not removed.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.said.iter().map(|said| &said.object)
    }

    /// How many that are.
    pub(super) fn len(&self) -> usize {
        self.said.len()
    }

    /// Instances that it lost since losses are held.
    pub(super) fn lost(&self) -> u64 {
        u64::from(self.baseline.saturating_sub(self.current))
    }

    /// It is gone since losses are held.
    pub(super) fn missing(&self) -> bool {
        self.gone && self.counted
    }

    /// The object of that name.
    pub(super) fn find(&self, like: &Object) -> Option<&Object> {
        let found = self.said.binary_search_by(|said| by_key(&said.object, like)).ok()?;
        self.said.get(found).map(|said| &said.object)
    }

    /// Takes in what the source says now: calls `upsert` for what is new (`true`) or changed, and marks what is absent.
    pub(super) fn take(&mut self, mut objects: Vec<Object>, mut upsert: impl FnMut(&Object, bool)) {
        tidy(&mut objects);
        self.current = instances(&objects);
        let mut merged = Vec::with_capacity(objects.len());
        let mut old = std::mem::take(&mut self.said).into_iter().peekable();
        for object in objects {
            while let Some(gone) = old.next_if(|said| by_key(&said.object, &object) == Ordering::Less) {
                merged.push(Said { absent: true, ..gone });
            }
            match old.next_if(|said| by_key(&said.object, &object) == Ordering::Equal) {
                Some(same) if same.object == object => merged.push(Said { absent: false, ..same }),
                known => {
                    upsert(&object, known.is_none());
                    merged.push(Said { object, absent: false });
                }
            }
        }
        merged.extend(old.map(|gone| Said { absent: true, ..gone }));
        self.said = merged;
    }

    /// The source no longer says any of it.
    pub(super) fn lose_all(&mut self) {
        self.current = 0;
        self.said.iter_mut().for_each(|said| said.absent = true);
    }

    /// Puts back an object that was removed, as one that is absent; `false` if it is there.
    pub(super) fn put_back(&mut self, object: &Object) -> bool {
        match self.said.binary_search_by(|said| by_key(&said.object, object)) {
            Ok(_) => false,
            Err(place) => {
                self.said.insert(place, Said { object: object.clone(), absent: true });
                true
            }
        }
    }

    /// Takes out what is absent.
    pub(super) fn remove_absent(&mut self) -> Vec<Object> {
        if !self.said.iter().any(|said| said.absent) {
            return Vec::new();
        }
        let (absent, kept) = std::mem::take(&mut self.said).into_iter().partition::<Vec<_>, _>(|said| said.absent);
        self.said = kept;
        absent.into_iter().map(|said| said.object).collect()
    }
}

fn tidy(objects: &mut Vec<Object>) {
    objects.sort_by(by_key);
    objects.dedup_by(|b, a| by_key(a, b) == Ordering::Equal);
    objects.shrink_to_fit();
}

fn instances(objects: &[Object]) -> u32 {
    u32::try_from(objects.iter().filter(|object| is_instance(object)).count()).unwrap_or(u32::MAX)
}
