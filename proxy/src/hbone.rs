//! HBONE: how ambient meshes reach a workload, and how we reach theirs.
//!
//! In: connections to port 15008, and endpoints that are behind one. Out: tunnels to declared ports of this host, served
//! as if they had come over mTLS; or tunnels out. Invariant: nothing is read of a tunnel before its peer's identity is
//! verified, and none leads anywhere but to a declared port of the address that it came to.

mod baggage;

pub use baggage::said;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hawser_api::names::{SECRET_DEFAULT, SECRET_ROOT, alpn};
use rustls::ProtocolVersion;

use crate::config::{Chain, DownstreamTls, Filter, Listener, Seen, SeenTransport, choose};
use crate::listen::{self, Arrival, Incoming};
use crate::stream::Plain;
use crate::tcp;
use crate::tcp::tunnel::{self, Asked};
use crate::telemetry::Refusal;
use crate::tls::{self, Offer, Peer};
use crate::worker::Worker;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// The tunnel leads nowhere here.
const NOT_HERE: u16 = 404;
/// It is no address and port.
const BAD: u16 = 400;
/// The application does not answer, or we can't take more.
const UNAVAILABLE: u16 = 503;

/// The same for all ports: there is no server name to choose a certificate by.
static TLS: LazyLock<Arc<DownstreamTls>> = LazyLock::new(|| {
    Arc::new(DownstreamTls {
        certificate: SECRET_DEFAULT.into(),
        roots: Some(SECRET_ROOT.into()),
        names: Vec::new(),
        require_client: true,
        alpn: vec![alpn::HBONE.to_owned()],
    })
});

/// Serves a connection that came to the port of HBONE; `arrival` is where.
pub async fn serve(worker: &Rc<Worker>, plain: Plain, arrival: Arrival) {
    let config = worker.config();
    let incoming = Incoming::new(worker, arrival, config.inbound.as_deref());
    let made = worker.server_tls.borrow_mut().get(&config, &TLS, Some(alpn::HBONE.as_bytes().to_vec()));
    let (Some(made), Some(credentials)) = (made, config.credentials.get(SECRET_DEFAULT)) else {
        return incoming.refuse_tls(Refusal::NoSecret, "no certificate yet");
    };
    let made = match tls::accept(made, plain, HANDSHAKE).await {
        Ok(made) => made,
        Err(e) => {
            tracing::debug!(to = %arrival.to, peer = ?arrival.peer, error = %e, "TLS handshake of HBONE failed");
            return incoming.refuse_tls(Refusal::Handshake, &e.to_string());
        }
    };
    let proper =
        made.version == Some(ProtocolVersion::TLSv1_3) && made.protocol.as_deref() == Some(alpn::HBONE.as_bytes());
    let own: Arc<str> = credentials.identity.as_str().into();
    let Some(peer) = tls::peer(&made, &own).filter(|_| proper) else {
        return incoming.refuse_tls(Refusal::Handshake, "no identity, TLS 1.3 or HTTP/2");
    };
    drop(config);
    let peer = Rc::new(peer);
    let served = tunnel::serve(made.stream, worker.shared.drain.draining(), |asked| {
        let (serving, peer) = (worker.clone(), peer.clone());
        worker.spawn(async move { one(&serving, asked, arrival, &peer).await });
    });
    if let Err(e) = served.await {
        tracing::debug!(peer = ?arrival.peer, error = %e, "a connection of tunnels broke");
    }
}

/// Serves one tunnel.
async fn one(worker: &Rc<Worker>, asked: Asked, arrival: Arrival, peer: &Peer) {
    let Ok(to) = asked.authority().parse::<SocketAddr>() else { return asked.refuse(BAD) };
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let config = worker.config();
    let incoming = Incoming::new(worker, Arrival { to, peer: arrival.peer, bound: false }, config.inbound.as_deref());
    let Some(_open) = worker.open() else {
        incoming.refuse(Refusal::TooMany);
        return asked.refuse(UNAVAILABLE);
    };
    let chains = config.inbound.as_deref().filter(|_| to.ip() == arrival.to.ip()).and_then(|l| chains(l, to));
    let Some((listener, (bytes, requests))) = config.inbound.clone().zip(chains) else {
        incoming.refuse(Refusal::NoChain);
        return asked.refuse(NOT_HERE);
    };
    tracing::debug!(
        %to, peer = &*peer.identity, from = ?arrival.peer,
        baggage = asked.said("baggage"), forwarded = asked.said("forwarded"), traceparent = asked.said("traceparent"), "tunnel"
    );
    let arrival = Arrival { to, peer: arrival.peer, bound: false };
    // Who calls is proved; what it says of itself beside that is for counters alone.
    let workload = baggage::workload(asked.said("baggage"), &peer.identity).map(Arc::new);
    let peer_of = |chain: &Chain| {
        let peer = Peer { workload: workload.clone(), ..peer.clone() };
        chain.tls.is_some().then_some(peer)
    };
    match &bytes.filter {
        Filter::Tcp(spec) if Arc::ptr_eq(&bytes, &requests) => {
            let peer = peer_of(&bytes);
            tcp::through(worker, asked, arrival, spec, &bytes, (peer.as_ref(), None)).await;
        }
        _ => {
            let Ok(accepted) = asked.accept() else { return };
            // A port whose chains differ has its bytes looked at, as it has in plaintext.
            let looked = if Arc::ptr_eq(&bytes, &requests) { None } else { Some(listener.detect) };
            let peer = peer_of(&requests);
            listen::inner(worker, tunnel::into_stream(accepted), arrival, (&bytes, &requests), looked, peer).await;
        }
    }
}

/// The chains that a declared port has for mTLS: for bytes, and for requests.
fn chains(listener: &Listener, to: SocketAddr) -> Option<(Arc<Chain>, Arc<Chain>)> {
    let chosen = |offer: Offer| {
        let protocols = tls::offer(offer);
        let seen = Seen {
            port: to.port(),
            address: to.ip(),
            transport: SeenTransport::Tls,
            server_name: None,
            protocols: protocols.iter().map(Vec::as_slice).collect(),
        };
        choose(&listener.chains, &seen).filter(|c| c.matches.port == Some(to.port())).cloned()
    };
    chosen(Offer::Tcp).zip(chosen(Offer::Http1))
}
