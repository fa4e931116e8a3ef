//! One connection that carries HTTP, and what its requests have in common.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{Request, Response};

use super::codec::{self, Handler, InBody, Limits, ResponseBody, Upgrade, Version};
use super::forward;
use crate::config::{Chain, HttpSpec};
use crate::listen::{Arrival, Side};
use crate::stream::Stream;
use crate::telemetry::{Flow, FlowLabels, Party, Reporter};
use crate::tls::Peer;
use crate::worker::Worker;

/// What all requests of a connection share.
#[derive(Debug)]
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// How it is served.
    pub spec: Arc<HttpSpec>,
    /// Which side of a call we are on.
    pub side: Side,
    /// Where it was going.
    pub to: SocketAddr,
    /// Where it came from.
    pub from: Option<SocketAddr>,
    /// Who calls, proved by mTLS.
    pub peer: Option<Peer>,
    /// The other end is a hawser-proxy that names the application's protocol.
    pub hawser: bool,
    /// Last use of its listener.
    pub used: Option<Arc<AtomicU64>>,
    /// Inbound: what all requests count for.
    pub flow: Option<Rc<Flow>>,
}

/// Serves a connection until it ends, the process does, or its chain is replaced.
#[allow(clippy::too_many_arguments)]
pub async fn serve(
    worker: &Rc<Worker>,
    stream: Stream,
    version: Version,
    hawser: bool,
    arrival: Arrival,
    side: Side,
    spec: Arc<HttpSpec>,
    chain: &Arc<Chain>,
    peer: Option<Peer>,
) {
    let config = worker.config();
    let used = config.outbound.get(&arrival.to).filter(|_| side == Side::Outbound).map(|l| l.used.clone());
    let flow = (side == Side::Inbound).then(|| {
        let labels = FlowLabels {
            reporter: Reporter::Destination,
            source: Party::of_peer(peer.as_ref()),
            destination: worker.own(&config),
            service: config.service_of(arrival.to.port()),
            mutual_tls: Some(chain.tls.is_some()),
        };
        Rc::new(Flow::new(labels, worker.registry.clone()))
    });
    drop(config);
    let limits = Limits { headers: spec.max_headers, streams: spec.max_streams };
    let progress = worker.sweep.watch(version, spec.head_timeout, spec.idle_timeout);
    let handler = Rc::new(Connection {
        worker: worker.clone(),
        spec,
        side,
        to: arrival.to,
        from: arrival.peer,
        peer,
        hawser,
        used,
        flow,
    });
    let replaced = chain.replaced.clone();
    let drain = worker.shared.drain.clone();
    let end = async move {
        tokio::select! {
            () = drain.draining() => {}
            () = replaced.cancelled() => {}
        }
    };
    if let Err(e) = codec::serve(stream, limits, handler, progress, end).await {
        tracing::debug!(to = %arrival.to, error = %e, "connection ended");
    }
}

impl Handler for Connection {
    async fn handle(
        self: Rc<Self>,
        request: Request<InBody>,
        upgrade: Option<Upgrade>,
    ) -> Result<Response<ResponseBody>, io::Error> {
        if let Some(used) = &self.used {
            used.store(crate::clock::now_ms(), Relaxed);
        }
        forward::handle(&self, request, upgrade).await
    }
}
