//! The workers' threads, and the sockets they get.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::listen::{self, Entrance, Socket};
use crate::telemetry::Registry;
use crate::worker::{Shared, Worker};

const BACKLOG: u32 = 4096;

/// All workers.
#[derive(Debug)]
pub struct Threads {
    workers: Vec<(mpsc::UnboundedSender<Socket>, Arc<Registry>)>,
}

impl Threads {
    /// Starts workers.
    ///
    /// # Errors
    /// If a thread or its runtime can't be made.
    pub fn start(count: usize, shared: &Shared) -> anyhow::Result<Self> {
        let mut workers = Vec::with_capacity(count);
        for i in 0..count {
            let (sender, sockets) = mpsc::unbounded_channel();
            let registry = Arc::new(Registry::default());
            let (shared, series) = (shared.clone(), registry.clone());
            std::thread::Builder::new()
                .name(format!("worker-{i}"))
                .spawn(move || run(shared, series, sockets))
                .context("a worker's thread can't be made")?;
            workers.push((sender, registry));
        }
        Ok(Self { workers })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Gives a worker a socket.
    pub fn give(&self, worker: usize, socket: Socket) {
        if let Some((sender, _)) = self.workers.get(worker) {
            // A worker ends with the process only.
            let _ = sender.send(socket);
        }
    }

    /// Binds own sockets, one for each worker.
    ///
    /// # Errors
    /// If one can't be bound.
    pub fn bind(&self, addresses: &[(Entrance, SocketAddr)]) -> anyhow::Result<()> {
        for (entrance, address) in addresses {
            for worker in 0..self.count() {
                let listener = bind(*entrance, *address).with_context(|| format!("can't listen on {address}"))?;
                listener.set_nonblocking(true)?;
                let over = CancellationToken::new();
                self.give(worker, Socket { listener, entrance: *entrance, workload: None, shared: false, over });
            }
        }
        Ok(())
    }

    /// Binds an address that a Sidecar asks for, on every worker or on none; it is given up with what is returned.
    ///
    /// # Errors
    /// If it can't be bound.
    pub(super) fn listen(&self, address: SocketAddr) -> std::io::Result<CancellationToken> {
        let over = CancellationToken::new();
        let made: std::io::Result<Vec<_>> = (0..self.count()).map(|_| bind(Entrance::Bound, address)).collect();
        for (worker, listener) in made?.into_iter().enumerate() {
            let over = over.clone();
            self.give(worker, Socket { listener, entrance: Entrance::Bound, workload: None, shared: false, over });
        }
        Ok(over)
    }

    /// The series of all workers.
    pub fn registries(&self) -> Vec<Arc<Registry>> {
        self.workers.iter().map(|(_, registry)| registry.clone()).collect()
    }
}

fn bind(entrance: Entrance, address: SocketAddr) -> std::io::Result<TcpListener> {
    match entrance {
        Entrance::Outbound | Entrance::Hbone | Entrance::Bound => hawser_sockets::reuse_port_listener(address, BACKLOG),
        // Without the capability connections must come by REDIRECT.
        Entrance::Inbound => hawser_sockets::transparent_listener(address, BACKLOG)
            .or_else(|_| hawser_sockets::reuse_port_listener(address, BACKLOG)),
    }
}

fn run(shared: Shared, registry: Arc<Registry>, sockets: mpsc::UnboundedReceiver<Socket>) {
    // Its tasks stay on this thread without the queue between that a `LocalSet` would be.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(work(shared, registry, sockets)),
        Err(e) => tracing::error!(error = %e, "a worker's runtime can't be made"),
    }
}

async fn work(shared: Shared, registry: Arc<Registry>, mut sockets: mpsc::UnboundedReceiver<Socket>) {
    let worker = Worker::new(shared, registry);
    while let Some(socket) = sockets.recv().await {
        tokio::task::spawn_local(listen::run(worker.clone(), socket));
    }
    // The control thread is gone; connections end with the process.
    std::future::pending::<()>().await;
}
