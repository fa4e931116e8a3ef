//! Random histories of a client, a server and a world: whatever happened, in the end the client holds what the
//! world says, and a resume of a quiet client brings nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use hawser_api::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use proptest::prelude::*;

use super::world::{CDS, EDS, LDS, RDS, World};
use crate::{Changes, ClientLimits, Closure, DeltaClient, DeltaServer, Limits, Source, TypeUrl, Update};

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u8, Vec<usize>),
    Remove(usize, usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Wildcard(usize, bool),
    /// A message arrives at the server.
    ToServer,
    /// A message arrives at the client.
    ToClient,
    Accept,
    Reject,
    Disconnect,
    Connect,
}

const TYPES: [TypeUrl; 4] = [CDS, EDS, RDS, LDS];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..TYPES.len(), 0..NAMES.len());
    prop_oneof![
        4 => (key(), 0..3u8, prop::collection::vec(0..NAMES.len(), 0..3))
            .prop_map(|((ty, name), revision, leads)| Step::Put(ty, name, revision, leads)),
        2 => key().prop_map(|(ty, name)| Step::Remove(ty, name)),
        3 => key().prop_map(|(ty, name)| Step::Subscribe(ty, name)),
        2 => key().prop_map(|(ty, name)| Step::Unsubscribe(ty, name)),
        1 => (0..TYPES.len(), any::<bool>()).prop_map(|(ty, on)| Step::Wildcard(ty, on)),
        6 => Just(Step::ToServer),
        6 => Just(Step::ToClient),
        5 => Just(Step::Accept),
        1 => Just(Step::Reject),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Connect),
    ]
}

struct Run {
    closure: Closure,
    world: World,
    client: DeltaClient,
    server: Option<DeltaServer>,
    up: VecDeque<DeltaDiscoveryRequest>,
    down: VecDeque<DeltaDiscoveryResponse>,
    undecided: VecDeque<Update>,
    /// What a caller keeps that does what updates say.
    kept: BTreeMap<(TypeUrl, Arc<str>), String>,
    resources_sent: usize,
    now: Instant,
}

impl Run {
    fn new(closure: Closure) -> Self {
        Self {
            closure,
            world: World::default(),
            client: DeltaClient::new(Default::default(), closure, ClientLimits::default()),
            server: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            undecided: VecDeque::new(),
            kept: BTreeMap::new(),
            resources_sent: 0,
            now: Instant::now(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(ty, name, revision, leads) => {
                let leads: Vec<&str> = leads.iter().map(|lead| NAMES[*lead]).collect();
                self.world.put(TYPES[*ty].clone(), NAMES[*name], &format!("{revision};{}", leads.join(",")));
                self.changed(*ty, *name);
            }
            Step::Remove(ty, name) => {
                self.world.remove(TYPES[*ty].clone(), NAMES[*name]);
                self.changed(*ty, *name);
            }
            Step::Subscribe(ty, name) => {
                let request = self.client.subscribe(&TYPES[*ty], [NAMES[*name]]).unwrap();
                self.up.extend(request);
            }
            Step::Unsubscribe(ty, name) => self.up.extend(self.client.unsubscribe(&TYPES[*ty], [NAMES[*name]])),
            Step::Wildcard(_, _) if self.closure == Closure::On => {}
            Step::Wildcard(ty, true) => self.up.extend(self.client.subscribe(&TYPES[*ty], ["*"]).unwrap()),
            Step::Wildcard(ty, false) => self.up.extend(self.client.unsubscribe(&TYPES[*ty], ["*"])),
            Step::ToServer => {
                if let (Some(server), Some(request)) = (&mut self.server, self.up.pop_front()) {
                    let responses = server.on_request(request, &self.world, self.now).unwrap();
                    self.sent(responses);
                }
            }
            Step::ToClient => {
                if let Some(response) = self.down.pop_front() {
                    self.undecided.push_back(self.client.on_response(response).unwrap());
                }
            }
            Step::Accept => {
                if let Some(update) = self.undecided.pop_front() {
                    self.keep(&update);
                    self.up.extend(self.client.accept(&update.ty, &update.nonce));
                }
            }
            Step::Reject => {
                if let Some(update) = self.undecided.pop_front() {
                    self.up.extend(self.client.reject(&update.ty, &update.nonce, "not to my taste"));
                }
            }
            Step::Disconnect => self.disconnect(),
            Step::Connect if self.server.is_none() => self.connect(),
            Step::Connect => {}
        }
    }

    fn disconnect(&mut self) {
        self.server = None;
        self.client.disconnect();
        self.up.clear();
        self.down.clear();
        self.undecided.clear();
    }

    fn connect(&mut self) {
        self.server = Some(DeltaServer::new(Limits { response_bytes: 150, ..Limits::default() }, self.closure));
        self.up.extend(self.client.connect());
    }

    fn changed(&mut self, ty: usize, name: usize) {
        let changes = Changes::from_iter([(TYPES[ty].clone(), NAMES[name].into())]);
        if let Some(server) = &mut self.server {
            let responses = server.on_change(&changes, &self.world, self.now);
            self.sent(responses);
        }
    }

    fn sent(&mut self, responses: Vec<DeltaDiscoveryResponse>) {
        for response in responses {
            self.resources_sent += response.resources.len() + response.removed_resources.len();
            self.down.push_back(response);
        }
    }

    fn keep(&mut self, update: &Update) {
        for resource in &update.upserts {
            let content = String::from_utf8(resource.body.to_vec()).unwrap();
            self.kept.insert((update.ty.clone(), resource.name.clone()), content);
        }
        for name in &update.removed {
            self.kept.remove(&(update.ty.clone(), name.clone()));
        }
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.up.is_empty() && self.down.is_empty() && self.undecided.is_empty() {
                return;
            }
            self.step(&Step::ToServer);
            self.step(&Step::ToClient);
            self.step(&Step::Accept);
        }
        panic!("client and server never come to rest");
    }

    /// What the client should hold: what it asked for, with what that brings.
    fn expected(&self) -> BTreeMap<(TypeUrl, Arc<str>), String> {
        let mut wanted = BTreeSet::new();
        for ty in TYPES {
            let asked = self.client.subscribed(&ty).cloned();
            let all = if self.client.is_subscribed(&ty, "*") { self.world.names(&ty) } else { Vec::new() };
            for name in asked.chain(all) {
                if self.closure == Closure::On {
                    wanted.extend(self.world.closure(&ty, &name));
                }
                wanted.insert((ty.clone(), name));
            }
        }
        wanted.into_iter().filter_map(|key| Some((key.clone(), self.world.resources.get(&key)?.clone()))).collect()
    }

    fn held(&self) -> BTreeMap<(TypeUrl, Arc<str>), String> {
        let of = |ty: &TypeUrl| {
            self.client.held(ty).map(|(n, v)| ((ty.clone(), n.clone()), v.to_string())).collect::<Vec<_>>()
        };
        TYPES.iter().flat_map(of).collect()
    }
}

fn converges(closure: Closure, steps: &[Step]) {
    let mut run = Run::new(closure);
    run.connect();
    for step in steps {
        run.step(step);
    }
    // A refused version stays refused on its stream; a new one brings it again.
    if run.server.is_none() || steps.iter().any(|step| matches!(step, Step::Reject)) {
        run.disconnect();
        run.connect();
    }
    run.settle();
    assert_eq!(run.held(), run.expected());
    for (key, content) in run.held() {
        assert_eq!(run.kept.get(&key), Some(&content), "{key:?}");
    }

    run.disconnect();
    run.connect();
    run.resources_sent = 0;
    let absent: usize = TYPES
        .iter()
        .flat_map(|ty| run.client.subscribed(ty).map(move |name| (ty, name)))
        .filter(|(ty, name)| run.world.get(ty, name).is_none())
        .count();
    run.settle();
    assert_eq!(run.resources_sent, absent, "a resume brings nothing but what is asked for and absent");
    assert_eq!(run.held(), run.expected());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_comes_to_hold_what_the_world_says(steps in prop::collection::vec(step(), 0..60)) {
        converges(Closure::Off, &steps);
    }

    #[test]
    fn so_does_one_with_closure(steps in prop::collection::vec(step(), 0..60)) {
        converges(Closure::On, &steps);
    }
}
