//! What one source said, part by part, and what of a new answer is to be believed. No I/O; time is passed in.
//!
//! In: answers of the source, its failures, an operator's word. Out: events, each the difference to what was said
//! before. At first nothing is removed until the source has said everything once; then what it says counts; and when
//! it loses much at once ([`Freeze`]), what it lost stays until it is back or the loss is confirmed. Invariants:
//! what was said and is not removed is what discovery holds; only the source's own word removes.

mod hold;
mod object;
mod part;
mod trouble;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_mesh::{Event, Object};

use self::hold::{Frozen, Held};
use self::object::Copies;
use self::part::Part;
use self::trouble::Silence;
use self::window::Window;
use crate::Fingerprint;
use crate::settings::Freeze;

/// What a source said.
#[derive(Debug)]
pub struct Ledger {
    name: String,
    freeze: Freeze,
    parts: BTreeMap<Arc<str>, Part>,
    /// Instances that the source says now, in all parts.
    instances: u64,
    copies: Copies,
    mode: Mode,
    /// The whole list of parts was heard in this run.
    listed: bool,
    /// So was each of them.
    complete: bool,
    /// [`Event::Synced`] was said.
    synced: bool,
    /// The first complete answer is believed, whatever it loses.
    believing: bool,
    silence: Silence,
}

#[derive(Debug)]
enum Mode {
    /// Not everything was heard yet: losses wait.
    Filling(Held),
    /// What the source says counts.
    Following(Window),
    /// It lost too much at once: losses wait.
    Frozen(Held, Frozen),
}

/// A part with what it said, as it is stored.
pub type Remembered = (Arc<str>, Vec<Object>);

impl Ledger {
    /// An empty ledger. `name` is what operators know the source by.
    pub fn new(name: impl Into<String>, freeze: Freeze) -> Self {
        Self {
            name: name.into(),
            freeze,
            parts: BTreeMap::new(),
            instances: 0,
            copies: Copies::default(),
            mode: Mode::Filling(Held::default()),
            listed: false,
            complete: false,
            synced: false,
            believing: false,
            silence: Silence::default(),
        }
    }

    /// Takes in the stored state of an earlier run, which was written `age` ago, before anything else. If the source's
    /// settings are other ones since (`changed`), its first complete answer is believed whatever it loses.
    pub fn load(&mut self, parts: Vec<Remembered>, age: Duration, changed: bool, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        for (name, objects) in parts {
            let part = Part::remembered(objects);
            for object in part.objects() {
                self.copies.add(object);
                events.push(Event::Upsert(object.clone()));
            }
            self.instances += u64::from(part.current);
            self.parts.insert(name, part);
        }
        self.mode = Mode::Filling(Held::of(&self.parts));
        self.believing = changed;
        self.synced = true;
        self.silence.loaded(age, now, &mut events);
        events.push(Event::Synced);
        events
    }

    /// Whether an answer about a part is the one that was taken in last: then it need not be parsed, and counts as
    /// heard.
    pub fn unchanged(&mut self, part: &str, fingerprint: Fingerprint, now: Instant) -> Option<Vec<Event>> {
        let known = self.parts.get(part)?;
        let same = known.heard && !known.gone && known.fingerprint == Some(fingerprint);
        same.then(|| self.spoke(now))
    }

    /// Takes in everything the source says about a part. `build` is called only if `fingerprint` is not that of the
    /// last answer. Names of objects are unique in a source; where two parts say one name, who said it last counts.
    pub fn observe(
        &mut self,
        part: &str,
        fingerprint: Option<Fingerprint>,
        build: impl FnOnce() -> Vec<Object>,
        now: Instant,
    ) -> Vec<Event> {
        if let Some(events) = fingerprint.and_then(|fingerprint| self.unchanged(part, fingerprint, now)) {
            return events;
        }
        let mut events = self.revise(part, fingerprint, build(), now);
        events.extend(self.spoke(now));
        events
    }

    /// Takes in what the adapter itself found out of a part, by checks of its own: the source need not have spoken.
    pub fn revise(
        &mut self,
        part: &str,
        fingerprint: Option<Fingerprint>,
        objects: Vec<Object>,
        now: Instant,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let name = self.known(part, now);
        let Self { parts, copies, mode, instances, .. } = self;
        if let Some(part) = parts.get_mut(&name) {
            let (current, lost, missing) = (part.current, part.lost(), part.missing());
            part.take(objects, |object, new| {
                if new {
                    copies.add(object);
                }
                events.push(Event::Upsert(object.clone()));
            });
            (part.heard, part.gone, part.fingerprint) = (true, false, fingerprint);
            *instances = *instances - u64::from(current) + u64::from(part.current);
            match mode {
                Mode::Following(window) => window.add(now, &name, i64::from(part.current) - i64::from(current)),
                Mode::Filling(held) | Mode::Frozen(held, _) => held.moved(lost, part.lost(), missing, false),
            }
        }
        self.judge(&[name], false, now, &mut events);
        events
    }

    /// Takes in the complete list of parts: those that are not in it are gone. One service that is taken out while all
    /// others stay is always believed: that is how services are deleted.
    pub fn parts<'a>(&mut self, list: impl IntoIterator<Item = &'a str>, now: Instant) -> Vec<Event> {
        let list: BTreeSet<&str> = list.into_iter().collect();
        let mut events = Vec::new();
        self.listed = true;
        for name in &list {
            self.known(name, now);
        }
        let Self { parts, mode, instances, .. } = self;
        let mut absent = Vec::new();
        for (name, part) in parts.iter_mut() {
            let gone = !list.contains(&**name);
            if gone == part.gone {
                continue;
            }
            let (current, lost, missing) = (part.current, part.lost(), part.missing());
            (part.gone, part.fingerprint) = (gone, None);
            if gone {
                part.lose_all();
                absent.push(name.clone());
                *instances -= u64::from(current);
            }
            match mode {
                Mode::Following(window) => {
                    window.add(now, name, -i64::from(current));
                    window.add_parts(now, -1);
                }
                Mode::Filling(held) | Mode::Frozen(held, _) => {
                    held.moved(lost, part.lost(), missing, part.missing());
                }
            }
        }
        let one = absent.len() == 1 && !list.is_empty();
        self.judge(&absent, one, now, &mut events);
        events.extend(self.spoke(now));
        events
    }

    /// The source itself says of this one part that it is gone, which no answer that was cut short can: believed at once,
    /// also while losses are held.
    pub fn gone(&mut self, part: &str, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(mut part) = self.parts.remove(part) {
            let (lost, missing) = (part.lost(), part.missing());
            self.instances -= u64::from(part.current);
            part.lose_all();
            match &mut self.mode {
                Mode::Following(_) => {}
                // Of what there was before it counts no more.
                Mode::Filling(held) | Mode::Frozen(held, _) => held.forget(&part, lost, missing),
            }
            for object in part.remove_absent() {
                events.push(self.removal(object));
            }
        }
        events.extend(self.spoke(now));
        events
    }

    /// Counts a part as heard that the source can't tell of now: what it said stays. Else one service that always fails
    /// would keep the rest from being complete.
    pub fn pass(&mut self, part: &str, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(part) = self.parts.get_mut(part) {
            part.heard = true;
        }
        self.settle(now, &mut events);
        events
    }

    /// The source is silent, and why.
    pub fn failed(&mut self, why: impl Into<String>, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.silence.failed(why.into(), now, &mut events);
        events
    }

    /// It answers, though nothing new.
    pub fn spoke(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.silence.spoke(&mut events);
        self.settle(now, &mut events);
        events
    }

    /// When [`Ledger::tick`] has something to do, if nothing comes before.
    pub fn wake_at(&self) -> Option<Instant> {
        match &self.mode {
            Mode::Filling(_) => None,
            Mode::Following(window) => window.over_at(),
            Mode::Frozen(_, frozen) => frozen.wake_at(&self.freeze),
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let Mode::Following(window) = &mut self.mode {
            window.expire(now);
        }
        self.settle(now, &mut events);
        events
    }

    /// Parts with everything that was said and is not removed: what is to be stored.
    pub fn remembered(&self) -> Vec<Remembered> {
        let all = self.parts.iter();
        all.map(|(name, part)| (name.clone(), part.objects().cloned().collect())).collect()
    }

    /// Whether everything was said once, in this run or, by the stored state, in an earlier one.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether everything was heard in this run.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Since when the source is silent, and why; `None` if it speaks.
    pub fn stale(&self) -> Option<(Instant, String)> {
        self.silence.stale()
    }

    /// How many parts, and how many objects in them, discovery holds.
    pub fn counts(&self) -> (usize, usize) {
        (self.parts.len(), self.parts.values().map(Part::len).sum())
    }

    /// Whether there is a part of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    /// Names of all parts.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.keys()
    }

    /// The part's name, shared; a part that is new is made.
    fn known(&mut self, part: &str, now: Instant) -> Arc<str> {
        if let Some((name, _)) = self.parts.get_key_value(part) {
            return name.clone();
        }
        let name: Arc<str> = part.into();
        self.parts.insert(name.clone(), Part::default());
        if let Mode::Following(window) = &mut self.mode {
            window.add_parts(now, 1);
        }
        name
    }

    /// Removes what the source no longer says of these parts, if that is to be believed.
    fn judge(&mut self, touched: &[Arc<str>], surely: bool, now: Instant, events: &mut Vec<Event>) {
        match &self.mode {
            Mode::Following(window) => {
                let (instances, parts) = window.sum();
                // While losses are not held, no other part is gone and still there.
                let gone = touched.iter().filter(|name| self.parts.get(*name).is_some_and(|part| part.gone)).count();
                let listed = self.parts.len() - gone;
                let before = self.instances.saturating_add_signed(-instances);
                let parts_before = (listed as u64).saturating_add_signed(-parts);
                let doubted =
                    self.freeze.doubts(window.lost(), before) || self.freeze.doubts(window.lost_parts(), parts_before);
                let surely = surely && parts_before > 1 && window.only(touched);
                if doubted && !surely {
                    self.begin_freeze(now, events);
                    return;
                }
            }
            // A part that has not shrunk is believed: what it no longer has was replaced.
            Mode::Filling(_) | Mode::Frozen(..) => {
                for name in touched {
                    let whole = self.parts.get(name).is_some_and(|part| part.lost() == 0 && !part.missing());
                    if whole {
                        self.remove_absent(name, now, events);
                    }
                }
                return;
            }
        }
        touched.iter().for_each(|name| self.remove_absent(name, now, events));
    }

    /// Removes what is absent from a part, and the part if it is gone.
    fn remove_absent(&mut self, name: &Arc<str>, now: Instant, events: &mut Vec<Event>) {
        let Some(part) = self.parts.get_mut(name) else { return };
        let removed = part.remove_absent();
        if part.gone {
            self.parts.remove(name);
        }
        for object in removed {
            if let Mode::Following(window) = &mut self.mode {
                window.remember(now, name, object.clone());
            }
            events.push(self.removal(object));
        }
    }

    /// What is said of an object that its part no longer has: another part may have one of that name.
    fn removal(&mut self, object: Object) -> Event {
        let copy = match self.copies.remove(&object) {
            true => self.parts.values().find_map(|part| part.find(&object)).cloned(),
            false => None,
        };
        copy.map_or_else(|| Event::Delete(object::key(&object)), Event::Upsert)
    }
}

#[cfg(test)]
pub(crate) mod tests;
