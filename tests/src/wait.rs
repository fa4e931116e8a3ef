//! Waiting for an event, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Looks again and again until `look` finds something; an error that says what was missing after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        between_looks(Duration::from_millis(20));
    }
}

/// Like [`until`], for a condition.
pub fn for_true(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || look().then_some(()))
}

/// Checks that `look` stays true for as long as `span`.
pub fn stays_true(what: &str, span: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        if !look() {
            bail!("{what}: no longer, after {:?}", start.elapsed());
        }
        between_looks(Duration::from_millis(50));
    }
    Ok(())
}

/// The pause between two looks, or what a schedule asks for.
pub fn between_looks(pause: Duration) {
    let end = Instant::now() + pause;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        std::thread::park_timeout(left);
    }
}
