//! The server's side of a state-of-the-world stream.
//!
//! In: requests of one client, names that changed, a [`Source`] with each call. Out: responses, in the order they
//! must be sent. Invariant: a response of listeners or clusters is complete, and what is not in it is removed;
//! responses of other types hold only what the client lacks. At most one response of a type waits for its answer.

mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::{DiscoveryRequest, DiscoveryResponse};
use prost_types::Any;

use crate::limits::{Limits, Refused};
use crate::order;
use crate::resource::{TypeUrl, Version};
use crate::source::{Changes, Closure, Source};
use crate::status::{Delivery, Held, TypeStatus};
use subscription::{InFlight, Subscription};

/// One state-of-the-world stream of one client.
#[derive(Debug)]
pub struct SotwServer {
    limits: Limits,
    node: Option<Node>,
    types: BTreeMap<TypeUrl, Subscription>,
    nonce: u64,
}

impl SotwServer {
    /// A stream that was just opened.
    pub fn new(limits: Limits) -> Self {
        Self { limits, node: None, types: BTreeMap::new(), nonce: 0 }
    }

    /// Takes a request; returns what to send now. After [`Refused`] the stream is to be ended.
    pub fn on_request(
        &mut self,
        request: DiscoveryRequest,
        source: &dyn Source,
        now: Instant,
    ) -> Result<Vec<DiscoveryResponse>, Refused> {
        self.limits.check_sotw(&request)?;
        let ty = TypeUrl::from(request.type_url.as_str());
        if !self.types.contains_key(&ty) && self.types.len() >= self.limits.types {
            return Err(Refused::Types { limit: self.limits.types });
        }
        if self.node.is_none() {
            self.node.clone_from(&request.node);
        }
        let subscription = self.types.entry(ty.clone()).or_default();
        let first = !std::mem::replace(&mut subscription.opened, true);
        let current = request.response_nonce == subscription.nonce;
        let answer = if current { subscription.in_flight.take() } else { None };
        if answer.is_some() {
            let delivery = subscription.answers.note(request.error_detail.as_ref(), &self.limits, now);
            subscription.settle(delivery);
        }
        // A stale nonce acknowledges nothing, but its names are what the client wants: it may have given one up and
        // asked for it again since the response that it has not seen.
        let changed = subscription.ask(&ty, &request.resource_names, source);
        // The same question with a nonce that was answered before: the client waits, as Envoy does for the
        // endpoints of a cluster that it warms again.
        if !first && current && answer.is_none() && !changed && request.error_detail.is_none() {
            subscription.ask_again(&ty);
        }
        let bytes = subscription.names.iter().map(|name| name.len()).sum();
        self.limits.check_subscribed(&ty, subscription.names.len(), bytes)?;
        Ok(self.flush(source, now))
    }

    /// Takes names that may have changed; returns what to send now.
    pub fn on_change(&mut self, changes: &Changes, source: &dyn Source, now: Instant) -> Vec<DiscoveryResponse> {
        if changes.all {
            for (ty, subscription) in &mut self.types {
                subscription.look_at_all(ty, source);
            }
        }
        for (ty, names) in &changes.named {
            let Some(subscription) = self.types.get_mut(ty) else { continue };
            for (name, resend) in names {
                let held = subscription.held.contains_key(name);
                if held || subscription.wants(name) {
                    subscription.look_at(name, *resend && held);
                }
            }
        }
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
    pub fn held(&self, ty: &TypeUrl, name: &str) -> Option<Held> {
        let item = self.types.get(ty)?.held.get(name)?;
        Some(Held { version: item.version.clone(), delivery: item.delivery })
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

    /// Names the client holds, by type.
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

    fn flush(&mut self, source: &dyn Source, now: Instant) -> Vec<DiscoveryResponse> {
        let order = order::sending(Closure::Off, self.types.keys());
        let forth = order.iter().chain(order.iter().rev());
        forth.filter_map(|ty| self.send(ty, source, now)).collect()
    }

    /// The next response of a type, if one may go.
    fn send(&mut self, ty: &TypeUrl, source: &dyn Source, now: Instant) -> Option<DiscoveryResponse> {
        let subscription = self.types.get(ty)?;
        if subscription.in_flight.is_some() || (subscription.waiting.is_empty() && !subscription.owes_answer) {
            return None;
        }
        let any = |types: &[TypeUrl], has: fn(&Subscription, &TypeUrl, &dyn Source) -> bool| {
            types.iter().any(|ty| self.types.get(ty).is_some_and(|s| has(s, ty, source)))
        };
        if any(order::needs(ty, Closure::Off), Subscription::lacks) {
            return None;
        }
        let may_remove = !any(order::needed_by(ty), Subscription::has_work);

        let subscription = self.types.get_mut(ty)?;
        let batch = if subscription::is_complete(ty) {
            subscription.take_complete(ty, source, may_remove)?
        } else {
            subscription.take_partial(ty, source, self.limits.response_bytes)?
        };
        self.nonce += 1;
        subscription.nonce = self.nonce.to_string();
        subscription.in_flight = Some(InFlight { since: now, sent: batch.changed.clone(), removed: batch.removed });
        let response = DiscoveryResponse {
            version_info: subscription.version_info(),
            resources: batch.bodies.into_iter().map(|body| any_of(ty, body.into())).collect(),
            type_url: ty.as_str().to_owned(),
            nonce: subscription.nonce.clone(),
        };
        let changed: BTreeSet<Arc<str>> = batch.changed.into_iter().collect();
        for name in changed {
            self.follow(ty, &name, source);
        }
        Some(response)
    }

    /// A client that got a changed cluster waits for its endpoints, and with a listener for its routes.
    fn follow(&mut self, ty: &TypeUrl, name: &str, source: &dyn Source) {
        for (ty, name) in source.follow(ty, name) {
            if let Some(subscription) = self.types.get_mut(&ty).filter(|s| s.held.contains_key(&name)) {
                subscription.look_at(&name, true);
            }
        }
    }
}

fn any_of(ty: &TypeUrl, value: Vec<u8>) -> Any {
    Any { type_url: ty.as_str().to_owned(), value }
}
