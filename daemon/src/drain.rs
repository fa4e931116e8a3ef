//! Drain: one side says that it is time to end, the other ends what it has, and the first waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The side that says so.
#[derive(Debug, Default)]
pub struct Trigger {
    token: CancellationToken,
    tracker: TaskTracker,
}

/// The side that listens. Clones share the drain.
#[derive(Clone, Debug)]
pub struct Watch {
    token: CancellationToken,
    tracker: TaskTracker,
}

/// A drain of its own.
pub fn channel() -> (Trigger, Watch) {
    let trigger = Trigger::default();
    let watch = Watch { token: trigger.token.clone(), tracker: trigger.tracker.clone() };
    (trigger, watch)
}

impl Trigger {
    /// Starts the drain and waits until every tracked task has ended. `false` if `deadline` came first: what is
    /// left may be dropped.
    pub async fn drain(self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

impl Watch {
    /// Waits for the start of the drain.
    pub async fn draining(&self) {
        self.token.cancelled().await;
    }

    /// Whether it has started.
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Runs a task that the drain waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Runs a task of a single-threaded runtime that the drain waits for.
    pub fn spawn_local<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.tracker.spawn_local(task)
    }
}
