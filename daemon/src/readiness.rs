//! Readiness by guards: a daemon is ready when nothing is missing, and what is missing has a name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What a daemon still waits for. Clones share the state.
#[derive(Clone, Debug)]
pub struct Readiness {
    missing: Arc<Mutex<BTreeMap<Cow<'static, str>, u32>>>,
    ready: watch::Sender<bool>,
}

/// Something that is missing until this is dropped.
#[derive(Debug)]
pub struct Guard {
    readiness: Readiness,
    name: Cow<'static, str>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { missing: Arc::default(), ready: watch::channel(true).0 }
    }
}

impl Readiness {
    /// Nothing is missing yet: take the guards before the first question.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the guard is dropped.
    pub fn guard(&self, name: impl Into<Cow<'static, str>>) -> Guard {
        let name = name.into();
        *self.missing.lock().entry(name.clone()).or_default() += 1;
        self.ready.send_replace(false);
        Guard { readiness: self.clone(), name }
    }

    /// What is missing, sorted.
    pub fn missing(&self) -> Vec<Cow<'static, str>> {
        self.missing.lock().keys().cloned().collect()
    }

    /// Whether nothing is.
    pub fn is_ready(&self) -> bool {
        self.missing.lock().is_empty()
    }

    /// Waits until nothing is missing.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives as long as we do.
        let _ = ready.wait_for(|ready| *ready).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut missing = self.readiness.missing.lock();
        if let Some(count) = missing.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                missing.remove(&self.name);
            }
        }
        let ready = missing.is_empty();
        drop(missing);
        self.readiness.ready.send_replace(ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_guard_is_gone() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.guard("store"), readiness.guard("listeners"));
        assert_eq!(readiness.missing(), ["listeners", "store"]);
        drop(a);
        assert!(!readiness.is_ready());
        drop(b);
        readiness.ready().await;
        assert!(readiness.is_ready());
    }
}
