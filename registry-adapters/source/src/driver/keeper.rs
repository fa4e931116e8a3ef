//! When the state is written: soon after it changed, never often, and one write at a time.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

use crate::ledger::Ledger;
use crate::stored::{self, Stored};

/// Time from a change to its write, so that a burst is one write.
const SETTLE: Duration = Duration::from_secs(1);
/// Shortest time between two writes.
const PAUSE: Duration = Duration::from_secs(15);

/// Writes a source's state.
#[derive(Debug)]
pub(super) struct Keeper {
    file: Option<PathBuf>,
    registry: String,
    settings: u64,
    due: Option<Instant>,
    not_before: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn new(file: Option<PathBuf>, registry: String, settings: u64) -> Self {
        Self { file, registry, settings, due: None, not_before: None, writing: None }
    }

    /// The state changed.
    pub(super) fn changed(&mut self, now: Instant) {
        if self.file.is_some() {
            let soon = now + SETTLE;
            self.due.get_or_insert_with(|| self.not_before.map_or(soon, |at| at.max(soon)));
        }
    }

    /// There is nothing to keep any more.
    pub(super) async fn forget(&mut self) {
        if let Some(writing) = self.writing.take() {
            // Whether it was written makes no difference now.
            let _ = writing.await;
        }
        if let Some(file) = &self.file
            && let Err(error) = tokio::fs::remove_file(file).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(registry = self.registry, file = %file.display(), %error, "the stored state stays");
        }
    }

    /// When [`Keeper::keep`] has something to do.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the state if it is time.
    pub(super) fn keep(&mut self, ledger: &Ledger, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.due = Some(now + SETTLE);
            return;
        }
        let Some(file) = self.file.clone() else { return };
        // Until all was heard, the file may know more than we do.
        if !ledger.is_synced() {
            self.due = Some(now + SETTLE);
            return;
        }
        (self.due, self.not_before) = (None, Some(now + PAUSE));
        let registry = self.registry.clone();
        let (settings, written, parts) = (self.settings, SystemTime::now(), ledger.remembered());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let stored = Stored { registry, settings, written, parts };
            if let Err(error) = stored::write(&file, &stored) {
                let (registry, file) = (&stored.registry, file.display());
                tracing::warn!(registry, %file, %error, "the registry's state is not stored");
            }
        }));
    }
}
