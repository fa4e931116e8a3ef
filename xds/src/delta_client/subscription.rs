//! One type of a delta client: what it asks for, what it holds, what waits for a verdict.
//!
//! In: names, responses that were read, verdicts. Out: the first request of a stream. Invariant: `held` changes
//! only with an accepted response or a name that is given up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hawser_api::proto::discovery::DeltaDiscoveryRequest;

use crate::resource::Version;

#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// A request of this type went out on the current stream.
    pub(super) opened: bool,
    pub(super) wildcard: bool,
    /// Names that are asked for, and whether the server said that there is none.
    pub(super) names: BTreeMap<Arc<str>, bool>,
    pub(super) held: BTreeMap<Arc<str>, Stored>,
    pub(super) pending: VecDeque<Pending>,
}

/// A resource that the caller keeps.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) version: Version,
    pub(super) size: usize,
}

/// A response that waits for a verdict.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) nonce: String,
    pub(super) upserts: Vec<(Arc<str>, Stored)>,
    pub(super) removed: Vec<Arc<str>>,
}

impl Subscription {
    pub(super) fn asks(&self) -> bool {
        self.wildcard || !self.names.is_empty()
    }

    pub(super) fn asks_for(&self, name: &str) -> bool {
        if name == "*" { self.wildcard } else { self.names.contains_key(name) }
    }

    pub(super) fn subscribe(&mut self, name: &Arc<str>) {
        if **name == *"*" {
            self.wildcard = true;
        } else {
            self.names.insert(name.clone(), false);
        }
    }

    /// Says whether the name was asked for.
    pub(super) fn unsubscribe(&mut self, name: &str, may_be_brought: bool) -> bool {
        if name == "*" {
            let names = &self.names;
            self.held.retain(|name, _| may_be_brought || names.contains_key(name));
            return std::mem::take(&mut self.wildcard);
        }
        let asked = self.names.remove(name).is_some();
        if !self.wildcard && !may_be_brought {
            self.held.remove(name);
        }
        asked
    }

    pub(super) fn accept(&mut self, nonce: &str, may_be_brought: bool) -> Option<()> {
        let index = self.pending.iter().position(|pending| pending.nonce == nonce)?;
        let pending = self.pending.remove(index)?;
        for (name, stored) in pending.upserts {
            // It may have been given up since.
            if !may_be_brought && !self.wildcard && !self.names.contains_key(&name) {
                continue;
            }
            if let Some(absent) = self.names.get_mut(&name) {
                *absent = false;
            }
            self.held.insert(name, stored);
        }
        for name in pending.removed {
            self.held.remove(&name);
            if let Some(absent) = self.names.get_mut(&name) {
                *absent = true;
            }
        }
        Some(())
    }

    /// Fills the first request of a stream: all that is asked for, all that is held.
    pub(super) fn open(&mut self, request: &mut DeltaDiscoveryRequest) {
        self.opened = true;
        request.resource_names_subscribe = self.names.keys().map(|name| name.to_string()).collect();
        if self.wildcard {
            // Said in so many words, or a list of names would end it.
            request.resource_names_subscribe.insert(0, "*".to_owned());
        }
        request.initial_resource_versions =
            self.held.iter().map(|(name, stored)| (name.to_string(), stored.version.as_str().to_owned())).collect();
    }

    pub(super) fn total_bytes(&self) -> usize {
        let held: usize = self.held.values().map(|stored| stored.size).sum();
        let pending: usize = self.pending.iter().flat_map(|p| &p.upserts).map(|(_, stored)| stored.size).sum();
        held + pending
    }
}
