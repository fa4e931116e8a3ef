//! A commit that undoes itself unless it is confirmed: so that no join can lock anybody out of a host.
//!
//! Three may end the wait, and a rename decides who does: the caller, a guard process that outlives the caller, and a
//! restarted agent. Before the table changes, what to go back to is on disk and the guard runs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::saved::{Store, Waiting};
use super::{Intent, Notes, RedirectError, Redirection};

/// How long a commit waits, unless told otherwise.
pub const TIMER: Duration = Duration::from_secs(10);

/// A commit that waits for its confirmation. Dropped, it is left to the guard.
#[derive(Debug)]
#[must_use = "an unconfirmed commit is rolled back"]
pub struct Pending<'a> {
    redirection: &'a mut Redirection,
    guard: Option<Child>,
    /// What the change left out.
    pub notes: Notes,
}

impl Redirection {
    /// Applies, and goes back to what was before unless confirmed in time, even if this process dies.
    pub async fn apply_with_rollback(
        &mut self,
        intent: &Intent,
        timer: Duration,
    ) -> Result<Pending<'_>, RedirectError> {
        let refusals = intent.refusals();
        if !refusals.is_empty() {
            return Err(RedirectError::Refused(refusals));
        }
        let previous = self.saved()?.filter(|saved| !saved.removing).map(|saved| saved.intent.clone());
        self.store.wait(&Waiting { previous }).map_err(|e| self.state_error(e))?;
        let guard = match self.start_guard(timer) {
            Ok(guard) => guard,
            Err(error) => {
                self.store.claim().map_err(|e| self.state_error(e))?;
                return Err(error);
            }
        };
        let mut pending = Pending { guard, redirection: self, notes: Notes::new() };
        match pending.redirection.apply(intent).await {
            Ok(notes) => {
                pending.notes = notes;
                Ok(pending)
            }
            Err(error) => {
                // What was before may still be there whole: a transaction that failed changed nothing.
                if let Err(again) = pending.rollback().await {
                    tracing::warn!(error = %again, "the failed change could not be undone at once, the guard will");
                }
                Err(error)
            }
        }
    }

    fn start_guard(&self, timer: Duration) -> Result<Option<Child>, RedirectError> {
        let Some(program) = &self.guard else { return Ok(None) };
        let mut command = Command::new(program);
        command.arg("redirect-guard").arg(&self.dir).arg(timer.as_secs_f64().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        command.spawn().map(Some).map_err(|e| self.state_error(e))
    }
}

impl Pending<'_> {
    /// Keeps the change.
    pub async fn confirm(mut self) -> Result<Notes, RedirectError> {
        match self.claim().await? {
            Some(_) => {
                self.dismiss_guard().await;
                Ok(std::mem::take(&mut self.notes))
            }
            None => Err(RedirectError::RolledBack),
        }
    }

    /// Undoes the change now.
    pub async fn rollback(mut self) -> Result<(), RedirectError> {
        let Some(waiting) = self.claim().await? else { return Ok(()) };
        let result = self.redirection.go_back(waiting.previous).await;
        self.dismiss_guard().await;
        result
    }

    /// Ends the wait; `None` if the guard ended it before, and has undone the change by now.
    async fn claim(&mut self) -> Result<Option<Waiting>, RedirectError> {
        let claimed = self.redirection.store.claim().map_err(|e| self.redirection.state_error(e))?;
        if claimed.is_none() {
            self.redirection.known = None;
            if let Some(guard) = &mut self.guard {
                // It works on the same state: let it finish.
                _ = tokio::time::timeout(2 * super::GRACE, guard.wait()).await;
            }
        }
        Ok(claimed)
    }

    async fn dismiss_guard(&mut self) {
        if let Some(guard) = &mut self.guard
            && let Err(error) = guard.kill().await
        {
            tracing::debug!(%error, "the guard is gone already");
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // Whoever ends the wait changes what is on disk.
        if self.guard.is_some() {
            self.redirection.known = None;
        }
    }
}

/// The guard process: waits, and undoes what nobody confirmed.
pub async fn guard(state_dir: &Path, timer: Duration) -> Result<(), RedirectError> {
    tokio::time::sleep(timer).await;
    let store = Store::new(state_dir);
    let waiting = store.claim().map_err(|e| RedirectError::State(state_dir.to_owned(), e))?;
    match waiting {
        None => Ok(()),
        Some(waiting) => Redirection::new(state_dir).go_back(waiting.previous).await,
    }
}
