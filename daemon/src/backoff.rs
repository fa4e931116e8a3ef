//! Back-off with full jitter: the first retry is soon, later ones spread out.

use std::time::Duration;

/// Waits between attempts: a random time below a ceiling that doubles.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempt: u32,
}

impl Backoff {
    /// A back-off whose first wait is at most `first`, and none is over `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempt: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.longest);
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(rand::random_range(0.5..1.0))
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert!(backoff.next_wait() <= Duration::from_millis(100));
        for _ in 0..50 {
            assert!(backoff.next_wait() <= Duration::from_secs(5));
        }
        assert!(backoff.next_wait() >= Duration::from_millis(2500));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
