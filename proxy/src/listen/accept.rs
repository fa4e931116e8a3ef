//! Accept loops: one a listening socket, on the worker that owns it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::dispatch::{Arrival, Side, inbound, outbound};
use crate::stream::Plain;
use crate::telemetry::Refusal;
use crate::worker::Worker;

/// A listening socket and what arrives there.
#[derive(Debug)]
pub struct Socket {
    /// The socket, not blocking.
    pub listener: std::net::TcpListener,
    /// Which side.
    pub side: Side,
    /// Outbound: the workload whose connections arrive there; absent: the host's first.
    pub workload: Option<String>,
    /// Whether another process holds the same queue, so that we may leave it when we end.
    pub shared: bool,
}

/// Accepts until the process ends. A socket that somebody else holds too is left at the start of the drain.
pub async fn run(worker: Rc<Worker>, socket: Socket) {
    let bound = socket.listener.local_addr();
    let (Ok(bound), Ok(listener)) = (bound, TcpListener::from_std(socket.listener)) else {
        tracing::error!(side = ?socket.side, "a listening socket can't be used");
        return;
    };
    tracing::debug!(%bound, side = ?socket.side, "accepting");
    let known = socket.workload.is_none();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.shared.drain.draining(), if socket.shared => return,
        };
        match accepted {
            Ok((stream, peer)) => take(&worker, socket.side, known, bound, stream, peer),
            Err(e) => {
                // Out of descriptors, or a connection that was gone before it was accepted.
                tracing::warn!(%bound, error = %e, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn take(worker: &Rc<Worker>, side: Side, known: bool, bound: SocketAddr, stream: TcpStream, peer: SocketAddr) {
    let counters = worker.counters();
    let counter = match side {
        Side::Outbound => &counters.outbound,
        Side::Inbound => &counters.inbound,
    };
    counter.fetch_add(1, Relaxed);
    let Some(open) = worker.open() else { return counters.refuse(Refusal::TooMany) };
    let Ok(to) = hawser_sockets::original_dst(&stream) else { return counters.refuse(Refusal::Direct) };
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let direct = stream.local_addr().is_ok_and(|local| {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        local == to && to.port() == bound.port()
    });
    if direct {
        return counters.refuse(Refusal::Direct);
    }
    if !known {
        // Its identity is not ours to guess.
        return counters.refuse(Refusal::NoWorkload);
    }
    let _ = stream.set_nodelay(true);
    let arrival = Arrival { to, peer: Some(SocketAddr::new(peer.ip().to_canonical(), peer.port())) };
    let (serving, plain) = (worker.clone(), Plain::tcp(stream));
    worker.spawn(async move {
        let _open = open;
        match side {
            Side::Outbound => outbound(&serving, plain, arrival).await,
            Side::Inbound => inbound(&serving, plain, arrival).await,
        }
    });
}
