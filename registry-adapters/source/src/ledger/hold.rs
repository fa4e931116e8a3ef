//! Losses that wait: until the source has said everything once, or until a sudden loss is over or confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_mesh::Event;

use super::part::Part;
use super::window::Window;
use super::{Ledger, Mode};
use crate::settings::Freeze;

/// What is held, in numbers, against what there was when holding began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    lost: u64,
    known: u64,
    gone: u64,
    parts: u64,
}

impl Held {
    pub(super) fn of(parts: &BTreeMap<Arc<str>, Part>) -> Self {
        let mut held = Self::default();
        for part in parts.values() {
            held.parts += u64::from(part.counted);
            held.lost += part.lost();
            held.known += u64::from(part.baseline);
            held.gone += u64::from(part.missing());
        }
        held
    }

    /// A part changed: what it lacks, and whether it is gone, before and after.
    pub(super) fn moved(&mut self, lost_before: u64, lost: u64, gone_before: bool, gone: bool) {
        self.lost = (self.lost + lost).saturating_sub(lost_before);
        self.gone = (self.gone + u64::from(gone)).saturating_sub(u64::from(gone_before));
    }

    /// A part is no longer among those that there were.
    pub(super) fn forget(&mut self, part: &Part, lost: u64, missing: bool) {
        self.lost = self.lost.saturating_sub(lost);
        self.known = self.known.saturating_sub(part.baseline.into());
        self.gone = self.gone.saturating_sub(missing.into());
        self.parts = self.parts.saturating_sub(part.counted.into());
    }

    fn doubted(&self, freeze: &Freeze) -> bool {
        freeze.doubts(self.lost, self.known) || freeze.doubts(self.gone, self.parts)
    }

    fn nothing(&self) -> bool {
        self.lost == 0 && self.gone == 0
    }
}

/// A freeze.
#[derive(Debug)]
pub(super) struct Frozen {
    since: Instant,
    /// The adapter's own doubt, which only it takes back.
    doubt: Option<String>,
    /// Since when what is lost is no longer too much.
    small: Option<Instant>,
    /// Since when the source says the same.
    same: (Instant, Held),
}

impl Frozen {
    fn new(doubt: Option<String>, held: Held, now: Instant) -> Self {
        Self { since: now, doubt, small: None, same: (now, held) }
    }

    pub(super) fn wake_at(&self, freeze: &Freeze) -> Option<Instant> {
        if self.doubt.is_some() {
            return None;
        }
        let small = self.small.map(|since| since + freeze.window);
        let accepted = freeze.accept_after.map(|after| self.same.0 + after);
        small.into_iter().chain(accepted).min()
    }
}

impl Ledger {
    /// The adapter itself has reason not to believe what the source says (a token without its rights, say), and why:
    /// nothing is removed until [`Ledger::trust`].
    pub fn doubt(&mut self, why: impl Into<String>, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if let Mode::Following(_) = &self.mode {
            self.begin_freeze(now, &mut events);
        }
        match &mut self.mode {
            Mode::Frozen(_, frozen) => frozen.doubt = Some(why.into()),
            Mode::Filling(held) => {
                let held = *held;
                self.mode = Mode::Frozen(held, Frozen::new(Some(why.into()), held, now));
            }
            Mode::Following(_) => {}
        }
        events
    }

    /// The adapter's reason is gone.
    pub fn trust(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let complete = self.was_heard();
        if let Mode::Frozen(held, frozen) = &mut self.mode
            && frozen.doubt.take().is_some()
        {
            (frozen.small, frozen.same) = (None, (now, *held));
            if !complete {
                self.mode = Mode::Filling(*held);
            }
        }
        self.settle(now, &mut events);
        events
    }

    /// An operator says that the loss is meant: what the source no longer says is removed. `None` if nothing is frozen.
    pub fn accept(&mut self, now: Instant) -> Option<Vec<Event>> {
        let Mode::Frozen(_, frozen) = &mut self.mode else { return None };
        frozen.doubt = None;
        let mut events = Vec::new();
        if self.was_heard() {
            self.release(now, &mut events);
        } else {
            self.believing = true;
            self.mode = Mode::Filling(Held::of(&self.parts));
        }
        Some(events)
    }

    /// Why nothing is removed, and what an operator does about it; `None` if nothing is frozen.
    pub fn frozen(&self) -> Option<(Instant, String)> {
        let Mode::Frozen(held, frozen) = &self.mode else { return None };
        let name = &self.name;
        let Held { lost, known, gone, parts } = held;
        let cause = match &frozen.doubt {
            Some(why) => why.clone(),
            None if held.nothing() => format!("{name} has back what it lost"),
            None => format!("{name} lost {lost} of {known} instances and {gone} of {parts} services at once"),
        };
        let cure = format!(
            "the last state stays; look whether the source still says all it has (its token, its filters, its own \
             health); if the loss is meant: hawser registries accept {name}"
        );
        Some((frozen.since, format!("{cause}: {cure}")))
    }

    /// Looks whether what is held may go.
    pub(super) fn settle(&mut self, now: Instant, events: &mut Vec<Event>) {
        match &mut self.mode {
            Mode::Following(_) => {}
            Mode::Filling(held) => {
                let held = *held;
                if !self.was_heard() {
                    return;
                }
                let believing = std::mem::take(&mut self.believing);
                if held.doubted(&self.freeze) && !believing {
                    self.mode = Mode::Frozen(held, Frozen::new(None, held, now));
                } else {
                    self.release(now, events);
                }
                self.completed(events);
            }
            Mode::Frozen(held, frozen) => {
                let held = *held;
                if frozen.same.1 != held || self.silence.is_failing() {
                    frozen.same = (now, held);
                }
                frozen.small = match held.doubted(&self.freeze) {
                    true => None,
                    false => frozen.small.or(Some(now)),
                };
                let over = |since: Instant, length: Duration| since + length <= now;
                let ends = held.nothing()
                    || frozen.small.is_some_and(|since| over(since, self.freeze.window))
                    || self.freeze.accept_after.is_some_and(|after| over(frozen.same.0, after));
                let doubted = frozen.doubt.is_some();
                if self.was_heard() {
                    self.completed(events);
                    if ends && !doubted {
                        self.release(now, events);
                    }
                }
            }
        }
    }

    /// Nothing is removed from now on, and what was removed within the window is said again.
    pub(super) fn begin_freeze(&mut self, now: Instant, events: &mut Vec<Event>) {
        let Mode::Following(window) = &mut self.mode else { return };
        let window = std::mem::replace(window, Window::new(self.freeze.window));
        for (name, part) in &mut self.parts {
            part.baseline = u32::try_from(i64::from(part.current) - window.net(name)).unwrap_or_default();
            part.counted = true;
        }
        let mut back = BTreeSet::new();
        for (name, object) in window.removed() {
            let lost = u32::try_from(-window.net(name)).unwrap_or_default();
            let part = match self.parts.get_mut(name) {
                Some(part) if lost > 0 || back.contains(name) => part,
                // What it no longer has was replaced.
                Some(_) => continue,
                None => {
                    back.insert(name.clone());
                    self.parts.entry(name.clone()).or_insert(Part::lost_before(lost))
                }
            };
            if part.put_back(object) {
                self.copies.add(object);
                events.push(Event::Upsert(object.clone()));
            }
        }
        let held = Held::of(&self.parts);
        self.mode = Mode::Frozen(held, Frozen::new(None, held, now));
    }

    /// The list of parts was heard, and each of them.
    fn was_heard(&self) -> bool {
        self.complete || (self.listed && self.parts.values().all(|part| part.heard || part.gone))
    }

    fn completed(&mut self, events: &mut Vec<Event>) {
        self.complete = true;
        self.silence.complete(events);
        if !std::mem::replace(&mut self.synced, true) {
            events.push(Event::Synced);
        }
    }

    /// What was held goes, and what the source says counts.
    fn release(&mut self, now: Instant, events: &mut Vec<Event>) {
        let names: Vec<Arc<str>> = self.parts.keys().cloned().collect();
        for name in &names {
            self.remove_absent(name, now, events);
        }
        self.mode = Mode::Following(Window::new(self.freeze.window));
    }
}
