//! Listening sockets from the agent, whose queues outlive both of us.
//!
//! In: the agent's socket. Out: sockets for the workers, and its order to end. When the agent is gone, we connect again and name what we hold.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hawser_api::handover::{self, Listener, Message, Request};
use hawser_daemon::backoff::Backoff;
use hawser_daemon::readiness::Guard;
use hawser_sockets::{FdLimits, recv_fds, send_fds};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Threads;
use crate::listen::{Entrance, Socket};

/// Runs for ever.
pub(super) async fn run(run_dir: PathBuf, threads: Arc<Threads>, told: watch::Sender<Option<Duration>>, guard: Guard) {
    let mut holds: Vec<(Listener, std::net::TcpListener)> = Vec::new();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut guard = Some(guard);
    loop {
        let path = run_dir.join(handover::SOCKET);
        if let Err(e) = session(&path, (&threads, &told), &mut holds, &mut guard, &mut backoff).await {
            tracing::debug!(error = %format_args!("{e:#}"), "no listening sockets from the agent");
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

async fn session(
    path: &Path,
    (threads, told): (&Threads, &watch::Sender<Option<Duration>>),
    holds: &mut Vec<(Listener, std::net::TcpListener)>,
    guard: &mut Option<Guard>,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    let stream = UnixStream::connect(path).await.with_context(|| path.display().to_string())?;
    let request = Request {
        workers: u32::try_from(threads.count())?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: i32::try_from(std::process::id())?,
        holds: holds.iter().map(|(listener, _)| listener.clone()).collect(),
    };
    let descriptors: Vec<_> = holds.iter().map(|(_, socket)| socket.as_fd()).collect();
    send_fds(&stream, &handover::encode(&request), &descriptors).await?;
    drop(descriptors);
    let limits = FdLimits { bytes: handover::LONGEST, descriptors: handover::MOST };
    loop {
        let (message, descriptors) = recv_fds(&stream, limits).await?;
        let listeners = match serde_json::from_slice(&message)? {
            Message::Listeners(listeners) => listeners,
            Message::End(end) => {
                told.send_replace(Some(Duration::from_secs(end.end_within.into())));
                continue;
            }
        };
        ensure!(listeners.len() == descriptors.len(), "{} names, {} sockets", listeners.len(), descriptors.len());
        backoff.reset();
        for (listener, descriptor) in listeners.into_iter().zip(descriptors) {
            let Some(entrance) = Entrance::parse(&listener.name) else { continue };
            let socket = std::net::TcpListener::from(descriptor);
            socket.set_nonblocking(true)?;
            let worker = usize::try_from(listener.worker)?;
            ensure!(worker < threads.count(), "a socket for worker {worker}, which there is not");
            ensure!(holds.len() < handover::MOST, "too many sockets");
            let workload = listener.workload.clone();
            let (listener_here, over) = (socket.try_clone()?, CancellationToken::new());
            threads.give(worker, Socket { listener: listener_here, entrance, workload, shared: true, over });
            tracing::info!(name = %listener.name, addr = %listener.addr, worker, "listening");
            holds.push((listener, socket));
        }
        if !holds.is_empty() {
            drop(guard.take());
        }
    }
}
