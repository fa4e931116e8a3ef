//! What is to be written, and when. No I/O.
//!
//! In: keys of objects that may differ from what is wanted, ends of writes. Out: the next key. A key waits once, whatever
//! happened to it meanwhile. Invariant: an object that can't be written holds up no other; a server that is busy or away
//! is left alone for longer and longer; no lane is faster than it may be.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;

use crate::watch::Failure;

/// Writes at the same time.
const AT_ONCE: usize = 8;
/// Waits after failures.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);
/// A refusal that lasts so long is meant.
const MEANT: Duration = Duration::from_secs(20);

/// Kinds of writes, the most urgent first.
pub(super) const LANES: usize = 5;
/// How many a second, and how many at once after a pause, of each.
const RATES: [(f64, f64); LANES] = [(50.0, 100.0), (50.0, 100.0), (50.0, 100.0), (10.0, 20.0), (1.0, 25.0)];

/// What can wait.
pub(super) trait Key: Clone + Eq + Ord + Hash {
    /// Which lane it waits in.
    fn lane(&self) -> usize;
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next<K> {
    Now(K),
    /// Not before.
    At(Instant),
    /// Nothing is to be done, or nothing before one of those under way ends.
    Idle,
}

#[derive(Debug)]
pub(super) struct Queue<K> {
    lanes: [Lane<K>; LANES],
    flying: HashSet<K>,
    /// The server as a whole.
    pause: Pause,
}

#[derive(Debug)]
struct Lane<K> {
    order: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failed: HashMap<K, Backoff>,
    /// Rights or a definition may be missing.
    pause: Pause,
    refused: Option<(Instant, Failure)>,
    tokens: f64,
    counted: Option<Instant>,
}

#[derive(Debug)]
struct Pause {
    until: Option<Instant>,
    backoff: Backoff,
    /// It is not known whether it is over: one is sent to look.
    doubtful: bool,
}

impl Pause {
    fn new() -> Self {
        Self { until: None, backoff: Backoff::new(FIRST, LONGEST), doubtful: false }
    }

    /// Writes that were under way together fail together: that counts once.
    fn begin(&mut self, at_least: Duration, now: Instant) {
        let until = match self.until {
            Some(until) if until > now => until,
            _ => now + self.backoff.next_wait(),
        };
        self.until = Some(until.max(now + at_least));
        self.doubtful = true;
    }

    fn end(&mut self) {
        (self.until, self.doubtful) = (None, false);
        self.backoff.reset();
    }

    fn wait(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

impl<K: Key> Default for Queue<K> {
    fn default() -> Self {
        let lane = |(_, burst): (f64, f64)| Lane {
            order: BTreeSet::new(),
            due: HashMap::new(),
            failed: HashMap::new(),
            pause: Pause::new(),
            refused: None,
            tokens: burst,
            counted: None,
        };
        Self { lanes: RATES.map(lane), flying: HashSet::new(), pause: Pause::new() }
    }
}

impl<K: Key> Queue<K> {
    /// Something may be to do. One that failed keeps its time.
    pub(super) fn want(&mut self, key: K, at: Instant) {
        let lane = &mut self.lanes[key.lane()];
        match lane.due.get(&key) {
            Some(due) if *due <= at || lane.failed.contains_key(&key) => {}
            _ => lane.set(key, at),
        }
    }

    /// What to look at next. It is under way from then on, until [`Queue::done`].
    pub(super) fn next(&mut self, now: Instant) -> Next<K> {
        let most = if self.pause.doubtful { 1 } else { AT_ONCE };
        if self.flying.len() >= most {
            return Next::Idle;
        }
        if let Some(until) = self.pause.wait(now) {
            let waiting = self.lanes.iter().any(|lane| !lane.order.is_empty());
            return if waiting { Next::At(until) } else { Next::Idle };
        }
        let mut soonest: Option<Instant> = None;
        for (number, (lane, rate)) in self.lanes.iter_mut().zip(RATES).enumerate() {
            let busy = lane.pause.doubtful && self.flying.iter().any(|key| key.lane() == number);
            let Some((due, key)) = lane.order.iter().find(|(_, key)| !self.flying.contains(key)).cloned() else {
                continue;
            };
            if busy {
                continue;
            }
            let at = [Some(due), lane.pause.wait(now), lane.has_token(rate, now)].into_iter().flatten().max();
            match at {
                Some(at) if at > now => soonest = Some(soonest.map_or(at, |soonest| soonest.min(at))),
                _ => {
                    lane.take(&key);
                    lane.tokens -= 1.0;
                    self.flying.insert(key.clone());
                    return Next::Now(key);
                }
            }
        }
        soonest.map_or(Next::Idle, Next::At)
    }

    /// There was nothing to do after all.
    pub(super) fn idle(&mut self, key: &K) {
        self.flying.remove(key);
        let lane = &mut self.lanes[key.lane()];
        lane.failed.remove(key);
        lane.tokens += 1.0;
    }

    /// The server took it.
    pub(super) fn done(&mut self, key: &K) {
        self.flying.remove(key);
        self.pause.end();
        let lane = &mut self.lanes[key.lane()];
        lane.failed.remove(key);
        lane.refused = None;
        lane.pause.end();
    }

    /// The server did not. Tried again later.
    pub(super) fn failed(&mut self, key: &K, failure: &Failure, now: Instant) {
        self.flying.remove(key);
        let lane = &mut self.lanes[key.lane()];
        match failure {
            Failure::Busy(_, wait) => self.pause.begin(*wait, now),
            Failure::Unreachable(_) | Failure::Unauthorized(_) => self.pause.begin(Duration::ZERO, now),
            _ => self.pause.end(),
        }
        let wait = match failure {
            // It is not the object's fault.
            Failure::Busy(..) | Failure::Unreachable(_) | Failure::Unauthorized(_) => Duration::ZERO,
            _ => lane.failed.entry(key.clone()).or_insert_with(|| Backoff::new(FIRST, LONGEST)).next_wait(),
        };
        if is_of_kind(failure) {
            lane.pause.begin(Duration::ZERO, now);
            lane.refused = Some((lane.refused.take().map_or(now, |(since, _)| since), failure.clone()));
        }
        lane.set(key.clone(), now + wait);
    }

    /// It will not be tried again, whatever became of it.
    pub(super) fn drop(&mut self, key: &K) {
        self.flying.remove(key);
        let lane = &mut self.lanes[key.lane()];
        lane.failed.remove(key);
        lane.take(key);
    }

    /// Why a whole lane stands, if that lasts.
    pub(super) fn refused(&self, lane: usize, now: Instant) -> Option<&Failure> {
        let (since, failure) = self.lanes.get(lane)?.refused.as_ref()?;
        (now - *since >= MEANT).then_some(failure)
    }

    /// Whether the last try failed.
    pub(super) fn has_failed(&self, key: &K) -> bool {
        self.lanes[key.lane()].failed.contains_key(key)
    }
}

impl<K: Key> Lane<K> {
    fn set(&mut self, key: K, at: Instant) {
        if let Some(old) = self.due.insert(key.clone(), at) {
            self.order.remove(&(old, key.clone()));
        }
        self.order.insert((at, key));
    }

    fn take(&mut self, key: &K) {
        if let Some(due) = self.due.remove(key) {
            self.order.remove(&(due, key.clone()));
        }
    }

    /// `None` if it may; else when.
    fn has_token(&mut self, (rate, burst): (f64, f64), now: Instant) -> Option<Instant> {
        let since = self.counted.replace(now).map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        self.tokens = (self.tokens + since.as_secs_f64() * rate).min(burst);
        (self.tokens < 1.0).then(|| now + Duration::from_secs_f64((1.0 - self.tokens) / rate))
    }
}

/// Whether a failure is of everything of the kind, and not of one object.
fn is_of_kind(failure: &Failure) -> bool {
    match failure {
        Failure::Denied(why) => !why.contains("being terminated"),
        Failure::NotFound(why) => why.starts_with("404 page not found"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
