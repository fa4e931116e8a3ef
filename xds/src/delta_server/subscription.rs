//! One type of one delta stream: what the client wants, what it holds, what it is owed.
//!
//! In: subscriptions, changes, answers. Out: a verdict for each name that waits. Invariant: `held` is what the
//! client holds once it has read all that was sent, so a name in it is only sent again for a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::order;
use crate::resource::{Resource, TypeUrl};
use crate::source::{Closure, Source};
use crate::status::{Answers, Delivery, Held};

#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// The client sent a request of this type.
    pub(super) opened: bool,
    pub(super) wildcard: bool,
    /// Names the client asked for.
    pub(super) names: BTreeSet<Arc<str>>,
    /// How long these are together.
    pub(super) name_bytes: usize,
    /// Names that others bring, and how many.
    pub(super) brought: BTreeMap<Arc<str>, usize>,
    /// Names a resuming client holds without asking for them; decided when its listeners are known.
    pub(super) claimed: BTreeSet<Arc<str>>,
    pub(super) held: BTreeMap<Arc<str>, Held>,
    /// Names asked for of which the client knows that there is none.
    pub(super) absent: BTreeSet<Arc<str>>,
    /// Names to look at when the next response may go, and whether to send them even if unchanged.
    pub(super) waiting: BTreeMap<Arc<str>, bool>,
    /// A wildcard is answered even if there is nothing.
    pub(super) owes_answer: bool,
    pub(super) in_flight: Option<InFlight>,
    pub(super) answers: Answers,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) since: Instant,
    pub(super) sent: Vec<Arc<str>>,
    pub(super) removed: Vec<Arc<str>>,
}

/// What a waiting name needs.
enum Verdict {
    Nothing,
    Send(Resource),
    /// The client holds it, and it is gone or no longer brought.
    Remove,
    /// The client asked for it, and there is none.
    Absent,
}

impl Subscription {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name) || self.brought.contains_key(name)
    }

    pub(super) fn look_at(&mut self, name: &Arc<str>, resend: bool) {
        *self.waiting.entry(name.clone()).or_default() |= resend;
    }

    fn verdict(&self, ty: &TypeUrl, name: &Arc<str>, source: &dyn Source) -> Verdict {
        let held = self.held.get(name);
        if !self.wants(name) {
            return if held.is_some() && !self.claimed.contains(name) { Verdict::Remove } else { Verdict::Nothing };
        }
        let resend = self.waiting.get(name).copied().unwrap_or_default();
        match source.get(ty, name) {
            Some(resource) if resend || held.is_none_or(|held| held.version != resource.version) => {
                Verdict::Send(resource)
            }
            Some(_) => Verdict::Nothing,
            None if source.undecided(ty, name) => Verdict::Nothing,
            None if held.is_some() => Verdict::Remove,
            None if self.names.contains(name) && (resend || !self.absent.contains(name)) => Verdict::Absent,
            None => Verdict::Nothing,
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
        self.waiting.keys().any(|name| !matches!(self.verdict(ty, name, source), Verdict::Nothing))
    }

    /// Everything that may differ from what the client holds.
    pub(super) fn look_at_all(&mut self, ty: &TypeUrl, source: &dyn Source) {
        let mut names: Vec<Arc<str>> =
            self.held.keys().chain(&self.names).chain(self.brought.keys()).cloned().collect();
        if self.wildcard {
            names.extend(source.names(ty));
        }
        for name in names {
            self.look_at(&name, false);
        }
    }

    pub(super) fn subscribe(&mut self, ty: &TypeUrl, name: &str, source: &dyn Source) {
        if name == "*" {
            self.wildcard = true;
            self.owes_answer = true;
            self.look_at_all(ty, source);
            return;
        }
        let name: Arc<str> = name.into();
        if self.names.insert(name.clone()) {
            self.name_bytes += name.len();
        }
        self.claimed.remove(&name);
        self.absent.remove(&name);
        let resend = self.held.contains_key(&name);
        self.look_at(&name, resend);
    }

    /// A name that a wildcard or a closure may still want is answered: the client can't know.
    pub(super) fn unsubscribe(&mut self, ty: &TypeUrl, name: &str, closure: Closure) {
        if name == "*" {
            self.wildcard = false;
            self.owes_answer = false;
            let (names, brought) = (&self.names, &self.brought);
            self.held.retain(|name, _| names.contains(name) || brought.contains_key(name));
            return;
        }
        let Some(name) = self.names.take(name) else { return };
        self.name_bytes -= name.len();
        self.absent.remove(&name);
        if self.wildcard || (closure == Closure::On && order::is_brought(ty)) {
            if self.held.contains_key(&name) {
                self.look_at(&name, true);
            }
        } else {
            self.held.remove(&name);
            self.waiting.remove(&name);
        }
    }

    pub(super) fn bring(&mut self, name: &Arc<str>) {
        *self.brought.entry(name.clone()).or_default() += 1;
        self.claimed.remove(name);
        self.look_at(name, false);
    }

    pub(super) fn no_longer_bring(&mut self, name: &Arc<str>) {
        if let Some(count) = self.brought.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.brought.remove(name);
                self.look_at(name, false);
            }
        }
    }

    /// The first request of a type on a stream says what the client still holds.
    pub(super) fn resume(&mut self, versions: &BTreeMap<String, String>, closure: Closure) {
        if !versions.is_empty() {
            self.owes_answer = false;
        }
        for (name, version) in versions {
            let name: Arc<str> = name.as_str().into();
            if !self.wants(&name) {
                if closure == Closure::Off {
                    continue;
                }
                self.claimed.insert(name.clone());
            }
            let held = Held { version: version.as_str().into(), delivery: Delivery::Acknowledged };
            self.held.entry(name.clone()).or_insert(held);
            self.look_at(&name, false);
        }
    }

    /// What goes into the next response: resources, and names of what is gone. What may not go yet stays waiting.
    pub(super) fn take_batch(
        &mut self,
        ty: &TypeUrl,
        source: &dyn Source,
        may_send: bool,
        may_remove: bool,
        limit: usize,
    ) -> (Vec<Resource>, Vec<Arc<str>>) {
        let (mut sent, mut removed, mut size) = (Vec::new(), Vec::new(), 0);
        let waiting: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        for name in waiting {
            match self.verdict(ty, &name, source) {
                Verdict::Nothing => {}
                Verdict::Send(resource) if may_send => {
                    if size > 0 && size + resource.wire_size() > limit {
                        break;
                    }
                    size += resource.wire_size();
                    sent.push(resource);
                }
                Verdict::Send(_) => continue,
                Verdict::Remove if !may_remove => continue,
                Verdict::Remove | Verdict::Absent => {
                    size += name.len() + 4;
                    removed.push(name.clone());
                }
            }
            self.waiting.remove(&name);
            if size > limit {
                break;
            }
        }
        (sent, removed)
    }

    /// Notes what the client holds from now on; returns what it may have to wait for something after. With closure
    /// a new listener has got what it needs.
    pub(super) fn note_sent(&mut self, sent: &[Resource], removed: &[Arc<str>], closure: Closure) -> Vec<Arc<str>> {
        let mut changed = Vec::new();
        for resource in sent {
            let held = Held { version: resource.version.clone(), delivery: Delivery::Sent };
            let before = self.held.insert(resource.name.clone(), held);
            self.absent.remove(&resource.name);
            if before.map_or(closure == Closure::Off, |before| before.version != resource.version) {
                changed.push(resource.name.clone());
            }
        }
        for name in removed {
            self.held.remove(name);
            if self.names.contains(name) {
                self.absent.insert(name.clone());
            }
        }
        changed
    }

    pub(super) fn settle(&mut self, delivery: Delivery, flight: &InFlight) {
        for name in &flight.sent {
            if let Some(held) = self.held.get_mut(name).filter(|held| held.delivery == Delivery::Sent) {
                held.delivery = delivery;
            }
        }
    }
}
