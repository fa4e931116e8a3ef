//! What ends connections from outside: the slow and the idle, those whose chain or endpoint is gone, the end of the process.
//! One task a worker looks at all of them once a second and after each change; none needs a timer or a token of its own.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Worker;
use crate::config::{Chain, Config, EndpointState, HttpSpec};
use crate::http::progress::{Ending, Progress};
use crate::tcp::Admitted;

/// Connections that are looked at.
#[derive(Debug)]
pub struct Watch {
    clock: Rc<Cell<u32>>,
    all: RefCell<Vec<Watched>>,
    /// How clients' connections end, once the process does.
    draining: Cell<Ending>,
    /// Open connections of clients of this worker.
    pub open: Cell<usize>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { clock: Rc::default(), all: RefCell::default(), draining: Cell::new(Ending::No), open: Cell::new(0) }
    }
}

#[derive(Debug)]
struct Watched {
    progress: Weak<Progress>,
    end: End,
}

/// Which end of ours it is.
#[derive(Debug)]
enum End {
    /// A client's connection: a head may take so long, silence between requests so long.
    Client { chain: Arc<Chain>, head: Duration, idle: Duration },
    /// A connection to an endpoint.
    Endpoint(Arc<EndpointState>),
    /// A connection that is carried in, to an endpoint if there is one.
    Carried(Option<Arc<EndpointState>>, Box<Admitted>),
}

impl Watch {
    /// Watches a client's connection.
    pub fn client(&self, chain: &Arc<Chain>, spec: &HttpSpec) -> Rc<Progress> {
        let end = End::Client { chain: chain.clone(), head: spec.head_timeout, idle: spec.idle_timeout };
        let progress = self.add(end);
        progress.tell(if chain.replaced.is_cancelled() { Ending::Graceful } else { self.draining.get() });
        progress
    }

    /// Watches a connection to an endpoint; one without is never lost.
    pub fn endpoint(&self, state: Option<&Arc<EndpointState>>) -> Rc<Progress> {
        match state {
            None => Progress::new(self.clock.clone()),
            Some(state) => {
                let progress = self.add(End::Endpoint(state.clone()));
                if state.lost.is_cancelled() {
                    progress.tell(Ending::Now);
                }
                progress
            }
        }
    }

    /// Watches a connection that is carried in: policies may change while it lives.
    pub(crate) fn carried(
        &self,
        state: Option<&Arc<EndpointState>>,
        admitted: Admitted,
        config: &Config,
    ) -> Rc<Progress> {
        // What has changed while it was being connected, nobody else tells it.
        let late = !admitted.is_current() && !admitted.may_stay(config)
            || state.is_some_and(|state| state.lost.is_cancelled());
        let progress = self.add(End::Carried(state.cloned(), Box::new(admitted)));
        if late {
            progress.tell(Ending::Now);
        }
        progress
    }

    fn add(&self, end: End) -> Rc<Progress> {
        let progress = Progress::new(self.clock.clone());
        self.all.borrow_mut().push(Watched { progress: Rc::downgrade(&progress), end });
        progress
    }

    /// A second has passed.
    fn tick(&self) {
        self.clock.set(self.clock.get().wrapping_add(1));
        self.each(|progress, end| {
            if let End::Client { head, idle, .. } = end {
                progress.sweep(*head, *idle);
            }
        });
    }

    /// The configuration has changed.
    fn changed(&self, config: &Config) {
        self.each(|progress, end| match end {
            End::Client { chain, .. } if chain.replaced.is_cancelled() => progress.tell(Ending::Graceful),
            End::Endpoint(state) if state.lost.is_cancelled() => progress.tell(Ending::Now),
            End::Carried(state, admitted) => {
                let lost = state.as_ref().is_some_and(|s| s.lost.is_cancelled());
                if lost || !admitted.is_current() && !admitted.may_stay(config) {
                    progress.tell(Ending::Now);
                }
            }
            End::Client { .. } | End::Endpoint(_) => {}
        });
    }

    /// The process ends: soon, or when the last connection does.
    fn drain(&self, yields: bool) {
        let how = if yields { Ending::Last } else { Ending::Graceful };
        if how <= self.draining.get() {
            return;
        }
        self.draining.set(how);
        self.each(|progress, end| {
            if matches!(end, End::Client { .. }) {
                progress.tell(how);
            }
        });
    }

    fn each(&self, mut f: impl FnMut(&Progress, &End)) {
        self.all.borrow_mut().retain(|w| match w.progress.upgrade() {
            Some(progress) => {
                f(&progress, &w.end);
                true
            }
            None => false,
        });
    }
}

/// Runs until the worker is gone.
pub(super) async fn run(worker: std::rc::Weak<Worker>) {
    let Some(first) = worker.upgrade() else { return };
    let (mut changes, drain) = (first.shared.changed.subscribe(), first.shared.drain.clone());
    drop(first);
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining = std::pin::pin!(drain.draining());
    let mut drained = false;
    loop {
        let mut ticked = false;
        let mut change = None;
        tokio::select! {
            _ = every.tick() => ticked = true,
            changed = changes.changed() => change = Some(changed),
            () = &mut draining, if !drained => drained = true,
        }
        let Some(worker) = worker.upgrade() else { return };
        if drained {
            worker.watch.drain(worker.shared.yields.load(Relaxed));
        }
        if ticked {
            worker.watch.tick();
            worker.pool.sweep(crate::clock::now_ms());
            worker.tunnels.sweep(crate::clock::now_ms());
        } else if let Some(change) = change {
            if change.is_err() {
                // The control thread is gone; so is the process soon.
                return;
            }
            worker.refresh();
            worker.watch.changed(&worker.config());
            worker.pool.forget_lost();
        }
    }
}
