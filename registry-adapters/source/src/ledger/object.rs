//! Names of objects: their order, and in how many parts each is.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use hawser_mesh::{Object, ObjectKey};

/// Whether an object is an instance: what losses are counted in.
pub(super) fn is_instance(object: &Object) -> bool {
    matches!(object, Object::Workload(_))
}

/// The name of an object.
pub(super) fn key(object: &Object) -> ObjectKey {
    match object {
        Object::Service(service) => ObjectKey::Service(service.host.clone()),
        Object::Workload(workload) => ObjectKey::Workload(workload.key.clone()),
        Object::Config(resource, _) => ObjectKey::Config(resource.object_ref()),
        Object::Gateway(gateway) => ObjectKey::Gateway(gateway.key.clone()),
    }
}

/// The order of names, without making any.
pub(super) fn by_key(a: &Object, b: &Object) -> Ordering {
    match (a, b) {
        (Object::Service(a), Object::Service(b)) => a.host.cmp(&b.host),
        (Object::Workload(a), Object::Workload(b)) => a.key.cmp(&b.key),
        (Object::Config(a, _), Object::Config(b, _)) => a.object_ref().cmp(&b.object_ref()),
        (Object::Gateway(a), Object::Gateway(b)) => a.key.cmp(&b.key),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(object: &Object) -> u8 {
    match object {
        Object::Service(_) => 0,
        Object::Workload(_) => 1,
        Object::Config(..) => 2,
        Object::Gateway(_) => 3,
    }
}

/// In how many parts a name is, by its hash: almost always in one. What is too many costs a search, no error.
#[derive(Debug, Default)]
pub(super) struct Copies {
    hasher: RandomState,
    counts: HashMap<u64, u32>,
}

impl Copies {
    pub(super) fn add(&mut self, object: &Object) {
        *self.counts.entry(self.hash(object)).or_default() += 1;
    }

    /// `true` if another part may have an object of that name.
    pub(super) fn remove(&mut self, object: &Object) -> bool {
        let hash = self.hash(object);
        match self.counts.get_mut(&hash) {
            Some(count) if *count > 1 => {
                *count -= 1;
                true
            }
            _ => {
                self.counts.remove(&hash);
                false
            }
        }
    }

    fn hash(&self, object: &Object) -> u64 {
        match object {
            Object::Service(service) => self.hasher.hash_one(&service.host),
            Object::Workload(workload) => self.hasher.hash_one(&workload.key),
            Object::Config(resource, _) => self.hasher.hash_one(resource.object_ref()),
            // Apart from a workload of that name.
            Object::Gateway(gateway) => self.hasher.hash_one((&gateway.key, "gateway")),
        }
    }
}
