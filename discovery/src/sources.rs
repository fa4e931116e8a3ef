//! Registries of other systems while they run: what operators and machines see of them.
//!
//! In: handles of adapters, what is noted of the file that names them. Out: their status, metrics, an operator's word
//! to one of them.

mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use hawser_mesh::RegistryId;
use hawser_registry_source::{Handle, Status, Unseen};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use metrics::RegistryMetrics;

use crate::registry::Snapshot;
use crate::registry::model::RegistryStatus;

/// All of them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    handles: BTreeMap<RegistryId, Handle>,
    notes: Vec<String>,
}

/// How a registry is, whoever knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `frozen`, `stale`, `synced`, `syncing`.
    pub state: &'static str,
    /// Since when.
    pub since: SystemTime,
    /// Causes and cures.
    pub messages: Vec<String>,
    /// When it last answered, where it is asked.
    pub last_contact: Option<SystemTime>,
    /// When the state was stored that this run began with.
    pub stored: Option<SystemTime>,
    /// What of it is not seen, though it answers.
    pub unseen: Unseen,
}

/// An operator's word that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// No registry has that name.
    #[error("there is no registry {0:?} that can be frozen; hawser registries lists them")]
    Unknown(String),
    /// Several end so.
    #[error("{0:?} may be any of {1}; write it whole")]
    Ambiguous(String, String),
    /// Nothing is to be accepted.
    #[error("{0} is not frozen: nothing is to be accepted")]
    NotFrozen(String),
}

impl Sources {
    /// Takes in a registry that runs from now on.
    pub fn add(&self, id: RegistryId, handle: Handle) {
        self.inner.lock().handles.insert(id, handle);
    }

    /// A registry is no more.
    pub fn remove(&self, id: &RegistryId) {
        self.inner.lock().handles.remove(id);
    }

    /// Notes something about the file of registries, in place of what was noted before.
    pub fn note(&self, notes: Vec<String>) {
        self.inner.lock().notes = notes;
    }

    /// What is noted about the file.
    pub fn notes(&self) -> Vec<String> {
        self.inner.lock().notes.clone()
    }

    /// How a registry is that a snapshot knows.
    pub fn state(&self, known: &RegistryStatus) -> State {
        let status = self.inner.lock().handles.get(&known.id).map(Handle::status);
        state(known, status.as_ref())
    }

    /// Says to a registry that its loss is meant; its whole name, and how it is from then on.
    ///
    /// # Errors
    /// If there is none of that name, or it is not frozen.
    pub fn accept(&self, name: &str) -> Result<(String, watch::Receiver<Status>), NotAccepted> {
        let inner = self.inner.lock();
        let whole = inner.handles.iter().find(|(id, _)| id.to_string() == name);
        let (id, handle) = match whole {
            Some(found) => found,
            None => {
                let ends: Vec<_> = inner.handles.iter().filter(|(id, _)| *id.name == *name).collect();
                match ends.as_slice() {
                    [] => return Err(NotAccepted::Unknown(name.chars().take(100).collect())),
                    [one] => *one,
                    several => {
                        let names: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
                        return Err(NotAccepted::Ambiguous(name.to_owned(), names.join(", ")));
                    }
                }
            }
        };
        let changes = handle.changes();
        if handle.accept() { Ok((id.to_string(), changes)) } else { Err(NotAccepted::NotFrozen(id.to_string())) }
    }
}

/// Services that a registry says, by registry.
pub fn services_by_registry(snapshot: &Snapshot) -> BTreeMap<RegistryId, usize> {
    let mut counts: BTreeMap<RegistryId, usize> = BTreeMap::new();
    for state in snapshot.services() {
        for registry in state.service.registries() {
            *counts.entry(registry.clone()).or_default() += 1;
        }
    }
    counts
}

fn state(known: &RegistryStatus, status: Option<&Status>) -> State {
    let Some(status) = status else {
        return State {
            state: known.state(),
            since: known.since,
            messages: known.stale.iter().map(|(_, why)| why.clone()).collect(),
            last_contact: None,
            stored: None,
            unseen: Unseen::default(),
        };
    };
    let trouble = status.frozen.as_ref().or(status.stale.as_ref());
    State {
        state: status.state(),
        since: trouble.map_or(known.since, |trouble| trouble.since),
        messages: status.messages().map(str::to_owned).collect(),
        last_contact: status.last_contact,
        stored: status.loaded,
        unseen: status.unseen.clone(),
    }
}

#[cfg(test)]
mod tests;
