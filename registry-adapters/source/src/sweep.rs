//! Who is due next, where many things are each looked at once a period.
//!
//! In: names that come, go or are wanted at once, the time. Out: names that are due. Invariant: each name once a
//! period, spread over it by a hash, so that a thousand names are no thousand questions at one moment.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A schedule of names.
#[derive(Clone, Debug)]
pub struct Sweep {
    period: Duration,
    start: Instant,
    due: BTreeSet<(Instant, Arc<str>)>,
    times: HashMap<Arc<str>, Instant>,
}

impl Sweep {
    /// An empty schedule: each name is due once every `period`.
    pub fn new(period: Duration, now: Instant) -> Self {
        let period = period.max(Duration::from_millis(1));
        Self { period, start: now, due: BTreeSet::new(), times: HashMap::new() }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether a name is in it.
    pub fn contains(&self, name: &str) -> bool {
        self.times.contains_key(name)
    }

    /// Adds a name, due at once and from then on at its own place in the period; `false` if it is there already.
    pub fn insert(&mut self, name: &Arc<str>, now: Instant) -> bool {
        let new = !self.contains(name);
        if new {
            self.set(name, now);
        }
        new
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) -> bool {
        match self.times.remove_entry(name) {
            Some((name, at)) => self.due.remove(&(at, name)),
            None => false,
        }
    }

    /// A name that is in it is due now.
    pub fn hasten(&mut self, name: &str, now: Instant) {
        if let Some((name, at)) = self.times.get_key_value(name).map(|(name, at)| (name.clone(), *at))
            && at > now
        {
            self.set(&name, now);
        }
    }

    /// The next name that is due, which is then due again a period later.
    pub fn next(&mut self, now: Instant) -> Option<Arc<str>> {
        let (at, name) = self.due.first()?.clone();
        if at > now {
            return None;
        }
        let next = self.slot(&name, now);
        self.set(&name, next);
        Some(name)
    }

    /// When somebody is due next.
    pub fn wake_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, name: &Arc<str>, at: Instant) {
        if let Some(old) = self.times.insert(name.clone(), at) {
            self.due.remove(&(old, name.clone()));
        }
        self.due.insert((at, name.clone()));
    }

    /// The name's own moment in the period that begins after `now`, at least half a period away.
    fn slot(&self, name: &str, now: Instant) -> Instant {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let share = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
        let offset = self.period.mul_f64(share);
        let earliest = (now - self.start) + self.period / 2;
        let nanos = self.period.as_nanos();
        let rounds = earliest.saturating_sub(offset).as_nanos().div_ceil(nanos);
        self.start + offset + Duration::from_nanos_u128(rounds * nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn drain(sweep: &mut Sweep, now: Instant) -> Vec<Arc<str>> {
        std::iter::from_fn(|| sweep.next(now)).collect()
    }

    #[test]
    fn each_is_due_at_once_and_then_once_a_period_spread_over_it() {
        let start = Instant::now();
        let mut sweep = Sweep::new(PERIOD, start);
        let names: Vec<Arc<str>> = (0..1000).map(|n| Arc::from(format!("n{n}"))).collect();
        assert!(names.iter().all(|name| sweep.insert(name, start)));
        assert!(!sweep.insert(&names[0], start));
        assert_eq!(drain(&mut sweep, start).len(), 1000);
        let mut most = 0;
        let mut all = 0;
        for tick in 1..=300 {
            let due = drain(&mut sweep, start + Duration::from_millis(100) * tick).len();
            most = most.max(due);
            all += due;
        }
        assert!((2400..=3000).contains(&all), "{all}");
        assert!(most < 60, "{most} at once");
    }

    #[test]
    fn who_is_hastened_is_due_and_who_is_gone_is_not() {
        let start = Instant::now();
        let mut sweep = Sweep::new(PERIOD, start);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        sweep.insert(&a, start);
        sweep.insert(&b, start);
        drain(&mut sweep, start);
        assert!(sweep.wake_at().unwrap() >= start + PERIOD / 2);
        sweep.hasten("a", start);
        sweep.hasten("nobody", start);
        assert_eq!(drain(&mut sweep, start), [a]);
        assert!(sweep.remove("b") && !sweep.remove("b"));
        assert_eq!((sweep.len(), sweep.contains("b")), (1, false));
        assert!(drain(&mut sweep, start + PERIOD * 3).iter().all(|name| **name == *"a"));
    }
}
