//! A joined host's part in the mesh: everything that runs while it is joined, wired together.
//!
//! In: an identity. Out: a lease that is held, certificates that stay fresh, a proxy with its configuration, names,
//! redirection, and what verbs need to take it all down again. Nothing here waits for discovery: a host that boots
//! alone works from its disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use hawser_api::proto::host::{Drained, WorkloadHealth};
use hawser_daemon::backoff::Backoff;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::capture::{Capture, chain};
use crate::config::Config;
use crate::discovery::{Link, Reach};
use crate::dns::{self, Dns, Names};
use crate::health::{self, Prober};
use crate::host::Steps;
use crate::identity::{Holder, Renewal};
use crate::mark::OwnMark;
use crate::refusal::Refusal;
use crate::relay;
use crate::session::{Command, Epochs, Session, SessionStatus};
use crate::state::StateDir;
use crate::supervise::{Phase, ProxyState, Supervisor};

/// How long discovery may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long captured connections may last when redirection goes: those that matter have ended by then.
const GRACE: Duration = Duration::from_secs(5);

/// What runs for a joined host.
pub(crate) struct Member {
    pub(crate) holder: Holder,
    pub(crate) link: Link,
    pub(crate) session: watch::Receiver<SessionStatus>,
    pub(crate) health: watch::Receiver<Vec<WorkloadHealth>>,
    pub(crate) relay: relay::Running,
    pub(crate) supervisor: Supervisor,
    pub(crate) capture: Capture,
    pub(crate) names: Names,
    pub(crate) dns: Dns,
    commands: mpsc::Sender<Command>,
    run_dir: PathBuf,
    mark: OwnMark,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
    _prober: Prober,
}

impl Member {
    /// Starts everything.
    pub(crate) async fn start(config: &Config, state: &StateDir, holder: Holder) -> anyhow::Result<Self> {
        let link = Link::new();
        let epochs = Epochs::new(state.clone(), &holder.current().record.instance_id);
        let mark = OwnMark::of(config);
        let (prober, health) = Prober::start(holder.watch());
        let names = Names::default();
        let dns = dns::start(names.clone(), mark).await?;
        let proxy_socket = config.run_dir.join(relay::SOCKET);
        let relay = relay::start(
            &proxy_socket,
            state.directory("cache")?,
            config.proxy_user.uid,
            link.clone(),
            holder.watch(),
            names.clone(),
        )
        .with_context(|| proxy_socket.display().to_string())?;
        let supervisor = Supervisor::start(config, holder.watch())?;
        let capture = Capture::new(config, state, holder.watch(), relay.captured.clone(), dns.upstreams.clone());
        let renewal = Renewal::new(holder.clone(), link.clone(), mark);
        let (renew, renew_requests) = mpsc::channel(4);
        let (commands, receiver) = mpsc::channel(4);
        let (status, session_status) = watch::channel(SessionStatus::default());
        let (gate, told) = health::behind(health.clone(), capture.protected());
        let session = Session {
            holder: holder.clone(),
            link: link.clone(),
            epochs,
            renewal: renewal.clone(),
            renew,
            health: told,
            commands: receiver,
            status,
            mark,
            proxy: config.file.proxy,
        };
        let tasks = vec![
            gate,
            AbortOnDropHandle::new(tokio::spawn(renewal.run(renew_requests))),
            AbortOnDropHandle::new(tokio::spawn(session.run())),
            AbortOnDropHandle::new(tokio::spawn(capture.clone().follow(supervisor.state.clone()))),
            AbortOnDropHandle::new(tokio::spawn(capture.clone().heal())),
        ];
        Ok(Self {
            holder,
            link,
            session: session_status,
            health,
            relay,
            supervisor,
            capture,
            names,
            dns,
            commands,
            run_dir: config.run_dir.clone(),
            mark,
            tasks: Mutex::new(tasks),
            _prober: prober,
        })
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

    /// Why discovery will never have this host again as it is, if it said so.
    pub(crate) fn refused_for_good(&self) -> Option<Refusal> {
        let status = self.session.borrow();
        status.refused.clone().filter(|refusal| !status.open && refusal.is_final())
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

    /// Takes a host out of discovery's books that could not take its part: a session with nothing but a goodbye. Whether
    /// discovery heard it.
    pub(crate) async fn disown(config: &Config, state: &StateDir, holder: Holder) -> bool {
        remove_sockets(&config.run_dir);
        let (link, mark) = (Link::new(), OwnMark::of(config));
        let epochs = Epochs::new(state.clone(), &holder.current().record.instance_id);
        let renewal = Renewal::new(holder.clone(), link.clone(), mark);
        let (renew, _requests) = mpsc::channel(4);
        let (commands, receiver) = mpsc::channel(4);
        let (status, mut opened) = watch::channel(SessionStatus::default());
        let (_told, health) = watch::channel(Vec::new());
        let proxy = config.file.proxy;
        let session = Session { holder, link, epochs, renewal, renew, health, commands: receiver, status, mark, proxy };
        let _session = AbortOnDropHandle::new(tokio::spawn(session.run()));
        let goodbye = async {
            opened.wait_for(|status| status.open).await.ok()?;
            let (reply, answer) = oneshot::channel();
            commands.send(Command::Goodbye { forget: true, reply }).await.ok()?;
            answer.await.ok()
        };
        matches!(timeout(GOODBYE, goodbye).await, Ok(Some(())))
    }

    /// Takes back a join that failed. Whether discovery heard it.
    pub(crate) async fn withdraw(&self) -> bool {
        let heard = self.goodbye(true).await;
        for trouble in self.dismantle().await {
            tracing::warn!(trouble, "left behind by the failed join");
        }
        self.stop().await;
        heard
    }
}

impl Member {
    /// Takes up again, after a start, what was captured before. What was never confirmed is tried again when
    /// discovery is there.
    pub(crate) async fn resume(&self) {
        match self.capture.recover().await {
            Ok(true) => {}
            Ok(false) => {
                let later = Later {
                    holder: self.holder.clone(),
                    link: self.link.clone(),
                    capture: self.capture.clone(),
                    proxy: self.supervisor.state.clone(),
                    mark: self.mark,
                };
                self.tasks.lock().push(AbortOnDropHandle::new(tokio::spawn(later.run())));
            }
            Err(error) => tracing::error!(error = chain(&error), "redirection could not be restored"),
        }
    }

    /// Waits until the proxy serves.
    pub(crate) async fn proxy_ready(&self) {
        self.supervisor.ready().await;
    }

    /// Why the proxy is not ready.
    pub(crate) fn proxy_trouble(&self) -> String {
        let state = self.supervisor.state.borrow();
        let nack = self.relay.clients.last_nack().map(|nack| format!("; it refused configuration: {nack}"));
        let trouble = if state.trouble.is_empty() { "its log says more" } else { &state.trouble };
        format!("the proxy did not get ready: {trouble}{}", nack.unwrap_or_default())
    }

    /// Installs redirection and makes sure that the host is still reachable.
    pub(crate) async fn install(&self, steps: &Steps) -> Result<(), Refusal> {
        self.capture.install(&self.holder, &self.link, self.mark, steps).await
    }

    /// Ends outbound capture and lets the proxy end what it has.
    pub(crate) async fn drain_proxy(&self, within: Duration) -> bool {
        if let Err(error) = self.capture.drain().await {
            tracing::warn!(error = chain(&error), "capture did not end before the proxy");
        }
        self.supervisor.drain(within).await
    }

    /// Takes down redirection and proxy; what could not be.
    pub(crate) async fn dismantle(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Err(error) = self.capture.remove(GRACE).await {
            left.push(chain(&error));
        }
        self.supervisor.stop().await;
        remove_sockets(&self.run_dir);
        left
    }

    /// Ends what runs here; the proxy and redirection stay as they are.
    pub(crate) async fn stop(&self) {
        self.tasks.lock().clear();
        self.relay.flush();
    }
}

/// The first installation of redirection after a start that found none.
struct Later {
    holder: Holder,
    link: Link,
    capture: Capture,
    proxy: watch::Receiver<ProxyState>,
    mark: OwnMark,
}

impl Later {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
        loop {
            let mut link = self.link.watch();
            let up = link.wait_for(|state| matches!(state.reach, Reach::Up(_))).await.is_ok();
            let running = self.proxy.wait_for(|state| state.phase == Phase::Running).await.is_ok();
            if !up || !running {
                return;
            }
            match self.capture.install(&self.holder, &self.link, self.mark, &Steps::silent()).await {
                Ok(()) => return,
                Err(refusal) => tracing::warn!(why = %refusal, "redirection was not installed"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

fn remove_sockets(run_dir: &Path) {
    for socket in [relay::SOCKET, hawser_api::handover::SOCKET] {
        let _ = std::fs::remove_file(run_dir.join(socket));
    }
}

fn gone() -> Refusal {
    Refusal::new(Code::Aborted, "", "the agent is stopping")
}
