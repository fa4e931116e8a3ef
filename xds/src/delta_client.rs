//! The client's side of a delta stream: the agent toward discovery, the proxy toward the agent.
//!
//! In: names to subscribe to, responses, the caller's verdict on each. Out: requests, updates. Invariant: what is
//! held is what the caller accepted; it survives a disconnect and is what the next stream resumes from.

mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use hawser_api::proto::google::rpc::Status as RpcStatus;

use crate::limits::{ClientLimits, Refused, length, truncated};
use crate::order;
use crate::resource::{Resource, TypeUrl, Version};
use crate::source::Closure;
use subscription::{Pending, Stored, Subscription};

/// gRPC's INVALID_ARGUMENT, which NACKs carry.
const INVALID_ARGUMENT: i32 = 3;
/// Bytes of the reason in a NACK.
const MESSAGE_BYTES: usize = 2048;

/// The subscriptions of one client, over any number of streams.
#[derive(Debug)]
pub struct DeltaClient {
    node: Node,
    closure: Closure,
    limits: ClientLimits,
    types: BTreeMap<TypeUrl, Subscription>,
    stream: Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Closed,
    /// Open; the node is not sent yet.
    Fresh,
    Open,
}

/// What a response brought. It waits for [`DeltaClient::accept`] or [`DeltaClient::reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The type of all of it.
    pub ty: TypeUrl,
    /// Names the response.
    pub nonce: String,
    /// New and changed resources; some may be the same as before.
    pub upserts: Vec<Resource>,
    /// Names of which there is no resource, or none any more.
    pub removed: Vec<Arc<str>>,
}

/// A response that can't be taken: the reason, and the NACK that says it.
#[derive(Debug)]
pub struct Unacceptable {
    /// Why.
    pub reason: Refused,
    /// To be sent.
    pub nack: DeltaDiscoveryRequest,
}

/// What a client knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is held in this version.
    Held(Version),
    /// The server has answered that there is none.
    Absent,
    /// Not answered.
    Unknown,
}

impl DeltaClient {
    /// A client that holds nothing and has no stream.
    pub fn new(node: Node, closure: Closure, limits: ClientLimits) -> Self {
        Self { node, closure, limits, types: BTreeMap::new(), stream: Stream::Closed }
    }

    /// Who the client is, as the next stream says.
    pub fn set_node(&mut self, node: Node) {
        self.node = node;
    }

    /// Takes a resource from a cache as held and accepted; to be called before [`DeltaClient::connect`].
    pub fn restore(&mut self, ty: &TypeUrl, resource: &Resource) -> Result<(), Refused> {
        let total = self.total_bytes() + resource.body.len();
        self.check_size(&resource.name, resource.body.len(), total)?;
        let limit = self.limits.names;
        let subscription = self.types.entry(ty.clone()).or_default();
        if subscription.held.len() >= limit {
            return Err(Refused::Subscriptions { ty: ty.to_string(), limit });
        }
        let stored = Stored { version: resource.version.clone(), size: resource.body.len() };
        subscription.hold(resource.name.clone(), stored);
        Ok(())
    }

    /// A stream was opened: what to send first. Closures resume before the listeners that bring them.
    pub fn connect(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.disconnect();
        self.stream = Stream::Fresh;
        let claims = self.closure == Closure::On
            && self.types.iter().any(|(ty, s)| order::is_brought(ty) && s.held.keys().any(|n| !s.asks_for(n)));
        if claims {
            self.types.entry(TypeUrl::LISTENER).or_default();
        }
        let types: Vec<TypeUrl> = self.types.keys().cloned().collect();
        let mut requests = Vec::new();
        for ty in types {
            let listeners = claims && ty == TypeUrl::LISTENER;
            let Some(subscription) = self.types.get(&ty) else { continue };
            let resumes = self.closure == Closure::On && !subscription.held.is_empty();
            if subscription.asks() || resumes || listeners {
                requests.push(self.open(&ty));
            }
        }
        requests
    }

    /// The stream is gone; responses that wait for a verdict are forgotten, the next stream brings them again.
    pub fn disconnect(&mut self) {
        self.stream = Stream::Closed;
        for subscription in self.types.values_mut() {
            subscription.opened = false;
            subscription.pending.clear();
        }
    }

    /// Asks for names, `*` for all; a name that is asked for already is asked for again, and answered again.
    /// Returns what to send, if there is a stream.
    pub fn subscribe<N: AsRef<str>>(
        &mut self,
        ty: &TypeUrl,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Option<DeltaDiscoveryRequest>, Refused> {
        let names: BTreeSet<Arc<str>> = names.into_iter().map(|name| name.as_ref().into()).collect();
        for name in &names {
            if name.is_empty() {
                return Err(Refused::Empty { what: "resource name" });
            }
            length("resource name", name, self.limits.name_length)?;
        }
        let limit = self.limits.names;
        let subscription = self.types.entry(ty.clone()).or_default();
        let new = names.iter().filter(|name| !subscription.asks_for(name)).count();
        if subscription.names.len() + new > limit {
            return Err(Refused::Subscriptions { ty: ty.to_string(), limit });
        }
        for name in &names {
            subscription.subscribe(name);
        }
        if self.stream == Stream::Closed || names.is_empty() {
            return Ok(None);
        }
        if !subscription.opened {
            return Ok(Some(self.open(ty)));
        }
        let names = names.iter().map(|name| name.to_string()).collect();
        Ok(Some(DeltaDiscoveryRequest { resource_names_subscribe: names, ..self.request(ty) }))
    }

    /// Asks for names no longer. Returns what to send, if there is a stream. What may stay wanted by a wildcard or
    /// a closure stays held until the server has said so.
    pub fn unsubscribe<N: AsRef<str>>(
        &mut self,
        ty: &TypeUrl,
        names: impl IntoIterator<Item = N>,
    ) -> Option<DeltaDiscoveryRequest> {
        let subscription = self.types.get_mut(ty)?;
        let may_be_brought = self.closure == Closure::On && order::is_brought(ty);
        let dropped: Vec<String> = names
            .into_iter()
            .filter(|name| subscription.unsubscribe(name.as_ref(), may_be_brought))
            .map(|name| name.as_ref().to_owned())
            .collect();
        if dropped.is_empty() || !subscription.opened {
            return None;
        }
        Some(DeltaDiscoveryRequest { resource_names_unsubscribe: dropped, ..self.request(ty) })
    }

    /// Takes a response. Resources that were not asked for are left out of the update.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Result<Update, Box<Unacceptable>> {
        let ty = TypeUrl::from(response.type_url.as_str());
        let nonce = response.nonce.clone();
        self.read(&ty, response).map_err(|reason| {
            let nack = self.answer(&ty, &nonce, Some(&reason.to_string()));
            Box::new(Unacceptable { reason, nack })
        })
    }

    /// The caller has taken an update: it is held from now on. Returns the ACK.
    pub fn accept(&mut self, ty: &TypeUrl, nonce: &str) -> Option<DeltaDiscoveryRequest> {
        let may_be_brought = self.closure == Closure::On && order::is_brought(ty);
        self.types.get_mut(ty)?.accept(nonce, may_be_brought)?;
        Some(self.answer(ty, nonce, None))
    }

    /// The caller refuses an update: what was held stays. Returns the NACK.
    pub fn reject(&mut self, ty: &TypeUrl, nonce: &str, message: &str) -> Option<DeltaDiscoveryRequest> {
        let pending = &mut self.types.get_mut(ty)?.pending;
        let index = pending.iter().position(|p| p.nonce == nonce)?;
        pending.remove(index);
        Some(self.answer(ty, nonce, Some(message)))
    }

    /// What is known of a name.
    pub fn known(&self, ty: &TypeUrl, name: &str) -> Known {
        let Some(subscription) = self.types.get(ty) else { return Known::Unknown };
        match subscription.held.get(name) {
            Some(stored) => Known::Held(stored.version.clone()),
            None if subscription.names.get(name) == Some(&true) => Known::Absent,
            None => Known::Unknown,
        }
    }

    /// All that is held of a type, with its versions.
    pub fn held(&self, ty: &TypeUrl) -> impl Iterator<Item = (&Arc<str>, &Version)> {
        self.types.get(ty).into_iter().flat_map(|s| s.held.iter().map(|(name, stored)| (name, &stored.version)))
    }

    /// Whether this name is asked for, by itself or by a wildcard.
    pub fn is_subscribed(&self, ty: &TypeUrl, name: &str) -> bool {
        self.types.get(ty).is_some_and(|s| s.wildcard || s.asks_for(name))
    }

    /// Names that are asked for; `*` is not among them.
    pub fn subscribed(&self, ty: &TypeUrl) -> impl Iterator<Item = &Arc<str>> {
        self.types.get(ty).into_iter().flat_map(|s| s.names.keys())
    }

    fn read(&mut self, ty: &TypeUrl, response: DeltaDiscoveryResponse) -> Result<Update, Refused> {
        length("nonce", &response.nonce, self.limits.name_length)?;
        let brought = self.closure == Closure::On && order::is_brought(ty);
        if !brought && !self.types.get(ty).is_some_and(|s| s.opened) {
            return Err(Refused::NotAskedFor { ty: ty.to_string() });
        }
        let waiting = self.types.get(ty).map_or(0, |s| s.pending.len());
        if waiting >= self.limits.undecided {
            return Err(Refused::Undecided { ty: ty.to_string(), limit: self.limits.undecided });
        }
        let mut seen = BTreeSet::new();
        let mut total = self.total_bytes();
        let mut upserts = Vec::new();
        for resource in response.resources {
            let resource = self.read_resource(ty, resource, &mut total)?;
            if !seen.insert(resource.name.clone()) {
                return Err(Refused::Twice { name: resource.name.to_string() });
            }
            if brought || self.is_subscribed(ty, &resource.name) {
                upserts.push(resource);
            }
        }
        let mut removed = Vec::new();
        for name in response.removed_resources {
            length("resource name", &name, self.limits.name_length)?;
            removed.push(Arc::from(name));
        }
        let limit = self.limits.names;
        let subscription = self.types.entry(ty.clone()).or_default();
        let new = upserts.iter().filter(|r| !subscription.held.contains_key(&r.name)).count();
        if subscription.held.len() + new > limit || removed.len() > limit {
            return Err(Refused::Subscriptions { ty: ty.to_string(), limit });
        }
        let stored = |r: &Resource| (r.name.clone(), Stored { version: r.version.clone(), size: r.body.len() });
        subscription.pending.push_back(Pending {
            nonce: response.nonce.clone(),
            bytes: upserts.iter().map(|r| r.body.len()).sum(),
            upserts: upserts.iter().map(stored).collect(),
            removed: removed.clone(),
        });
        Ok(Update { ty: ty.clone(), nonce: response.nonce, upserts, removed })
    }

    fn read_resource(
        &self,
        ty: &TypeUrl,
        resource: hawser_api::proto::discovery::Resource,
        total: &mut usize,
    ) -> Result<Resource, Refused> {
        if resource.name.is_empty() {
            return Err(Refused::Empty { what: "resource name" });
        }
        length("resource name", &resource.name, self.limits.name_length)?;
        length("version", &resource.version, self.limits.name_length)?;
        let any = resource.resource.unwrap_or_default();
        if any.type_url != ty.as_str() {
            let found = truncated(&any.type_url, self.limits.name_length);
            return Err(Refused::WrongType { name: resource.name, found, expected: ty.to_string() });
        }
        let before = self.types.get(ty).and_then(|s| s.held.get(resource.name.as_str())).map_or(0, |s| s.size);
        *total = (*total + any.value.len()).saturating_sub(before);
        self.check_size(&resource.name, any.value.len(), *total)?;
        Ok(Resource { name: resource.name.into(), version: resource.version.into(), body: Bytes::from(any.value) })
    }

    fn check_size(&self, name: &str, size: usize, total: usize) -> Result<(), Refused> {
        if size > self.limits.resource_bytes {
            return Err(Refused::ResourceSize { name: name.to_owned(), size, limit: self.limits.resource_bytes });
        }
        if total > self.limits.total_bytes {
            return Err(Refused::TotalSize { size: total, limit: self.limits.total_bytes });
        }
        Ok(())
    }

    /// Held and waiting for a verdict.
    fn total_bytes(&self) -> usize {
        self.types.values().map(Subscription::total_bytes).sum()
    }

    /// The first request of a type on this stream.
    fn open(&mut self, ty: &TypeUrl) -> DeltaDiscoveryRequest {
        let mut request = self.request(ty);
        if let Some(subscription) = self.types.get_mut(ty) {
            subscription.open(&mut request);
        }
        request
    }

    fn answer(&mut self, ty: &TypeUrl, nonce: &str, error: Option<&str>) -> DeltaDiscoveryRequest {
        let error_detail = error.map(|message| RpcStatus {
            code: INVALID_ARGUMENT,
            message: truncated(message, MESSAGE_BYTES),
            details: Vec::new(),
        });
        DeltaDiscoveryRequest { response_nonce: nonce.to_owned(), error_detail, ..self.request(ty) }
    }

    fn request(&mut self, ty: &TypeUrl) -> DeltaDiscoveryRequest {
        let node = (self.stream == Stream::Fresh).then(|| self.node.clone());
        if node.is_some() {
            self.stream = Stream::Open;
        }
        DeltaDiscoveryRequest { node, type_url: ty.as_str().to_owned(), ..Default::default() }
    }
}
