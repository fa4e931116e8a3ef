//! What is in the cluster already, as far as it decides what is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use hawser_registry_source::Fingerprint;
use serde_json::Value;

use super::{INSTANCE, MESH, slices};
use crate::name::Name;
use crate::wire::{Config, Item as _, Slice};

/// An object of one of Istio's kinds.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) api_version: String,
    pub(super) generation: u64,
    /// This mesh wrote it.
    pub(super) ours: bool,
    /// Somebody else wrote to it too.
    pub(super) shared: bool,
    pub(super) deleting: bool,
    pub(super) conditions: Box<[Value]>,
    /// Of what is ours to say; only of ours.
    pub(super) print: Option<Fingerprint>,
}

/// A slice of ours.
#[derive(Clone, Debug)]
pub(super) struct SeenSlice {
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) deleting: bool,
    pub(super) print: Fingerprint,
    pub(super) addresses: BTreeSet<String>,
    service: Arc<str>,
}

impl Seen {
    pub(super) fn of(config: &Config, mesh: &str) -> Self {
        let writers = config.writers();
        // Somebody took our mark off, and it is still what we wrote.
        let ours = config.annotation(MESH).map_or(writers.we, |of| of == mesh);
        Self {
            uid: config.uid().to_owned(),
            version: config.version().to_owned(),
            api_version: config.api_version().to_owned(),
            generation: config.generation(),
            ours,
            shared: writers.others,
            deleting: config.is_deleting(),
            conditions: config.conditions().into(),
            print: ours.then(|| print(config)),
        }
    }
}

impl SeenSlice {
    /// `None` if it is not ours to change.
    pub(super) fn of(slice: &Slice, mesh: &str) -> Option<Self> {
        let metadata = &slice.metadata;
        let ours = slice.is_ours() && metadata.annotation(MESH).is_none_or(|of| of == mesh);
        (ours && slices::is_numbered(slice)).then(|| Self {
            uid: metadata.uid.clone(),
            version: metadata.resource_version.clone(),
            deleting: metadata.deleting,
            print: slices::print(slice),
            addresses: slices::addresses(slice),
            service: slice.service().unwrap_or_default().into(),
        })
    }

    /// The service that it is of, given its own name.
    pub(super) fn service(&self, name: &Name) -> Name {
        Name { namespace: name.namespace.clone(), name: self.service.clone() }
    }
}

/// What of an entry is ours to say.
pub(super) fn print(config: &Config) -> Fingerprint {
    let marks = [MESH, INSTANCE].map(|mark| config.annotation(mark));
    Fingerprint::of(&(config.spec().to_string(), marks))
}

/// An entry as it is read back.
pub(super) fn read_entry(object: &Value) -> Option<Config> {
    serde_json::from_value(object.clone()).ok()
}

/// A slice as it is read back.
pub(super) fn read_slice(object: &Value) -> Option<Slice> {
    serde_json::from_value(object.clone()).ok()
}
