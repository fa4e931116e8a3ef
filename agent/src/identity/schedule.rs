//! When a certificate is renewed: at half its life, with jitter, whatever the clocks do.
//!
//! In: a certificate's dates, when we got it, and both clocks. Out: now, or when to look again. The wall clock may
//! jump and the monotonic one stands still while the host sleeps; either of them can make a renewal early, neither can
//! make it never: a look is at most [`LONGEST_SLEEP`] away.

use std::time::{Duration, Instant, SystemTime};

/// The longest time between two looks at the clocks.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// A certificate begins so long before it was made for the sake of clocks that are late: that part of its life is over.
const BACKDATED: Duration = Duration::from_secs(120);
/// How far in front of its first second a certificate is still believed to be new.
const SKEW: Duration = Duration::from_secs(300);

/// The life of a certificate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Life {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// When this process got it, by the monotonic clock.
    pub(crate) obtained: Instant,
    /// 0 to 1: where in its window this host renews.
    pub(crate) jitter: f64,
}

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Renew.
    Now,
    /// Look again after this.
    In(Duration),
}

impl Life {
    /// When it is renewed if the clocks behave: between 45 % and 50 % of its life.
    pub(crate) fn renews_at(&self) -> SystemTime {
        self.made() + self.share()
    }

    /// Whether it is over.
    pub(crate) fn expired(&self, wall: SystemTime) -> bool {
        wall >= self.not_after
    }

    /// What to do at this time.
    pub(crate) fn due(&self, now: Clocks) -> Due {
        let by_wall = self.renews_at().duration_since(now.wall).unwrap_or_default();
        // The clock went back to before the certificate began: nobody else would take it either.
        let too_early = now.wall + SKEW < self.not_before;
        let by_monotonic = self.share().saturating_sub(now.monotonic.saturating_duration_since(self.obtained));
        let wait = by_wall.min(by_monotonic);
        if too_early || wait.is_zero() { Due::Now } else { Due::In(wait.min(LONGEST_SLEEP)) }
    }

    /// When it was made, as far as its dates tell.
    fn made(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        if life > BACKDATED { self.not_before + BACKDATED } else { self.not_before }
    }

    fn share(&self) -> Duration {
        let life = self.not_after.duration_since(self.made()).unwrap_or_default();
        life.mul_f64(0.5 - 0.05 * self.jitter.clamp(0.0, 1.0))
    }
}

impl Clocks {
    /// What they show.
    pub(crate) fn read() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn life() -> (Life, Clocks) {
        let now = Clocks::read();
        let not_before = now.wall - BACKDATED;
        let life = Life { not_before, not_after: now.wall + DAY, obtained: now.monotonic, jitter: 0.0 };
        (life, now)
    }

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_at_the_latest() {
        let (life, now) = life();
        assert_eq!(life.due(now), Due::In(LONGEST_SLEEP));
        let at = |age: Duration| Clocks { wall: now.wall + age, monotonic: now.monotonic + age };
        assert_eq!(life.due(at(DAY / 2 - Duration::from_secs(5))), Due::In(Duration::from_secs(5)));
        assert_eq!(life.due(at(DAY / 2)), Due::Now);
        let early = Life { jitter: 1.0, ..life };
        assert_eq!(early.due(at(DAY.mul_f64(0.451))), Due::Now);
        assert_ne!(early.due(at(DAY.mul_f64(0.449))), Due::Now);
    }

    #[test]
    fn a_jump_of_the_clock_renews_early_and_never_never() {
        let (life, now) = life();
        let forward = Clocks { wall: now.wall + 10 * DAY, ..now };
        assert_eq!(life.due(forward), Due::Now);
        let back = Clocks { wall: now.wall - 10 * DAY, ..now };
        assert_eq!(life.due(back), Due::Now);
        // Slightly back: believed, but the monotonic clock still counts.
        let slow = Clocks { wall: now.wall - SKEW / 2, monotonic: now.monotonic + DAY / 2 };
        assert_eq!(life.due(slow), Due::Now);
        // Asleep: only the wall clock moved.
        let slept = Clocks { wall: now.wall + DAY / 2, ..now };
        assert_eq!(life.due(slept), Due::Now);
    }

    #[test]
    fn a_certificate_with_nonsense_dates_is_renewed_at_once() {
        let (life, now) = life();
        let backwards = Life { not_after: life.not_before - DAY, ..life };
        assert_eq!(backwards.due(now), Due::Now);
    }
}
