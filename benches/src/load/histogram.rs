//! Latencies in little memory: 128 buckets an octave, so a percentile is at most 0.8 % off.

const BITS: u32 = 7;

/// Counted nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&mut self, nanos: u64) {
        let index = bucket(nanos);
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.count += 1;
    }

    /// Adds another's.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// What `share` of all are at most, in microseconds; 0 of nothing.
    pub(crate) fn micros_at(&self, share: f64) -> f64 {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index) / 1e3;
            }
        }
        0.0
    }
}

/// Small numbers have a bucket each; above, the leading bits choose.
fn bucket(nanos: u64) -> usize {
    let shift = (64 - nanos.leading_zeros()).saturating_sub(BITS + 1);
    ((u64::from(shift) << BITS) + (nanos >> shift)) as usize
}

fn middle(index: usize) -> f64 {
    let shift = (index >> BITS).saturating_sub(1);
    let low = (index - (shift << BITS)) as f64;
    let width = (1u64 << shift) as f64;
    low * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close_to_what_was_counted() {
        let mut histogram = Histogram::default();
        (1..=10_000u64).for_each(|n| histogram.add(n * 1000));
        for (share, expected) in [(0.5, 5000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let found = histogram.micros_at(share);
            assert!((found / expected - 1.0).abs() < 0.009, "{share}: {found} for {expected}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = 0;
        for nanos in (0..2000).chain([1 << 20, 1 << 40, u64::MAX / 2]) {
            let index = bucket(nanos);
            assert!(index >= last && (nanos >= 2000 || index <= last + 1), "{nanos}");
            let off = (middle(index) - nanos as f64).abs();
            assert!(off <= nanos as f64 * 0.008 + 0.5, "{nanos}: {}", middle(index));
            last = index;
        }
    }

    #[test]
    fn two_together_are_as_one() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(1000);
        b.add(900_000);
        b.add(900_000);
        a.merge(&b);
        assert!((a.micros_at(0.5) - 900.0).abs() < 8.0);
        assert_eq!(Histogram::default().micros_at(0.5), 0.0);
    }
}
