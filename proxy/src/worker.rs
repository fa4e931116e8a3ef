//! One worker: a single-threaded runtime with its own listeners, pools and counters.
//!
//! In: listening sockets, the shared pointer to the configuration. Out: served connections. Everything here belongs to
//! one thread; what is shared (configuration, counters) is read without waiting.

mod demand;
mod overload;
mod watch;

pub use demand::{Ask, Demand};
pub use overload::{Overload, default_limit};
pub use watch::Watch;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use hawser_api::names::SECRET_DEFAULT;
use hawser_daemon::drain;

use crate::access_log::{AccessLogs, Lines, Writer};
use crate::config::Config;
use crate::pool::Pool;
use crate::tcp::tunnels::Tunnels;
use crate::telemetry::{Counters, Flows, Party, Registry};
use crate::tls::{ClientConfigs, ServerConfigs};

/// What all workers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The configuration of the moment.
    pub config: Arc<ArcSwap<Config>>,
    /// Told when there is another one.
    pub changed: tokio::sync::watch::Sender<()>,
    /// Counters of the whole proxy.
    pub counters: Arc<Counters>,
    /// Asks for listeners that are not there yet.
    pub demand: Demand,
    /// The end of the process.
    pub drain: drain::Watch,
    /// It has time: another proxy serves what is new.
    pub yields: Arc<AtomicBool>,
    /// Whether memory is short.
    pub overload: Arc<Overload>,
    /// The most connections of a worker.
    pub most_connections: usize,
    /// Whether TCP connections between hawser-proxies share connections, as tunnels.
    pub tcp_tunnels: bool,
    /// Which access logs count.
    pub access_logs: AccessLogs,
    /// What brings their lines to files.
    pub log_writer: Writer,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub shared: Shared,
    /// Its series.
    pub registry: Arc<Registry>,
    /// Idle and shared connections to endpoints.
    pub pool: Pool,
    /// Connections that carry tunnels.
    pub tunnels: Tunnels,
    /// TLS as a client.
    pub client_tls: RefCell<ClientConfigs>,
    /// TLS as a server.
    pub server_tls: RefCell<ServerConfigs>,
    /// Flows by what they go to.
    pub flows: RefCell<Flows>,
    /// Lines of access logs.
    pub lines: Lines,
    /// Ends what takes too long, or lost its reason.
    pub watch: Watch,
    config: RefCell<Rc<Held>>,
}

impl Worker {
    /// A worker; its watch is started.
    pub fn new(shared: Shared, registry: Arc<Registry>) -> Rc<Self> {
        let lines = shared.log_writer.lines();
        let config = RefCell::new(Rc::new(Held(shared.config.load_full())));
        let worker = Rc::new(Self {
            shared,
            registry,
            pool: Pool::default(),
            tunnels: Tunnels::default(),
            client_tls: RefCell::default(),
            server_tls: RefCell::default(),
            flows: RefCell::default(),
            lines,
            watch: Watch::default(),
            config,
        });
        tokio::task::spawn_local(watch::run(Rc::downgrade(&worker)));
        worker
    }

    /// The configuration of the moment. It is held by this thread alone, so that taking it touches no memory that other
    /// workers touch; [`Watch`] exchanges it when there is another one.
    pub fn config(&self) -> Rc<Held> {
        self.config.borrow().clone()
    }

    /// Takes the newest configuration.
    pub fn refresh(&self) {
        self.config.replace(Rc::new(Held(self.shared.config.load_full())));
    }

    /// Counters of the whole proxy.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The own workload, with the identity that it shows.
    pub fn own(&self, config: &Config) -> Party {
        Party {
            workload: config.workload().cloned().unwrap_or_default(),
            principal: config.credentials.get(SECRET_DEFAULT).map(|c| c.identity.as_str().into()),
        }
    }

    /// Runs a task that the drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.shared.drain.spawn_local(task);
    }

    /// Counts an open connection until the guard is dropped; `None` if there are too many.
    pub fn open(self: &Rc<Self>) -> Option<Open> {
        if self.watch.open.get() >= self.shared.most_connections {
            return None;
        }
        self.watch.open.set(self.watch.open.get() + 1);
        self.shared.counters.open.fetch_add(1, Relaxed);
        Some(Open(self.clone()))
    }
}

/// A configuration in the hands of one worker.
#[derive(Debug)]
pub struct Held(Arc<Config>);

impl std::ops::Deref for Held {
    type Target = Arc<Config>;

    fn deref(&self) -> &Arc<Config> {
        &self.0
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watch.open.set(self.0.watch.open.get() - 1);
        self.0.shared.counters.open.fetch_sub(1, Relaxed);
    }
}

/// Any number.
pub fn chance() -> u32 {
    use rand::RngExt as _;
    rand::rng().random()
}
