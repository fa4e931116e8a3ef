//! What was lost lately, so that a loss that comes in pieces is seen as one.
//!
//! Invariant: only what a part lost on balance counts: instances that are replaced are no loss.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_mesh::Object;

/// Changes within a time.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    changes: VecDeque<(Instant, Option<Arc<str>>, i64)>,
    /// By part, on balance.
    net: HashMap<Arc<str>, i64>,
    /// Of all parts that lost.
    lost: u64,
    /// Of all parts together.
    instances: i64,
    /// Of the number of parts.
    parts: i64,
    removed: VecDeque<(Instant, Arc<str>, Object)>,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            changes: VecDeque::new(),
            net: HashMap::new(),
            lost: 0,
            instances: 0,
            parts: 0,
            removed: VecDeque::new(),
        }
    }

    /// The number of a part's instances changed.
    pub(super) fn add(&mut self, now: Instant, part: &Arc<str>, change: i64) {
        self.expire(now);
        if change != 0 {
            self.changes.push_back((now, Some(part.clone()), change));
            self.weigh(part, change);
        }
    }

    /// The number of parts changed.
    pub(super) fn add_parts(&mut self, now: Instant, change: i64) {
        self.changes.push_back((now, None, change));
        self.parts += change;
    }

    /// An object was removed.
    pub(super) fn remember(&mut self, now: Instant, part: &Arc<str>, object: Object) {
        self.removed.push_back((now, part.clone(), object));
    }

    /// Instances that parts lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Parts that were lost.
    pub(super) fn lost_parts(&self) -> u64 {
        self.parts.min(0).unsigned_abs()
    }

    /// By how much a part changed.
    pub(super) fn net(&self, part: &str) -> i64 {
        self.net.get(part).copied().unwrap_or_default()
    }

    /// By how much all parts together changed, and their number.
    pub(super) fn sum(&self) -> (i64, i64) {
        (self.instances, self.parts)
    }

    /// What was removed, by part.
    pub(super) fn removed(&self) -> impl Iterator<Item = (&Arc<str>, &Object)> {
        self.removed.iter().map(|(_, part, object)| (part, object))
    }

    /// Whether nothing was lost but these parts.
    pub(super) fn only(&self, parts: &[Arc<str>]) -> bool {
        let others = self.net.iter().any(|(name, net)| *net < 0 && !parts.contains(name));
        !others && self.lost_parts() <= parts.len() as u64
    }

    /// When the oldest of it is over.
    pub(super) fn over_at(&self) -> Option<Instant> {
        let removed = self.removed.front().map(|(at, ..)| *at);
        let changed = self.changes.front().map(|(at, ..)| *at);
        removed.into_iter().chain(changed).min().map(|at| at + self.length)
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let length = self.length;
        let over = |at: Instant| at + length <= now;
        while self.removed.front().is_some_and(|(at, ..)| over(*at)) {
            self.removed.pop_front();
        }
        while self.changes.front().is_some_and(|(at, ..)| over(*at)) {
            match self.changes.pop_front() {
                Some((_, Some(part), change)) => self.weigh(&part, -change),
                Some((_, None, change)) => self.parts -= change,
                None => {}
            }
        }
    }

    fn weigh(&mut self, part: &Arc<str>, change: i64) {
        let net = self.net.entry(part.clone()).or_default();
        self.lost -= (*net).min(0).unsigned_abs();
        *net += change;
        self.instances += change;
        self.lost += (*net).min(0).unsigned_abs();
        if *net == 0 {
            self.net.remove(part);
        }
    }
}
