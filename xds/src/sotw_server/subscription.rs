//! One type of one state-of-the-world stream.
//!
//! In: the list of names that every request repeats, changes, answers. Out: batches. Invariant: `held` is what the
//! client holds once it has read all that was sent; of complete types its bodies too, because a cluster that is
//! gone must stay in responses until nothing leads to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::order;
use crate::resource::{Resource, TypeUrl, Version};
use crate::source::Source;
use crate::status::{Answers, Delivery};

#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) opened: bool,
    /// The client has named something on this stream: from then on an empty list means nothing.
    named: bool,
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<Arc<str>>,
    pub(super) held: BTreeMap<Arc<str>, Item>,
    /// Names to look at when the next response may go, and whether to send them even if unchanged.
    pub(super) waiting: BTreeMap<Arc<str>, bool>,
    pub(super) owes_answer: bool,
    /// Of the last response; empty before the first.
    pub(super) nonce: String,
    pub(super) in_flight: Option<InFlight>,
    pub(super) answers: Answers,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) version: Version,
    pub(super) delivery: Delivery,
    /// Of complete types only.
    body: Bytes,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) since: Instant,
    pub(super) sent: Vec<Arc<str>>,
    pub(super) removed: Vec<Arc<str>>,
}

/// A response in the making.
pub(super) struct Batch {
    pub(super) bodies: Vec<Bytes>,
    /// Names that are new to the client, changed, or sent again for a reason.
    pub(super) changed: Vec<Arc<str>>,
    pub(super) removed: Vec<Arc<str>>,
}

/// Types whose responses hold everything.
pub(super) fn is_complete(ty: &TypeUrl) -> bool {
    *ty == TypeUrl::CLUSTER || *ty == TypeUrl::LISTENER
}

impl Subscription {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn look_at(&mut self, name: &Arc<str>, resend: bool) {
        *self.waiting.entry(name.clone()).or_default() |= resend;
    }

    pub(super) fn look_at_all(&mut self, ty: &TypeUrl, source: &dyn Source) {
        let mut names: Vec<Arc<str>> = self.held.keys().chain(&self.names).cloned().collect();
        if self.wildcard {
            names.extend(source.names(ty));
        }
        for name in names {
            self.look_at(&name, false);
        }
    }

    /// Takes the list of a request; says whether it differs from the last one.
    pub(super) fn ask(&mut self, ty: &TypeUrl, list: &[String], source: &dyn Source) -> bool {
        let names: BTreeSet<Arc<str>> = list.iter().filter(|n| *n != "*").map(|n| n.as_str().into()).collect();
        self.named |= !list.is_empty();
        let wildcard = list.iter().any(|n| n == "*") || (!self.named && order::empty_is_wildcard(ty));
        if names == self.names && wildcard == self.wildcard {
            return false;
        }
        let added: Vec<Arc<str>> = names.difference(&self.names).cloned().collect();
        let more = wildcard && !self.wildcard;
        self.names = names;
        self.wildcard = wildcard;
        if !wildcard {
            let names = &self.names;
            self.held.retain(|name, _| names.contains(name));
            self.waiting.retain(|name, _| names.contains(name));
        }
        self.owes_answer |= more || (is_complete(ty) && !added.is_empty());
        if more {
            self.look_at_all(ty, source);
        }
        for name in &added {
            self.look_at(name, true);
        }
        true
    }

    /// Everything once more, of the types for which Envoy waits.
    pub(super) fn ask_again(&mut self, ty: &TypeUrl) {
        if !is_complete(ty) {
            for name in self.names.clone() {
                self.look_at(&name, true);
            }
        }
    }

    fn differs(&self, ty: &TypeUrl, name: &str, source: &dyn Source) -> bool {
        let held = self.held.get(name);
        let found = if self.wants(name) { source.get(ty, name) } else { None };
        let resend = self.waiting.get(name).copied().unwrap_or_default();
        match (held, found) {
            (None, found) => found.is_some(),
            (Some(_), None) => is_complete(ty),
            (Some(held), Some(found)) => resend || held.version != found.version,
        }
    }

    /// Whether something waits that the client does not have at all.
    pub(super) fn lacks(&self, ty: &TypeUrl, source: &dyn Source) -> bool {
        self.waiting
            .keys()
            .any(|name| !self.held.contains_key(name) && self.wants(name) && source.get(ty, name).is_some())
    }

    /// Whether anything waits.
    pub(super) fn has_work(&self, ty: &TypeUrl, source: &dyn Source) -> bool {
        self.waiting.keys().any(|name| self.differs(ty, name, source))
    }

    /// All resources, if one of them changed. What is gone stays in until it may be removed.
    pub(super) fn take_complete(&mut self, ty: &TypeUrl, source: &dyn Source, may_remove: bool) -> Option<Batch> {
        if !self.owes_answer && !self.has_work(ty, source) {
            self.waiting.clear();
            return None;
        }
        let mut names = self.names.clone();
        if self.wildcard {
            names.extend(source.names(ty));
        }
        let found: BTreeMap<Arc<str>, Resource> =
            names.iter().filter_map(|name| Some((name.clone(), source.get(ty, name)?))).collect();
        let gone: Vec<Arc<str>> = self.held.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        let changed: Vec<Arc<str>> = found
            .values()
            .filter(|resource| self.held.get(&resource.name).is_none_or(|held| held.version != resource.version))
            .map(|resource| resource.name.clone())
            .collect();
        if !may_remove && changed.is_empty() && !gone.is_empty() && !self.owes_answer {
            return None;
        }
        self.waiting.clear();
        self.owes_answer = false;
        let removed = if may_remove { gone } else { self.keep(gone) };
        for name in &removed {
            self.held.remove(name);
        }
        for resource in found.into_values() {
            self.hold(&resource, resource.body.clone());
        }
        let bodies = self.held.values().map(|item| item.body.clone()).collect();
        Some(Batch { bodies, changed, removed })
    }

    /// Leaves them for a later response.
    fn keep(&mut self, gone: Vec<Arc<str>>) -> Vec<Arc<str>> {
        for name in gone {
            self.look_at(&name, false);
        }
        Vec::new()
    }

    /// What changed, up to a size.
    pub(super) fn take_partial(&mut self, ty: &TypeUrl, source: &dyn Source, limit: usize) -> Option<Batch> {
        let (mut bodies, mut changed, mut size) = (Vec::new(), Vec::new(), 0);
        let waiting: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        for name in waiting {
            let resource = if self.wants(&name) { source.get(ty, &name) } else { None };
            let Some(resource) = resource else {
                self.held.remove(&name);
                self.waiting.remove(&name);
                continue;
            };
            if self.differs(ty, &name, source) {
                if size > 0 && size + resource.wire_size() > limit {
                    break;
                }
                size += resource.wire_size();
                self.hold(&resource, Bytes::new());
                bodies.push(resource.body);
                changed.push(name.clone());
            }
            self.waiting.remove(&name);
        }
        if bodies.is_empty() && !self.owes_answer {
            return None;
        }
        self.owes_answer = false;
        Some(Batch { bodies, changed, removed: Vec::new() })
    }

    fn hold(&mut self, resource: &Resource, body: Bytes) {
        let version = resource.version.clone();
        let taken = |held: &Item| held.version == version && held.delivery == Delivery::Acknowledged;
        let taken = self.held.get(&resource.name).is_some_and(taken);
        let delivery = if taken { Delivery::Acknowledged } else { Delivery::Sent };
        self.held.insert(resource.name.clone(), Item { version, delivery, body });
    }

    pub(super) fn settle(&mut self, delivery: Delivery) {
        for item in self.held.values_mut().filter(|item| item.delivery == Delivery::Sent) {
            item.delivery = delivery;
        }
    }

    /// A hash of what the client holds, the same whoever computes it.
    pub(super) fn version_info(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |text: &str| {
            for byte in text.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, item) in &self.held {
            eat(name);
            eat(item.version.as_str());
        }
        format!("{hash:016x}")
    }
}
