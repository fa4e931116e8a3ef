//! How many queries may wait for services, and which of these places are taken.
//!
//! Fewer for a while after a server would not take so many, then more again step by step. A query that was cancelled takes
//! its place until it would have ended: the server does not notice, and counts its connection up to then.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// How long the number stays lowered after a server would not take so many.
const CROWDED: Duration = Duration::from_secs(60);
/// Refusals within this are one word.
const TOGETHER: Duration = Duration::from_secs(2);

/// Which of the queries that may wait are taken.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: BTreeSet<usize>,
    capacity: usize,
    /// Servers did not take more than this, until then.
    crowded: Option<(usize, Instant)>,
    /// When the connections of cancelled queries are free, in order.
    lingering: VecDeque<Instant>,
}

impl Slots {
    /// How many there may be now.
    pub(super) fn room(&self, now: Instant) -> usize {
        let lingering = self.lingering.iter().filter(|until| **until > now).count();
        let free = self.capacity.saturating_sub(lingering);
        match self.crowded {
            Some((most, until)) if now < until => free.min(most),
            _ => free,
        }
    }

    /// A query was cancelled, which the server knows at that time.
    pub(super) fn linger(&mut self, until: Instant) {
        self.lingering.push_back(until);
    }

    /// Takes the first place that is free.
    pub(super) fn take(&mut self) -> usize {
        let free = (0..).find(|slot| !self.taken.contains(slot)).unwrap_or_default();
        self.taken.insert(free);
        free
    }

    /// A server would not take a query: fewer for a while. `true` unless that was decided a moment ago.
    pub(super) fn is_crowded(&mut self, now: Instant) -> bool {
        if self.crowded.is_some_and(|(_, until)| until > now + CROWDED - TOGETHER) {
            return false;
        }
        self.crowded = Some((self.taken.len() / 2, now + CROWDED));
        true
    }

    /// Whether there may be more from now on.
    pub(super) fn recovers(&mut self, now: Instant) -> bool {
        let before = self.lingering.len();
        while self.lingering.front().is_some_and(|until| *until <= now) {
            self.lingering.pop_front();
        }
        let freed = self.lingering.len() < before;
        let Some((most, _)) = self.crowded.filter(|(_, until)| now >= *until) else { return freed };
        let more = most + (most / 10).max(4);
        self.crowded = Some((more, now + CROWDED / 2)).filter(|_| more < self.capacity);
        true
    }

    /// When [`Slots::recovers`] has something to say.
    pub(super) fn recovers_at(&self) -> Option<Instant> {
        self.crowded.map(|(_, until)| until).into_iter().chain(self.lingering.front().copied()).min()
    }

    pub(super) fn give_back(&mut self, slot: usize) {
        self.taken.remove(&slot);
    }

    pub(super) fn has_capacity(&self, capacity: usize) -> bool {
        self.capacity == capacity
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_no_more_is_asked_less_for_a_while_and_then_more_again() {
        let now = Instant::now();
        let mut slots = Slots { capacity: 100, ..Slots::default() };
        (0..100).for_each(|_| {
            slots.take();
        });
        assert!(slots.is_crowded(now) && !slots.is_crowded(now));
        assert_eq!((slots.room(now), slots.room(now + CROWDED)), (50, 100));
        let mut then = now;
        let mut rooms = Vec::new();
        while let Some(at) = slots.recovers_at() {
            then = at;
            assert!(slots.recovers(then));
            rooms.push(slots.room(then));
        }
        assert_eq!(rooms, [55, 60, 66, 72, 79, 86, 94, 100]);
        assert!(then - now < CROWDED * 6);
    }

    #[test]
    fn a_query_that_was_cancelled_takes_its_place_until_the_server_knows() {
        let now = Instant::now();
        let mut slots = Slots { capacity: 10, ..Slots::default() };
        slots.linger(now + CROWDED);
        assert_eq!((slots.room(now), slots.recovers(now), slots.recovers_at()), (9, false, Some(now + CROWDED)));
        assert!(slots.recovers(now + CROWDED));
        assert_eq!((slots.room(now + CROWDED), slots.recovers_at()), (10, None));
    }

    #[test]
    fn a_place_that_was_given_back_is_taken_again() {
        let mut slots = Slots::default();
        let taken: Vec<usize> = (0..3).map(|_| slots.take()).collect();
        slots.give_back(1);
        assert_eq!((taken, slots.take(), slots.take()), (vec![0, 1, 2], 1, 3));
    }
}
