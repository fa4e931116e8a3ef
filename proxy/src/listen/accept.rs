//! Accept loops: one a listening socket, on the worker that owns it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use hawser_api::handover;

use super::dispatch::{Arrival, inbound, outbound};
use super::refuse::{Incoming, listener};
use crate::hbone;
use crate::stream::Plain;
use crate::telemetry::Refusal;
use crate::worker::Worker;

/// What arrives at a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// Captured calls of workloads of this host.
    Outbound,
    /// Captured calls to them.
    Inbound,
    /// Tunnels to them, which nobody has to capture.
    Hbone,
}

impl Entrance {
    /// By the name that it has between agent and proxy.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            handover::OUTBOUND => Some(Self::Outbound),
            handover::INBOUND => Some(Self::Inbound),
            handover::HBONE => Some(Self::Hbone),
            _ => None,
        }
    }
}

/// A listening socket and what arrives there.
#[derive(Debug)]
pub struct Socket {
    /// The socket, not blocking.
    pub listener: std::net::TcpListener,
    /// What arrives there.
    pub entrance: Entrance,
    /// Outbound: the workload whose connections arrive there; absent: the host's first.
    pub workload: Option<String>,
    /// Whether another process holds the same queue, so that we may leave it when we end.
    pub shared: bool,
}

/// Accepts until the process ends. A socket that somebody else holds too is left at the start of the drain.
pub async fn run(worker: Rc<Worker>, socket: Socket) {
    let bound = socket.listener.local_addr();
    let (Ok(bound), Ok(listener)) = (bound, TcpListener::from_std(socket.listener)) else {
        tracing::error!(entrance = ?socket.entrance, "a listening socket can't be used");
        return;
    };
    tracing::debug!(%bound, entrance = ?socket.entrance, "accepting");
    let known = socket.workload.is_none();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.shared.drain.draining(), if socket.shared => return,
        };
        match accepted {
            Ok((stream, peer)) => take(&worker, socket.entrance, known, bound, stream, peer),
            Err(e) => {
                // Out of descriptors, or a connection that was gone before it was accepted.
                tracing::warn!(%bound, error = %e, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn take(worker: &Rc<Worker>, entrance: Entrance, known: bool, bound: SocketAddr, stream: TcpStream, peer: SocketAddr) {
    let counters = worker.counters();
    let counter = match entrance {
        Entrance::Outbound => &counters.outbound,
        Entrance::Inbound | Entrance::Hbone => &counters.inbound,
    };
    counter.fetch_add(1, Relaxed);
    let Ok(to) = hawser_sockets::original_dst(&stream) else { return counters.refuse(Refusal::Direct) };
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let arrival = Arrival { to, peer: Some(SocketAddr::new(peer.ip().to_canonical(), peer.port())) };
    let Some(open) = worker.open() else {
        let config = worker.config();
        let listener = listener(&config, arrival, entrance == Entrance::Outbound);
        return Incoming::new(worker, arrival, listener).refuse(Refusal::TooMany);
    };
    let direct = stream.local_addr().is_ok_and(|local| {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        local == to && to.port() == bound.port()
    });
    if direct && entrance != Entrance::Hbone {
        return counters.refuse(Refusal::Direct);
    }
    if !known {
        // Its identity is not ours to guess.
        return counters.refuse(Refusal::NoWorkload);
    }
    let _ = stream.set_nodelay(true);
    let (serving, plain) = (worker.clone(), Plain::tcp(stream));
    worker.spawn(async move {
        let _open = open;
        match entrance {
            Entrance::Outbound => outbound(&serving, plain, arrival).await,
            Entrance::Inbound => inbound(&serving, plain, arrival).await,
            Entrance::Hbone => hbone::serve(&serving, plain, arrival).await,
        }
    });
}
