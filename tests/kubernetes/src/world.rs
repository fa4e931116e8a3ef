//! What controllers and nodes do to a cluster, as far as tests need it: slices of endpoints, the ends of namespaces, of
//! definitions and of what belonged to somebody, and pods that come up and end.
//!
//! In: the changes of the store. Out: writes. Invariant: a step never waits with the store locked, and what it has done it
//! does not do again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::delete::{self, Options as Deletion};
use crate::kinds::Place;
use crate::server::{Found, Server, locked};
use crate::store::{Change, Entry, Store};
use crate::write::now;

mod slices;

use slices::Slices;

/// Between looks at what waits for a time.
const TICK: Duration = Duration::from_millis(20);

/// Which of them run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) slices: bool,
    pub(crate) kubelet: Option<Duration>,
}

/// The controllers of a cluster.
struct World {
    server: Arc<Server>,
    running: Running,
    seen: u64,
    slices: Slices,
    /// Namespaces that end, since when.
    namespaces: BTreeMap<String, Instant>,
    /// Pods that end, when.
    pods: BTreeMap<(String, String), Instant>,
    /// Kinds whose definition is gone, and when they go too.
    kinds: Vec<(Instant, Place)>,
}

/// Runs them until they are dropped.
pub(crate) async fn run(server: Arc<Server>, running: Running) {
    let mut changes = server.store().subscribe();
    let slices = Slices::default();
    let mut world = World {
        server,
        running,
        seen: 0,
        slices,
        namespaces: BTreeMap::new(),
        pods: BTreeMap::new(),
        kinds: Vec::new(),
    };
    loop {
        changes.borrow_and_update();
        world.step();
        let waits = !(world.namespaces.is_empty() && world.pods.is_empty() && world.kinds.is_empty());
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK), if waits => {}
        }
    }
}

impl World {
    fn step(&mut self) {
        let (changes, now) = {
            let store = self.server.store();
            let version = store.version();
            let changes = if self.seen == 0 { Err(()) } else { store.all_changes(self.seen).map_err(|_| ()) };
            (changes.unwrap_or_else(|()| everything(&store)), version)
        };
        // Versions ran back, or what happened is not known any more: look at all anew.
        if now < self.seen {
            self.slices = Slices::default();
        }
        self.seen = now;
        for (place, change) in &changes {
            self.look(place, change);
        }
        if self.running.slices {
            self.slices.write(&self.server);
        }
        // What the slices' controller makes belongs to what is there.
        let owned = |c: &Change| !c.now.owners.is_empty() && !c.now.mentions(slices::OURS);
        if changes.iter().any(|(_, c)| c.deleted || owned(c) || c.now.mentions("foregroundDeletion")) {
            collect(&mut self.server.store());
        }
        self.end_namespaces();
        self.end_pods();
        self.end_definitions();
    }

    fn look(&mut self, place: &Place, change: &Change) {
        if self.running.slices {
            self.slices.look(place, change);
        }
        let key = (change.now.namespace.clone(), change.now.name.clone());
        match place.plural.as_str() {
            "namespaces" if change.deleted => drop(self.namespaces.remove(&key.1)),
            "namespaces" if change.now.metadata().get("deletionTimestamp").is_some() => {
                self.namespaces.entry(key.1).or_insert_with(Instant::now);
            }
            "pods" if place.group.is_empty() => self.look_at_pod(key, change),
            _ => {}
        }
    }

    fn look_at_pod(&mut self, key: (String, String), change: &Change) {
        let Some(end) = self.running.kubelet else { return };
        if change.deleted {
            self.pods.remove(&key);
            return;
        }
        // As it is now: whoever made it may have said more about it since.
        let now = self.server.store().get(&Place::new("", "pods"), &key.0, &key.1);
        let Some(object) = now.map(|entry| entry.value()) else { return };
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            self.pods.entry(key).or_insert_with(|| Instant::now() + end);
        } else if object.pointer("/status/phase").is_none_or(|p| p == "Pending")
            && object.pointer("/status/podIP").is_none()
        {
            start(&self.server, object);
        }
    }

    fn end_pods(&mut self) {
        let time = Instant::now();
        let due: Vec<(String, String)> =
            self.pods.iter().filter(|(_, at)| **at <= time).map(|(key, _)| key.clone()).collect();
        let mut store = self.server.store();
        for (namespace, name) in due {
            let place = Place::new("", "pods");
            self.pods.remove(&(namespace.clone(), name.clone()));
            let (Some(entry), Some(found)) = (store.get(&place, &namespace, &name), found(&store, &place)) else {
                continue;
            };
            let options = Deletion { grace: Some(0), ..Deletion::default() };
            delete::begin(&mut store, &found, &entry, &options);
        }
    }

    fn end_namespaces(&mut self) {
        let wait = self.server.timing.namespaces;
        let due: Vec<String> =
            self.namespaces.iter().filter(|(_, since)| since.elapsed() >= wait).map(|(name, _)| name.clone()).collect();
        let mut store = self.server.store();
        for name in due {
            if end_namespace(&mut store, &name) {
                self.namespaces.remove(&name);
            }
        }
    }

    fn end_definitions(&mut self) {
        let place = Place::new("apiextensions.k8s.io", "customresourcedefinitions");
        let mut store = self.server.store();
        for entry in store.list(&place, None) {
            if entry.metadata().get("deletionTimestamp").is_none() {
                continue;
            }
            let kind = crate::after::place_of(&entry.value());
            if store.list(&kind, None).is_empty() {
                store.remove(&place, "", &entry.name);
                self.kinds.push((Instant::now() + self.server.timing.definitions, kind));
            }
        }
        let time = Instant::now();
        for (at, kind) in std::mem::take(&mut self.kinds) {
            let again = store.kind(&kind).is_some_and(|k| !k.ending);
            if again {
                continue;
            }
            if at <= time {
                store.undefine(&kind);
            } else {
                self.kinds.push((at, kind));
            }
        }
    }
}

/// All that is there, as if it had just come.
fn everything(store: &Store) -> Vec<(Place, Change)> {
    let places: Vec<Place> = store.kinds().map(|k| k.place.clone()).collect();
    let mut all = Vec::new();
    for place in places {
        for now in store.list(&place, None) {
            all.push((place.clone(), Change { version: now.version, before: None, now, deleted: false }));
        }
    }
    all
}

/// A kind, as deletions need it.
fn found(store: &Store, place: &Place) -> Option<Found> {
    let kind = store.kind(place)?;
    let version = kind.storage().to_owned();
    Some(Found { kind, version, namespace: None, name: None, sub: None })
}

/// Pods first; all else when they are gone; then the namespace. True if it is gone.
fn end_namespace(store: &mut Store, name: &str) -> bool {
    let spaces = Place::new("", "namespaces");
    let pods = Place::new("", "pods");
    let left = store.list(&pods, Some(name));
    if !left.is_empty() {
        end_all(store, &pods, &left);
        return false;
    }
    let places: Vec<Place> = store.kinds().filter(|k| k.namespaced).map(|k| k.place.clone()).collect();
    let mut held = false;
    for place in places {
        let left = store.list(&place, Some(name));
        end_all(store, &place, &left);
        held |= !store.list(&place, Some(name)).is_empty();
    }
    if held {
        return false;
    }
    if let Some(entry) = store.get(&spaces, "", name) {
        let mut object = entry.value();
        object["spec"] = json!({});
        store.put(&spaces, &object);
    }
    store.remove(&spaces, "", name);
    true
}

fn end_all(store: &mut Store, place: &Place, entries: &[Arc<Entry>]) {
    let Some(found) = found(store, place) else { return };
    for entry in entries {
        if entry.metadata().get("deletionTimestamp").is_none() {
            delete::begin(store, &found, entry, &Deletion::default());
        }
    }
}

/// Ends what belonged to what is gone, and what waits for it.
fn collect(store: &mut Store) {
    let places: Vec<Place> = store.kinds().map(|k| k.place.clone()).collect();
    let all: Vec<(Place, Arc<Entry>)> = places
        .into_iter()
        .flat_map(|place| store.list(&place, None).into_iter().map(|e| (place.clone(), e)).collect::<Vec<_>>())
        .collect();
    let there: std::collections::HashSet<&str> = all.iter().map(|(_, e)| e.uid.as_str()).collect();
    let mut waiting: Vec<&(Place, Arc<Entry>)> = Vec::new();
    for one in &all {
        let (place, entry) = one;
        if !entry.owners.is_empty() && !entry.owners.iter().any(|uid| there.contains(uid.as_str())) {
            end_all(store, place, std::slice::from_ref(entry));
        }
        // Only what is being deleted carries it.
        if entry.mentions("foregroundDeletion") {
            waiting.push(one);
        }
    }
    for (place, owner) in waiting {
        let mine: Vec<&(Place, Arc<Entry>)> = all.iter().filter(|(_, e)| e.owners.contains(&owner.uid)).collect();
        for (place, entry) in &mine {
            end_all(store, place, std::slice::from_ref(entry));
        }
        let left = mine.iter().any(|(place, e)| store.get(place, &e.namespace, &e.name).is_some());
        if !left {
            release(store, place, owner);
        }
    }
}

/// Takes the mark of a foreground deletion off; with the last one the object goes.
fn release(store: &mut Store, place: &Place, owner: &Entry) {
    let mut object = owner.value();
    let Some(finalizers) = object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) else { return };
    finalizers.retain(|f| f != "foregroundDeletion");
    if finalizers.is_empty() {
        store.remove(place, &owner.namespace, &owner.name);
    } else {
        store.put(place, &object);
    }
}

/// A pod comes up: it gets a node, an address, and is ready.
fn start(server: &Server, mut object: Value) {
    let ip = locked(&server.addresses).pod().to_string();
    let mut store = server.store();
    let place = Place::new("", "pods");
    let nodes = store.list(&Place::new("", "nodes"), None);
    let at = nodes.len();
    if object.pointer("/spec/nodeName").is_none() {
        let pick = usize::try_from(store.version()).unwrap_or(0) % at.max(1);
        if let Some(node) = nodes.get(pick) {
            object["spec"]["nodeName"] = node.name.as_str().into();
        }
    }
    let ip = if object.pointer("/spec/hostNetwork") == Some(&json!(true)) { "192.168.10.10".to_owned() } else { ip };
    object["status"]["phase"] = "Running".into();
    object["status"]["podIP"] = ip.as_str().into();
    object["status"]["podIPs"] = json!([{"ip": ip}]);
    object["status"]["startTime"] = now().into();
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": now()});
    object["status"]["conditions"] =
        ["Initialized", "Ready", "ContainersReady", "PodScheduled"].iter().map(|kind| condition(kind)).collect();
    store.put(&place, &object);
}
