//! What of the host is redirected, and when: the agent's side of `redirect`.
//!
//! In: the record, what discovery says is captured, the host's name servers, the proxy's state. Out: an [`Intent`] that
//! is installed and follows its inputs. The first installation is confirmed by new connections from and to the host, or undone.

mod confirm;
mod heal;
mod intent;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hawser_api::proto::agent::RedirectResponse;
use hawser_api::proto::agent::redirect_request::Verb;
use tokio::sync::{Mutex, watch};

pub(crate) use confirm::seen_from_outside;
pub(crate) use heal::Healing;

use crate::config::Config;
use crate::dns::Upstreams;
use crate::identity::Identity;
use crate::redirect::{Intent, OnProxyFailure, Recovered, RedirectError, Redirection, Status};
use crate::relay::Captured;
use crate::state::StateDir;
use crate::supervise::{Phase, ProxyState};

const RENEW: Duration = Duration::from_secs(2);
/// How long a proxy may be gone before `onProxyFailure: open` opens.
const OPEN_AFTER: Duration = Duration::from_secs(1);

/// Redirection as the agent drives it. Clones share it.
#[derive(Clone)]
pub(crate) struct Capture(Arc<Inner>);

struct Inner {
    config: Config,
    redirection: Mutex<Redirection>,
    installed: AtomicBool,
    /// Whether this host was ever captured since we started.
    protected: watch::Sender<bool>,
    inputs: Inputs,
    healing: parking_lot::Mutex<Healing>,
}

/// Where an intent comes from.
struct Inputs {
    identity: watch::Receiver<Arc<Identity>>,
    captured: Captured,
    upstreams: Upstreams,
}

impl Capture {
    /// Nothing is changed yet.
    pub(crate) fn new(
        config: &Config,
        state: &StateDir,
        identity: watch::Receiver<Arc<Identity>>,
        captured: Captured,
        upstreams: Upstreams,
    ) -> Self {
        let redirection = Mutex::new(Redirection::new(&state.path("")));
        let inputs = Inputs { identity, captured, upstreams };
        // What an earlier run has confirmed is in the kernel still, or is loaded at boot before anybody can call.
        let confirmed = state.path("redirect.json").exists();
        let (installed, protected) = (AtomicBool::new(false), watch::Sender::new(confirmed));
        let healing = parking_lot::Mutex::default();
        Self(Arc::new(Inner { config: config.clone(), redirection, installed, protected, inputs, healing }))
    }

    /// Settles what an earlier run left, and installs again what it had confirmed. Whether it had.
    pub(crate) async fn recover(&self) -> Result<bool, RedirectError> {
        let mut redirection = self.0.redirection.lock().await;
        if !matches!(redirection.recover().await?, Recovered::Installed(_)) {
            return Ok(false);
        }
        let intent = self.intent();
        note(redirection.apply(&intent).await?);
        self.set_installed();
        self.catch_up(&mut redirection, &intent).await;
        Ok(true)
    }

    fn set_installed(&self) {
        self.0.installed.store(true, Ordering::Release);
        self.0.protected.send_replace(true);
    }

    /// Applies what changed while `applied` was being installed, which nobody followed yet.
    async fn catch_up(&self, redirection: &mut Redirection, applied: &Intent) {
        let now = self.intent();
        if now == *applied {
            return;
        }
        match redirection.apply(&now).await {
            Ok(notes) => note(notes),
            Err(error) => tracing::warn!(error = chain(&error), "redirection did not follow"),
        }
    }

    /// Whether the host's ports are behind the proxy, or have been since we started: nobody is to be sent to them before.
    pub(crate) fn protected(&self) -> watch::Receiver<bool> {
        self.0.protected.subscribe()
    }

    /// What should be installed now.
    pub(crate) fn intent(&self) -> Intent {
        let record = self.0.inputs.identity.borrow().record.clone();
        let captured = self.0.inputs.captured.borrow().clone();
        intent::intent(&self.0.config, &record, captured, &self.0.inputs.upstreams.servers())
    }

    /// Follows the inputs until it is dropped; does nothing while nothing is installed.
    pub(crate) async fn follow(self, mut proxy: watch::Receiver<ProxyState>) {
        let mut identity = self.0.inputs.identity.clone();
        let mut captured = self.0.inputs.captured.clone();
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut record = identity.borrow_and_update().record.clone();
        let mut servers = self.0.inputs.upstreams.servers();
        let mut open_at = None;
        let mut released = false;
        loop {
            let deadline: Option<tokio::time::Instant> = open_at;
            let result = tokio::select! {
                changed = captured.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    captured.mark_unchanged();
                    self.update_capture().await
                }
                changed = identity.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = identity.borrow_and_update().record.clone();
                    let news = now != record;
                    record = now;
                    if news { self.apply().await } else { Ok(()) }
                }
                _ = renew.tick() => {
                    let now = self.0.inputs.upstreams.servers();
                    let news = now != servers;
                    servers = now;
                    if news { self.apply().await } else { self.renew_dns().await }
                }
                changed = proxy.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let down = proxy.borrow_and_update().phase == Phase::Down;
                    open_at = down.then(|| tokio::time::Instant::now() + OPEN_AFTER);
                    if !down && std::mem::take(&mut released) { self.take_inbound(true).await } else { Ok(()) }
                }
                () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await }, if deadline.is_some() => {
                    open_at = None;
                    released = self.intent().on_proxy_failure == OnProxyFailure::Open;
                    if released { self.take_inbound(false).await } else { Ok(()) }
                }
            };
            if let Err(error) = result {
                tracing::warn!(error = chain(&error), "redirection did not follow");
            }
        }
    }

    /// Ends outbound capture and name capture; inbound stays with the proxy until it has ended.
    pub(crate) async fn drain(&self) -> Result<(), RedirectError> {
        if !self.0.installed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.0.installed.store(false, Ordering::Release);
        let intent = self.intent();
        let draining = Intent { inbound: intent.inbound.clone(), ..intent.draining() };
        note(self.0.redirection.lock().await.apply(&draining).await?);
        Ok(())
    }

    /// Takes everything down.
    pub(crate) async fn remove(&self, grace: Duration) -> Result<(), RedirectError> {
        self.0.installed.store(false, Ordering::Release);
        let left = self.0.redirection.lock().await.remove(grace).await?;
        if left > 0 {
            tracing::info!(left, "captured connections were left when redirection went");
        }
        Ok(())
    }

    /// How it is.
    pub(crate) async fn status(&self) -> (Status, Vec<String>) {
        let mut redirection = self.0.redirection.lock().await;
        let status = redirection.status().await.unwrap_or_default();
        let differences = redirection.check().await.unwrap_or_else(|error| vec![chain(&error)]);
        (status, differences)
    }

    /// How it is, without a look at every rule.
    pub(crate) async fn counters(&self) -> Status {
        self.0.redirection.lock().await.status().await.unwrap_or_default()
    }

    /// What others took away and was put back.
    pub(crate) fn healing(&self) -> Healing {
        self.0.healing.lock().clone()
    }

    /// Whether it is in force.
    pub(crate) fn is_installed(&self) -> bool {
        self.0.installed.load(Ordering::Acquire)
    }

    /// Answers `hawser redirect`.
    pub(crate) async fn redirect(&self, verb: Verb) -> anyhow::Result<RedirectResponse> {
        let mut redirection = self.0.redirection.lock().await;
        Ok(match verb {
            Verb::Show => RedirectResponse { text: redirection.show().await?, differences: Vec::new() },
            Verb::Plan => RedirectResponse { text: redirection.plan(&self.intent()), differences: Vec::new() },
            Verb::Check => {
                RedirectResponse { text: redirection.show().await?, differences: redirection.check().await? }
            }
        })
    }

    async fn apply(&self) -> Result<(), RedirectError> {
        if self.0.installed.load(Ordering::Acquire) {
            note(self.0.redirection.lock().await.apply(&self.intent()).await?);
        }
        Ok(())
    }

    async fn update_capture(&self) -> Result<(), RedirectError> {
        if self.0.installed.load(Ordering::Acquire) {
            note(self.0.redirection.lock().await.update_capture(&self.intent().capture).await?);
        }
        Ok(())
    }

    async fn renew_dns(&self) -> Result<(), RedirectError> {
        if self.0.installed.load(Ordering::Acquire) {
            self.0.redirection.lock().await.renew_dns().await?;
        }
        Ok(())
    }

    async fn take_inbound(&self, take: bool) -> Result<(), RedirectError> {
        if self.0.installed.load(Ordering::Acquire) {
            tracing::warn!(open = !take, "the proxy's state decides what inbound connections meet");
            self.0.redirection.lock().await.take_inbound(take).await?;
        }
        Ok(())
    }
}

/// Takes away what a join or leave that was cut short left on a host that is not joined; whether there was anything.
pub(crate) async fn clean(state: &StateDir) -> Result<bool, RedirectError> {
    let mut redirection = Redirection::new(&state.path(""));
    Ok(match redirection.recover().await? {
        Recovered::Nothing => false,
        Recovered::Removed | Recovered::RolledBack(None) => true,
        Recovered::Installed(_) | Recovered::RolledBack(Some(_)) => {
            redirection.remove(Duration::ZERO).await?;
            true
        }
    })
}

fn note(notes: Vec<String>) {
    for note in notes {
        tracing::warn!(note, "not all of redirection is possible here");
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
