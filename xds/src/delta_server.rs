//! The server's side of a delta stream.
//!
//! In: requests of one client, names that changed, a [`Source`] with each call. Out: responses, in the order they
//! must be sent. Invariant: at most one response of a type waits for its answer; what changes meanwhile is sent
//! together, in its last state, when the answer has come.

mod subscription;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource};
use prost_types::Any;

use crate::limits::{Limits, Refused};
use crate::order;
use crate::resource::{Resource, TypeUrl, Version};
use crate::source::{Changes, Closure, Source};
use crate::status::{Delivery, Held, TypeStatus};
use subscription::{InFlight, Subscription};

type Key = (TypeUrl, Arc<str>);

/// One delta stream of one client.
#[derive(Debug)]
pub struct DeltaServer {
    limits: Limits,
    closure: Closure,
    node: Option<Node>,
    types: BTreeMap<TypeUrl, Subscription>,
    /// What each subscribed name brings, with closure.
    roots: BTreeMap<Key, Vec<Key>>,
    /// The client's listeners are known, so claims can be decided.
    listeners_known: bool,
    nonce: u64,
}

impl DeltaServer {
    /// A stream that was just opened.
    pub fn new(limits: Limits, closure: Closure) -> Self {
        Self {
            limits,
            closure,
            node: None,
            types: BTreeMap::new(),
            roots: BTreeMap::new(),
            listeners_known: false,
            nonce: 0,
        }
    }

    /// Takes a request; returns what to send now. After [`Refused`] the stream is to be ended.
    pub fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        source: &dyn Source,
        now: Instant,
    ) -> Result<Vec<DeltaDiscoveryResponse>, Refused> {
        self.limits.check_delta(&request)?;
        let ty = TypeUrl::from(request.type_url.as_str());
        if !self.types.contains_key(&ty) && self.types.len() >= self.limits.types {
            return Err(Refused::Types { limit: self.limits.types });
        }
        if self.node.is_none() {
            self.node.clone_from(&request.node);
        }
        let subscription = self.types.entry(ty.clone()).or_default();
        take_answer(subscription, &request, &self.limits, now);
        let first = !std::mem::replace(&mut subscription.opened, true);

        for name in &request.resource_names_subscribe {
            subscription.subscribe(&ty, name, source);
        }
        let nothing_named =
            request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty();
        if first && nothing_named && self.closure == Closure::Off && order::empty_is_wildcard(&ty) {
            subscription.subscribe(&ty, "*", source);
        }
        for name in &request.resource_names_unsubscribe {
            subscription.unsubscribe(&ty, name, self.closure);
        }
        if first {
            subscription.resume(&request.initial_resource_versions, self.closure);
        }
        self.limits.check_subscribed(&ty, subscription.names.len(), subscription.name_bytes)?;
        if self.closure == Closure::On {
            self.follow_roots(&ty, &request, source);
            if ty == TypeUrl::LISTENER || self.listeners_known {
                self.decide_claims();
            }
        }
        Ok(self.flush(source, now))
    }

    /// Takes names that may have changed; returns what to send now.
    pub fn on_change(&mut self, changes: &Changes, source: &dyn Source, now: Instant) -> Vec<DeltaDiscoveryResponse> {
        if changes.all {
            for (ty, subscription) in &mut self.types {
                subscription.look_at_all(ty, source);
            }
        }
        let mut touched = false;
        for (ty, names) in &changes.named {
            let Some(subscription) = self.types.get_mut(ty) else { continue };
            for (name, resend) in names {
                let held = subscription.held.contains_key(name);
                if held || subscription.wants(name) {
                    subscription.look_at(name, *resend && held);
                    touched = true;
                }
            }
        }
        if !touched && !changes.all {
            return Vec::new();
        }
        self.follow_changes(changes, source);
        self.flush(source, now)
    }

    /// The client, as its first request named it.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Whether a change of this resource concerns the client.
    pub fn holds(&self, ty: &TypeUrl, name: &str) -> bool {
        self.types.get(ty).is_some_and(|s| s.wants(name) || s.held.contains_key(name))
    }

    /// What was last sent of a resource, and what became of it.
    pub fn held(&self, ty: &TypeUrl, name: &str) -> Option<&Held> {
        self.types.get(ty)?.held.get(name)
    }

    /// Whether the client has taken this version, or holds no version at all.
    pub fn acknowledged(&self, ty: &TypeUrl, name: &str, version: &Version) -> bool {
        match self.held(ty, name) {
            Some(held) => held.version == *version && held.delivery == Delivery::Acknowledged,
            None => self.settled(ty, name),
        }
    }

    /// Whether nothing of this name waits to be sent or answered.
    pub fn settled(&self, ty: &TypeUrl, name: &str) -> bool {
        self.types.get(ty).is_none_or(|s| {
            let flying = s.in_flight.as_ref().is_some_and(|f| f.sent.iter().chain(&f.removed).any(|n| **n == *name));
            !flying && !s.waiting.contains_key(name)
        })
    }

    /// Names the client asked for, by type; `*` for a wildcard is not among them.
    pub fn subscribed(&self, ty: &TypeUrl) -> impl Iterator<Item = &Arc<str>> {
        self.types.get(ty).into_iter().flat_map(|s| &s.names)
    }

    /// Names the client holds, by type, however they came to it.
    pub fn holding(&self, ty: &TypeUrl) -> impl Iterator<Item = &Arc<str>> {
        self.types.get(ty).into_iter().flat_map(|s| s.held.keys())
    }

    /// Every type of the stream.
    pub fn status(&self) -> Vec<TypeStatus> {
        let rejected = |s: &Subscription| s.held.values().filter(|h| h.delivery == Delivery::Rejected).count();
        let types = self.types.iter().map(|(ty, s)| TypeStatus {
            ty: ty.clone(),
            wildcard: s.wildcard,
            subscribed: s.names.len(),
            held: s.held.len(),
            rejected: rejected(s),
            in_flight_since: s.in_flight.as_ref().map(|flight| flight.since),
            waiting: s.waiting.len(),
            last_ack: s.answers.ack,
            last_nack: s.answers.nack.clone(),
        });
        types.collect()
    }

    /// Brings closures in line with names that a request added and dropped.
    fn follow_roots(&mut self, ty: &TypeUrl, request: &DeltaDiscoveryRequest, source: &dyn Source) {
        let names = request.resource_names_subscribe.iter().chain(&request.resource_names_unsubscribe);
        for name in names.map(|name| Arc::<str>::from(name.as_str())) {
            self.bring(&(ty.clone(), name), source);
        }
    }

    /// Brings closures in line with resources that changed: a route may lead to a cluster it did not lead to before.
    fn follow_changes(&mut self, changes: &Changes, source: &dyn Source) {
        let affected = |root: &Key, brought: &Vec<Key>| {
            changes.all
                || changes.named.iter().filter(|(ty, _)| **ty != TypeUrl::ENDPOINTS).any(|(ty, names)| {
                    (root.0 == *ty && names.contains_key(&root.1))
                        || brought.iter().any(|(t, name)| t == ty && names.contains_key(name))
                })
        };
        let roots: Vec<Key> = self.roots.iter().filter(|(r, b)| affected(r, b)).map(|(r, _)| r.clone()).collect();
        for root in roots {
            self.bring(&root, source);
        }
    }

    fn bring(&mut self, root: &Key, source: &dyn Source) {
        let wanted = self.types.get(&root.0).is_some_and(|s| s.names.contains(&root.1));
        let new = if wanted { source.closure(&root.0, &root.1) } else { Vec::new() };
        let old = self.roots.remove(root).unwrap_or_default();
        for (ty, name) in &new {
            self.types.entry(ty.clone()).or_default().bring(name);
        }
        for (ty, name) in &old {
            if let Some(subscription) = self.types.get_mut(ty) {
                subscription.no_longer_bring(name);
            }
        }
        if wanted {
            self.roots.insert(root.clone(), new);
        }
    }

    /// A resuming client holds things that nothing brings any more: they are taken away.
    fn decide_claims(&mut self) {
        self.listeners_known = true;
        for subscription in self.types.values_mut() {
            for name in std::mem::take(&mut subscription.claimed) {
                subscription.look_at(&name, false);
            }
        }
    }

    fn flush(&mut self, source: &dyn Source, now: Instant) -> Vec<DeltaDiscoveryResponse> {
        let order = order::sending(self.closure, self.types.keys());
        // Forward what is new; back what had to wait for it: removals, and what follows a change.
        let forth = order.iter().chain(order.iter().rev());
        forth.filter_map(|ty| self.send(ty, source, now)).collect()
    }

    /// The next response of a type, if one may go.
    fn send(&mut self, ty: &TypeUrl, source: &dyn Source, now: Instant) -> Option<DeltaDiscoveryResponse> {
        let subscription = self.types.get(ty)?;
        if subscription.in_flight.is_some() || (subscription.waiting.is_empty() && !subscription.owes_answer) {
            return None;
        }
        let any = |types: &[TypeUrl], has: fn(&Subscription, &TypeUrl, &dyn Source) -> bool| {
            types.iter().any(|ty| self.types.get(ty).is_some_and(|s| has(s, ty, source)))
        };
        let may_send = !any(order::needs(ty, self.closure), Subscription::lacks);
        let may_remove = !any(order::needed_by(ty), Subscription::has_work);

        let subscription = self.types.get_mut(ty)?;
        let (sent, removed) = subscription.take_batch(ty, source, may_send, may_remove, self.limits.response_bytes);
        let answers = subscription.owes_answer && subscription.waiting.is_empty() && !source.undecided(ty, "*");
        if sent.is_empty() && removed.is_empty() && !answers {
            return None;
        }
        subscription.owes_answer &= !answers && sent.is_empty();
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let changed = subscription.note_sent(&sent, &removed, self.closure);
        subscription.in_flight = Some(InFlight {
            nonce: nonce.clone(),
            since: now,
            sent: sent.iter().map(|resource| resource.name.clone()).collect(),
            removed: removed.clone(),
        });
        for name in changed {
            self.follow(ty, &name, source);
        }
        Some(DeltaDiscoveryResponse {
            system_version_info: String::new(),
            resources: sent.into_iter().map(|resource| wire(ty, resource)).collect(),
            type_url: ty.as_str().to_owned(),
            nonce,
            removed_resources: removed.iter().map(|name| name.to_string()).collect(),
        })
    }

    /// A client that got a changed cluster waits for its endpoints, and with a listener for its routes.
    fn follow(&mut self, ty: &TypeUrl, name: &str, source: &dyn Source) {
        for (ty, name) in source.follow(ty, name) {
            let Some(subscription) = self.types.get_mut(&ty) else { continue };
            let just_sent = self.closure == Closure::On
                && subscription.in_flight.as_ref().is_some_and(|flight| flight.sent.contains(&name));
            if subscription.held.contains_key(&name) && !just_sent {
                subscription.look_at(&name, true);
            }
        }
    }
}

/// An ACK or NACK; a nonce that is not the last one's changes nothing.
fn take_answer(subscription: &mut Subscription, request: &DeltaDiscoveryRequest, limits: &Limits, now: Instant) {
    let answered = subscription.in_flight.take_if(|flight| flight.nonce == request.response_nonce);
    if let Some(flight) = answered {
        let delivery = subscription.answers.note(request.error_detail.as_ref(), limits, now);
        subscription.settle(delivery, &flight);
    }
}

fn wire(ty: &TypeUrl, resource: Resource) -> WireResource {
    WireResource {
        version: resource.version.as_str().to_owned(),
        resource: Some(Any { type_url: ty.as_str().to_owned(), value: resource.body.into() }),
        name: resource.name.to_string(),
    }
}
