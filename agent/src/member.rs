//! A joined host's part in the mesh: everything that runs while it is joined, wired together.
//!
//! In: an identity. Out: a lease that is held, certificates that stay fresh, and what verbs need to take it all down
//! again. Nothing here waits for discovery: a host that boots alone works from its disk.

use std::time::Duration;

use hawser_api::proto::agent::RedirectResponse;
use hawser_api::proto::agent::redirect_request::Verb;
use hawser_api::proto::host::{Drained, WorkloadHealth};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::config::Config;
use crate::discovery::Link;
use crate::health::Prober;
use crate::host::Steps;
use crate::identity::{Holder, Renewal};
use crate::mark::OwnMark;
use crate::refusal::Refusal;
use crate::session::{Command, Epochs, Session, SessionStatus};
use crate::state::StateDir;

/// How long discovery may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// What runs for a joined host.
pub(crate) struct Member {
    pub(crate) holder: Holder,
    pub(crate) link: Link,
    pub(crate) session: watch::Receiver<SessionStatus>,
    pub(crate) health: watch::Receiver<Vec<WorkloadHealth>>,
    commands: mpsc::Sender<Command>,
    epochs: Epochs,
    _tasks: Vec<AbortOnDropHandle<()>>,
    _prober: Prober,
}

impl Member {
    /// Starts everything.
    pub(crate) async fn start(config: &Config, state: &StateDir, holder: Holder) -> anyhow::Result<Self> {
        let link = Link::new();
        let epochs = Epochs::new(state.clone());
        let mark = OwnMark::of(config);
        let (prober, health) = Prober::start(holder.watch());
        let renewal = Renewal::new(holder.clone(), link.clone(), mark);
        let (renew, renew_requests) = mpsc::channel(4);
        let (commands, receiver) = mpsc::channel(4);
        let (status, session_status) = watch::channel(SessionStatus::default());
        let session = Session {
            holder: holder.clone(),
            link: link.clone(),
            epochs: epochs.clone(),
            renewal: renewal.clone(),
            renew,
            health: health.clone(),
            commands: receiver,
            status,
            mark,
        };
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(renewal.run(renew_requests))),
            AbortOnDropHandle::new(tokio::spawn(session.run())),
        ];
        Ok(Self { holder, link, session: session_status, health, commands, epochs, _tasks: tasks, _prober: prober })
    }

    /// Waits until discovery opened the session, or refused it for good.
    pub(crate) async fn session_open(&self) -> Result<(), Refusal> {
        let mut session = self.session.clone();
        let decided = |status: &SessionStatus| status.open || status.refused.as_ref().is_some_and(Refusal::is_final);
        match session.wait_for(decided).await {
            Ok(status) if status.open => Ok(()),
            Ok(status) => Err(status.refused.clone().unwrap_or_else(gone)),
            Err(_) => Err(gone()),
        }
    }

    /// Marks this host's endpoints draining; `None` if discovery can't be told.
    pub(crate) async fn drain(&self, within: Duration) -> Option<Drained> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Drain { timeout: within, reply }).await.ok()?;
        timeout(within + GOODBYE, answer).await.ok()?.ok()
    }

    /// Ends the lease; with `forget`, the record too. Whether discovery heard it.
    pub(crate) async fn goodbye(&self, forget: bool) -> bool {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Goodbye { forget, reply }).await.is_err() {
            return false;
        }
        matches!(timeout(GOODBYE, answer).await, Ok(Ok(())))
    }

    /// Takes back a join that failed.
    pub(crate) async fn withdraw(&self) {
        self.goodbye(true).await;
        for trouble in self.dismantle().await {
            tracing::warn!(trouble, "left behind by the failed join");
        }
        self.stop().await;
        if let Err(error) = self.epochs.forget() {
            tracing::warn!(error = format!("{error:#}"), "left behind by the failed join");
        }
    }
}

fn gone() -> Refusal {
    Refusal::new(Code::Aborted, "", "the agent is stopping")
}

impl Member {
    /// Takes up again, after a start, what was captured before.
    pub(crate) fn resume(&self) {}

    /// Waits until the proxy serves.
    pub(crate) async fn proxy_ready(&self) {}

    /// Why the proxy is not ready.
    pub(crate) fn proxy_trouble(&self) -> String {
        String::new()
    }

    /// Installs redirection and makes sure that the host is still reachable.
    pub(crate) async fn capture(&self, _steps: &Steps) -> Result<(), Refusal> {
        Ok(())
    }

    /// Lets the proxy end what it has.
    pub(crate) async fn drain_proxy(&self, _within: Duration) -> bool {
        true
    }

    /// Takes down redirection and proxy; what could not be.
    pub(crate) async fn dismantle(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends what runs.
    pub(crate) async fn stop(&self) {}

    /// What redirection is, should be, and where they differ.
    pub(crate) async fn redirect(&self, _verb: Verb) -> anyhow::Result<RedirectResponse> {
        anyhow::bail!("no redirection")
    }
}
