//! Progress of a verb, told to whoever asked for it.

use std::time::Instant;

use hawser_api::proto::agent::Progress;
use tokio::sync::mpsc;
use tonic::Status;

/// Tells steps.
pub(crate) struct Steps {
    out: mpsc::Sender<Result<Progress, Status>>,
    start: Instant,
}

impl Steps {
    /// Steps from now on.
    pub(crate) fn new(out: mpsc::Sender<Result<Progress, Status>>) -> Self {
        Self { out, start: Instant::now() }
    }

    /// Steps that nobody asked for: they are only logged.
    pub(crate) fn silent() -> Self {
        Self::new(mpsc::channel(1).0)
    }

    /// A step was taken.
    pub(crate) fn say(&self, step: &str, message: impl Into<String>) {
        self.tell(step, message.into(), false);
    }

    /// The last one.
    pub(crate) fn done(&self, message: impl Into<String>) {
        self.tell("done", message.into(), true);
    }

    fn tell(&self, step: &str, message: String, done: bool) {
        tracing::info!(step, message);
        let elapsed = prost_types::Duration::try_from(self.start.elapsed()).ok();
        // Nobody may listen any more, or slowly; the verb goes on.
        let _ = self.out.try_send(Ok(Progress { step: step.into(), message, done, elapsed }));
    }
}
