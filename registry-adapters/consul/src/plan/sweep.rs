//! The pace at which services are read again of which nothing tells that they changed.
//!
//! In: what rests, by when it was read. Out: one after the other, oldest first, spread evenly over a round's time.
//! Invariant: at no time more than a burst of what was not used of the pace is made up for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads are asked in bursts this far apart, so that they cost few wake-ups.
const GRAIN: Duration = Duration::from_millis(20);
/// The share of a round that is made up for after reads were held up.
const BURST: u32 = 8;

/// Services by a moment of theirs, the earliest first.
pub(super) type Queue = BTreeSet<(Instant, Arc<str>)>;

/// Services that rest, and when the next of them may be read.
#[derive(Debug)]
pub(super) struct Sweep {
    /// By when they were read.
    pub(super) resting: Queue,
    /// Time of a round.
    round: Duration,
    next: Instant,
}

impl Sweep {
    /// Nothing rests yet. A `round` reads everything once.
    pub(super) fn new(round: Duration, now: Instant) -> Self {
        Self { resting: Queue::new(), round, next: now }
    }

    /// When the pace allows the next read, if something was read before that moment.
    fn due_at(&self, before: Option<Instant>) -> Option<Instant> {
        let (since, _) = self.resting.first()?;
        before.is_some_and(|before| *since < before).then_some(self.next)
    }

    /// What was read longest ago, if that was before that moment and the pace allows it.
    pub(super) fn take(&mut self, before: Option<Instant>, now: Instant) -> Option<Arc<str>> {
        self.due_at(before).filter(|at| *at <= now)?;
        let step = self.round / u32::try_from(self.resting.len()).unwrap_or(u32::MAX).max(1);
        let burst = GRAIN.max(self.round / BURST);
        self.next = self.next.max(now.checked_sub(burst).unwrap_or(now)) + step;
        self.resting.first().map(|(_, name)| name.clone())
    }

    /// When to look again: soon if something changed after what was read longest ago, else once that is `refresh` old.
    pub(super) fn wake_at(&self, changed_at: Option<Instant>, refresh: Duration, now: Instant) -> Option<Instant> {
        let (since, _) = self.resting.first()?;
        Some(match self.due_at(changed_at) {
            Some(at) => at.max(now + GRAIN / 2),
            None => self.next.max(*since + refresh),
        })
    }
}
