//! What the service manager is told: how we are, that we are ready, that we live.
//!
//! In: sentences, and the moment from which traffic works. Out: datagrams to the socket that `NOTIFY_SOCKET` names; nothing
//! where there is none. Invariants: while we are not ready we ask for more time, so that nobody is killed for waiting; a process
//! that is not the main one says nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

use crate::readiness::Readiness;

/// How often it hears of us where it asks for no sign of life.
const OFTEN: Duration = Duration::from_secs(10);
/// After how long without a sign of life a process that took over is taken for dead.
const LIMIT_US: u32 = 30_000_000;
/// Between two looks at what is missing.
const LOOK: Duration = Duration::from_millis(500);
/// How much more time we ask for.
const MORE_TIME_US: u32 = 60_000_000;

/// The service manager. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Service(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    status: Mutex<String>,
    ready: AtomicBool,
    silent: AtomicBool,
}

impl Service {
    /// For a process that is not the main one yet: it is silent until [`Service::speak`].
    pub fn silent() -> Self {
        let service = Self::default();
        service.hush();
        service
    }

    /// We are the main process.
    pub fn speak(&self) {
        self.0.silent.store(false, Ordering::Release);
    }

    /// We are not the main process any more.
    pub fn hush(&self) {
        self.0.silent.store(true, Ordering::Release);
    }

    /// Which process is the main one from now on, and that it gives signs of life as often as [`Service::live`] does: it
    /// is not told how often the unit asks for them.
    ///
    /// # Errors
    /// If there is a service manager, and it can't be told.
    pub fn main_process(pid: u32) -> std::io::Result<()> {
        sd_notify::notify(&[NotifyState::MainPid(pid), NotifyState::WatchdogUsec(LIMIT_US)])
    }

    /// How we are, in words; told only when it is news.
    pub fn status(&self, sentence: impl Into<String>) {
        let sentence = sentence.into().replace('\n', " ");
        let mut status = self.0.status.lock();
        if *status != sentence {
            self.tell(&[NotifyState::Status(&sentence)]);
            *status = sentence;
        }
    }

    /// Traffic works.
    pub fn ready(&self) {
        if !self.0.ready.swap(true, Ordering::AcqRel) {
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// Whether it was told that we are ready.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// We end.
    pub fn stopping(&self, sentence: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(sentence)]);
    }

    /// Says what is missing until nothing is, and then that we are ready.
    pub async fn follow(self, readiness: Readiness) {
        let mut looks = tokio::time::interval(LOOK);
        while !readiness.is_ready() {
            tokio::select! {
                _ = looks.tick() => self.status(format!("waiting for {}", readiness.missing().join(", "))),
                () = readiness.ready() => {}
            }
        }
        self.status("serving");
        self.ready();
    }

    /// Gives signs of life until it is dropped: a runtime that turns no more gives none.
    pub async fn live(self) {
        let often = sd_notify::watchdog_enabled().map_or(OFTEN, |limit| (limit / 3).min(OFTEN));
        let mut turns = tokio::time::interval(often);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            self.tell(&[NotifyState::Watchdog]);
            if !self.is_ready() {
                self.tell(&[NotifyState::ExtendTimeoutUsec(MORE_TIME_US)]);
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.0.silent.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}
