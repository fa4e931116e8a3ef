//! How soon a source may be asked again.
//!
//! In: the time, and whether the last question was answered. Out: how long to wait. Invariant: over any time no more
//! questions than the burst and the refill allow, however often the source answers; after failures far fewer.

use std::time::{Duration, Instant};

use hawser_daemon::backoff::Backoff;

/// Tokens that come back one by one.
#[derive(Clone, Debug)]
pub struct Bucket {
    burst: u32,
    refill: Duration,
    /// When the bucket is full again, if nothing more is taken: a future moment stands for the tokens that are missing.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full bucket of `burst` tokens (at least one), which gets one back each `refill`.
    pub fn new(burst: u32, refill: Duration) -> Self {
        Self { burst: burst.max(1), refill, full_at: None }
    }

    /// Takes a token, which may not be there yet: wait so long before using it.
    pub fn take(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let missing = full_at - now;
        self.full_at = Some(full_at + self.refill);
        missing.saturating_sub(self.refill.saturating_mul(self.burst - 1))
    }
}

/// Paces the questions of one loop: a bucket for answers that come fast, a back-off for failures.
#[derive(Clone, Debug)]
pub struct Pacer {
    bucket: Bucket,
    backoff: Backoff,
    failures: u32,
}

impl Pacer {
    /// Questions as `bucket` allows, after failures as `backoff` does.
    pub fn new(bucket: Bucket, backoff: Backoff) -> Self {
        Self { bucket, backoff, failures: 0 }
    }

    /// What blocking queries take: two at once, then two a second; after failures 250 ms to 30 s.
    pub fn blocking() -> Self {
        let bucket = Bucket::new(2, Duration::from_millis(500));
        Self::new(bucket, Backoff::new(Duration::from_millis(250), Duration::from_secs(30)))
    }

    /// The question was answered: wait so long before the next one.
    pub fn answered(&mut self, now: Instant) -> Duration {
        self.backoff.reset();
        self.failures = 0;
        self.bucket.take(now)
    }

    /// It was not: wait so long before the next one.
    pub fn failed(&mut self, now: Instant) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.next_wait().max(self.bucket.take(now))
    }

    /// Failures since the last answer.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// A wait spread by up to a tenth to both sides, so that many do not ask in step.
pub fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.9..1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_free_and_then_tokens_come_one_by_one() {
        let now = Instant::now();
        let mut bucket = Bucket::new(3, S);
        let waits: Vec<_> = (0..5).map(|_| bucket.take(now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_bucket_that_rested_is_full_and_no_fuller() {
        let now = Instant::now();
        let mut bucket = Bucket::new(2, S);
        (0..4).for_each(|_| {
            bucket.take(now);
        });
        let later = now + S * 100;
        let waits: Vec<_> = (0..3).map(|_| bucket.take(later).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1]);
    }

    #[test]
    fn whoever_obeys_asks_no_more_than_the_refill_over_time() {
        let start = Instant::now();
        let (mut pacer, mut now) = (Pacer::blocking(), start);
        for _ in 0..100 {
            now += pacer.answered(now);
        }
        assert_eq!(now - start, Duration::from_millis(500) * 98);
    }

    #[test]
    fn failures_are_counted_and_back_off_until_an_answer() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Bucket::new(100, Duration::ZERO), Backoff::new(S, S * 8));
        let waits: Vec<_> = (0..6).map(|_| pacer.failed(now)).collect();
        assert!(waits[5] >= S * 4 && waits.iter().all(|wait| *wait <= S * 8), "{waits:?}");
        assert_eq!(pacer.failures(), 6);
        assert_eq!((pacer.answered(now), pacer.failures()), (Duration::ZERO, 0));
    }
}
