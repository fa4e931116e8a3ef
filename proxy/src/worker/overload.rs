//! Memory: what is used of what may be, and whether requests are turned away because of it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// Whether memory is short.
#[derive(Debug, Default)]
pub struct Overload(AtomicBool);

impl Overload {
    /// Whether requests are turned away.
    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Turns requests away, or takes them again, until memory is looked at next.
    pub fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }

    /// Looks for ever. Above `limit` bytes resident requests are turned away, until a tenth is free again.
    pub async fn run(&self, limit: u64) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            every.tick().await;
            let Some(used) = resident() else { return };
            let on = if self.is_on() { used > limit / 10 * 9 } else { used > limit };
            if on != self.0.swap(on, Relaxed) {
                tracing::warn!(used, limit, on, "memory");
            }
        }
    }
}

/// What the process may use: four fifths of its control group's limit, if that is set.
pub fn default_limit() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = group.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limit = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?;
    limit.trim().parse::<u64>().ok().map(|bytes| bytes / 5 * 4)
}

fn resident() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
