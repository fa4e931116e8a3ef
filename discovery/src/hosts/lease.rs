//! Leases: who is in, who lapsed, and when a lapse is not believed. Pure: time comes in.
//!
//! In: renewals, drains, goodbyes, and ticks. Out: which hosts' endpoints changed their state. Invariant: losing many
//! at once may be our own network's fault, so it empties nobody's list: lapsed endpoints of a frozen registry are
//! the last choice, and those of a service that lapsed whole stay as they were.
//!
//! Hosts that were cut off together do not lapse together, but within one heartbeat of each other. So a lease that is
//! half over without a word counts as lapsing when another one lapses: the first of many is not sent out as dead
//! before the rest show what is going on. What such overdue leases decided is provisional until they lapse or speak.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a start every lease has this long.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// Fewer lapses than this freeze no registry.
const FEWEST: usize = 3;
/// Nor does a share up to this, in percent.
const SHARE: usize = 15;

/// How a host's lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Joined, no session yet: not published.
    New,
    /// Held by a session.
    Connected,
    /// Discovery started; the host has not come back yet.
    Grace,
    /// On its way out, in order.
    Draining,
    /// Lapsed: out.
    Lapsed,
    /// Lapsed with many: last choice.
    Degraded,
    /// Lapsed with all of a service: as it was.
    Kept,
    /// It said goodbye, and may come back: not published.
    Away,
}

impl State {
    /// As listings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Connected => "connected",
            Self::Grace => "grace",
            Self::Draining => "draining",
            Self::Lapsed => "lapsed",
            Self::Degraded | Self::Kept => "frozen",
            Self::Away => "away",
        }
    }

    /// Every state, for gauges.
    pub const ALL: [Self; 8] =
        [Self::New, Self::Connected, Self::Grace, Self::Draining, Self::Lapsed, Self::Degraded, Self::Kept, Self::Away];
}

/// The leases of a registry.
#[derive(Debug)]
pub(super) struct Leases {
    lease: Duration,
    hosts: BTreeMap<Arc<str>, Lease>,
    /// When to look at a host again.
    due: BTreeSet<(Instant, Arc<str>)>,
    freezes: u64,
    frozen: bool,
}

#[derive(Debug)]
struct Lease {
    services: BTreeSet<Arc<str>>,
    phase: Phase,
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Held { renewed: Instant, until: Instant, grace: bool, draining: bool },
    Lapsed { at: Instant, fate: Fate, sure: bool },
    Away,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Out,
    Degraded,
    Kept,
}

impl Leases {
    /// No hosts yet.
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, hosts: BTreeMap::new(), due: BTreeSet::new(), freezes: 0, frozen: false }
    }

    /// A host of the store, at start, or a new one. `services` are the names of services that it backs.
    pub(super) fn add(&mut self, id: Arc<str>, services: BTreeSet<Arc<str>>, state: State, now: Instant) {
        let phase = match state {
            State::New => Phase::New,
            State::Away => Phase::Away,
            State::Lapsed | State::Degraded | State::Kept => Phase::Lapsed { at: now, fate: Fate::Out, sure: true },
            State::Grace | State::Connected | State::Draining => {
                let until = now + GRACE.max(self.lease);
                Phase::Held { renewed: now, until, grace: true, draining: false }
            }
        };
        self.remove(&id);
        self.hosts.insert(id.clone(), Lease { services, phase, due: None });
        self.queue(&id, now);
    }

    /// The services of a host changed.
    pub(super) fn set_services(&mut self, id: &str, services: BTreeSet<Arc<str>>) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.services = services;
        }
    }

    /// A session opened: its lease begins, a drain ends. Whether the host's state changed.
    pub(super) fn open(&mut self, id: &str, now: Instant) -> bool {
        let until = now + self.lease;
        self.change(id, now, |_| Some(Phase::Held { renewed: now, until, grace: false, draining: false }))
    }

    /// A heartbeat. Whether the host's state changed.
    pub(super) fn renew(&mut self, id: &str, now: Instant) -> bool {
        let until = now + self.lease;
        self.change(id, now, |old| match old {
            Phase::Held { draining, .. } => Some(Phase::Held { renewed: now, until, grace: false, draining }),
            Phase::Lapsed { .. } => Some(Phase::Held { renewed: now, until, grace: false, draining: false }),
            // A heartbeat that overtook a goodbye revives nobody.
            Phase::New | Phase::Away => None,
        })
    }

    /// The host goes, in order. Whether its state changed.
    pub(super) fn drain(&mut self, id: &str, now: Instant) -> bool {
        self.believe_beside(id);
        self.change(id, now, |old| match old {
            Phase::Held { renewed, until, grace, .. } => Some(Phase::Held { renewed, until, grace, draining: true }),
            _ => None,
        })
    }

    /// The host said goodbye. Whether its state changed.
    pub(super) fn away(&mut self, id: &str, now: Instant) -> bool {
        self.believe_beside(id);
        self.change(id, now, |_| Some(Phase::Away))
    }

    /// Who says that it goes was heard: that others of its services fell silent was not our own network. So they stay
    /// out, even when its going leaves no live host beside them.
    fn believe_beside(&mut self, id: &str) {
        let Some(Lease { services, phase: Phase::Held { grace: false, .. }, .. }) = self.hosts.get(id) else { return };
        let services = services.clone();
        for host in self.hosts.values_mut().filter(|h| !h.services.is_disjoint(&services)) {
            if let Phase::Lapsed { fate: Fate::Out, sure, .. } = &mut host.phase {
                *sure = true;
            }
        }
    }

    /// The host is forgotten or revoked.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some((id, Lease { due: Some(at), .. })) = self.hosts.remove_entry(id) {
            self.due.remove(&(at, id));
        }
        self.frozen = self.frozen && self.hosts.values().any(|host| is_frozen(host.phase));
    }

    /// How a host's lease is.
    pub(super) fn state(&self, id: &str) -> Option<State> {
        self.hosts.get(id).map(|host| state_of(host.phase))
    }

    /// Hosts in each state.
    pub(super) fn counts(&self) -> BTreeMap<State, usize> {
        let mut counts: BTreeMap<State, usize> = State::ALL.into_iter().map(|state| (state, 0)).collect();
        for host in self.hosts.values() {
            *counts.entry(state_of(host.phase)).or_default() += 1;
        }
        counts
    }

    /// Whether lapses are not believed just now.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Freezes so far.
    pub(super) fn freezes(&self) -> u64 {
        self.freezes
    }

    /// Services of which hosts are kept because all of them lapsed.
    pub(super) fn frozen_services(&self) -> BTreeSet<Arc<str>> {
        let dead = self.services_without(|phase| matches!(phase, Phase::Held { .. }));
        let kept = self.hosts.values().filter(|h| matches!(h.phase, Phase::Lapsed { fate: Fate::Kept, .. }));
        kept.flat_map(|h| h.services.iter()).filter(|s| dead.contains(*s)).cloned().collect()
    }

    /// When to tick next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Lets time pass: hosts whose state changed.
    pub(super) fn tick(&mut self, now: Instant) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        let mut looked = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.due.pop_first() else { break };
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            host.due = None;
            if let Phase::Held { until, draining, .. } = host.phase
                && until <= now
            {
                // A host that was leaving has left: nothing to doubt.
                let lapsed = Phase::Lapsed { at: now, fate: Fate::Out, sure: false };
                host.phase = if draining { Phase::Away } else { lapsed };
                changed.insert(id.clone());
            }
            looked.push(id);
        }
        self.judge(now, &mut changed);
        looked.iter().for_each(|id| self.queue(id, now));
        changed
    }

    /// Decides what becomes of lapsed hosts.
    fn judge(&mut self, now: Instant, changed: &mut BTreeSet<Arc<str>>) {
        let (mut live, mut overdue, mut recent, mut open) = (0, 0, 0, false);
        for host in self.hosts.values() {
            match host.phase {
                Phase::Held { draining: true, .. } | Phase::New | Phase::Away => {}
                Phase::Held { .. } => {
                    live += 1;
                    overdue += usize::from(is_overdue(host.phase, now, self.lease));
                }
                Phase::Lapsed { at, fate, sure } => {
                    recent += usize::from(now - at <= self.lease);
                    open |= !sure || fate == Fate::Kept;
                }
            }
        }
        if open {
            let base = live + recent;
            let freezes = |lapsed: usize| lapsed >= FEWEST && lapsed * 100 > SHARE * base;
            let (sure_freeze, maybe_freeze) = (freezes(recent), freezes(recent + overdue));
            let lease = self.lease;
            let sure_dead = self.services_without(|phase| matches!(phase, Phase::Held { draining: false, .. }));
            let maybe_dead = self.services_without(|phase| {
                matches!(phase, Phase::Held { draining: false, .. }) && !is_overdue(phase, now, lease)
            });
            for (id, host) in &mut self.hosts {
                let Phase::Lapsed { at, fate, sure } = host.phase else { continue };
                if sure && fate != Fate::Kept {
                    continue;
                }
                let in_one = |dead: &BTreeSet<Arc<str>>| host.services.iter().any(|s| dead.contains(s));
                let over = now - at > lease;
                let (new, new_sure) = if in_one(&sure_dead) {
                    (Fate::Kept, true)
                } else if fate == Fate::Kept && sure {
                    // Another host of its service came back: it is the last choice from now on.
                    (Fate::Degraded, true)
                } else if over {
                    // Nothing that is still open can be decided by leases of another time.
                    (if fate == Fate::Kept { Fate::Out } else { fate }, true)
                } else if in_one(&maybe_dead) {
                    (Fate::Kept, false)
                } else if sure_freeze {
                    (Fate::Degraded, true)
                } else if maybe_freeze {
                    (Fate::Degraded, false)
                } else {
                    (Fate::Out, false)
                };
                host.phase = Phase::Lapsed { at, fate: new, sure: new_sure };
                if new != fate {
                    changed.insert(id.clone());
                }
            }
        }
        let frozen = self.hosts.values().any(|host| is_frozen(host.phase));
        self.freezes += u64::from(frozen && !self.frozen);
        self.frozen = frozen;
    }

    /// Services that have hosts, and none for which `alive` holds.
    fn services_without(&self, alive: impl Fn(Phase) -> bool) -> BTreeSet<Arc<str>> {
        let mut services: BTreeMap<&Arc<str>, bool> = BTreeMap::new();
        for host in self.hosts.values().filter(|h| !matches!(h.phase, Phase::New | Phase::Away)) {
            for service in &host.services {
                *services.entry(service).or_default() |= alive(host.phase);
            }
        }
        services.into_iter().filter(|(_, alive)| !alive).map(|(service, _)| service.clone()).collect()
    }

    fn change(&mut self, id: &str, now: Instant, to: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        let Some((id, _)) = self.hosts.get_key_value(id) else { return false };
        let id = id.clone();
        let Some(host) = self.hosts.get_mut(&id) else { return false };
        let old = host.phase;
        let Some(new) = to(old) else { return false };
        host.phase = new;
        self.queue(&id, now);
        if is_frozen(old) {
            self.frozen = self.hosts.values().any(|host| is_frozen(host.phase));
        }
        state_of(old) != state_of(new)
    }

    fn queue(&mut self, id: &Arc<str>, now: Instant) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        let at = match host.phase {
            Phase::Held { until, .. } => Some(until),
            // Overdue leases lapse or speak soon: what they decided is looked at again.
            Phase::Lapsed { sure: false, .. } => Some(now + self.lease / 10),
            Phase::Lapsed { fate: Fate::Kept, .. } => Some(now + self.lease),
            _ => None,
        };
        if let Some(old) = std::mem::replace(&mut host.due, at) {
            self.due.remove(&(old, id.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, id.clone()));
        }
    }
}

fn is_frozen(phase: Phase) -> bool {
    matches!(phase, Phase::Lapsed { fate: Fate::Degraded | Fate::Kept, .. })
}

fn is_overdue(phase: Phase, now: Instant, lease: Duration) -> bool {
    matches!(phase, Phase::Held { renewed, grace: false, draining: false, .. } if now - renewed > lease / 2)
}

fn state_of(phase: Phase) -> State {
    match phase {
        Phase::New => State::New,
        Phase::Held { draining: true, .. } => State::Draining,
        Phase::Held { grace: true, .. } => State::Grace,
        Phase::Held { .. } => State::Connected,
        Phase::Lapsed { fate: Fate::Out, .. } => State::Lapsed,
        Phase::Lapsed { fate: Fate::Degraded, .. } => State::Degraded,
        Phase::Lapsed { fate: Fate::Kept, .. } => State::Kept,
        Phase::Away => State::Away,
    }
}

#[cfg(test)]
mod tests;
