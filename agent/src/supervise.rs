//! Keeps the proxy running and gives it its sockets.
//!
//! In: the record, connections on `listeners.sock`, ends of processes. Out: one proxy, started or adopted, with listening
//! sockets that outlive it. A proxy outlives the agent: a new agent adopts it by its connection. Nothing is started
//! while one runs. Another one may take over from it: it gets the same sockets, and is the proxy when it says that it serves;
//! the former one then ends as its connections do. An Envoy is kept by [`envoy`]: it makes its sockets itself and is adopted by its process.

pub(crate) mod admin;
mod child;
pub(crate) mod envoy;
mod listeners;
mod others;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use hawser_api::handover::{End, LONGEST, Listener, MOST, Message, Part, Refused, Request, SOCKET, encode};
use hawser_api::names::ports;
use hawser_daemon::backoff::Backoff;
use hawser_sockets::{FdLimits, recv_fds, send_fds};
use nix::sys::signal::Signal;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, ProxyKind};
use crate::identity::Identity;
use child::Program;
use listeners::{Listeners, wanted};
use others::{Became, Candidate, END_NOW, Formers, Peer};

const HANDOVER: Duration = Duration::from_secs(5);
/// How long a proxy that runs may take to connect, ours or one that was found, before it is replaced.
const CONNECT: Duration = Duration::from_secs(20);
/// Between two looks at one that is not connected.
const LOOK: Duration = Duration::from_millis(200);
const READY: Duration = Duration::from_millis(50);
/// Longer than this, and the next failure counts as the first.
const STABLE: Duration = Duration::from_secs(60);
/// What a former proxy gets that does not know how to make room: it goes on telling a service manager of itself, and keeps its
/// ports.
const UNABLE: u32 = 30;
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The proxy as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyState {
    pub(crate) phase: Phase,
    pub(crate) version: String,
    pub(crate) pid: i32,
    pub(crate) since: Option<SystemTime>,
    pub(crate) restarts: u32,
    /// Proxies that have made room for this one, and still carry connections.
    pub(crate) former: u32,
    /// What went wrong last.
    pub(crate) trouble: String,
}

/// Where the proxy is between started and serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Down,
    Starting,
    Running,
}

/// The supervisor; dropping it leaves the proxy running.
pub(crate) struct Supervisor {
    pub(crate) kind: ProxyKind,
    pub(crate) state: watch::Receiver<ProxyState>,
    orders: mpsc::Sender<Order>,
    _task: AbortOnDropHandle<()>,
}

enum Order {
    /// Let it end what it has; whether it did in time.
    Drain(Duration, oneshot::Sender<bool>),
    /// End it now.
    Stop(oneshot::Sender<()>),
}

impl Phase {
    /// The word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Starting => "starting",
            Self::Running => "running",
        }
    }
}

impl Supervisor {
    /// Listens for a proxy and starts one if none runs.
    pub(crate) fn start(config: &Config, identity: watch::Receiver<Arc<Identity>>) -> anyhow::Result<Self> {
        let kind = config.file.proxy;
        let (publish, state) = watch::channel(ProxyState::default());
        let (orders, receiver) = mpsc::channel(4);
        if kind == ProxyKind::Envoy {
            let keeper = envoy::Keeper::new(config, identity, publish);
            let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(receiver)));
            return Ok(Self { kind, state, orders, _task: task });
        }
        let program = Program {
            binary: config.proxy_binary.clone(),
            arguments: vec!["--run-dir".into(), config.run_dir.clone().into()],
            user: config.proxy_user,
            pid_file: config.run_dir.join(child::HAWSER_PID),
        };
        let other = config.run_dir.join(child::ENVOY_PID);
        let socket = config.run_dir.join(SOCKET);
        let accept = listen(&socket).with_context(|| socket.display().to_string())?;
        let external = config.external_proxy.then_some(socket);
        let keeper = Keeper {
            drain: config.file.former_proxy_drain.seconds(),
            external,
            ..Keeper::new(accept, program, publish, move |workers| wanted(&identity.borrow().record, workers))
        };
        let task = tokio::spawn(async move {
            child::retire(&other).await;
            keeper.run(receiver).await;
        });
        Ok(Self { kind, state, orders, _task: AbortOnDropHandle::new(task) })
    }

    /// Waits until the proxy serves.
    pub(crate) async fn ready(&self) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| state.phase == Phase::Running).await;
    }

    /// Lets the proxy end what it has; whether it did in time. It is not started again.
    pub(crate) async fn drain(&self, within: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Drain(within, reply)).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Ends the proxy and closes its sockets.
    pub(crate) async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    // Who may use it is decided by SO_PEERCRED.
    crate::api::listen(path, 0o666)
}

struct Keeper {
    accept: UnixListener,
    /// What a proxy of so many workers listens on.
    wanted_listeners: Box<dyn Fn(u32) -> Vec<Listener> + Send + Sync>,
    publish: watch::Sender<ProxyState>,
    program: Program,
    listeners: Listeners,
    child: Option<Child>,
    /// The proxy.
    connection: Option<Peer>,
    /// One that is to be it.
    candidate: Option<Candidate>,
    /// Those that were.
    formers: Formers,
    /// Whether the proxy was there before us.
    found: bool,
    /// Seconds that connections of those may go on.
    drain: u32,
    backoff: Backoff,
    /// Whether there is to be a proxy at all.
    wanted: bool,
    /// When to look whether one must be started or replaced.
    act_at: Option<Instant>,
    /// Until when one that runs may be without a connection.
    patience: Instant,
    /// When to ask whether it is ready.
    ready_at: Option<Instant>,
    /// Where listeners.sock is, if somebody else starts the proxy while it is there.
    external: Option<PathBuf>,
}

impl Keeper {
    /// With no proxy yet.
    fn new(
        accept: UnixListener,
        program: Program,
        publish: watch::Sender<ProxyState>,
        wanted_listeners: impl Fn(u32) -> Vec<Listener> + Send + Sync + 'static,
    ) -> Self {
        Self {
            accept,
            wanted_listeners: Box::new(wanted_listeners),
            publish,
            program,
            listeners: Listeners::default(),
            child: None,
            connection: None,
            candidate: None,
            formers: Formers::default(),
            found: false,
            drain: 0,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            wanted: true,
            act_at: Some(Instant::now()),
            // One that an earlier agent left behind connects by itself.
            patience: Instant::now() + CONNECT,
            ready_at: None,
            external: None,
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                accepted = self.accept.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    match timeout(HANDOVER, self.hand_over(stream)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => self.trouble(format!("{error:#}")),
                        Err(_) => self.trouble("it took too long to take its sockets".into()),
                    }
                }
                became = Candidate::became(&mut self.candidate) => match became {
                    Became::Serving(peer) => self.promote(peer).await,
                    Became::Gone(why) => self.not_taken_over(&why),
                },
                () = self.formers.one_ended() => self.count_formers(),
                () = gone(&mut self.connection), if self.connection.is_some() => {
                    self.connection = None;
                    self.ready_at = None;
                    self.lost("its connection ended");
                }
                ended = wait(&mut self.child), if self.child.is_some() => {
                    self.child = None;
                    self.lost(&ended.map_or_else(|error| error.to_string(), |status| status.to_string()));
                }
                () = tokio::time::sleep_until(self.act_at.unwrap_or_else(Instant::now)), if self.act_at.is_some() => {
                    self.act_at = None;
                    self.look();
                }
                () = tokio::time::sleep_until(self.ready_at.unwrap_or_else(Instant::now)), if self.ready_at.is_some() => {
                    self.ready_at = None;
                    self.ask().await;
                }
                order = orders.recv() => match order {
                    Some(Order::Drain(within, reply)) => {
                        let ended = self.end(Signal::SIGTERM, within).await;
                        let _ = reply.send(ended);
                    }
                    Some(Order::Stop(reply)) => {
                        self.end(Signal::SIGKILL, HANDOVER).await;
                        self.listeners.close();
                        let _ = reply.send(());
                    }
                    None => return,
                },
            }
        }
    }

    /// Gives a proxy what belongs to its part.
    async fn hand_over(&mut self, stream: UnixStream) -> anyhow::Result<()> {
        let cred = stream.peer_cred()?;
        if cred.uid() != self.program.user.uid {
            bail!("user {} asked for the proxy's sockets", cred.uid());
        }
        let limits = FdLimits { bytes: LONGEST, descriptors: MOST };
        let (message, descriptors) = recv_fds(&stream, limits).await?;
        let request: Request = serde_json::from_slice(&message).context("its request")?;
        if request.holds.len() != descriptors.len() {
            bail!("it names {} sockets and sent {}", request.holds.len(), descriptors.len());
        }
        let peer = Peer {
            stream,
            pid: cred.pid().unwrap_or(request.pid),
            version: request.version.chars().take(64).collect(),
            workers: request.workers,
            can_yield: request.can_yield,
        };
        match request.part {
            Part::Serves => self.adopt(peer, &request, descriptors).await,
            Part::TakesOver => self.consider(peer, &request, descriptors).await,
            Part::Yields => self.remember(peer).await,
        }
    }

    /// The proxy gets the sockets that it lacks.
    async fn adopt(&mut self, peer: Peer, request: &Request, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        if self.connection.is_some() {
            bail!("a second proxy asked for sockets (process {})", peer.pid);
        }
        if !self.wanted {
            bail!("a proxy asked for sockets while the host leaves");
        }
        self.listeners.adopt(request.holds.clone(), descriptors);
        self.complete(&peer)?;
        let (missing, sockets) = self.listeners.beyond(&request.holds);
        send_fds(&peer.stream, &encode(&missing), &sockets).await?;
        self.is_the_proxy(&peer, Phase::Starting);
        self.found = !request.holds.is_empty();
        tracing::info!(
            pid = peer.pid,
            version = peer.version,
            adopted = !request.holds.is_empty(),
            "the proxy has its sockets"
        );
        self.connection = Some(peer);
        self.act_at = None;
        self.ready_at = Some(Instant::now());
        Ok(())
    }

    /// One that is to take over gets the sockets that are there. New ones would take connections that nobody serves yet.
    async fn consider(&mut self, peer: Peer, request: &Request, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        if let Some(refused) = self.objection(&peer) {
            tracing::warn!(pid = peer.pid, why = refused, "a proxy may not take over");
            send_fds(&peer.stream, &encode(&Message::Refused(Refused { refused: refused.into() })), &[]).await?;
            return Ok(());
        }
        self.listeners.adopt(request.holds.clone(), descriptors);
        if self.connection.is_none() {
            self.complete(&peer)?;
        }
        let (missing, sockets) = self.listeners.beyond(&request.holds);
        send_fds(&peer.stream, &encode(&missing), &sockets).await?;
        tracing::info!(pid = peer.pid, version = peer.version, "a proxy is to take over; it has the sockets");
        self.candidate = Some(Candidate::new(peer));
        Ok(())
    }

    fn objection(&self, peer: &Peer) -> Option<&'static str> {
        let another = self.program.running().is_some_and(|pid| pid != peer.pid);
        if !self.wanted {
            Some("the host leaves the mesh")
        } else if self.candidate.is_some() {
            Some("another one takes over already")
        } else if self.connection.is_none() && another && Instant::now() < self.patience {
            Some("the proxy that runs is not connected to the agent yet; try again")
        } else {
            None
        }
    }

    /// One that has made room is known again after a start of ours.
    async fn remember(&mut self, peer: Peer) -> anyhow::Result<()> {
        tracing::info!(pid = peer.pid, version = peer.version, "a former proxy still carries connections");
        if !self.wanted {
            peer.order(END_NOW).await;
        }
        self.formers.add(peer).await;
        self.count_formers();
        Ok(())
    }

    /// Makes the sockets that a proxy is to have.
    fn complete(&mut self, peer: &Peer) -> anyhow::Result<()> {
        let wanted = (self.wanted_listeners)(peer.workers);
        let taken = self.listeners.complete(wanted, peer.can_yield).context("the mesh's ports")?;
        if taken {
            tracing::warn!(
                port = ports::HBONE,
                "another program listens there: callers of ambient meshes can't come in"
            );
        }
        Ok(())
    }

    fn is_the_proxy(&self, peer: &Peer, phase: Phase) {
        self.program.note(peer.pid);
        self.publish.send_modify(|state| {
            state.phase = phase;
            state.pid = peer.pid;
            state.version.clone_from(&peer.version);
            state.since = Some(SystemTime::now());
        });
    }

    /// The one that was to take over serves: it is the proxy, and the other one makes room.
    async fn promote(&mut self, peer: Peer) {
        if !self.wanted {
            return peer.order(END_NOW).await;
        }
        if let Some(former) = self.connection.take() {
            let end_within = if former.can_yield { self.drain } else { self.drain.min(UNABLE) };
            former.order(End { end_within, yields: true }).await;
            tracing::info!(
                from = former.pid,
                from_version = former.version,
                to = peer.pid,
                to_version = peer.version,
                seconds = end_within,
                "another proxy has taken over"
            );
            self.formers.add(former).await;
        }
        // What it was is told by its connection; the runtime sees to its end.
        self.child = None;
        self.act_at = None;
        self.ready_at = None;
        self.is_the_proxy(&peer, Phase::Running);
        self.publish.send_modify(|state| state.trouble.clear());
        self.count_formers();
        if let Err(error) = self.confirm(&peer).await {
            self.trouble(format!("the proxy did not get its further sockets: {error:#}"));
        }
        self.connection = Some(peer);
    }

    /// Tells a proxy that it is the one, with the sockets that it lacks still.
    async fn confirm(&mut self, peer: &Peer) -> anyhow::Result<()> {
        let held = self.listeners.names();
        self.complete(peer)?;
        let (missing, sockets) = self.listeners.beyond(&held);
        timeout(HANDOVER, send_fds(&peer.stream, &encode(&missing), &sockets)).await??;
        Ok(())
    }

    fn not_taken_over(&mut self, why: &str) {
        tracing::warn!(why, "a proxy has not taken over");
        if self.connection.is_none() && self.wanted {
            self.act_at = Some(Instant::now());
        }
    }

    fn count_formers(&self) {
        let count = self.formers.count();
        self.publish.send_if_modified(|state| std::mem::replace(&mut state.former, count) != count);
    }

    async fn ask(&mut self) {
        if admin::is_ready().await {
            self.publish.send_modify(|state| {
                state.phase = Phase::Running;
                state.trouble.clear();
            });
            self.renew();
        } else {
            self.ready_at = Some(Instant::now() + READY);
        }
    }

    /// Replaces a proxy of ours that an agent of another version has left behind; who starts proxies instead of us sees to that.
    fn renew(&mut self) {
        let old = self.connection.as_ref().is_some_and(|proxy| proxy.can_yield && proxy.version != OWN_VERSION);
        if !std::mem::take(&mut self.found) || !old || self.external.is_some() {
            return;
        }
        match self.program.replace() {
            Ok(mut starter) => drop(tokio::spawn(async move {
                // It says why, and an agent's next start tries again.
                let ended = starter.wait().await;
                tracing::info!(
                    took_over = ended.is_ok_and(|ended| ended.success()),
                    "a proxy of this version was tried"
                );
            })),
            Err(error) => tracing::warn!(%error, "a proxy of this version can't be started"),
        }
    }

    /// The proxy is gone, or seems so.
    fn lost(&mut self, why: &str) {
        let stable = self.publish.borrow().since.is_some_and(|since| since.elapsed().is_ok_and(|age| age > STABLE));
        if stable {
            self.backoff.reset();
        }
        if self.wanted {
            tracing::warn!(why, "the proxy is gone");
        }
        self.publish.send_modify(|state| {
            state.phase = Phase::Down;
            state.trouble = why.to_owned();
        });
        if self.wanted && self.connection.is_none() {
            self.patience = Instant::now() + CONNECT;
            self.act_at = Some(Instant::now() + self.backoff.next_wait());
        }
    }

    /// Starts a proxy if there is none; replaces one that does not connect.
    fn look(&mut self) {
        if !self.wanted || self.connection.is_some() || self.candidate.is_some() {
            return;
        }
        if self.external.is_some() {
            self.publish.send_if_modified(|state| {
                let news = state.trouble.is_empty();
                if news {
                    state.trouble = "none has connected yet: `systemctl status hawser-proxy` says more".into();
                }
                news
            });
            return;
        }
        if self.program.running().is_some() && Instant::now() < self.patience {
            self.act_at = Some(Instant::now() + LOOK);
            return;
        }
        if let Some(pid) = self.program.running() {
            tracing::warn!(pid, "a proxy runs that does not connect; it is replaced");
            child::signal(pid, Signal::SIGKILL);
            self.program.forget();
            self.act_at = Some(Instant::now() + self.backoff.next_wait());
            return;
        }
        if self.child.is_some() {
            return;
        }
        match self.program.start() {
            Ok(child) => {
                self.publish.send_modify(|state| {
                    state.restarts += u32::from(state.since.is_some());
                    state.phase = Phase::Starting;
                    state.pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
                });
                self.child = Some(child);
                self.patience = Instant::now() + CONNECT;
                self.act_at = Some(self.patience);
            }
            Err(error) => {
                self.trouble(format!("{} can't be started: {error}", self.program.binary.display()));
                self.act_at = Some(Instant::now() + self.backoff.next_wait());
            }
        }
    }

    /// Ends the proxy for good; whether it was gone in time.
    async fn end(&mut self, how: Signal, within: Duration) -> bool {
        self.wanted = false;
        self.act_at = None;
        self.ready_at = None;
        if let Some(candidate) = self.candidate.take() {
            candidate.dismiss().await;
        }
        let seconds = if how == Signal::SIGKILL { 0 } else { within.as_secs() };
        let end = End { end_within: u32::try_from(seconds).unwrap_or(u32::MAX), yields: false };
        self.formers.order(end).await;
        if let Some(socket) = &self.external {
            // Without it none is started again.
            let _ = std::fs::remove_file(socket);
            if let Some(proxy) = &self.connection {
                proxy.order(end).await;
            }
        } else if let Some(pid) = self.program.running() {
            child::signal(pid, how);
        }
        let ended = timeout(within, async {
            if self.connection.is_some() {
                gone(&mut self.connection).await;
            }
            self.formers.ended().await;
            if self.child.is_some() {
                let _ = wait(&mut self.child).await;
            }
        });
        let ended = ended.await.is_ok();
        if ended {
            self.connection = None;
            self.child = None;
            self.program.forget();
            self.publish.send_modify(|state| state.phase = Phase::Down);
        }
        self.count_formers();
        ended
    }

    fn trouble(&self, why: String) {
        tracing::warn!(why, "the proxy has trouble");
        self.publish.send_modify(|state| state.trouble = why);
    }
}

async fn gone(connection: &mut Option<Peer>) {
    match connection {
        Some(peer) => peer.gone().await,
        None => std::future::pending().await,
    }
}

async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}
