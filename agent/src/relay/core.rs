//! What the relay does with a message, without doing it.
//!
//! In: requests of one local client, responses of discovery, the coming and going of discovery. Out: [`Act`]s, in order.
//! Each response goes down once, under a nonce of our own, and is acknowledged upstream only after the client did;
//! resources are never opened. Without discovery a subscription is answered from the cache, or as absent, at once.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use hawser_xds::TypeUrl;

/// How long discovery may keep a subscription waiting for which the cache has an answer.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_TYPES: usize = 16;
const MOST_NAMES: usize = 65_536;
const LONGEST_NAME: usize = 1024;
/// Responses that the client has not answered.
const MOST_IN_FLIGHT: usize = 1024;

/// What is kept of earlier answers.
pub(crate) trait Kept {
    /// A resource.
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Arc<Resource>>;
    /// All of a type.
    fn all(&self, ty: &TypeUrl) -> Vec<Arc<Resource>>;
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // Made and consumed at once.
pub(crate) enum Act {
    /// Send to the client.
    Down(DeltaDiscoveryResponse),
    /// Send to discovery.
    Up(DeltaDiscoveryRequest),
    /// The client took this: keep it.
    Keep(TypeUrl, Arc<Resource>),
    /// The client took its removal.
    Forget(TypeUrl, String),
}

/// A client that does what none of ours does; its stream is ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much: {0}")]
pub(crate) struct TooMuch(&'static str);

/// The relay of one client.
#[derive(Debug)]
pub(crate) struct Core {
    node: Node,
    /// The first message of a stream carries the node.
    node_sent: bool,
    types: BTreeMap<TypeUrl, Subscription>,
    upstream: Upstream,
    nonce: u64,
    in_flight: BTreeMap<String, InFlight>,
    last_nack: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upstream {
    /// Nobody knows yet whether discovery is there.
    Unknown,
    Away,
    Open,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// What the client has, by the version it took.
    held: BTreeMap<String, String>,
    /// What it claimed to have at first and the cache lacks in that version, lost when the agent died: discovery is told
    /// no version of it, so that it is sent, and kept, once more.
    unkept: BTreeSet<String>,
    /// Asked upstream and not answered, since when.
    waiting: BTreeMap<String, Instant>,
    /// The same for the wildcard.
    wildcard_waiting: Option<Instant>,
    /// The client's first request of this type came.
    opened: bool,
    /// So did ours on the stream that is open upstream.
    opened_upstream: bool,
}

#[derive(Debug)]
struct InFlight {
    ty: TypeUrl,
    /// Of discovery, and to be kept; what the relay itself answered is kept already.
    news: bool,
    /// What discovery is told when the client answers. `None` once the stream it came on is gone.
    upstream: Option<String>,
    resources: Vec<Arc<Resource>>,
    removed: Vec<String>,
}

impl Core {
    /// The relay of a client that just connected.
    pub(crate) fn new() -> Self {
        Self {
            node: Node::default(),
            node_sent: false,
            types: BTreeMap::new(),
            upstream: Upstream::Unknown,
            nonce: 0,
            in_flight: BTreeMap::new(),
            last_nack: None,
        }
    }

    /// Who the client is, as discovery is told with the next stream.
    pub(crate) fn set_node(&mut self, node: Node) {
        self.node = node;
    }

    /// How many resources the client has.
    pub(crate) fn held(&self) -> usize {
        self.types.values().map(|subscription| subscription.held.len()).sum()
    }

    /// Everything that the client has.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = (&TypeUrl, &str)> {
        self.types.iter().flat_map(|(ty, subscription)| subscription.held.keys().map(move |name| (ty, name.as_str())))
    }

    /// What the client refused last, in words.
    pub(crate) fn last_nack(&self) -> Option<&str> {
        self.last_nack.as_deref()
    }

    /// Takes a request of the client.
    pub(crate) fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        kept: &dyn Kept,
        now: Instant,
    ) -> Result<Vec<Act>, TooMuch> {
        let ty = TypeUrl::from(request.type_url.as_str());
        if !self.types.contains_key(&ty) && self.types.len() >= MOST_TYPES {
            return Err(TooMuch("types of resources"));
        }
        let mut acts = Vec::new();
        let answered = self.take_answer(&ty, &request, &mut acts);
        let open = self.upstream == Upstream::Open;
        let subscription = self.types.entry(ty.clone()).or_default();
        if !subscription.opened {
            let kept = |name: &str, version: &str| kept.get(&ty, name).is_some_and(|it| it.version == version);
            let claimed = request.initial_resource_versions.iter().filter(|(name, version)| !kept(name, version));
            subscription.unkept = claimed.map(|(name, _)| name.clone()).collect();
        }
        let asked = subscription.take(&request, open, now)?;

        if open {
            let first = !std::mem::replace(&mut subscription.opened_upstream, true);
            let initial = if first { subscription.known() } else { BTreeMap::new() };
            let mut up = DeltaDiscoveryRequest {
                type_url: request.type_url,
                resource_names_subscribe: request.resource_names_subscribe,
                resource_names_unsubscribe: request.resource_names_unsubscribe,
                initial_resource_versions: initial,
                ..DeltaDiscoveryRequest::default()
            };
            if let Some(Answered { upstream: Some(nonce), error }) = answered {
                up.response_nonce = nonce;
                up.error_detail = error;
            }
            let says = !up.response_nonce.is_empty()
                || !up.resource_names_subscribe.is_empty()
                || !up.resource_names_unsubscribe.is_empty();
            if says || first {
                up.node = (!std::mem::replace(&mut self.node_sent, true)).then(|| self.node.clone());
                acts.push(Act::Up(up));
            }
        } else {
            let undecided = self.upstream == Upstream::Unknown;
            self.answer(&ty, asked, undecided, kept, now, &mut acts);
        }
        Ok(acts)
    }

    /// Takes a response of discovery.
    pub(crate) fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Result<Vec<Act>, TooMuch> {
        if self.in_flight.len() >= MOST_IN_FLIGHT {
            return Err(TooMuch("unanswered responses"));
        }
        let ty = TypeUrl::from(response.type_url.as_str());
        let subscription = self.types.entry(ty.clone()).or_default();
        subscription.opened_upstream = true;
        subscription.wildcard_waiting = None;
        for name in response.resources.iter().map(|resource| &resource.name).chain(&response.removed_resources) {
            subscription.waiting.remove(name);
        }
        let resources = response.resources.into_iter().map(Arc::new).collect();
        let upstream = Some(response.nonce);
        Ok(vec![self.send(ty, resources, response.removed_resources, upstream, response.system_version_info)])
    }

    /// A new stream to discovery: says everything that the client wants and has.
    pub(crate) fn on_up(&mut self, now: Instant) -> Vec<Act> {
        self.upstream = Upstream::Open;
        self.forget_upstream();
        let mut acts = Vec::new();
        for (ty, subscription) in &mut self.types {
            let mut subscribe: Vec<String> = subscription.wildcard.then(|| "*".to_owned()).into_iter().collect();
            subscribe.extend(subscription.names.iter().cloned());
            if subscribe.is_empty() && subscription.held.is_empty() {
                continue;
            }
            subscription.opened_upstream = true;
            for since in subscription.waiting.values_mut().chain(&mut subscription.wildcard_waiting) {
                *since = now;
            }
            acts.push(Act::Up(DeltaDiscoveryRequest {
                node: (!std::mem::replace(&mut self.node_sent, true)).then(|| self.node.clone()),
                type_url: ty.as_str().to_owned(),
                resource_names_subscribe: subscribe,
                initial_resource_versions: subscription.known(),
                ..DeltaDiscoveryRequest::default()
            }));
        }
        acts
    }

    /// Discovery is away: whoever waits for it is answered now.
    pub(crate) fn on_away(&mut self, kept: &dyn Kept, now: Instant) -> Vec<Act> {
        self.upstream = Upstream::Away;
        self.forget_upstream();
        let mut acts = Vec::new();
        let types: Vec<TypeUrl> = self.types.keys().cloned().collect();
        for ty in types {
            let Some(subscription) = self.types.get_mut(&ty) else { continue };
            let wildcard = subscription.wildcard_waiting.take().is_some();
            let asked = Asked { wildcard, names: std::mem::take(&mut subscription.waiting).into_keys().collect() };
            self.answer(&ty, asked, false, kept, now, &mut acts);
        }
        acts
    }

    /// Discovery is there, but silent: what the cache has is better than nothing.
    pub(crate) fn on_tick(&mut self, kept: &dyn Kept, now: Instant) -> Vec<Act> {
        let late = |since: &Instant| now.saturating_duration_since(*since) >= PATIENCE;
        let mut due = Vec::new();
        for (ty, subscription) in &mut self.types {
            let names: Vec<String> =
                subscription.waiting.extract_if(.., |_, since| late(since)).map(|(name, _)| name).collect();
            let wildcard = subscription.wildcard_waiting.take_if(|since| late(since)).is_some();
            if wildcard || !names.is_empty() {
                due.push((ty.clone(), Asked { wildcard, names }));
            }
        }
        let mut acts = Vec::new();
        for (ty, mut asked) in due {
            // Discovery will say what does not exist.
            asked.names.retain(|name| kept.get(&ty, name).is_some());
            asked.wildcard &= !kept.all(&ty).is_empty();
            self.answer(&ty, asked, false, kept, now, &mut acts);
        }
        acts
    }

    /// Whether [`Core::on_tick`] has something to wait for.
    pub(crate) fn waits(&self) -> bool {
        self.types
            .values()
            .any(|subscription| !subscription.waiting.is_empty() || subscription.wildcard_waiting.is_some())
    }

    fn take_answer(&mut self, ty: &TypeUrl, request: &DeltaDiscoveryRequest, acts: &mut Vec<Act>) -> Option<Answered> {
        if request.response_nonce.is_empty() {
            return None;
        }
        if self.in_flight.get(&request.response_nonce)?.ty != *ty {
            return None;
        }
        let in_flight = self.in_flight.remove(&request.response_nonce)?;
        if let Some(error) = &request.error_detail {
            let message: String = error.message.chars().take(1000).collect();
            self.last_nack = Some(format!("{}: {message}", ty.short()));
        } else {
            let subscription = self.types.entry(ty.clone()).or_default();
            for resource in in_flight.resources {
                subscription.unkept.remove(&resource.name);
                subscription.held.insert(resource.name.clone(), resource.version.clone());
                if in_flight.news {
                    acts.push(Act::Keep(ty.clone(), resource));
                }
            }
            for name in in_flight.removed {
                subscription.unkept.remove(&name);
                subscription.held.remove(&name);
                // Only discovery knows that something is gone; we may just not have it.
                if in_flight.news {
                    acts.push(Act::Forget(ty.clone(), name));
                }
            }
        }
        Some(Answered { upstream: in_flight.upstream, error: request.error_detail.clone() })
    }

    /// Answers from the cache. What is not there is absent, unless nobody knows yet: then it waits.
    fn answer(
        &mut self,
        ty: &TypeUrl,
        asked: Asked,
        undecided: bool,
        kept: &dyn Kept,
        now: Instant,
        acts: &mut Vec<Act>,
    ) {
        let Some(subscription) = self.types.get_mut(ty) else { return };
        let mut resources = Vec::new();
        let mut removed = Vec::new();
        if asked.wildcard {
            // What the cache lost of it is newer than what the cache has.
            let has = |resource: &Arc<Resource>| {
                let held = subscription.held.get(&resource.name);
                held == Some(&resource.version) || subscription.unkept.contains(&resource.name)
            };
            resources.extend(kept.all(ty).into_iter().filter(|resource| !has(resource)));
            if undecided && resources.is_empty() {
                subscription.wildcard_waiting = Some(now);
            }
        }
        for name in asked.names {
            match kept.get(ty, &name) {
                Some(resource) => resources.push(resource),
                None if undecided => _ = subscription.waiting.insert(name, now),
                // What the client has and the cache lost is still good.
                None if subscription.held.contains_key(&name) => {}
                None => removed.push(name),
            }
        }
        let empty_wildcard = asked.wildcard && !undecided;
        if !resources.is_empty() || !removed.is_empty() || empty_wildcard {
            acts.push(self.send(ty.clone(), resources, removed, None, String::new()));
        }
    }

    fn send(
        &mut self,
        ty: TypeUrl,
        resources: Vec<Arc<Resource>>,
        removed: Vec<String>,
        upstream: Option<String>,
        system_version_info: String,
    ) -> Act {
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let response = DeltaDiscoveryResponse {
            system_version_info,
            resources: resources.iter().map(|resource| Resource::clone(resource)).collect(),
            type_url: ty.as_str().to_owned(),
            nonce: nonce.clone(),
            removed_resources: removed.clone(),
        };
        self.in_flight.insert(nonce, InFlight { ty, news: upstream.is_some(), upstream, resources, removed });
        Act::Down(response)
    }

    /// Nonces of a stream mean nothing on the next one.
    fn forget_upstream(&mut self) {
        self.node_sent = false;
        for in_flight in self.in_flight.values_mut() {
            in_flight.upstream = None;
        }
        for subscription in self.types.values_mut() {
            subscription.opened_upstream = false;
        }
    }
}

struct Answered {
    upstream: Option<String>,
    error: Option<hawser_api::proto::google::rpc::Status>,
}

/// What a request newly asks for.
#[derive(Default)]
struct Asked {
    wildcard: bool,
    names: Vec<String>,
}

impl Subscription {
    /// What the client has, as discovery is told: what it need not send again, and what may be gone meanwhile.
    fn known(&self) -> BTreeMap<String, String> {
        let version = |name: &str, held: &str| if self.unkept.contains(name) { "" } else { held }.to_owned();
        self.held.iter().map(|(name, held)| (name.clone(), version(name, held))).collect()
    }

    fn take(&mut self, request: &DeltaDiscoveryRequest, open: bool, now: Instant) -> Result<Asked, TooMuch> {
        let first = !std::mem::replace(&mut self.opened, true);
        for name in request.resource_names_subscribe.iter().chain(request.initial_resource_versions.keys()) {
            if name.len() > LONGEST_NAME {
                return Err(TooMuch("a name's length"));
            }
        }
        if first {
            self.held.extend(request.initial_resource_versions.clone());
        }
        let mut asked = Asked::default();
        for name in &request.resource_names_subscribe {
            if name == "*" {
                self.wildcard = true;
                asked.wildcard = true;
            } else {
                self.names.insert(name.clone());
                // A version that this very request names needs no answer.
                if !(first && request.initial_resource_versions.contains_key(name)) {
                    asked.names.push(name.clone());
                }
            }
        }
        let nothing = request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty();
        let nothing = nothing && request.initial_resource_versions.is_empty() && request.response_nonce.is_empty();
        if first && nothing {
            self.wildcard = true;
            asked.wildcard = true;
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                self.wildcard = false;
                self.wildcard_waiting = None;
            }
            self.names.remove(name);
            self.waiting.remove(name);
            if !self.wildcard {
                self.held.remove(name);
                self.unkept.remove(name);
            }
        }
        if self.names.len() > MOST_NAMES || self.held.len() > MOST_NAMES {
            return Err(TooMuch("names of one type"));
        }
        if open {
            self.waiting.extend(asked.names.iter().map(|name| (name.clone(), now)));
            if asked.wildcard {
                self.wildcard_waiting = Some(now);
            }
        }
        Ok(asked)
    }
}
