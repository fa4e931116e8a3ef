//! Which services are read when, and what their answers mean.
//!
//! A service is due at a moment, being asked, or resting since it was read. Those with a query of their own are due
//! again right after an answer and wait at the server; the others rest until something says that they changed. What some
//! proxy is subscribed to and has no query rests apart, and is swept sooner.
//! Invariants: at most `parallel` reads and as many waiting queries as there is room for; a service is asked by one
//! question at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_registry_source::pacing::{Pacer, spread};

use super::index::{Index, Verdict};
use super::slots::Slots;
use super::sweep::{Queue, Sweep};
use super::watch::pacer;
use super::{Ask, Limits, What};
use crate::client::{Failure, Meta};

/// Time for the list to tell that a service is gone whose instances are.
const GONE: Duration = Duration::from_secs(1);
/// Answers that told nothing new in a row after which the next question is put off: a server that watches too much to
/// know better wakes its queries at every change of anything.
const PATIENCE: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Reads pause after a server would not take them.
const RELIEF: Duration = Duration::from_millis(500);
/// Failures of one service in a row after which the rest does not wait for it.
const GIVE_UP: u32 = 5;

/// What to do with the answer about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Take it in.
    Use,
    /// It is not to be believed, and will be asked again.
    Ignore,
    /// Consul hides instances: what was known stays.
    Hidden,
}

/// All services.
#[derive(Debug)]
pub(super) struct Services {
    parallel: usize,
    sweep: Duration,
    refresh: Duration,
    /// Longest a query waits at the server.
    wait: Duration,
    all: BTreeMap<Arc<str>, Service>,
    listed: bool,
    /// By when they are due; those with queries, and the others.
    due_queries: Queue,
    due_reads: Queue,
    /// What rests, by when it was read: that some proxy is subscribed to, and the rest.
    crowded_out: Sweep,
    resting: Sweep,
    /// What was read before must be read again.
    changed_at: Option<Instant>,
    last_probe: Instant,
    reading: usize,
    reads_resume: Instant,
    wanted: BTreeSet<Arc<str>>,
    slots: Slots,
    cancelled: Vec<u64>,
    hiding: BTreeSet<Arc<str>>,
    read: usize,
}

#[derive(Debug)]
struct Service {
    state: State,
    tags: u64,
    index: Index,
    /// The leader is to say what is so.
    leader: bool,
    /// It was empty though it is listed.
    empty: bool,
    read: bool,
    /// The last answer was of another state than the one before.
    moved: bool,
    failures: u32,
    quiet: u32,
    query: Option<Query>,
}

#[derive(Debug)]
struct Query {
    slot: usize,
    pacer: Pacer,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due(Instant),
    Asked { id: u64, at: Instant, waits: bool, again: bool },
    Resting(Instant),
}

impl Services {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            parallel: limits.parallel.max(1),
            sweep: limits.sweep,
            refresh: limits.refresh,
            wait: limits.wait,
            all: BTreeMap::new(),
            listed: false,
            due_queries: BTreeSet::new(),
            due_reads: BTreeSet::new(),
            // What changes right after it was read waits for a whole round, and for the answer.
            crowded_out: Sweep::new(limits.sweep / 2, now),
            resting: Sweep::new(limits.sweep * 4 / 5, now),
            changed_at: None,
            last_probe: now,
            reading: 0,
            reads_resume: now,
            wanted: BTreeSet::new(),
            slots: Slots::default(),
            cancelled: Vec::new(),
            hiding: BTreeSet::new(),
            read: 0,
        }
    }

    /// Takes in the list, which is of another state than the one before if `moved`. `true` if other services are in it.
    pub(super) fn list(&mut self, list: BTreeMap<Arc<str>, u64>, moved: bool, now: Instant) -> bool {
        let gone: Vec<Arc<str>> = self.all.keys().filter(|name| !list.contains_key(*name)).cloned().collect();
        let mut changed = !gone.is_empty() || !self.listed;
        gone.iter().for_each(|name| self.drop_service(name));
        for (name, tags) in list.into_iter().filter(|(name, _)| &**name != super::CONSUL) {
            match self.all.get_mut(&name) {
                Some(service) => {
                    if std::mem::replace(&mut service.tags, tags) != tags {
                        self.touch(&name, now);
                    }
                }
                None => {
                    changed = true;
                    self.due_reads.insert((now, name.clone()));
                    self.all.insert(name, Service::new(tags, now));
                }
            }
        }
        self.listed = true;
        if moved {
            self.something_changed(now);
        }
        if changed {
            self.assign(now);
        }
        changed
    }

    /// Something was registered somewhere: all that was read before now is read again.
    pub(super) fn something_changed(&mut self, now: Instant) {
        self.changed_at = Some(now);
    }

    /// A service changed: it is read at once, unless its own query tells.
    pub(super) fn touch(&mut self, name: &str, now: Instant) {
        let Some(name) = self.all.get_key_value(name).map(|(name, _)| name.clone()) else { return };
        let Some(service) = self.all.get_mut(&name) else { return };
        match &mut service.state {
            State::Asked { again, .. } if service.query.is_none() => *again = true,
            State::Resting(_) => self.set(&name, State::Due(now)),
            _ => {}
        }
    }

    /// A service is read anew, whatever its index says.
    pub(super) fn reread(&mut self, name: &Arc<str>, now: Instant) {
        let Some(service) = self.all.get_mut(name) else { return };
        (service.index, service.leader, service.empty) = (Index::default(), false, false);
        match service.state {
            // Its place is not free yet: it is read like the others until it has one again.
            State::Asked { waits: true, .. } => {
                self.take_query(name, now);
                self.set(name, State::Due(now));
            }
            State::Asked { .. } => self.touch_asked(name),
            State::Due(_) | State::Resting(_) => self.set(name, State::Due(now)),
        }
    }

    /// Everything is read anew.
    pub(super) fn restart(&mut self, now: Instant) {
        let names: Vec<Arc<str>> = self.all.keys().cloned().collect();
        names.iter().for_each(|name| self.reread(name, now));
    }

    /// Services that some proxy is subscribed to, and how many queries may wait.
    pub(super) fn set_interest(&mut self, wanted: &BTreeSet<Arc<str>>, capacity: usize, now: Instant) {
        if self.wanted != *wanted || !self.slots.has_capacity(capacity) {
            let other: Vec<Arc<str>> = self.wanted.symmetric_difference(wanted).cloned().collect();
            let resting = |s: &Service| matches!(s.state, State::Resting(_));
            let moved: Vec<Arc<str>> =
                other.into_iter().filter(|name| self.all.get(name).is_some_and(resting)).collect();
            moved.iter().for_each(|name| self.unqueue(name));
            self.wanted.clone_from(wanted);
            moved.iter().for_each(|name| self.queue(name));
            self.slots.set_capacity(capacity);
            self.assign(now);
        }
    }

    /// Gives queries to services that want one, while there is room.
    fn assign(&mut self, now: Instant) {
        let room = self.slots.room(now);
        let with: Vec<Arc<str>> =
            self.all.iter().filter(|(_, s)| s.query.is_some()).map(|(name, _)| name.clone()).collect();
        let mut kept = 0;
        for name in with {
            if self.wanted.contains(&name) && kept < room {
                kept += 1;
            } else {
                self.take_query(&name, now);
            }
        }
        // Those that were taken away are not free yet.
        let room = self.slots.room(now);
        let without = |s: &Service| s.query.is_none();
        let wanting: Vec<Arc<str>> =
            self.wanted.iter().filter(|name| self.all.get(*name).is_some_and(without)).cloned().collect();
        for name in wanting.into_iter().take(room.saturating_sub(kept)) {
            let slot = self.slots.take();
            if let Some(service) = self.all.get_mut(&name) {
                let asked = matches!(service.state, State::Asked { .. });
                if !asked {
                    self.unqueue(&name);
                }
                if let Some(service) = self.all.get_mut(&name) {
                    service.query = Some(Query { slot, pacer: pacer() });
                }
                if !asked {
                    self.set(&name, State::Due(now));
                }
            }
        }
    }

    /// Questions to ask now.
    pub(super) fn next(&mut self, now: Instant, id: &mut u64, asks: &mut Vec<Ask>) {
        if self.slots.recovers(now) {
            self.assign(now);
        }
        while let Some((at, name)) = self.due_queries.first().cloned().filter(|(at, _)| *at <= now) {
            self.due_queries.remove(&(at, name.clone()));
            self.ask(name, now, id, asks);
        }
        if now < self.reads_resume {
            return;
        }
        while self.reading < self.parallel {
            let due = self.due_reads.first().cloned().filter(|(at, _)| *at <= now).map(|(_, name)| name);
            let Some(name) = due.or_else(|| self.next_of_sweep(now)) else { return };
            self.ask(name, now, id, asks);
        }
    }

    /// The service that was read longest ago, if it must be read again and the sweep's pace allows it.
    fn next_of_sweep(&mut self, now: Instant) -> Option<Arc<str>> {
        let before = self.stale_before(now);
        // Nobody holds what the rest of them would tell.
        self.crowded_out.take(before, now).or_else(|| self.resting.take(before, now))
    }

    /// What was read before then must be read again.
    fn stale_before(&self, now: Instant) -> Option<Instant> {
        let refresh = now.checked_sub(self.refresh).map(|at| at + Duration::from_nanos(1));
        self.changed_at.max(refresh)
    }

    /// While instances are hidden: one service that hides some, asked again.
    pub(super) fn probe(&mut self, now: Instant, every: Duration, id: &mut u64, asks: &mut Vec<Ask>) {
        if now < self.last_probe + every {
            return;
        }
        self.last_probe = now;
        let idle = |s: &Service| !matches!(s.state, State::Asked { .. });
        let name = self.hiding.iter().find(|name| self.all.get(*name).is_some_and(idle)).cloned();
        if let Some(name) = name {
            if let Some(service) = self.all.get_mut(&name) {
                service.leader = true;
            }
            self.ask(name, now, id, asks);
        }
    }

    pub(super) fn probe_at(&self, every: Duration) -> Instant {
        self.last_probe + every
    }

    fn ask(&mut self, name: Arc<str>, now: Instant, id: &mut u64, asks: &mut Vec<Ask>) {
        self.unqueue(&name);
        let Some(service) = self.all.get_mut(&name) else { return };
        *id += 1;
        let slot = service.query.as_ref().map(|query| query.slot);
        // A server that was restarted may be far from the index that it would wait for.
        let index =
            if service.leader || slot.is_none() || service.failures > 0 { None } else { service.index.question() };
        let waits = index.is_some();
        service.state = State::Asked { id: *id, at: now, waits, again: false };
        if !waits {
            self.reading += 1;
        }
        asks.push(Ask { id: *id, what: What::Health(name), index, leader: service.leader, slot });
    }

    /// When there is something to ask.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let queries = self.due_queries.first().map(|(at, _)| *at);
        let mut earliest = queries;
        let mut consider = |at: Instant| earliest = Some(earliest.map_or(at, |e| e.min(at)));
        if let Some(until) = self.slots.recovers_at() {
            consider(until);
        }
        if self.reading < self.parallel {
            if let Some((at, _)) = self.due_reads.first() {
                consider((*at).max(self.reads_resume));
            }
            for sweep in [&self.crowded_out, &self.resting] {
                if let Some(at) = sweep.wake_at(self.changed_at, self.refresh, now) {
                    consider(at.max(self.reads_resume));
                }
            }
        }
        earliest
    }

    /// An answer: what to do with it.
    pub(super) fn answered(&mut self, ask: &Ask, meta: &Meta, empty: bool, hidden: bool, now: Instant) -> Heard {
        let Some((name, at, again)) = self.finish(ask) else { return Heard::Ignore };
        let Some(service) = self.all.get_mut(&name) else { return Heard::Ignore };
        service.failures = 0;
        match service.index.take(meta.index, ask.leader) {
            Verdict::AskLeader => {
                service.leader = true;
                self.set(&name, State::Due(now));
                return Heard::Ignore;
            }
            Verdict::Believe { moved } => service.moved = moved,
        }
        if empty && !std::mem::replace(&mut service.empty, true) {
            // It is in the list, so it has instances: unless it has just gone, and the list is about to say so.
            service.leader = true;
            service.index = Index::default();
            self.set(&name, State::Due(now + GONE));
            return Heard::Ignore;
        }
        service.empty = empty;
        service.leader = false;
        if !std::mem::replace(&mut service.read, true) {
            self.read += 1;
        }
        let hiding = hidden || empty;
        if hiding {
            self.hiding.insert(name.clone());
        } else {
            self.hiding.remove(&name);
        }
        self.rest(&name, at, again, now);
        if hiding { Heard::Hidden } else { Heard::Use }
    }

    /// No answer. `true` if the rest should not wait for this service.
    pub(super) fn failed(&mut self, ask: &Ask, failure: &Failure, now: Instant) -> bool {
        if let Failure::Crowded(_) | Failure::Unavailable(_) = failure {
            self.reads_resume = self.reads_resume.max(now + spread(RELIEF));
            if matches!(failure, Failure::Crowded(_)) && ask.slot.is_some() && self.slots.is_crowded(now) {
                self.assign(now);
            }
        }
        let Some((name, at, again)) = self.finish(ask) else { return false };
        let Some(service) = self.all.get_mut(&name) else { return false };
        service.failures = service.failures.saturating_add(1);
        let failures = service.failures;
        if matches!(failure, Failure::TooLarge(_) | Failure::Unreadable(_)) {
            service.index = Index::default();
            if !std::mem::replace(&mut service.read, true) {
                self.read += 1;
            }
            self.rest(&name, at, again, now);
            self.delay(&name, now + self.sweep);
            return true;
        }
        let wait = match &mut service.query {
            Some(query) => query.pacer.failed(now),
            None => spread(FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE * 4)),
        };
        self.set(&name, State::Due(now + wait));
        failures == GIVE_UP && matches!(failure, Failure::Refused(_) | Failure::NotFound(_))
    }

    /// The answer told nothing new.
    pub(super) fn told_nothing(&mut self, name: &str, now: Instant) {
        let Some(name) = self.all.get_key_value(name).map(|(name, _)| name.clone()) else { return };
        let Some(service) = self.all.get_mut(&name) else { return };
        // After a wait without a change there is nothing new by right.
        service.quiet = if service.moved { service.quiet.saturating_add(1) } else { 0 };
        if let Some(over) = service.quiet.checked_sub(PATIENCE) {
            let pause = FIRST_PAUSE.saturating_mul(1 << over.min(10)).min(LONGEST_PAUSE);
            self.delay(&name, now + spread(pause));
        }
    }

    /// It told something.
    pub(super) fn told(&mut self, name: &str) {
        if let Some(service) = self.all.get_mut(name) {
            service.quiet = 0;
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.keys()
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// How many hide instances, of how many that were read.
    pub(super) fn hidden(&self) -> (usize, usize) {
        (self.hiding.len(), self.read)
    }

    pub(super) fn take_cancelled(&mut self, all: &mut Vec<u64>) {
        all.append(&mut self.cancelled);
    }

    /// After an answer: due again if it has a query, or changed meanwhile; else it rests.
    fn rest(&mut self, name: &Arc<str>, at: Instant, again: bool, now: Instant) {
        let Some(service) = self.all.get_mut(name) else { return };
        let state = match &mut service.query {
            Some(query) => State::Due(now + query.pacer.answered(now)),
            None if again => State::Due(now),
            None => State::Resting(at),
        };
        self.set(name, state);
    }

    /// The question is answered, if it is still waited for.
    fn finish(&mut self, ask: &Ask) -> Option<(Arc<str>, Instant, bool)> {
        let What::Health(name) = &ask.what else { return None };
        let service = self.all.get_mut(name)?;
        let State::Asked { id, at, waits, again } = service.state else { return None };
        if id != ask.id {
            return None;
        }
        if !waits {
            self.reading = self.reading.saturating_sub(1);
        }
        // For a moment it is nothing; whoever called says what it is next.
        Some((name.clone(), at, again))
    }

    fn touch_asked(&mut self, name: &str) {
        if let Some(Service { state: State::Asked { again, .. }, .. }) = self.all.get_mut(name) {
            *again = true;
        }
    }

    fn delay(&mut self, name: &Arc<str>, until: Instant) {
        if let Some(Service { state: State::Due(at), .. }) = self.all.get(name)
            && *at < until
        {
            self.set(name, State::Due(until));
        }
    }

    fn take_query(&mut self, name: &Arc<str>, now: Instant) {
        let Some(service) = self.all.get(name) else { return };
        let state = service.state;
        self.unqueue(name);
        if let Some(query) = self.all.get_mut(name).and_then(|s| s.query.take()) {
            self.slots.give_back(query.slot);
        }
        match state {
            State::Asked { id, waits: true, .. } => {
                self.cancelled.push(id);
                self.slots.linger(now + self.wait);
                // Up to now its query would have told.
                self.set(name, State::Resting(now));
            }
            State::Asked { .. } => {}
            other => self.set(name, other),
        }
    }

    fn drop_service(&mut self, name: &Arc<str>) {
        self.unqueue(name);
        self.hiding.remove(name);
        let Some(service) = self.all.remove(name) else { return };
        if let Some(query) = service.query {
            self.slots.give_back(query.slot);
        }
        if service.read {
            self.read = self.read.saturating_sub(1);
        }
        if let State::Asked { id, waits, .. } = service.state {
            self.cancelled.push(id);
            if !waits {
                self.reading = self.reading.saturating_sub(1);
            }
        }
    }

    fn set(&mut self, name: &Arc<str>, state: State) {
        self.unqueue(name);
        if let Some(service) = self.all.get_mut(name) {
            service.state = state;
            self.queue(name);
        }
    }

    fn queue(&mut self, name: &Arc<str>) {
        if let Some((queue, at)) = self.queue_of(name) {
            queue.insert((at, name.clone()));
        }
    }

    fn unqueue(&mut self, name: &Arc<str>) {
        if let Some((queue, at)) = self.queue_of(name) {
            queue.remove(&(at, name.clone()));
        }
    }

    /// Where a service waits as its state says, and since or until when.
    fn queue_of(&mut self, name: &Arc<str>) -> Option<(&mut Queue, Instant)> {
        let service = self.all.get(name)?;
        match service.state {
            State::Due(at) if service.query.is_some() => Some((&mut self.due_queries, at)),
            State::Due(at) => Some((&mut self.due_reads, at)),
            State::Resting(at) if self.wanted.contains(name) => Some((&mut self.crowded_out.resting, at)),
            State::Resting(at) => Some((&mut self.resting.resting, at)),
            State::Asked { .. } => None,
        }
    }
}

impl Service {
    fn new(tags: u64, now: Instant) -> Self {
        Self {
            state: State::Due(now),
            tags,
            index: Index::default(),
            leader: false,
            empty: false,
            read: false,
            moved: false,
            failures: 0,
            quiet: 0,
            query: None,
        }
    }
}
