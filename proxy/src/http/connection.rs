//! One connection that carries HTTP, and what its requests have in common.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::channel::{Handler, Server, Then};
use super::message::RequestHead;
use super::{forward, h1, h2};
use crate::access_log::{AccessLog, Downstream};
use crate::config::{Chain, HttpSpec};
use crate::guard::Facts;
use crate::listen::{Arrival, Side};
use crate::stream::Stream;
use crate::telemetry::{Flow, FlowLabels, Party, Reporter};
use crate::tls::Peer;
use crate::worker::Worker;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// What all requests of a connection share.
#[derive(Debug)]
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// How it is served.
    pub spec: Arc<HttpSpec>,
    /// The chain that took it.
    pub chain: Arc<Chain>,
    /// A number of its own within the process.
    pub id: u64,
    /// Server name of the ClientHello.
    pub server_name: Option<String>,
    /// Which side of a call we are on.
    pub side: Side,
    /// Where it was going.
    pub to: SocketAddr,
    /// Where it came from.
    pub from: Option<SocketAddr>,
    /// It came to a listener of ours by itself.
    pub bound: bool,
    /// Who calls, proved by mTLS.
    pub peer: Option<Peer>,
    /// It is TLS that ends here. What comes out of a tunnel is as it went in.
    pub secure: bool,
    /// The caller, as `x-forwarded-client-cert` says it.
    pub client_cert: String,
    /// The other end is a hawser-proxy that names the application's protocol.
    pub hawser: bool,
    /// Last use of its listener.
    pub used: Option<Arc<AtomicU64>>,
    /// Inbound: what all requests count for.
    pub flow: Option<Rc<Flow>>,
}

impl Connection {
    /// The access logs that have its requests.
    pub(super) fn logs(&self) -> &[Arc<AccessLog>] {
        self.worker.shared.access_logs.of(&self.spec.access_log)
    }

    /// Whether requests are looked at before they are routed: they have guards, or their chain was replaced by one that may.
    pub(super) fn is_guarded(&self) -> bool {
        !self.spec.guards.is_empty() || self.side == Side::Inbound && self.chain.replaced.is_cancelled()
    }

    /// What policies look at, without the request.
    pub(super) fn facts(&self) -> Facts<'_> {
        let arrival = Arrival { to: self.to, peer: self.from, bound: self.bound };
        Facts::of(arrival, self.server_name.as_deref(), self.peer.as_ref().map(|peer| &*peer.identity))
    }

    /// As access logs see it.
    pub(super) fn downstream(&self) -> Downstream<'_> {
        let peer = self.peer.as_ref();
        Downstream {
            local: Some(self.to),
            remote: self.from,
            direct: self.from,
            server_name: self.server_name.as_deref(),
            peer: peer.map(|p| &*p.identity),
            peer_hash: peer.map(|p| p.hash.as_str()),
            own: peer.map(|p| &*p.own),
            tls: self.chain.tls.is_some().then_some("TLSv1.3"),
            chain: &self.chain.name,
            id: self.id,
        }
    }
}

/// Which HTTP a connection carries, and who is at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 from a hawser-proxy, which names the application's protocol.
    Hawser,
}

/// Serves a connection until it ends, the process does, or its chain is replaced.
pub async fn serve(
    worker: &Rc<Worker>,
    stream: Stream,
    carries: Carries,
    (arrival, side): (Arrival, Side),
    chain: &Arc<Chain>,
    spec: &Arc<HttpSpec>,
    (peer, server_name): (Option<Peer>, Option<String>),
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
    let progress = worker.watch.client(chain, spec);
    let client_cert = peer.as_ref().map(client_cert).unwrap_or_default();
    let handler = Rc::new(Connection {
        worker: worker.clone(),
        spec: spec.clone(),
        chain: chain.clone(),
        id: NEXT.fetch_add(1, Relaxed),
        server_name,
        side,
        to: arrival.to,
        from: arrival.peer,
        bound: arrival.bound,
        peer,
        secure: stream.is_tls(),
        client_cert,
        hawser: carries == Carries::Hawser,
        used,
        flow,
    });
    let served = match carries {
        Carries::Http1 => {
            let limits = h1::Limits {
                headers: spec.max_headers,
                refuse_underscores: spec.refuse_underscores,
                ..Default::default()
            };
            Box::pin(h1::serve(stream, limits, handler, progress)).await
        }
        Carries::Http2 | Carries::Hawser => {
            let limits = h2::Limits { fields: spec.max_headers, streams: spec.max_streams, ..Default::default() };
            Box::pin(h2::serve(stream, limits, handler, progress)).await
        }
    };
    if let Err(e) = served {
        tracing::debug!(to = %arrival.to, error = %e, "connection ended");
    }
}

fn client_cert(peer: &Peer) -> String {
    // A call that never left the process shows no certificate.
    let hash = if peer.hash.is_empty() { String::new() } else { format!("Hash={};", peer.hash) };
    format!("By={};{hash}Subject=\"\";URI={}", peer.own, peer.identity)
}

impl Handler for Connection {
    async fn handle<S: Server>(self: Rc<Self>, head: RequestHead, server: &mut S) -> Then {
        if let Some(used) = &self.used {
            used.store(crate::clock::now_ms(), Relaxed);
        }
        forward::handle(&self, head, server).await
    }

    fn rejected(&self, status: u16, details: &'static str) {
        forward::rejected(self, status, details);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2::ServerStream;

    fn size<S: Server + 'static, T>(_: impl FnOnce(Rc<Connection>, RequestHead, &'static mut S) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn what_waits_for_a_request_is_small() {
        let handling = size::<ServerStream, _>(|c, head, s| c.handle(head, s));
        assert!(handling <= 2560, "{handling}");
    }
}
