//! Sessions of xDS, with a peer that says anything.
//!
//! In: a byte that says which session, then steps: an item of one byte each, some with a length and bytes. Out: how many
//! messages it has answered. Invariant: what it holds is bounded by its limits, one response of a type is under way, a
//! nonce is used once, and a client that takes everything ends with the world as it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hawser_api::proto::core::Node;
use hawser_api::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use hawser_xds::{
    Changes, ClientLimits, Closure, DeltaClient, DeltaServer, Limits, Resource, SotwServer, Source, TypeUrl,
};
use prost::Message as _;

const TYPES: [TypeUrl; 5] = [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::CLUSTER, TypeUrl::ENDPOINTS, TypeUrl::SECRET];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Narrow, so that they are met.
const LIMITS: Limits = Limits {
    types: 6,
    names_per_request: 24,
    name_length: 96,
    subscriptions: 32,
    subscribed_bytes: 256,
    node_bytes: 256,
    response_bytes: 400,
    message_bytes: 64,
};
const CLIENT: ClientLimits =
    ClientLimits { names: 16, name_length: 64, resource_bytes: 64, total_bytes: 256, undecided: 4 };

pub(crate) fn session(bytes: &[u8]) -> usize {
    let Some((kind, bytes)) = bytes.split_first() else { return 0 };
    match kind % 4 {
        0 => delta(bytes, Closure::Off),
        1 => delta(bytes, Closure::On),
        2 => sotw(bytes),
        _ => client(bytes),
    }
}

/// Steps, read from bytes.
struct Steps<'b>(&'b [u8]);

impl<'b> Steps<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn part(&mut self) -> &'b [u8] {
        let length = usize::from(self.byte().unwrap_or(0));
        let (part, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        part
    }

    fn place(&mut self) -> (TypeUrl, &'static str) {
        let byte = usize::from(self.byte().unwrap_or(0));
        (TYPES[byte % TYPES.len()].clone(), NAMES[byte / TYPES.len() % NAMES.len()])
    }
}

/// What there is; a resource's text is its version, and its letters are what it leads to.
#[derive(Default)]
struct World(BTreeMap<(TypeUrl, Arc<str>), String>);

impl Source for World {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        let text = self.0.get(&(ty.clone(), name.into()))?;
        Some(Resource {
            name: name.into(),
            version: text.as_str().into(),
            body: Bytes::copy_from_slice(text.as_bytes()),
        })
    }

    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        self.0.keys().filter(|(t, _)| t == ty).map(|(_, name)| name.clone()).collect()
    }

    fn closure(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        let Some(next) = TYPES[..4].iter().position(|t| t == ty).and_then(|at| TYPES[..4].get(at + 1)) else {
            return Vec::new();
        };
        let Some(text) = self.0.get(&(ty.clone(), name.into())) else { return Vec::new() };
        let named = NAMES.iter().filter(|name| text.contains(**name));
        let mut all: BTreeSet<(TypeUrl, Arc<str>)> = BTreeSet::new();
        for name in named {
            all.insert((next.clone(), (*name).into()));
            all.extend(self.closure(next, name));
        }
        all.into_iter().collect()
    }
}

impl World {
    /// Changes one thing; what that is.
    fn change(&mut self, steps: &mut Steps<'_>) -> Changes {
        let (ty, name) = steps.place();
        let text: String = steps.part().iter().take(40).map(|b| char::from(b'a' + b % 26)).collect();
        let key = (ty.clone(), Arc::from(name));
        if text.is_empty() {
            self.0.remove(&key).map(drop)
        } else {
            self.0.insert(key, text).map(drop)
        };
        let mut changes = Changes::default();
        changes.add(ty, name);
        changes
    }
}

/// What the client of a server knows, if it takes all that is sent.
#[derive(Default)]
struct Peer {
    nonces: BTreeSet<String>,
    /// Types whose response is not answered yet, and with what nonce.
    flying: BTreeMap<TypeUrl, String>,
    held: BTreeMap<(TypeUrl, String), String>,
    /// Something was refused, or said by other means: what it holds is not known.
    odd: bool,
}

impl Peer {
    fn hears(&mut self, ty: &TypeUrl, nonce: String) {
        assert!(self.nonces.insert(nonce.clone()), "a nonce for two responses");
        assert!(self.flying.insert(ty.clone(), nonce).is_none(), "two responses under way");
    }

    fn hears_delta(&mut self, responses: Vec<DeltaDiscoveryResponse>) {
        for response in responses {
            let ty = TypeUrl::from(response.type_url.as_str());
            let largest = response.resources.iter().map(|r| r.encoded_len()).max().unwrap_or_default();
            assert!(response.encoded_len() <= LIMITS.response_bytes + largest + 2048);
            let mut names = BTreeSet::new();
            for resource in response.resources {
                assert!(names.insert(resource.name.clone()));
                self.held.insert((ty.clone(), resource.name), resource.version);
            }
            for name in response.removed_resources {
                assert!(names.insert(name.clone()));
                self.held.remove(&(ty.clone(), name));
            }
            self.hears(&ty, response.nonce);
        }
    }
}

fn delta(bytes: &[u8], closure: Closure) -> usize {
    let (mut steps, mut world, mut peer) = (Steps(bytes), World::default(), Peer::default());
    let mut server = DeltaServer::new(LIMITS, closure);
    let (now, mut answered) = (Instant::now(), 0);
    let mut wanted: BTreeSet<(TypeUrl, String)> = BTreeSet::new();
    while let Some(step) = steps.byte() {
        let request = match step % 8 {
            0 => {
                let changes = world.change(&mut steps);
                peer.hears_delta(server.on_change(&changes, &world, now));
                continue;
            }
            1 => {
                peer.hears_delta(server.on_change(&Changes::all(), &world, now));
                continue;
            }
            2 => {
                let (ty, name) = steps.place();
                wanted.insert((ty.clone(), name.to_owned()));
                DeltaDiscoveryRequest {
                    type_url: ty.as_str().into(),
                    resource_names_subscribe: vec![name.into()],
                    ..Default::default()
                }
            }
            3 => {
                let (ty, name) = steps.place();
                wanted.remove(&(ty.clone(), name.to_owned()));
                if server.held(&ty, name).is_some() && !server.status().is_empty() {
                    // It may stay held for another reason, and then is sent again.
                    peer.held.remove(&(ty.clone(), name.to_owned()));
                }
                DeltaDiscoveryRequest {
                    type_url: ty.as_str().into(),
                    resource_names_unsubscribe: vec![name.into()],
                    ..Default::default()
                }
            }
            4..6 => match peer.flying.pop_first() {
                Some((ty, nonce)) => {
                    DeltaDiscoveryRequest { type_url: ty.as_str().into(), response_nonce: nonce, ..Default::default() }
                }
                None => continue,
            },
            _ => {
                peer.odd = true;
                match DeltaDiscoveryRequest::decode(steps.part()) {
                    Ok(request) => request,
                    Err(_) => continue,
                }
            }
        };
        let ty = TypeUrl::from(request.type_url.as_str());
        if peer.flying.get(&ty) == Some(&request.response_nonce) {
            peer.flying.remove(&ty);
        }
        answered += 1;
        match server.on_request(request, &world, now) {
            Ok(responses) => peer.hears_delta(responses),
            Err(refused) => {
                assert!(!refused.to_string().is_empty());
                return answered;
            }
        }
        let status = server.status();
        assert!(status.len() <= LIMITS.types + 4, "types, and what listeners bring");
        assert!(status.iter().all(|s| s.subscribed <= LIMITS.subscriptions));
    }
    // Everything is taken, until nothing is left to be said.
    for _ in 0..200 {
        let Some((ty, nonce)) = peer.flying.pop_first() else { break };
        let ack = DeltaDiscoveryRequest { type_url: ty.as_str().into(), response_nonce: nonce, ..Default::default() };
        peer.hears_delta(server.on_request(ack, &world, now).expect("an acknowledgement"));
    }
    assert!(peer.flying.is_empty(), "it never ends");
    if !peer.odd {
        for (ty, name) in wanted {
            let there = world.0.get(&(ty.clone(), name.as_str().into()));
            assert_eq!(peer.held.get(&(ty.clone(), name.clone())), there, "{ty:?} {name}");
        }
    }
    answered
}

fn sotw(bytes: &[u8]) -> usize {
    let (mut steps, mut world, mut peer) = (Steps(bytes), World::default(), Peer::default());
    let mut server = SotwServer::new(LIMITS);
    let (now, mut answered) = (Instant::now(), 0);
    let hears = |peer: &mut Peer, responses: Vec<DiscoveryResponse>| {
        for response in responses {
            peer.hears(&TypeUrl::from(response.type_url.as_str()), response.nonce);
        }
    };
    // What was asked for last, and which response was seen last.
    let mut asked: BTreeMap<TypeUrl, (BTreeSet<String>, String)> = BTreeMap::new();
    while let Some(step) = steps.byte() {
        let request = match step % 8 {
            0 => {
                let changes = world.change(&mut steps);
                hears(&mut peer, server.on_change(&changes, &world, now));
                continue;
            }
            1 => {
                hears(&mut peer, server.on_change(&Changes::all(), &world, now));
                continue;
            }
            2 | 3 => {
                let (ty, name) = steps.place();
                let (names, nonce) = asked.entry(ty.clone()).or_default();
                if !names.remove(name) {
                    names.insert(name.into());
                }
                DiscoveryRequest {
                    type_url: ty.as_str().into(),
                    resource_names: names.iter().cloned().collect(),
                    response_nonce: nonce.clone(),
                    ..Default::default()
                }
            }
            4..6 => match peer.flying.pop_first() {
                Some((ty, nonce)) => {
                    let (names, seen) = asked.entry(ty.clone()).or_default();
                    seen.clone_from(&nonce);
                    DiscoveryRequest {
                        type_url: ty.as_str().into(),
                        resource_names: names.iter().cloned().collect(),
                        response_nonce: nonce,
                        ..Default::default()
                    }
                }
                None => continue,
            },
            _ => match DiscoveryRequest::decode(steps.part()) {
                Ok(request) => request,
                Err(_) => continue,
            },
        };
        let ty = TypeUrl::from(request.type_url.as_str());
        if peer.flying.get(&ty) == Some(&request.response_nonce) {
            peer.flying.remove(&ty);
        }
        answered += 1;
        match server.on_request(request, &world, now) {
            Ok(responses) => hears(&mut peer, responses),
            Err(refused) => {
                assert!(!refused.to_string().is_empty());
                return answered;
            }
        }
        let status = server.status();
        assert!(status.len() <= LIMITS.types);
        assert!(status.iter().all(|s| s.subscribed <= LIMITS.subscriptions));
    }
    answered
}

fn client(bytes: &[u8]) -> usize {
    let mut steps = Steps(bytes);
    let closure = if steps.byte().unwrap_or(0) & 1 != 0 { Closure::On } else { Closure::Off };
    let mut client = DeltaClient::new(Node::default(), closure, CLIENT);
    let mut waiting: VecDeque<(TypeUrl, String)> = VecDeque::new();
    let mut answered = 0;
    while let Some(step) = steps.byte() {
        match step % 8 {
            0 => {
                let (ty, name) = steps.place();
                let name = if step & 64 != 0 { "*" } else { name };
                let _ = client.subscribe(&ty, [name]);
            }
            1 => {
                let (ty, name) = steps.place();
                client.unsubscribe(&ty, [name]);
            }
            2 => {
                for request in client.connect() {
                    assert!(!request.type_url.is_empty());
                }
                waiting.clear();
            }
            3 => {
                client.disconnect();
                waiting.clear();
            }
            4 => {
                if let Some((ty, nonce)) = waiting.pop_front() {
                    client.accept(&ty, &nonce);
                }
            }
            5 => {
                if let Some((ty, nonce)) = waiting.pop_front() {
                    client.reject(&ty, &nonce, "no");
                }
            }
            _ => {
                let Ok(mut response) = DeltaDiscoveryResponse::decode(steps.part()) else { continue };
                if let Some(ty) = TYPES.get(usize::from(step / 8)) {
                    response.type_url = ty.as_str().to_owned();
                    let any = response.resources.iter_mut().filter_map(|resource| resource.resource.as_mut());
                    any.for_each(|any| any.type_url = ty.as_str().to_owned());
                }
                match client.on_response(response) {
                    Ok(update) => {
                        assert!(update.upserts.iter().all(|r| r.body.len() <= CLIENT.resource_bytes));
                        waiting.push_back((update.ty, update.nonce));
                        answered += 1;
                    }
                    Err(unacceptable) => {
                        let told = unacceptable.nack.error_detail.expect("a reason");
                        assert!(!told.message.is_empty() && told.message.len() <= 2048);
                    }
                }
            }
        }
        assert!(waiting.len() <= CLIENT.undecided * 8);
        assert!(TYPES.iter().all(|ty| client.held(ty).count() <= CLIENT.names));
    }
    answered
}
