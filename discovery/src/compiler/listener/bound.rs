//! Listeners that a Sidecar has proxies really bind, and that applications call by themselves: captureMode NONE.
//!
//! In: where one is. Out: its name, the listener. Invariant: nothing that comes to one goes on to where it was going: that is
//! the listener itself.

use std::net::SocketAddr;

use hawser_api::names;
use hawser_api::proto::core::TrafficDirection;
use hawser_api::proto::listener::{FilterChain, Listener};
use hawser_mesh::Protocol;
use hawser_xds::TypeUrl;

use super::chain::{Inspect, http, http_chain_match, tcp};
use super::{connections, is_tls, parse, unbound};
use crate::compiler::Compiled;
use crate::compiler::Need;
use crate::compiler::context::Context;
use crate::compiler::proto::address;
use crate::compiler::route::is_routed;
use crate::view::Class;

/// The name of a listener that is bound, as proxies of a class know it: an Envoy by Istio's, ours by one that no captured
/// address has.
pub(in crate::compiler) fn name(class: Class, at: SocketAddr) -> String {
    match class {
        Class::Hawser(_) => names::bound(at),
        Class::Envoy | Class::Grpc => names::listener(at.ip(), at.port()),
    }
}

/// Where a listener of that name is, if it is one that is bound.
pub(in crate::compiler) fn at(class: Class, name: &str) -> Option<SocketAddr> {
    match class {
        Class::Hawser(_) => names::bound_at(name),
        Class::Envoy => parse(name).map(|(ip, port)| SocketAddr::new(ip, port)),
        Class::Grpc => None,
    }
}

/// For calls, as the view's Sidecar has it.
pub(super) fn outbound(context: &Context<'_>, name: &str, at: SocketAddr) -> Option<Compiled> {
    let protocol = context.view.scope.as_ref()?.speaks(at)?;
    let states = context.behind(at);
    let first = states.first()?;
    let (port, route) = (at.port(), names::bound(at));
    let requests = || FilterChain { filters: vec![http::outbound(context, &route, name)], ..FilterChain::default() };
    let mut needs: Vec<Need> = Vec::new();
    if is_routed(protocol) {
        needs.push((TypeUrl::ROUTE, route.as_str().into()));
    }
    let (chains, fallback, inspect) = if protocol.is_http() {
        (vec![requests()], None, Inspect::Nothing)
    } else if is_tls(protocol) {
        let (chains, fallback, inspect, more) = connections::by_server_name(context, &states, port, at.ip(), false);
        needs.extend(more);
        (chains, fallback, inspect)
    } else {
        let to = connections::whole(context, first, port, at.ip());
        needs.extend(to.iter().map(|(cluster, _)| (TypeUrl::CLUSTER, cluster.as_str().into())));
        let label = names::route(&first.service.host, port);
        let plain = FilterChain { filters: vec![tcp::to(context, &label, &to)], ..FilterChain::default() };
        match protocol {
            Protocol::Auto => {
                let requests = FilterChain { filter_chain_match: Some(http_chain_match()), ..requests() };
                (vec![requests], Some(plain), Inspect::Http)
            }
            _ => (vec![plain], None, Inspect::Nothing),
        }
    };
    let made = Listener {
        address: Some(address(&at.ip().to_string(), port)),
        bind_to_port: None,
        ..unbound(context, name, chains, fallback, inspect)
    };
    Some(Compiled::new(&made, needs))
}

/// For what comes in to a workload, by chains of its port.
pub(in crate::compiler) fn inbound(
    context: &Context<'_>,
    name: &str,
    at: SocketAddr,
    chains: Vec<FilterChain>,
    needs: Vec<Need>,
) -> Compiled {
    let made = Listener {
        address: Some(address(&at.ip().to_string(), at.port())),
        bind_to_port: None,
        traffic_direction: TrafficDirection::Inbound as i32,
        ..unbound(context, name, chains, None, Inspect::Both)
    };
    Compiled::new(&made, needs)
}
