//! What stands in the place of a filter chain that discovery has replaced.

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::config::{Chain, Config, Filter, Seen, SeenTransport, choose};
use crate::tls::{self, Offer};

/// What a connection of a replaced chain is to expect now.
#[derive(Debug)]
pub(crate) enum Now<'c> {
    /// It would be served by this chain.
    Chain(&'c Arc<Chain>),
    /// The port is not declared any more: nothing forbids it.
    Undeclared,
    /// It would not be served.
    Forbidden,
}

/// What stands in the place of an inbound chain for connections to an address.
pub(crate) fn now<'c>(config: &'c Config, old: &Chain, to: SocketAddr) -> Now<'c> {
    let Some(listener) = config.inbound.as_deref() else { return Now::Forbidden };
    if listener.all().all(|chain| chain.matches.port.is_some_and(|port| port != to.port())) {
        return Now::Undeclared;
    }
    let http = matches!(old.filter, Filter::Http(_));
    let offered = match (&old.tls, http) {
        (Some(_), true) => tls::offer(Offer::Http1),
        (Some(_), false) => tls::offer(Offer::Tcp),
        (None, _) => Vec::new(),
    };
    let protocols: SmallVec<[&[u8]; 4]> = match (&old.tls, http) {
        (None, true) => smallvec![&b"http/1.1"[..], &b"h2c"[..]],
        _ => offered.iter().map(Vec::as_slice).collect(),
    };
    let transport = match (&old.tls, old.matches.transport) {
        (Some(_), _) | (None, Some(SeenTransport::Tls)) => SeenTransport::Tls,
        (None, _) => SeenTransport::Raw,
    };
    let seen = Seen { port: to.port(), address: to.ip(), transport, server_name: None, protocols };
    match choose(&listener.chains, &seen).or(listener.default.as_ref()) {
        Some(chain) if chain.tls.is_some() == old.tls.is_some() && matches!(chain.filter, Filter::Http(_)) == http => {
            Now::Chain(chain)
        }
        _ => Now::Forbidden,
    }
}
