//! Accept loops: one a listening socket, on the worker that owns it, until the process ends or the socket is given up.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use hawser_api::handover;

use super::dispatch::{Arrival, bound, inbound, outbound};
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
    /// What comes by itself to a listener that a Sidecar asks for.
    Bound,
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
    /// Nothing is to be accepted there any more.
    pub over: CancellationToken,
}

/// Accepts until the process ends, or the socket is given up. A socket that somebody else holds too is left at the start of the drain;
/// one of our own when another proxy has the same address.
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
            () = yielding(&worker), if !socket.shared => return rest(&worker, socket.entrance, bound, listener),
            () = socket.over.cancelled() => return,
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

/// Waits until another proxy takes what is new.
async fn yielding(worker: &Worker) {
    worker.shared.drain.draining().await;
    if !worker.shared.yields.load(Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Takes what has come to a socket of our own before it is closed: nobody else would.
fn rest(worker: &Rc<Worker>, entrance: Entrance, bound: SocketAddr, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        let made = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = made {
            take(worker, entrance, true, bound, stream, peer);
        }
    }
}

fn take(
    worker: &Rc<Worker>,
    entrance: Entrance,
    known: bool,
    bound_at: SocketAddr,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let counters = worker.counters();
    let is_bound = entrance == Entrance::Bound;
    let counter = match entrance {
        Entrance::Outbound => &counters.outbound,
        Entrance::Inbound | Entrance::Hbone => &counters.inbound,
        Entrance::Bound if worker.config().bound.get(&bound_at).is_some_and(|l| l.inbound) => &counters.inbound,
        Entrance::Bound => &counters.outbound,
    };
    counter.fetch_add(1, Relaxed);
    let to = if is_bound { stream.local_addr() } else { hawser_sockets::original_dst(&stream) };
    let Ok(to) = to else { return counters.refuse(Refusal::Direct) };
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let arrival = Arrival { to, peer: Some(peer), bound: is_bound };
    let Some(open) = worker.open() else {
        let config = worker.config();
        let listener = match entrance {
            Entrance::Bound => config.bound.get(&bound_at).map(|l| &**l),
            entrance => listener(&config, arrival, entrance == Entrance::Outbound),
        };
        return Incoming::new(worker, arrival, listener).refuse(Refusal::TooMany);
    };
    let direct = stream.local_addr().is_ok_and(|local| {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        local == to && to.port() == bound_at.port()
    });
    if direct && !matches!(entrance, Entrance::Hbone | Entrance::Bound) {
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
            Entrance::Bound => bound(&serving, plain, arrival, bound_at).await,
        }
    });
}
