//! Listening sockets from the agent, whose queues outlive both of us.
//!
//! In: the agent's socket. Out: sockets for the workers, and its order to end. When the agent is gone, we connect again and name
//! what we hold. Invariants: who takes over accepts nothing before it may; who has made room holds nothing any more.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hawser_api::handover::{self, End, Listener, Message, Part, Request, Serving};
use hawser_daemon::backoff::Backoff;
use hawser_daemon::readiness::Guard;
use hawser_sockets::{FdLimits, recv_fds, send_fds};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Threads;
use super::succession::Succession;
use crate::listen::{Entrance, Socket};
use crate::take_over::Starter;

/// How long one that has made room leaves the agent to the one that serves, each time.
const AFTER_OTHERS: Duration = Duration::from_secs(5);
/// How long one that never had sockets waits for an agent that is not there: the host has left.
const NOBODY: Duration = Duration::from_secs(5);
const LIMITS: FdLimits = FdLimits { bytes: handover::LONGEST, descriptors: handover::MOST };
const NO_ANSWER: &str = "the agent ended the connection: an older one knows no second proxy, any other says why in its log; \
                         restart the proxy instead";

/// Our end of the agent's socket.
pub(super) struct Handover {
    path: PathBuf,
    threads: Arc<Threads>,
    told: watch::Sender<Option<End>>,
    part: Part,
    holds: Vec<(Listener, std::net::TcpListener)>,
    /// How many of them the workers have.
    given: usize,
    /// Dropped when there are sockets.
    guard: Option<Guard>,
    /// Until we may take over.
    succession: Option<Succession>,
    /// Who waits for us to have taken over.
    starter: Option<Starter>,
}

impl Handover {
    /// Not connected yet.
    pub(super) fn new(
        run_dir: &Path,
        threads: Arc<Threads>,
        told: watch::Sender<Option<End>>,
        guard: Guard,
        succession: Option<Succession>,
    ) -> Self {
        let part = if succession.is_some() { Part::TakesOver } else { Part::Serves };
        let path = run_dir.join(handover::SOCKET);
        Self { path, threads, told, part, holds: Vec::new(), given: 0, guard: Some(guard), succession, starter: None }
    }

    /// Runs for ever; one that takes over, until it can't.
    pub(super) async fn run(mut self) -> anyhow::Error {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut seen = Instant::now();
        loop {
            let Err(error) = self.session(&mut backoff).await;
            if let Some(succession) = &mut self.succession {
                succession.starter.no(&error).await;
                return error;
            }
            tracing::debug!(error = %format_args!("{error:#}"), "no listening sockets from the agent");
            if !self.holds.is_empty() || self.path.exists() {
                seen = Instant::now();
            } else if seen.elapsed() > NOBODY && self.part == Part::Serves {
                self.told.send_replace(Some(End { end_within: 0, yields: false }));
            }
            tokio::time::sleep(if self.part == Part::Yields { AFTER_OTHERS } else { backoff.next_wait() }).await;
        }
    }

    async fn session(&mut self, backoff: &mut Backoff) -> anyhow::Result<Infallible> {
        let stream = UnixStream::connect(&self.path).await.with_context(|| self.path.display().to_string())?;
        self.introduce(&stream).await?;
        // Whether the next sockets are the answer to that we serve.
        let mut said = false;
        loop {
            let mut next = pin!(recv_fds(&stream, LIMITS));
            let (message, descriptors) = loop {
                tokio::select! {
                    received = &mut next => break received.context(NO_ANSWER)?,
                    allowed = allowed(&mut self.succession), if self.succession.is_some() && !self.holds.is_empty() => {
                        allowed?;
                        self.begin().await;
                        say_serving(&stream).await?;
                        said = true;
                    }
                }
            };
            match serde_json::from_slice(&message)? {
                Message::Listeners(listeners) => {
                    backoff.reset();
                    self.take(listeners, descriptors)?;
                    if self.part == Part::TakesOver && self.succession.is_none() {
                        if std::mem::replace(&mut said, true) {
                            self.succeeded().await;
                        } else {
                            say_serving(&stream).await?;
                        }
                    }
                }
                Message::End(end) => {
                    if end.yields {
                        self.holds.clear();
                        self.given = 0;
                        self.part = Part::Yields;
                    }
                    self.told.send_replace(Some(end));
                }
                Message::Refused(no) => bail!("the agent refuses: {}", no.refused),
            }
        }
    }

    async fn introduce(&self, stream: &UnixStream) -> anyhow::Result<()> {
        let request = Request {
            workers: u32::try_from(self.threads.count())?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id())?,
            holds: self.holds.iter().map(|(listener, _)| listener.clone()).collect(),
            part: self.part,
            can_yield: true,
        };
        let descriptors: Vec<_> = self.holds.iter().map(|(_, socket)| socket.as_fd()).collect();
        Ok(send_fds(stream, &handover::encode(&request), &descriptors).await?)
    }

    fn take(&mut self, listeners: Vec<Listener>, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        ensure!(listeners.len() == descriptors.len(), "{} names, {} sockets", listeners.len(), descriptors.len());
        if self.part == Part::Yields {
            return Ok(());
        }
        for (listener, descriptor) in listeners.into_iter().zip(descriptors) {
            ensure!(self.holds.len() < handover::MOST, "too many sockets");
            self.holds.push((listener, descriptor.into()));
        }
        if !self.holds.is_empty() {
            drop(self.guard.take());
        }
        if self.succession.is_some() { Ok(()) } else { self.give() }
    }

    /// Lets workers accept what we hold.
    fn give(&mut self) -> anyhow::Result<()> {
        for (listener, socket) in self.holds.iter().skip(self.given) {
            self.given += 1;
            let Some(entrance) = Entrance::parse(&listener.name) else { continue };
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            // One before us may have had more.
            let worker = usize::try_from(listener.worker)? % self.threads.count();
            let workload = listener.workload.clone();
            let over = CancellationToken::new();
            self.threads.give(worker, Socket { listener: socket, entrance, workload, shared: true, over });
            tracing::info!(name = %listener.name, addr = %listener.addr, worker, "listening");
        }
        Ok(())
    }

    /// From here on there is no way back.
    async fn begin(&mut self) {
        let Some(succession) = self.succession.take() else { return };
        self.starter = Some(succession.begin().await);
        if let Err(error) = self.give() {
            tracing::error!(error = %format_args!("{error:#}"), "a listening socket can't be used");
        }
    }

    /// We are the proxy.
    async fn succeeded(&mut self) {
        self.part = Part::Serves;
        if let Some(starter) = self.starter.take() {
            starter.serving().await;
        }
    }
}

async fn allowed(succession: &mut Option<Succession>) -> anyhow::Result<()> {
    match succession {
        Some(succession) => succession.allowed().await,
        None => std::future::pending().await,
    }
}

async fn say_serving(stream: &UnixStream) -> anyhow::Result<()> {
    Ok(send_fds(stream, &handover::encode(&Serving { serving: true }), &[]).await?)
}
