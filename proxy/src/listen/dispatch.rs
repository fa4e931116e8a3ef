//! From a connection to the filter chain that serves it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hawser_api::names::alpn;
use smallvec::{SmallVec, smallvec};

use super::look::{Looked, NoAnswer, look};
use super::refuse::Incoming;
use crate::config::{Chain, Codec, Config, Filter, HttpSpec, Listener, Seen, SeenTransport, choose};
use crate::detect::HttpSniff;
use crate::http::Carries;
use crate::stream::{Plain, Stream};
use crate::telemetry::Refusal;
use crate::tls::{self, Offer, Peer};
use crate::worker::Worker;
use crate::{http, tcp};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection that carries HTTP may wait so long before its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(3600);

/// Which side of a call we are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller's.
    Outbound,
    /// The callee's.
    Inbound,
}

/// Where a connection was going, and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it was going.
    pub to: SocketAddr,
    /// Where it came from; absent within the process.
    pub peer: Option<SocketAddr>,
    /// It came to a listener of ours by itself: where it was going is we.
    pub bound: bool,
}

/// Serves a call of a workload of this host.
pub(super) async fn outbound(worker: &Rc<Worker>, plain: Plain, arrival: Arrival) {
    let mut config = worker.config();
    if !config.outbound.contains_key(&arrival.to) {
        worker.shared.demand.listener(arrival.to).await;
        worker.refresh();
        config = worker.config();
    }
    // Without discovery an address that is new is still one of a port that is known.
    let port = || config.anywhere.get(&arrival.to.port());
    let Some(listener) = config.outbound.get(&arrival.to).or_else(port).cloned() else {
        return Incoming::new(worker, arrival, None).refuse(Refusal::NoListener);
    };
    listener.used.store(crate::clock::now_ms(), Relaxed);
    serve(worker, plain, arrival, Side::Outbound, &config, &listener).await;
}

/// Serves a call to a workload of this host.
pub(super) async fn inbound(worker: &Rc<Worker>, plain: Plain, arrival: Arrival) {
    let config = worker.config();
    let Some(listener) = config.inbound.clone() else {
        return Incoming::new(worker, arrival, None).refuse(Refusal::NoListener);
    };
    serve(worker, plain, arrival, Side::Inbound, &config, &listener).await;
}

/// Serves what comes to a listener that we have bound because a Sidecar says so.
pub(super) async fn bound(worker: &Rc<Worker>, plain: Plain, arrival: Arrival, at: SocketAddr) {
    let config = worker.config();
    let Some(listener) = config.bound.get(&at).cloned() else {
        return Incoming::new(worker, arrival, None).refuse(Refusal::NoListener);
    };
    let side = if listener.inbound { Side::Inbound } else { Side::Outbound };
    serve(worker, plain, arrival, side, &config, &listener).await;
}

/// Takes a call from our own outbound side that begins as anybody's may: it is looked at as theirs are.
pub fn take_in(worker: &Rc<Worker>, plain: Plain, to: SocketAddr) {
    let serving = worker.clone();
    worker.spawn(async move { inbound(&serving, plain, Arrival { to, peer: None, bound: false }).await });
}

/// Takes a call from our own outbound side: who calls, and the name that is asked for. The caller's identity needs no proof: the
/// connection never left the process.
pub fn hand_over(
    worker: &Rc<Worker>,
    plain: Plain,
    to: SocketAddr,
    (caller, named): (Option<Arc<str>>, Option<String>),
    offer: Offer,
) {
    let serving = worker.clone();
    worker.spawn(async move {
        let config = serving.config();
        let incoming = Incoming::new(&serving, Arrival { to, peer: None, bound: false }, config.inbound.as_deref());
        let Some(listener) = config.inbound.clone() else { return incoming.refuse(Refusal::NoListener) };
        let protocols = match (&caller, offer) {
            // As a ClientHello would have said it.
            (Some(_), offer) => tls::offer(offer),
            (None, Offer::Tcp) => Vec::new(),
            (None, Offer::Http2 | Offer::HawserHttp2) => vec![b"h2c".to_vec()],
            (None, _) => vec![b"http/1.1".to_vec()],
        };
        let seen = Seen {
            port: to.port(),
            address: to.ip(),
            transport: if caller.is_some() { SeenTransport::Tls } else { SeenTransport::Raw },
            server_name: named.as_deref(),
            protocols: protocols.iter().map(Vec::as_slice).collect(),
        };
        let Some(chain) = choose(&listener.chains, &seen).or(listener.default.as_ref()).cloned() else {
            return incoming.refuse(Refusal::NoChain);
        };
        drop(seen);
        let peer = match (caller, &chain.tls) {
            (Some(identity), Some(tls)) => {
                // The names of the host's first workload are its own alone.
                let first = serving.own(&config);
                let workload = (first.principal.as_ref() == Some(&identity)).then_some(first.workload);
                let own = config.credentials.get(&tls.certificate).map(|c| Arc::from(c.identity.as_str()));
                own.map(|own| Peer { identity, own, hash: String::new(), workload })
            }
            _ => None,
        };
        let stream = Stream::plain(plain);
        filter(&serving, stream, Arrival { to, peer: None, bound: false }, Side::Inbound, &chain, (peer, named), None)
            .await;
    });
}

async fn serve(
    worker: &Rc<Worker>,
    mut plain: Plain,
    arrival: Arrival,
    side: Side,
    config: &Arc<Config>,
    listener: &Listener,
) {
    let incoming = Incoming::new(worker, arrival, Some(listener));
    let candidates = crate::config::candidates(&listener.chains, arrival.to.ip(), arrival.to.port());
    let by_transport = |c: &&Arc<Chain>| c.matches.transport.is_some() || !c.matches.server_names.is_empty();
    let by_protocol =
        |c: &&Arc<Chain>| !c.matches.protocols.is_empty() && c.matches.transport != Some(SeenTransport::Tls);
    let http = candidates.iter().any(by_protocol);
    let tls = http || candidates.iter().any(by_transport) || candidates.iter().any(|c| c.tls.is_some());
    let (looked, bytes) = if tls {
        match Box::pin(look(&mut plain, true, http, listener.detect)).await {
            Ok(found) => found,
            Err(NoAnswer::Gone) => return,
            Err(NoAnswer::Slow) => return incoming.refuse(Refusal::Slow),
        }
    } else {
        (Looked::Plain(None), bytes::Bytes::new())
    };
    let protocols: SmallVec<[&[u8]; 4]> = match &looked {
        Looked::Tls(hello) => hello.alpn.iter().map(Vec::as_slice).collect(),
        Looked::Plain(Some(HttpSniff::Http1)) => smallvec![&b"http/1.1"[..]],
        Looked::Plain(Some(HttpSniff::Http2)) => smallvec![&b"h2c"[..]],
        Looked::Plain(_) => SmallVec::new(),
    };
    let (transport, server_name) = match &looked {
        Looked::Tls(hello) => (SeenTransport::Tls, hello.server_name.as_deref()),
        Looked::Plain(_) => (SeenTransport::Raw, None),
    };
    let seen = Seen { port: arrival.to.port(), address: arrival.to.ip(), transport, server_name, protocols };
    let incoming = Incoming { server_name, ..incoming };
    let Some(chain) = choose(&listener.chains, &seen).or(listener.default.as_ref()).cloned() else {
        return incoming.refuse(Refusal::NoChain);
    };
    let incoming = Incoming { chain: &chain.name, ..incoming };
    let plain = plain.unread(bytes);
    let named = server_name.map(str::to_owned);
    let Some(context) = &chain.tls else {
        let carries = match looked {
            Looked::Plain(Some(HttpSniff::Http1)) => Some(Carries::Http1),
            Looked::Plain(Some(HttpSniff::Http2)) => Some(Carries::Http2),
            _ => None,
        };
        return filter(worker, Stream::plain(plain), arrival, side, &chain, (None, named), carries).await;
    };
    let Looked::Tls(hello) = &looked else { return incoming.refuse(Refusal::NoChain) };
    let is_http = matches!(chain.filter, Filter::Http(_));
    let selected = tls::select(hello, is_http, &context.alpn);
    let made = worker.server_tls.borrow_mut().get(config, context, selected.clone());
    let credentials = config.credentials.get(&context.certificate);
    let (Some(made), Some(credentials)) = (made, credentials) else {
        return incoming.refuse_tls(Refusal::NoSecret, "no certificate yet");
    };
    let made = match Box::pin(tls::accept(made, plain, HANDSHAKE)).await {
        Ok(made) => made,
        Err(e) => {
            tracing::debug!(to = %arrival.to, peer = ?arrival.peer, error = %e, "TLS handshake failed");
            return incoming.refuse_tls(Refusal::Handshake, &e.to_string());
        }
    };
    let own: Arc<str> = credentials.identity.as_str().into();
    let peer = tls::peer(&made, &own);
    let carries = match selected.as_deref() {
        Some(protocol) if protocol == alpn::HAWSER_H2.as_bytes() => Some(Carries::Hawser),
        Some(b"h2") => Some(Carries::Http2),
        Some(_) => Some(Carries::Http1),
        None => None,
    };
    let stream = made.stream;
    if selected.as_deref() == Some(alpn::HAWSER_TUNNEL.as_bytes()) {
        return Box::pin(tcp::serve_tunnels(worker, stream, arrival, &chain, (peer, named))).await;
    }
    filter(worker, stream, arrival, side, &chain, (peer, named), carries).await;
}

/// Serves what comes out of a tunnel by the chains of its port: the first for bytes, the second for requests. Where they
/// differ, first bytes decide and are waited for `patience`.
pub(crate) async fn inner(
    worker: &Rc<Worker>,
    mut stream: Stream,
    arrival: Arrival,
    (bytes, requests): (&Arc<Chain>, &Arc<Chain>),
    patience: Option<Duration>,
    peer: Option<Peer>,
) {
    let (chain, version) = match patience {
        None => (requests, None),
        Some(patience) => match look(&mut stream, false, true, patience).await {
            Err(_) => return,
            Ok((looked, read)) => {
                stream = stream.unread(read);
                match looked {
                    Looked::Plain(Some(HttpSniff::Http1)) => (requests, Some(Carries::Http1)),
                    Looked::Plain(Some(HttpSniff::Http2)) => (requests, Some(Carries::Http2)),
                    _ => (bytes, None),
                }
            }
        },
    };
    filter(worker, stream, arrival, Side::Inbound, chain, (peer, None), version).await;
}

async fn filter(
    worker: &Rc<Worker>,
    mut stream: Stream,
    arrival: Arrival,
    side: Side,
    chain: &Arc<Chain>,
    caller: (Option<Peer>, Option<String>),
    carries: Option<Carries>,
) {
    match &chain.filter {
        // In places of their own: a connection is as small as what it became.
        Filter::Tcp(spec) => Box::pin(tcp::proxy(worker, stream, arrival, side, spec, chain, caller)).await,
        Filter::Http(spec) => {
            let carries = match carries.or(fixed(spec)) {
                Some(carries) => carries,
                None => match Box::pin(look(&mut stream, false, true, FIRST_REQUEST)).await {
                    Ok((looked, bytes)) => {
                        stream = stream.unread(bytes);
                        match looked {
                            Looked::Plain(Some(HttpSniff::Http2)) => Carries::Http2,
                            _ => Carries::Http1,
                        }
                    }
                    Err(_) => return,
                },
            };
            Box::pin(http::serve(worker, stream, carries, (arrival, side), chain, spec, caller)).await;
        }
    }
}

fn fixed(spec: &HttpSpec) -> Option<Carries> {
    match spec.codec {
        Codec::Auto => None,
        Codec::Http1 => Some(Carries::Http1),
        Codec::Http2 => Some(Carries::Http2),
    }
}
