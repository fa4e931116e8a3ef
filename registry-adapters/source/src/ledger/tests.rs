//! The ledger by its public door: answers in, what discovery holds out.

mod histories;
mod losses;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_mesh::{Event, Object, ObjectKey, Workload, WorkloadKey};

use super::*;

pub(super) const S: Duration = Duration::from_secs(1);

pub(super) fn workload(name: &str, weight: u32) -> Object {
    Object::Workload(Arc::new(Workload {
        addresses: BTreeMap::from([(String::new(), vec!["10.0.0.1".to_owned()])]),
        weight,
        ..Workload::new(WorkloadKey { namespace: "default".into(), name: name.into() })
    }))
}

/// `count` instances of a part, from number `first`.
pub(crate) fn some(part: &str, first: usize, count: usize) -> Vec<Object> {
    (first..first + count).map(|n| workload(&format!("{part}-{n}"), 1)).collect()
}

/// A ledger, and discovery as it hears it.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) now: Instant,
    pub(super) held: BTreeMap<String, u32>,
    pub(super) synced: u32,
    pub(super) stale: Vec<String>,
    pub(super) events: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Freeze::default())
    }

    pub(super) fn with(freeze: Freeze) -> Self {
        let ledger = Ledger::new("test", freeze);
        Self { ledger, now: Instant::now(), held: BTreeMap::new(), synced: 0, stale: Vec::new(), events: 0 }
    }

    /// A world whose source has said these numbers of instances, long ago.
    pub(super) fn of(parts: &[(&str, usize)]) -> Self {
        let mut world = Self::new();
        world.all(parts);
        world.pass(S * 60);
        assert!(world.synced == 1 && world.ledger.frozen().is_none());
        world
    }

    pub(super) fn take(&mut self, events: Vec<Event>) {
        self.events += events.len();
        for event in events {
            match event {
                Event::Upsert(Object::Workload(w)) => {
                    self.held.insert(w.key.name.to_string(), w.weight);
                }
                Event::Delete(ObjectKey::Workload(key)) => {
                    assert!(self.held.remove(&*key.name).is_some(), "{key} was not held");
                }
                Event::Synced => self.synced += 1,
                Event::Stale(why) => self.stale.push(why),
                Event::Fresh => {
                    assert!(!self.stale.is_empty());
                    self.stale.clear();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn observe(&mut self, part: &str, objects: Vec<Object>) {
        let events = self.ledger.observe(part, None, || objects, self.now);
        self.take(events);
    }

    pub(super) fn list(&mut self, parts: &[&str]) {
        let events = self.ledger.parts(parts.iter().copied(), self.now);
        self.take(events);
    }

    /// A complete answer.
    pub(super) fn all(&mut self, parts: &[(&str, usize)]) {
        for (part, count) in parts {
            self.observe(part, some(part, 0, *count));
        }
        self.list(&parts.iter().map(|(part, _)| *part).collect::<Vec<_>>());
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        let events = self.ledger.tick(self.now);
        self.take(events);
    }

    pub(super) fn accept(&mut self) -> bool {
        let events = self.ledger.accept(self.now);
        let frozen = events.is_some();
        self.take(events.unwrap_or_default());
        frozen
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.ledger.frozen().is_some()
    }

    pub(super) fn of_part(&self, part: &str) -> usize {
        let prefix = format!("{part}-");
        self.held.keys().filter(|name| name.starts_with(&prefix)).count()
    }
}

#[test]
fn only_the_difference_is_said() {
    let mut world = World::of(&[("a", 3)]);
    let before = world.events;
    world.observe("a", some("a", 0, 3));
    assert_eq!(world.events, before);
    let mut objects = some("a", 0, 3);
    objects[1] = workload("a-1", 9);
    objects.push(workload("a-9", 1));
    world.observe("a", objects);
    assert_eq!((world.events, world.held["a-1"], world.held.len()), (before + 2, 9, 4));
}

#[test]
fn an_answer_of_the_same_fingerprint_is_not_parsed() {
    let mut world = World::new();
    let print = Fingerprint::of("answer");
    let events = world.ledger.observe("a", Some(print), || some("a", 0, 2), world.now);
    world.take(events);
    assert!(world.ledger.observe("a", Some(print), || panic!("parsed"), world.now).is_empty());
    assert!(world.ledger.unchanged("a", print, world.now).is_some());
    assert!(world.ledger.unchanged("a", Fingerprint::of("other"), world.now).is_none());
    assert!(world.ledger.unchanged("b", print, world.now).is_none());
}

#[test]
fn synced_is_said_once_when_the_list_and_each_of_it_were_heard() {
    let mut world = World::new();
    world.list(&["a", "b"]);
    world.observe("a", some("a", 0, 1));
    assert_eq!(world.synced, 0);
    world.observe("b", Vec::new());
    world.list(&["a", "b", "c"]);
    world.observe("c", some("c", 0, 1));
    assert_eq!((world.synced, world.ledger.is_synced()), (1, true));
}

#[test]
fn an_empty_source_is_synced_and_a_part_that_fails_does_not_keep_it_from_being() {
    let mut world = World::new();
    world.list(&[]);
    assert_eq!(world.synced, 1);
    let mut world = World::new();
    world.list(&["a"]);
    let events = world.ledger.pass("a", world.now);
    world.take(events);
    assert_eq!(world.synced, 1);
}

#[test]
fn what_was_said_in_this_run_may_go_before_everything_was_heard() {
    let mut world = World::new();
    world.observe("a", some("a", 0, 2));
    world.list(&["a", "b"]);
    world.observe("a", some("a", 0, 1));
    assert_eq!((world.of_part("a"), world.synced), (1, 0));
}

#[test]
fn stale_is_said_once_and_fresh_when_it_speaks_again() {
    let mut world = World::of(&[("a", 1)]);
    for why in ["refused", "timed out"] {
        let events = world.ledger.failed(why, world.now);
        world.take(events);
    }
    assert_eq!(world.stale, ["refused"]);
    assert_eq!(world.ledger.stale().unwrap().1, "timed out");
    let events = world.ledger.spoke(world.now);
    world.take(events);
    assert!(world.stale.is_empty() && world.ledger.stale().is_none() && world.held.len() == 1);
}

#[test]
fn an_instance_that_moves_to_another_part_is_not_removed_by_the_one_it_left() {
    let mut world = World::of(&[("a", 2), ("b", 1)]);
    let moved = vec![workload("b-0", 1), workload("a-1", 5)];
    world.observe("b", moved);
    world.observe("a", some("a", 0, 1));
    assert_eq!((world.held.len(), world.held["a-1"]), (3, 5));
    world.observe("b", some("b", 0, 1));
    assert_eq!(world.held.len(), 2);
}

#[test]
fn a_stored_state_counts_until_everything_was_heard() {
    let mut first = World::of(&[("a", 10), ("b", 2)]);
    first.observe("a", some("a", 0, 10));
    let mut world = World::new();
    let events = world.ledger.load(first.ledger.remembered(), S * 300, false, world.now);
    world.take(events);
    assert_eq!((world.held.len(), world.synced, world.stale.len()), (12, 1, 1));
    assert!(world.stale[0].contains("5m"), "{:?}", world.stale);
    let events = world.ledger.failed("connection refused", world.now);
    world.stale.clear();
    world.take(events);
    assert!(world.stale[0].starts_with("connection refused; "), "{:?}", world.stale);
    world.list(&["a", "b"]);
    world.observe("a", some("a", 0, 9));
    assert_eq!((world.held.len(), world.stale.len()), (12, 2));
    world.observe("b", some("b", 0, 2));
    assert_eq!((world.held.len(), world.synced, world.stale.len(), world.is_frozen()), (11, 1, 0, false));
}
