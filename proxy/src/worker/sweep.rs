//! What ends the slow and the idle: one timer a worker looks at all connections once a second, so that none needs a timer
//! of its own.

use std::cell::{Cell, RefCell};
use std::rc::Weak;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak as ArcWeak};
use std::time::Duration;

use super::Worker;
use crate::http::codec::{Progress, Version};

/// Connections that are looked at.
#[derive(Debug, Default)]
pub struct Sweep {
    clock: Arc<AtomicU32>,
    watched: RefCell<Vec<Watched>>,
    /// Open connections of this worker.
    pub open: Cell<usize>,
}

#[derive(Debug)]
struct Watched {
    progress: ArcWeak<Progress>,
    head: Duration,
    idle: Duration,
}

impl Sweep {
    /// Watches a connection: a head may take `head`, silence between requests `idle`.
    pub fn watch(&self, version: Version, head: Duration, idle: Duration) -> Arc<Progress> {
        let progress = Arc::new(Progress::new(version, self.clock.clone()));
        self.watched.borrow_mut().push(Watched { progress: Arc::downgrade(&progress), head, idle });
        progress
    }

    fn tick(&self) {
        self.clock.fetch_add(1, Relaxed);
        self.watched.borrow_mut().retain(|w| match w.progress.upgrade() {
            Some(progress) => {
                progress.sweep(w.head, w.idle);
                true
            }
            None => false,
        });
    }
}

/// Runs until the worker is gone.
pub(super) async fn run(worker: Weak<Worker>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        worker.sweep.tick();
        worker.pool.sweep(crate::clock::now_ms());
        worker.tunnels.sweep(crate::clock::now_ms());
    }
}
