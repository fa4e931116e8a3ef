//! LDS, outbound: where a captured connection finds its service.
//!
//! In: a listener's name: `<address>_<port>`, for Envoy also `0.0.0.0_<port>` and `virtualOutbound`. Out: the listener,
//! and the routes and clusters it needs. Invariant: none but `virtualOutbound` binds a port: the others are found by
//! the address that a connection was going to.

pub(super) mod bound;
pub(super) mod chain;
mod connections;
mod wide;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hawser_api::names::{self, clusters, listeners, ports};
use hawser_api::proto::core::TrafficDirection;
use hawser_api::proto::listener::{AdditionalAddress, FilterChain, FilterChainMatch, Listener};
use hawser_mesh::{Protocol, ServicePort};
use hawser_xds::TypeUrl;

use self::chain::{Inspect, http, http_chain_match, inspectors, tcp};
use super::Compiled;
use super::access_log;
use super::context::Context;
use super::proto::{address, duration};
use super::route::is_routed;
use crate::registry::model::is_captured;
use crate::registry::{ServiceState, Snapshot};
use crate::view::Class;

/// An outbound listener by name.
pub(super) fn outbound(context: &Context<'_>, name: &str) -> Option<Compiled> {
    if name == listeners::VIRTUAL_OUTBOUND {
        return (context.view.class == Class::Envoy).then(|| virtual_outbound(context));
    }
    if let Some(at) = bound::at(context.view.class, name)
        && let Some(made) = bound::outbound(context, name, at)
    {
        return Some(made);
    }
    let (address, port) = parse(name)?;
    if address.is_unspecified() {
        return (context.view.class == Class::Envoy && address.is_ipv4())
            .then(|| wide::of_port(context, name, port))?;
    }
    let states: Vec<&ServiceState> = at(context, address, port);
    if states.is_empty() && context.is_hawser() {
        return wide::of_address(context, name, address, port);
    }
    // One service that is not HTTP takes the address for itself.
    let state =
        states.iter().find(|s| s.service.port(port).is_some_and(|p| !p.protocol.is_http())).or(states.first())?;
    let declared = state.service.port(port)?;
    if context.view.class == Class::Envoy && declared.protocol.is_http() {
        // Envoy finds it by `0.0.0.0_<port>`.
        return None;
    }
    let chains = if is_tls(declared.protocol) {
        let tls = |s: &&&ServiceState| s.service.port(port).is_some_and(|p| is_tls(p.protocol));
        let all: Vec<&ServiceState> = states.iter().filter(tls).copied().collect();
        connections::by_server_name(context, &all, port, address, true)
    } else {
        chains(context, state, declared, address)
    };
    Some(of_service(context, chains, port, name, address))
}

/// Whether the application speaks TLS of its own, which tells where it goes by the server name it asks for.
pub(super) fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tls | Protocol::Https)
}

/// Whether a listener's address is nobody's alone.
pub(super) fn is_wide(snapshot: &Snapshot, name: &str) -> bool {
    parse(name).is_some_and(|(address, _)| !address.is_unspecified() && snapshot.at_address(address).next().is_none())
}

/// `<address>_<port>`.
pub(super) fn parse(name: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = name.rsplit_once('_')?;
    Some((address.parse().ok()?, port.parse().ok().filter(|port| *port != 0)?))
}

/// Services that share the listener of this one's port, itself among them, by name.
pub(super) fn sharing<'a>(context: &Context<'a>, state: &'a ServiceState, port: u16) -> Vec<&'a ServiceState> {
    let Some(first) = state.service.dialled().first().copied() else { return vec![state] };
    let routed = |s: &&ServiceState| s.service.port(port).is_some_and(|p| is_routed(p.protocol));
    let all: Vec<_> = at(context, first, port).into_iter().filter(routed).collect();
    // The listener leads to the first one's routes.
    if all.first().is_some_and(|s| s.service.host == state.service.host) { all } else { vec![state] }
}

fn at<'a>(context: &Context<'a>, address: IpAddr, port: u16) -> Vec<&'a ServiceState> {
    let serves = |s: &&ServiceState| s.service.port(port).is_some_and(is_captured) && context.admits(s, port);
    context.at_address(address).into_iter().filter(serves).collect()
}

fn of_service(context: &Context<'_>, chains: Chains, port: u16, name: &str, at: IpAddr) -> Compiled {
    let (chains, fallback, inspect, needs) = chains;
    let mut made = unbound(context, name, chains, fallback, inspect);
    made.address = Some(address(&at.to_string(), port));
    Compiled::new(&made, needs)
}

/// A listener that binds no port, whose address is still to be said.
fn unbound(
    context: &Context<'_>,
    name: &str,
    chains: Vec<FilterChain>,
    fallback: Option<FilterChain>,
    inspect: Inspect,
) -> Listener {
    Listener {
        name: name.to_owned(),
        filter_chains: chains,
        default_filter_chain: fallback,
        listener_filters: inspectors(inspect),
        listener_filters_timeout: (inspect != Inspect::Nothing).then(|| duration(context.settings().detect)),
        continue_on_listener_filters_timeout: inspect != Inspect::Nothing,
        traffic_direction: TrafficDirection::Outbound as i32,
        access_log: access_log::of_listener(context),
        bind_to_port: Some(false),
        ..Listener::default()
    }
}

type Chains = (Vec<FilterChain>, Option<FilterChain>, Inspect, Vec<super::Need>);

fn chains(context: &Context<'_>, state: &ServiceState, port: &ServicePort, at: IpAddr) -> Chains {
    let service = &state.service;
    let route = names::route(&service.host, port.port);
    let routed = |chain: &mut FilterChain| chain.filters = vec![http::outbound(context, &route, &route)];
    let mut needs: Vec<super::Need> = Vec::new();
    if is_routed(port.protocol) {
        needs.push((TypeUrl::ROUTE, route.as_str().into()));
    }
    if port.protocol.is_http() {
        let mut chain = FilterChain::default();
        routed(&mut chain);
        return (vec![chain], None, Inspect::Nothing, needs);
    }
    let to = connections::whole(context, state, port.port, at);
    needs.extend(to.iter().map(|(cluster, _)| (TypeUrl::CLUSTER, cluster.as_str().into())));
    let plain = FilterChain { filters: vec![tcp::to(context, &route, &to)], ..FilterChain::default() };
    if port.protocol != Protocol::Auto {
        return (vec![plain], None, Inspect::Nothing, needs);
    }
    let mut chain = FilterChain { filter_chain_match: Some(http_chain_match()), ..FilterChain::default() };
    routed(&mut chain);
    (vec![chain], Some(plain), Inspect::Http, needs)
}

fn virtual_outbound(context: &Context<'_>) -> Compiled {
    let black_hole = FilterChain {
        name: "virtualOutbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(ports::OUTBOUND.into()),
            ..FilterChainMatch::default()
        }),
        filters: vec![tcp::to(context, clusters::BLACK_HOLE, &[(clusters::BLACK_HOLE.to_owned(), 1)])],
        ..FilterChain::default()
    };
    let made = Listener {
        name: listeners::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(address(&Ipv4Addr::UNSPECIFIED.to_string(), ports::OUTBOUND)),
        additional_addresses: ipv6(context, ports::OUTBOUND),
        filter_chains: vec![black_hole],
        default_filter_chain: Some(passthrough(context)),
        use_original_dst: Some(true),
        traffic_direction: TrafficDirection::Outbound as i32,
        access_log: access_log::of_listener(context),
        ..Listener::default()
    };
    let mut needs = [clusters::BLACK_HOLE, clusters::PASSTHROUGH].map(|c| (TypeUrl::CLUSTER, c.into())).to_vec();
    needs.push((TypeUrl::CLUSTER, context.unknown().into()));
    needs.sort();
    needs.dedup();
    Compiled::new(&made, needs)
}

/// The other family's any address, where the host speaks it: a listener that can't be bound is refused whole.
pub(super) fn ipv6(context: &Context<'_>, port: u16) -> Vec<AdditionalAddress> {
    let made = || AdditionalAddress { address: Some(address(&Ipv6Addr::UNSPECIFIED.to_string(), port)) };
    context.view.ipv6.then(made).into_iter().collect()
}

fn passthrough(context: &Context<'_>) -> FilterChain {
    let to = context.unknown();
    FilterChain {
        name: "virtualOutbound-catchall-tcp".to_owned(),
        filters: vec![tcp::to(context, &to, &[(to.clone(), 1)])],
        ..FilterChain::default()
    }
}
