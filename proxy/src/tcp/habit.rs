//! How much a cluster's TCP connections carry: what decides whether the next one shares a connection or has its own.
//!
//! In: bytes of connections while they live, and when they end. Out: whether the mean of the last ones is so large that a
//! handshake costs less than what tunnels add to every byte. Shared by workers, kept over configurations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::ClusterState;

/// From here on a handshake is the cheaper part: half a millisecond against a quarter of a second a gigabyte, with a margin.
const BULK: u64 = 4 << 20;
/// A connection counts for no more, so that one giant is not remembered over the many that follow.
const MOST: u64 = 64 << 20;
/// One connection's part of the mean.
const PART: u64 = 8;

/// The mean of what the last connections carried, in bytes.
#[derive(Debug, Default)]
pub struct Habit(AtomicU64);

impl Habit {
    /// Whether connections carry much.
    pub fn is_bulk(&self) -> bool {
        self.0.load(Relaxed) >= BULK
    }

    /// A connection carried so much. Two that learn at once may forget one of them.
    fn learn(&self, bytes: u64) {
        let mean = self.0.load(Relaxed);
        self.0.store(mean - mean / PART + bytes.min(MOST) / PART, Relaxed);
    }
}

/// What one connection teaches: what it carried when it ends, and before that each time it has doubled.
#[derive(Debug)]
pub(super) struct Lesson {
    cluster: Arc<ClusterState>,
    carried: u64,
    next: u64,
}

impl Lesson {
    pub(super) fn new(cluster: &Arc<ClusterState>) -> Self {
        Self { cluster: cluster.clone(), carried: 0, next: BULK }
    }

    /// So much more was carried, either way.
    pub(super) fn add(&mut self, bytes: u64) {
        self.carried += bytes;
        while self.carried >= self.next {
            self.cluster.habit.learn(self.next);
            self.next = self.next.saturating_mul(2);
        }
    }
}

impl Drop for Lesson {
    fn drop(&mut self) {
        if self.carried < BULK {
            self.cluster.habit.learn(self.carried);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_carry_much_are_bulk_until_many_carry_little() {
        let cluster = Arc::<ClusterState>::default();
        let carry = |bytes: u64| Lesson::new(&cluster).add(bytes);
        carry(1000);
        assert!(!cluster.habit.is_bulk());
        // A connection that lives is known before it ends.
        let mut long = Lesson::new(&cluster);
        (0..32).for_each(|_| long.add(1 << 20));
        assert!(cluster.habit.is_bulk());
        for _ in 0..100 {
            carry(10_000);
        }
        assert!(!cluster.habit.is_bulk());
        (0..16).for_each(|_| carry(u64::MAX / 4));
        let small = (1..).find(|_| {
            carry(0);
            !cluster.habit.is_bulk()
        });
        assert!(small.is_some_and(|count| count < 40), "a giant is forgotten: {small:?}");
    }

    #[test]
    fn one_transfer_among_many_small_ones_changes_nothing() {
        let cluster = Arc::<ClusterState>::default();
        for n in 0..1000 {
            Lesson::new(&cluster).add(if n % 50 == 0 { 8 << 20 } else { 2000 });
            assert!(!cluster.habit.is_bulk());
        }
    }
}
