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
    /// Bytes of what is held.
    held_bytes: usize,
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
    pub(super) bytes: usize,
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
            let (names, bytes) = (&self.names, &mut self.held_bytes);
            self.held.retain(|name, stored| {
                let stays = may_be_brought || names.contains_key(name);
                *bytes -= if stays { 0 } else { stored.size };
                stays
            });
            return std::mem::take(&mut self.wildcard);
        }
        let asked = self.names.remove(name).is_some();
        if !self.wildcard && !may_be_brought {
            self.drop_held(name);
        }
        asked
    }

    pub(super) fn hold(&mut self, name: Arc<str>, stored: Stored) {
        self.held_bytes += stored.size;
        let before = self.held.insert(name, stored);
        self.held_bytes -= before.map_or(0, |before| before.size);
    }

    fn drop_held(&mut self, name: &str) {
        self.held_bytes -= self.held.remove(name).map_or(0, |stored| stored.size);
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
            self.hold(name, stored);
        }
        for name in pending.removed {
            self.drop_held(&name);
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

    /// Held and waiting for a verdict.
    pub(super) fn total_bytes(&self) -> usize {
        self.held_bytes + self.pending.iter().map(|pending| pending.bytes).sum::<usize>()
    }
}
