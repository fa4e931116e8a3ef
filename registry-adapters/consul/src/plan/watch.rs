//! One query that waits, and when to ask again.

use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;
use hawser_registry_source::pacing::{Bucket, Pacer};

use super::index::{Index, Verdict};
use crate::client::Meta;

/// Questions at once, and how soon there may be another one.
const BURST: u32 = 4;
const REFILL: Duration = Duration::from_millis(250);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Paces one query that waits.
#[derive(Debug)]
pub(super) struct Watch {
    index: Index,
    state: State,
    pacer: Pacer,
    /// It was answered, or failed, once.
    tried: bool,
    /// The leader is to say what is so.
    pub(super) leader: bool,
    /// There is nothing to ask.
    pub(super) off: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due(Instant),
    Asked(u64),
}

/// A pacer for queries that wait: sooner than most, because a change is to be seen at once.
pub(super) fn pacer() -> Pacer {
    Pacer::new(Bucket::new(BURST, REFILL), Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF))
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            index: Index::default(),
            state: State::Due(now),
            pacer: pacer(),
            tried: false,
            leader: false,
            off: false,
        }
    }

    /// What to wait for. After a failure nothing: that all is well again is to be known at once, and a server that was
    /// restarted may be far from the index that it would wait for.
    pub(super) fn index(&self) -> Option<u64> {
        if self.leader || self.pacer.failures() > 0 { None } else { self.index.question() }
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) if !self.off => Some(at),
            _ => None,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    pub(super) fn ask(&mut self, id: u64) {
        self.state = State::Asked(id);
    }

    pub(super) fn asked(&self, id: u64) -> bool {
        matches!(self.state, State::Asked(asked) if asked == id)
    }

    pub(super) fn tried(&self) -> bool {
        self.tried
    }

    pub(super) fn failures(&self) -> u32 {
        self.pacer.failures()
    }

    /// Answered: whether that is to be believed.
    pub(super) fn answered(&mut self, meta: &Meta, leader: bool, now: Instant) -> Verdict {
        let verdict = self.index.take(meta.index, leader);
        self.tried = true;
        self.leader = verdict == Verdict::AskLeader;
        self.state = State::Due(now + self.pacer.answered(now));
        verdict
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.tried = true;
        self.state = State::Due(now + self.pacer.failed(now));
    }

    /// Not before.
    pub(super) fn delay(&mut self, until: Instant) {
        if let State::Due(at) = &mut self.state {
            *at = (*at).max(until);
        }
    }

    /// Now, unless it is being asked.
    pub(super) fn hasten(&mut self, now: Instant) {
        if let State::Due(at) = &mut self.state {
            *at = (*at).min(now);
        }
    }

    /// Asks for the whole at once, as if nothing was known; a question that is out is answered first.
    pub(super) fn forget(&mut self, now: Instant) {
        self.index = Index::default();
        self.hasten(now);
    }

    /// The same, and gives the question that is out, whose answer is not waited for.
    pub(super) fn restart(&mut self, now: Instant) -> Option<u64> {
        self.index = Index::default();
        let asked = match self.state {
            State::Asked(id) => Some(id),
            State::Due(_) => None,
        };
        self.state = State::Due(now);
        asked
    }
}
