//! Keeps an Envoy running, with the bootstrap that leads it to the relay.
//!
//! In: the record, the program, ends of processes. Out: one Envoy, started or adopted by its process, that takes all of its
//! configuration from `proxy.sock`. It outlives the agent, and is never started twice. What it is asked and told goes
//! through its admin page, of which only harmless parts are open: see [`bootstrap`].

mod bootstrap;
mod busy;
mod version;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_daemon::backoff::Backoff;
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::child::{self, Program};
use super::{Order, Phase, ProxyState, READY, STABLE, admin};
use crate::config::{Config, Envoy};
use crate::identity::Identity;
use crate::relay;
pub(crate) use version::version;

/// How long one that runs may be without an admin page before it is replaced.
const ANSWER: Duration = Duration::from_secs(20);
/// How long one that was told to end may take: it has nothing left to do.
const END: Duration = Duration::from_secs(5);
const FILE: &str = "envoy.json";
/// Connections that end politely after a change of their listener have this long.
const DRAIN_SECONDS: &str = "45";

/// The keeper of an Envoy.
pub(super) struct Keeper {
    program: Program,
    settings: Envoy,
    run_dir: PathBuf,
    identity: watch::Receiver<Arc<Identity>>,
    publish: watch::Sender<ProxyState>,
    process: Option<Process>,
    backoff: Backoff,
    /// Whether there is to be an Envoy at all.
    wanted: bool,
    /// When to start one.
    act_at: Option<Instant>,
    /// When to ask whether it is ready.
    ask_at: Option<Instant>,
    /// Until when its admin page may be silent.
    patience: Instant,
}

enum Process {
    Ours(Child),
    /// Of an earlier agent, in whose file it stands.
    Found(PathBuf),
}

impl Keeper {
    /// Nothing is started yet.
    pub(super) fn new(
        config: &Config,
        identity: watch::Receiver<Arc<Identity>>,
        publish: watch::Sender<ProxyState>,
    ) -> Self {
        let settings = config.file.envoy.clone();
        let mut arguments = vec!["-c".into(), config.run_dir.join(FILE).into_os_string()];
        arguments.extend(["--disable-hot-restart", "--drain-strategy", "immediate"].map(Into::into));
        arguments.extend(["--drain-time-s", DRAIN_SECONDS, "-l", settings.log_level.as_str()].map(Into::into));
        if let Some(threads) = settings.concurrency {
            arguments.extend(["--concurrency".into(), threads.to_string().into()]);
        }
        let program = Program {
            binary: settings.binary.clone(),
            arguments,
            user: config.proxy_user,
            pid_file: config.run_dir.join(child::ENVOY_PID),
        };
        Self {
            program,
            settings,
            run_dir: config.run_dir.clone(),
            identity,
            publish,
            process: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            wanted: true,
            act_at: Some(Instant::now()),
            ask_at: None,
            patience: Instant::now() + ANSWER,
        }
    }

    /// Runs for as long as the host is joined.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        child::retire(&self.run_dir.join(child::HAWSER_PID)).await;
        loop {
            tokio::select! {
                how = ended(&mut self.process), if self.process.is_some() => {
                    self.process = None;
                    self.ask_at = None;
                    self.lost(&how);
                }
                () = tokio::time::sleep_until(self.act_at.unwrap_or_else(Instant::now)), if self.act_at.is_some() => {
                    self.act_at = None;
                    if let Err(why) = self.look().await {
                        self.trouble(why);
                        self.act_at = Some(Instant::now() + self.backoff.next_wait());
                    }
                }
                () = tokio::time::sleep_until(self.ask_at.unwrap_or_else(Instant::now)), if self.ask_at.is_some() => {
                    self.ask_at = None;
                    self.ask().await;
                }
                order = orders.recv() => match order {
                    Some(Order::Drain(within, reply)) => {
                        let idle = self.drain(within).await;
                        let _ = reply.send(idle);
                    }
                    Some(Order::Stop(reply)) => {
                        self.end(Signal::SIGKILL).await;
                        let _ = std::fs::remove_file(self.run_dir.join(FILE));
                        let _ = reply.send(());
                    }
                    None => return,
                },
            }
        }
    }

    /// Adopts the one that runs, or starts one.
    async fn look(&mut self) -> Result<(), String> {
        let pid = match self.program.running() {
            Some(pid) => {
                tracing::info!(pid, "an Envoy runs; it is adopted");
                self.process = Some(Process::Found(self.program.pid_file.clone()));
                pid
            }
            None => {
                let version = version(&self.settings.binary).await.map_err(|error| error.to_string())?;
                let record = self.identity.borrow().record.clone();
                let path = self.run_dir.join(FILE);
                let ipv6 = bootstrap::speaks_ipv6();
                let text = bootstrap::bootstrap(&record, &self.run_dir.join(relay::SOCKET), ipv6).to_string();
                bootstrap::write(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
                let child = self.program.start();
                let child = child.map_err(|e| format!("{} can't be started: {e}", self.settings.binary.display()))?;
                let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
                tracing::info!(pid, %version, "an Envoy was started");
                self.process = Some(Process::Ours(child));
                pid
            }
        };
        self.publish.send_modify(|state| {
            state.restarts += u32::from(state.since.is_some());
            state.phase = Phase::Starting;
            state.pid = pid;
            state.since = Some(SystemTime::now());
        });
        self.patience = Instant::now() + ANSWER;
        self.ask_at = Some(Instant::now());
        Ok(())
    }

    /// Ready, or to be asked again, or replaced.
    async fn ask(&mut self) {
        match admin::page("/ready").await {
            Some((200, _)) => {
                let info = admin::page("/server_info").await;
                let version = info.and_then(|(_, text)| version::running(&text)).unwrap_or_default();
                self.publish.send_modify(|state| {
                    state.phase = Phase::Running;
                    state.version = format!("envoy {version}").trim_end().to_owned();
                    state.trouble.clear();
                });
                return;
            }
            Some((_, said)) => {
                self.patience = Instant::now() + ANSWER;
                let said: String = said.trim().chars().take(64).collect();
                self.publish.send_if_modified(|state| {
                    let trouble = format!("Envoy says {said}");
                    let news = state.trouble != trouble;
                    state.trouble = trouble;
                    news
                });
            }
            None if Instant::now() >= self.patience => {
                self.trouble("its admin page does not answer; it is replaced".into());
                self.signal(Signal::SIGKILL);
                self.patience = Instant::now() + ANSWER;
            }
            None => {}
        }
        self.ask_at = Some(Instant::now() + READY);
    }

    fn lost(&mut self, why: &str) {
        let stable = self.publish.borrow().since.is_some_and(|since| since.elapsed().is_ok_and(|age| age > STABLE));
        if stable {
            self.backoff.reset();
        }
        self.program.forget();
        self.publish.send_modify(|state| {
            state.phase = Phase::Down;
            state.trouble = why.to_owned();
        });
        if self.wanted {
            tracing::warn!(why, "Envoy is gone");
            self.act_at = Some(Instant::now() + self.backoff.next_wait());
        }
    }

    /// Asks callers to go elsewhere, waits until nothing is under way, and ends it; whether all had ended in time.
    async fn drain(&mut self, within: Duration) -> bool {
        let until = Instant::now() + within;
        self.wanted = false;
        self.act_at = None;
        self.ask_at = None;
        let mut idle = self.process.is_none();
        if !idle && admin::tell("/healthcheck/fail").await {
            idle = busy::wait(until, || self.program.running().is_some()).await;
        }
        self.end(Signal::SIGTERM).await;
        idle
    }

    async fn end(&mut self, how: Signal) {
        self.wanted = false;
        self.act_at = None;
        self.ask_at = None;
        self.signal(how);
        if self.process.is_some() && timeout(END, ended(&mut self.process)).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = timeout(END, ended(&mut self.process)).await;
        }
        self.process = None;
        self.program.forget();
        self.publish.send_modify(|state| state.phase = Phase::Down);
    }

    fn signal(&self, how: Signal) {
        if let Some(pid) = self.program.running() {
            child::signal(pid, how);
        }
    }

    fn trouble(&self, why: String) {
        tracing::warn!(why, "the proxy has trouble");
        self.publish.send_modify(|state| state.trouble = why);
    }
}

/// How it ended, once it did.
async fn ended(process: &mut Option<Process>) -> String {
    match process {
        Some(Process::Ours(child)) => {
            child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string())
        }
        Some(Process::Found(file)) => {
            child::gone(file).await;
            "its process ended".to_owned()
        }
        None => std::future::pending().await,
    }
}
