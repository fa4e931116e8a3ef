//! What of the mesh is written into its cluster: joined hosts as WorkloadEntry objects and as endpoints of services, and
//! what became of the cluster's own resources.
//!
//! In: hosts and outcomes from discovery; what watches say of services and of what is written already. Out: writes, one
//! at a time an object: `hosts -> entries, slices, conditions, events -> queue -> send`. Invariants: nothing is written or
//! taken back before the hosts, and the kind that is written, were heard whole; only what bears our mark is changed or
//! deleted; a server that is slow, busy or refuses holds up nothing else.

mod conditions;
mod entries;
mod events;
mod hosts;
mod jobs;
mod queue;
mod seen;
mod send;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::istio::{Kind, ObjectRef};
use hawser_mesh::WorkloadKey;
use hawser_registry_source::Fingerprint;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::hosts::Joined;
use self::hosts::{Hosts, takes};
use self::queue::{Next, Queue};
use self::seen::{Seen, SeenSlice};
use self::send::Answer;
use self::slices::{Before, Target, With};
use crate::access::Access;
use crate::configs::{Part, Refusal};
use crate::name::Name;
use crate::settings::Writes;
use crate::watch::{Change, Failure};
use crate::wire::{Config, Item as _, Named, Service, Slice};
use crate::world::World;

/// Annotation of the mesh whose word an object is.
const MESH: &str = "hawser.io/mesh";
/// Annotation of the host that an entry is.
const INSTANCE: &str = "hawser.io/instance";
/// Changes within this time are written together.
const TOGETHER: Duration = Duration::from_millis(50);
/// What is no longer wanted goes after what is wanted came.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// Looked at in one go.
const BATCH: usize = 1024;

/// What became of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it counts.
    Honoured,
    /// Some of it does not.
    Partly,
    /// It can't be used.
    Rejected,
    /// Another source has one of that name.
    Shadowed,
}

/// What became of a resource, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What.
    pub verdict: Verdict,
    /// Which version of it; 0 if that is not known.
    pub generation: u64,
    /// Why.
    pub message: String,
}

/// Of all resources of a cluster.
pub type Outcomes = BTreeMap<ObjectRef, Outcome>;

/// What discovery tells of the mesh; nothing as long as it does not know all of it.
#[derive(Clone, Debug)]
pub struct Exports {
    /// Workloads of joined hosts.
    pub hosts: watch::Receiver<Option<Arc<Joined>>>,
    /// What became of the cluster's resources.
    pub outcomes: watch::Receiver<Option<Arc<Outcomes>>>,
    /// It is the first cluster: it is written to unless that is said otherwise.
    pub first: bool,
}

/// Something that may have to be written; the most urgent first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Slice(Name),
    Entry(Name),
    Health(Name),
    Status(Part),
    Event(Part),
}

impl queue::Key for Key {
    fn lane(&self) -> usize {
        match self {
            Self::Slice(_) => 0,
            Self::Entry(_) => 1,
            Self::Health(_) => 2,
            Self::Status(_) => 3,
            Self::Event(_) => 4,
        }
    }
}

/// A slice that is wanted.
#[derive(Debug)]
struct Wanted {
    object: Value,
    print: Fingerprint,
    service: Name,
}

/// Where writing stands.
#[derive(Debug)]
pub(crate) struct Out {
    writes: Writes,
    /// The mesh's name: its trust domain.
    mesh: String,
    exports: Exports,
    access: Arc<Access>,
    hosts: Hosts,
    hosts_heard: bool,
    outcomes: Option<Arc<Outcomes>>,
    refusals: HashMap<Part, Refusal>,
    targets: BTreeMap<Name, Target>,
    /// Objects of Istio's kinds, whoever wrote them.
    objects: HashMap<Part, Seen>,
    /// Entries that bear our mark and are others', by uid.
    theirs: HashSet<String>,
    /// Slices of ours.
    slices: HashMap<Name, SeenSlice>,
    wanted: BTreeMap<Name, Wanted>,
    /// Services whose slices are to be made anew.
    dirty: BTreeSet<Name>,
    /// Slices and entries may be written.
    open: (bool, bool),
    /// What the server made of what we wrote.
    settled: HashMap<Key, (Fingerprint, Fingerprint)>,
    /// Events that were said.
    said: HashMap<Part, u64>,
    /// Which version of WorkloadEntry the server has.
    version: usize,
    queue: Queue<Key>,
    flying: JoinSet<Done>,
    wake: Option<Instant>,
    /// What is wrong with writing, or no longer is.
    reports: BTreeMap<String, Option<String>>,
    /// Hosts of namespaces that are not written to.
    skipped: BTreeMap<Arc<str>, (&'static str, usize)>,
}

/// A write that ended.
#[derive(Debug)]
struct Done {
    key: Key,
    /// The version of the object that it was sent upon.
    upon: Option<String>,
    /// Fingerprint of what was sent.
    print: Option<Fingerprint>,
    result: Result<Answer, Failure>,
}

/// Something happened.
#[derive(Debug)]
pub(crate) struct Step(What);

#[derive(Debug)]
enum What {
    Hosts,
    Outcomes,
    Done(Box<Done>),
    Due,
}

impl Out {
    pub(crate) fn new(writes: Writes, mesh: String, access: Arc<Access>, exports: Exports) -> Self {
        let mut exports = exports;
        // What is there already is looked at first.
        exports.hosts.mark_changed();
        exports.outcomes.mark_changed();
        Self {
            writes,
            mesh,
            exports,
            access,
            hosts: Hosts::default(),
            hosts_heard: false,
            outcomes: None,
            refusals: HashMap::new(),
            targets: BTreeMap::new(),
            objects: HashMap::new(),
            theirs: HashSet::new(),
            slices: HashMap::new(),
            wanted: BTreeMap::new(),
            dirty: BTreeSet::new(),
            open: (false, false),
            settled: HashMap::new(),
            said: HashMap::new(),
            version: 0,
            queue: Queue::default(),
            flying: JoinSet::new(),
            wake: None,
            reports: BTreeMap::new(),
            skipped: BTreeMap::new(),
        }
    }

    /// Whether WorkloadEntries have to be seen, though they may be no configuration.
    pub(crate) fn entries(&self) -> bool {
        self.writes.entries
    }

    /// Waits for something to happen; may be dropped at any moment.
    pub(crate) async fn next(&mut self) -> Step {
        let wake = self.wake;
        let due = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        Step(tokio::select! {
            Ok(()) = self.exports.hosts.changed() => What::Hosts,
            Ok(()) = self.exports.outcomes.changed() => What::Outcomes,
            Some(Ok(done)) = self.flying.join_next() => What::Done(Box::new(done)),
            () = due => What::Due,
        })
    }

    /// Takes in what happened.
    pub(crate) fn step(&mut self, step: Step) {
        match step.0 {
            What::Hosts => self.take_hosts(),
            What::Outcomes => self.take_outcomes(),
            What::Done(done) => self.done(*done),
            What::Due => self.wake = None,
        }
    }

    fn take_hosts(&mut self) {
        let Some(joined) = self.exports.hosts.borrow_and_update().clone() else { return };
        self.hosts_heard = true;
        let changed = self.hosts.set(&joined);
        let due = Instant::now() + TOGETHER;
        // Where much changes, to look at every service once is less than to look for those of each host.
        let many = changed.len() > 64;
        for host in changed {
            let name = name_of(&host.key);
            if !many {
                let within = self.targets.iter().filter(|(of, _)| of.namespace == name.namespace);
                let of = within.filter(|(_, target)| host.labels.iter().any(|l| takes(&target.selector, l)));
                self.dirty.extend(of.map(|(name, _)| name.clone()));
            }
            self.queue.want(Key::Entry(name.clone()), due);
            self.queue.want(Key::Health(name), due);
        }
        if many {
            self.dirty.extend(self.targets.keys().cloned());
        }
    }

    fn take_outcomes(&mut self) {
        let Some(outcomes) = self.exports.outcomes.borrow_and_update().clone() else { return };
        let old = self.outcomes.replace(outcomes.clone());
        let changed = |object: &&ObjectRef| old.as_ref().is_none_or(|old| old.get(*object) != outcomes.get(*object));
        let of = |object: &ObjectRef| Part(object.kind, Name::new(&object.namespace, &object.name));
        let changed: Vec<Part> = outcomes.keys().filter(changed).map(of).collect();
        changed.into_iter().for_each(|part| self.look_at(part));
    }

    /// What became of an object may have to be said.
    fn look_at(&mut self, part: Part) {
        let now = Instant::now();
        if self.writes.status {
            self.queue.want(Key::Status(part.clone()), now + TOGETHER);
        }
        if self.writes.events {
            self.queue.want(Key::Event(part), now + TOGETHER);
        }
    }

    /// An object can't be used, or can again.
    pub(crate) fn refusal(&mut self, part: &Part, refusal: Option<&Refusal>) {
        match refusal {
            Some(refusal) => drop(self.refusals.insert(part.clone(), refusal.clone())),
            None => drop(self.refusals.remove(part)),
        }
        self.look_at(part.clone());
    }

    /// What became of namespaces: where may be written.
    pub(crate) fn namespaces(&mut self, change: &Change<Named>) {
        let only = match change {
            Change::Whole(_) => None,
            Change::Set(namespace) => Some(namespace.name().name),
            Change::Gone(name) => Some(name.name.clone()),
        };
        let within = |namespace: &Arc<str>| only.as_ref().is_none_or(|only| only == namespace);
        self.dirty.extend(self.targets.keys().filter(|name| within(&name.namespace)).cloned());
        let due = Instant::now() + TOGETHER;
        for (key, _) in self.hosts.iter().filter(|(key, _)| within(&key.namespace)) {
            self.queue.want(Key::Entry(name_of(key)), due);
        }
        let parts: Vec<Part> = self.objects.keys().filter(|part| within(&part.1.namespace)).cloned().collect();
        parts.into_iter().for_each(|part| self.look_at(part));
    }

    /// What became of services.
    pub(crate) fn services(&mut self, change: &Change<Service>) {
        match change {
            Change::Whole(all) => {
                let listed: BTreeSet<Name> = all.iter().map(crate::wire::Item::name).collect();
                let gone: Vec<Name> = self.targets.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                gone.into_iter().for_each(|name| self.set_target(name, None));
                all.iter().for_each(|service| self.set_target(service.name(), Target::of(service)));
            }
            Change::Set(service) => self.set_target(service.name(), Target::of(service)),
            Change::Gone(name) => self.set_target(name.clone(), None),
        }
    }

    fn set_target(&mut self, name: Name, target: Option<Target>) {
        if self.targets.get(&name) == target.as_ref() {
            return;
        }
        match target {
            Some(target) => drop(self.targets.insert(name.clone(), target)),
            None => drop(self.targets.remove(&name)),
        }
        self.dirty.insert(name);
    }

    /// What became of slices. Those of others are of no interest.
    pub(crate) fn slices(&mut self, change: &Change<Slice>) {
        match change {
            Change::Whole(all) => {
                let listed: BTreeSet<Name> = all.iter().filter(|slice| slice.is_ours()).map(|s| s.name()).collect();
                let gone: Vec<Name> = self.slices.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                gone.into_iter().for_each(|name| self.slice_gone(name));
                all.iter().for_each(|slice| self.set_slice(slice));
            }
            Change::Set(slice) => self.set_slice(slice),
            Change::Gone(name) => self.slice_gone(name.clone()),
        }
    }

    fn set_slice(&mut self, slice: &Slice) {
        let name = slice.name();
        match SeenSlice::of(slice, &self.mesh) {
            Some(seen) => {
                self.slices.insert(name.clone(), seen);
                self.queue.want(Key::Slice(name), Instant::now() + TOGETHER);
            }
            None => self.slice_gone(name),
        }
    }

    fn slice_gone(&mut self, name: Name) {
        if self.slices.remove(&name).is_some() {
            self.queue.want(Key::Slice(name), Instant::now() + TOGETHER);
        }
    }

    /// What became of resources.
    pub(crate) fn configs(&mut self, kind: Kind, change: &Change<Config>) {
        match change {
            Change::Whole(all) => {
                let listed: BTreeSet<Name> = all.iter().map(crate::wire::Item::name).collect();
                let lost = self.objects.keys().filter(|part| part.0 == kind && !listed.contains(&part.1));
                let lost: Vec<Part> = lost.cloned().collect();
                lost.into_iter().for_each(|part| self.config_gone(part));
                all.iter().for_each(|config| self.set_config(kind, config));
            }
            Change::Set(config) => self.set_config(kind, config),
            Change::Gone(name) => self.config_gone(Part(kind, name.clone())),
        }
    }

    fn set_config(&mut self, kind: Kind, config: &Config) {
        let (part, mut seen) = (Part(kind, config.name()), Seen::of(config, &self.mesh));
        seen.ours &= !self.theirs.contains(&seen.uid);
        let ours = seen.ours;
        self.objects.insert(part.clone(), seen);
        if kind == Kind::WorkloadEntry {
            let due = Instant::now() + TOGETHER;
            self.queue.want(Key::Entry(part.1.clone()), due);
            self.queue.want(Key::Health(part.1.clone()), due);
        }
        if !ours {
            self.look_at(part);
        }
    }

    fn config_gone(&mut self, part: Part) {
        if let Some(seen) = self.objects.remove(&part) {
            self.theirs.remove(&seen.uid);
        }
        self.refusals.remove(&part);
        self.said.remove(&part);
        self.queue.drop(&Key::Status(part.clone()));
        self.queue.drop(&Key::Event(part.clone()));
        if part.0 == Kind::WorkloadEntry {
            self.queue.want(Key::Entry(part.1), Instant::now() + TOGETHER);
        }
    }

    /// Sends what may be sent. `entries`: all WorkloadEntries were heard.
    pub(crate) fn go(&mut self, world: &World, entries: bool) {
        let whole = world.is_whole() && self.hosts_heard;
        self.open_up((whole, whole && entries));
        if !whole {
            return;
        }
        self.make_slices(world);
        let now = Instant::now();
        self.wake = Some(now);
        for _ in 0..BATCH {
            match self.queue.next(now) {
                Next::Now(key) => match self.job(&key, world) {
                    Some((job, upon, print)) => {
                        let access = self.access.clone();
                        self.flying.spawn(async move { Done { key, upon, print, result: job.send(&access).await } });
                    }
                    None => self.queue.idle(&key),
                },
                Next::At(at) => {
                    self.wake = Some(at);
                    break;
                }
                Next::Idle => {
                    self.wake = None;
                    break;
                }
            }
        }
        self.tell_skipped();
        self.tell_refused(now);
    }

    /// What is known for the first time is looked at whole.
    fn open_up(&mut self, open: (bool, bool)) {
        let was = std::mem::replace(&mut self.open, open);
        let now = Instant::now();
        if open.0 && !was.0 {
            self.dirty.extend(self.targets.keys().cloned());
            self.dirty.extend(self.slices.iter().map(|(name, slice)| slice.service(name)));
            let later = now + AFTERWARDS;
            self.slices.keys().for_each(|name| self.queue.want(Key::Slice(name.clone()), later));
            let parts: Vec<Part> = self.objects.iter().filter(|(_, s)| !s.ours).map(|(part, _)| part.clone()).collect();
            parts.into_iter().for_each(|part| self.look_at(part));
        }
        if open.1 && !was.1 {
            let hosts = self.hosts.iter().map(|(key, _)| name_of(key));
            let seen = self.objects.keys().filter(|part| part.0 == Kind::WorkloadEntry).map(|part| part.1.clone());
            for name in hosts.chain(seen).collect::<BTreeSet<_>>() {
                self.queue.want(Key::Entry(name.clone()), now);
                self.queue.want(Key::Health(name), now);
            }
        }
    }

    /// Makes slices of services that changed, or whose hosts did.
    fn make_slices(&mut self, world: &World) {
        if self.dirty.is_empty() {
            return;
        }
        let now = Instant::now();
        let entries = self.writes.entries.then(|| self.entry_version());
        let network = world.network();
        let with = With { network: &network, mesh: &self.mesh, entries: entries.as_deref() };
        let mut before: BTreeMap<Name, Before> = BTreeMap::new();
        for (name, slice) in &self.slices {
            let service = slice.service(name);
            if self.dirty.contains(&service) {
                before.entry(service).or_default().insert(name.name.clone(), slice.addresses.clone());
            }
        }
        let mut old: BTreeSet<Name> = BTreeSet::new();
        for (name, wanted) in self.wanted.iter().filter(|(_, wanted)| self.dirty.contains(&wanted.service)) {
            old.insert(name.clone());
            if let Some(read) = seen::read_slice(&wanted.object) {
                let of = before.entry(wanted.service.clone()).or_default();
                of.insert(name.name.clone(), slices::addresses(&read));
            }
        }
        for service in std::mem::take(&mut self.dirty) {
            let takes_part = self.writes.slices && world.refuses(&service.namespace).is_none();
            let Some(target) = self.targets.get(&service).filter(|_| takes_part) else { continue };
            let hosts = self.hosts.selected(&service.namespace, &target.selector);
            let none = Before::new();
            for (slice, object) in target.slices(&service, &hosts, before.get(&service).unwrap_or(&none), with) {
                let Some(print) = seen::read_slice(&object).map(|read| slices::print(&read)) else { continue };
                let name = Name { namespace: service.namespace.clone(), name: slice };
                let same = old.remove(&name) && self.wanted.get(&name).is_some_and(|old| old.print == print);
                self.wanted.insert(name.clone(), Wanted { object, print, service: service.clone() });
                if !same {
                    self.queue.want(Key::Slice(name), now + TOGETHER);
                }
            }
        }
        for name in old {
            self.wanted.remove(&name);
            self.queue.want(Key::Slice(name), now + AFTERWARDS);
        }
    }

    /// What is to be reported since this was last asked; nothing for what is over.
    pub(crate) fn reports(&mut self) -> BTreeMap<String, Option<String>> {
        std::mem::take(&mut self.reports)
    }

    /// The group and version that entries are written in.
    fn entry_version(&self) -> String {
        let kind = Kind::WorkloadEntry;
        let version = kind.versions().get(self.version).or(kind.versions().first()).copied().unwrap_or_default();
        format!("{}/{version}", kind.group())
    }

    fn host(&self, name: &Name) -> Option<&Arc<hawser_mesh::Workload>> {
        self.hosts.get(&WorkloadKey { namespace: name.namespace.clone(), name: name.name.clone() })
    }
}

fn name_of(key: &WorkloadKey) -> Name {
    Name { namespace: key.namespace.clone(), name: key.name.clone() }
}
