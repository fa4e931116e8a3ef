//! What the service manager is told: how we are, that we are ready, that we live.
//!
//! In: sentences, and the moment from which traffic works. Out: datagrams to the socket that `NOTIFY_SOCKET` names; nothing
//! where there is none. Invariant: while we are not ready we ask for more time, so that nobody is killed for waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

use crate::readiness::Readiness;

/// How often it hears of us where it asks for no sign of life.
const OFTEN: Duration = Duration::from_secs(10);
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
}

impl Service {
    /// How we are, in words; told only when it is news.
    pub fn status(&self, sentence: impl Into<String>) {
        let sentence = sentence.into().replace('\n', " ");
        let mut status = self.0.status.lock();
        if *status != sentence {
            tell(&[NotifyState::Status(&sentence)]);
            *status = sentence;
        }
    }

    /// Traffic works.
    pub fn ready(&self) {
        if !self.0.ready.swap(true, Ordering::AcqRel) {
            tell(&[NotifyState::Ready]);
        }
    }

    /// Whether it was told that we are ready.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// We end.
    pub fn stopping(&self, sentence: &str) {
        tell(&[NotifyState::Stopping, NotifyState::Status(sentence)]);
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
            tell(&[NotifyState::Watchdog]);
            if !self.is_ready() {
                tell(&[NotifyState::ExtendTimeoutUsec(MORE_TIME_US)]);
            }
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
