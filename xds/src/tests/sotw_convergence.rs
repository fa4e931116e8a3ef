//! Random histories of a state-of-the-world client: in the end it holds what the world says of what it asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::discovery::{DiscoveryRequest, DiscoveryResponse};
use proptest::prelude::*;

use super::world::{CDS, EDS, LDS, RDS, World};
use crate::{Changes, Limits, SotwServer, Source, TypeUrl};

const TYPES: [TypeUrl; 4] = [CDS, EDS, RDS, LDS];
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u8),
    Remove(usize, usize),
    Ask(usize, BTreeSet<usize>),
    ToServer,
    ToClient,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..TYPES.len(), 0..NAMES.len());
    prop_oneof![
        4 => (key(), 0..3u8).prop_map(|((ty, name), revision)| Step::Put(ty, name, revision)),
        2 => key().prop_map(|(ty, name)| Step::Remove(ty, name)),
        3 => (0..TYPES.len(), prop::collection::btree_set(0..NAMES.len(), 0..3)).prop_map(|(ty, n)| Step::Ask(ty, n)),
        8 => Just(Step::ToServer),
        8 => Just(Step::ToClient),
        1 => Just(Step::Reconnect),
    ]
}

/// What a client does that follows the protocol.
#[derive(Default)]
struct Client {
    names: BTreeMap<TypeUrl, Vec<String>>,
    nonces: BTreeMap<TypeUrl, String>,
    held: BTreeMap<(TypeUrl, String), String>,
}

impl Client {
    fn request(&self, ty: &TypeUrl) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: ty.as_str().to_owned(),
            resource_names: self.names.get(ty).cloned().unwrap_or_default(),
            response_nonce: self.nonces.get(ty).cloned().unwrap_or_default(),
            ..Default::default()
        }
    }

    fn ask(&mut self, ty: &TypeUrl, names: Vec<String>) -> DiscoveryRequest {
        self.held.retain(|(t, name), _| t != ty || names.contains(name));
        self.names.insert(ty.clone(), names);
        self.request(ty)
    }

    /// Contents begin with the name: `a/0`.
    fn take(&mut self, response: DiscoveryResponse) -> DiscoveryRequest {
        let ty = TypeUrl::from(response.type_url.as_str());
        let asked = self.names.get(&ty).cloned().unwrap_or_default();
        if ty == CDS || ty == LDS {
            self.held.retain(|(t, _), _| *t != ty);
        }
        for any in response.resources {
            let content = String::from_utf8(any.value).unwrap();
            let name = content.split('/').next().unwrap().to_owned();
            if asked.contains(&name) {
                self.held.insert((ty.clone(), name), content);
            }
        }
        self.nonces.insert(ty.clone(), response.nonce);
        self.request(&ty)
    }
}

struct Run {
    world: World,
    client: Client,
    server: SotwServer,
    up: VecDeque<DiscoveryRequest>,
    down: VecDeque<DiscoveryResponse>,
    now: Instant,
}

impl Run {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(ty, name, revision) => {
                self.world.put(TYPES[*ty].clone(), NAMES[*name], &format!("{}/{revision}", NAMES[*name]));
                self.changed(*ty, *name);
            }
            Step::Remove(ty, name) => {
                self.world.remove(TYPES[*ty].clone(), NAMES[*name]);
                self.changed(*ty, *name);
            }
            Step::Ask(ty, names) => {
                let names = names.iter().map(|name| NAMES[*name].to_owned()).collect::<Vec<_>>();
                // An empty first list would be a wildcard.
                if !names.is_empty() || self.client.names.contains_key(&TYPES[*ty]) {
                    self.up.push_back(self.client.ask(&TYPES[*ty], names));
                }
            }
            Step::ToServer => {
                if let Some(request) = self.up.pop_front() {
                    self.down.extend(self.server.on_request(request, &self.world, self.now).unwrap());
                }
            }
            Step::ToClient => {
                if let Some(response) = self.down.pop_front() {
                    self.up.push_back(self.client.take(response));
                }
            }
            Step::Reconnect => {
                self.server = SotwServer::new(Limits { response_bytes: 150, ..Limits::default() });
                self.up.clear();
                self.down.clear();
                self.client.nonces.clear();
                self.client.names.retain(|_, names| !names.is_empty());
                self.up.extend(self.client.names.keys().map(|ty| self.client.request(ty)));
            }
        }
    }

    fn changed(&mut self, ty: usize, name: usize) {
        let changes = Changes::from_iter([(TYPES[ty].clone(), Arc::from(NAMES[name]))]);
        self.down.extend(self.server.on_change(&changes, &self.world, self.now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_comes_to_hold_what_the_world_says(steps in prop::collection::vec(step(), 0..60)) {
        let mut run = Run {
            world: World::default(),
            client: Client::default(),
            server: SotwServer::new(Limits::default()),
            up: VecDeque::new(),
            down: VecDeque::new(),
            now: Instant::now(),
        };
        for step in &steps {
            run.step(step);
        }
        for _ in 0..1000 {
            run.step(&Step::ToServer);
            run.step(&Step::ToClient);
        }
        prop_assert!(run.up.is_empty() && run.down.is_empty(), "client and server come to rest");
        for (ty, names) in &run.client.names {
            for name in names {
                let held = run.client.held.get(&(ty.clone(), name.clone()));
                match run.world.get(ty, name) {
                    Some(there) => prop_assert_eq!(held.map(String::as_bytes), Some(&there.body[..])),
                    // Only complete types tell of removals.
                    None => prop_assert!(held.is_none() || *ty == EDS || *ty == RDS),
                }
            }
        }
    }
}
