//! Memory and descriptors of the daemons, before, during and after.

use std::time::Duration;

use crate::measure::{descriptors, median, resident_bytes};

/// Memory may grow by as much.
const GROWTH: f64 = 0.05;
/// Or by as much: less than that is no growth but pages of an allocator.
const SLACK: f64 = 1e6;
/// Descriptors that may be more than before the load.
const DESCRIPTORS: usize = 16;

/// Processes and what was seen of them.
pub(super) struct Watched(Vec<One>);

struct One {
    name: String,
    pid: i32,
    before: usize,
    after: usize,
    memory: Vec<f64>,
}

impl Watched {
    /// Counts descriptors before there is any load.
    pub(super) fn begin(processes: Vec<(String, i32)>) -> anyhow::Result<Self> {
        let one = |(name, pid)| Ok(One { name, pid, before: descriptors(pid)?, after: 0, memory: vec![] });
        processes.into_iter().map(one).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Looks at memory.
    pub(super) fn sample(&mut self) -> anyhow::Result<()> {
        for one in &mut self.0 {
            one.memory.push(resident_bytes(one.pid)? as f64);
        }
        Ok(())
    }

    /// How it is now.
    pub(super) fn line(&self) -> anyhow::Result<String> {
        let mut words = vec![];
        for one in &self.0 {
            words.push(format!(
                "{} {:.1} MB {}",
                one.name,
                resident_bytes(one.pid)? as f64 / 1e6,
                descriptors(one.pid)?
            ));
        }
        Ok(words.join(", "))
    }

    /// After the load: until nobody has more descriptors than before, or `limit`.
    pub(super) fn settle(&mut self, limit: Duration) -> anyhow::Result<()> {
        // What is found then is judged later.
        let _ = hawser_tests::wait::for_true("descriptors are given back", limit, || {
            self.0.iter().all(|one| descriptors(one.pid).is_ok_and(|n| n <= one.before + DESCRIPTORS))
        });
        for one in &mut self.0 {
            one.after = descriptors(one.pid)?;
        }
        Ok(())
    }

    /// What came of it; what must not have been. A short soak tells of leaks, but nothing of growth.
    pub(super) fn report(&self, long: bool, say: impl Fn(&str)) -> Vec<String> {
        let mut problems = vec![];
        for one in &self.0 {
            let (first, last) = one.grown();
            say(&format!(
                "{:<16} {:>6.1} MB warm, {:>6.1} MB at the end ({:+.1} %), {} descriptors before, {} after",
                one.name,
                first / 1e6,
                last / 1e6,
                (last / first - 1.0) * 100.0,
                one.before,
                one.after
            ));
            if long && last > first * (1.0 + GROWTH) && last > first + SLACK {
                problems.push(format!("{} grew from {:.1} MB to {:.1} MB", one.name, first / 1e6, last / 1e6));
            }
            if one.after > one.before + DESCRIPTORS {
                problems.push(format!("{} had {} descriptors, now {}", one.name, one.before, one.after));
            }
        }
        problems
    }
}

impl One {
    /// Medians of the first and the last tenth.
    fn grown(&self) -> (f64, f64) {
        let part = (self.memory.len() / 10).max(1).min(self.memory.len());
        (median(&self.memory[..part]), median(&self.memory[self.memory.len() - part..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(first: f64, last: f64, before: usize, after: usize) -> Watched {
        let memory = (0..40).map(|n| first + (last - first) * f64::from(n) / 39.0).collect();
        Watched(vec![One { name: "x".to_owned(), pid: 1, before, after, memory }])
    }

    #[test]
    fn growth_and_leaks_are_problems() {
        assert!(one(20e6, 20.9e6, 10, 26).report(true, |_| ()).is_empty());
        assert!(one(5e6, 5.9e6, 10, 10).report(true, |_| ()).is_empty(), "less than the slack");
        assert_eq!(one(20e6, 24e6, 10, 10).report(true, |_| ()).len(), 1);
        assert!(one(20e6, 24e6, 10, 10).report(false, |_| ()).is_empty(), "too short to tell");
        assert_eq!(one(20e6, 20e6, 10, 27).report(false, |_| ()).len(), 1);
    }
}
