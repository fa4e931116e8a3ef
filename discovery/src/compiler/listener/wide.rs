//! Addresses that no service has for itself: ranges, and services of which only names and ports are known.
//!
//! In: services that share a port so, a view. Out: filter chains that tell them apart by range, server name and `host`.
//! Invariant: no two chains ask for the same, as Envoy would refuse the listener whole: the first service by name keeps it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hawser_api::names::{self, metadata};
use hawser_api::proto::core::{CidrRange, Metadata};
use hawser_api::proto::listener::{AdditionalAddress, FilterChain, FilterChainMatch, Listener};
use hawser_mesh::Protocol;
use hawser_xds::TypeUrl;
use ipnet::IpNet;

use super::chain::{Inspect, http, http_chain_match, tcp};
use super::connections::{self, Part};
use super::{is_tls, passthrough, unbound};
use crate::compiler::context::Context;
use crate::compiler::proto::{address, boolean, structure};
use crate::compiler::{Compiled, Need};
use crate::registry::ServiceState;
use crate::registry::model::is_captured;

/// The listener of an address that is nobody's alone, for proxies that ask by address; `None` for virtual ones. Nobody may be
/// behind it: a host asks because its operator has it capture more than the mesh, and its call goes on as it is.
pub(super) fn of_address(context: &Context<'_>, name: &str, at: IpAddr, port: u16) -> Option<Compiled> {
    if context.settings().virtual_ranges.contain(at) {
        return None;
    }
    let here = |state: &&ServiceState| state.service.is_anywhere() || state.service.ranges().any(|r| r.contains(&at));
    let states: Vec<_> = context.wide_on_port(port).into_iter().filter(here).collect();
    let route = names::route_of_port(port);
    let (mut made, needs) = listener(context, &states, Some(at), port, (name, &route));
    made.address = Some(address(&at.to_string(), port));
    // What it says of the port holds at other addresses too, where nobody can be asked.
    let said = structure([(metadata::ANYWHERE, boolean(true))]);
    made.metadata = Some(Metadata { filter_metadata: [(metadata::HAWSER.to_owned(), said)].into() });
    Some(Compiled::new(&made, needs))
}

/// The listener of a whole port, for Envoy; with all that is HTTP there, whatever its address.
pub(super) fn of_port(context: &Context<'_>, name: &str, port: u16) -> Option<Compiled> {
    let speaks = |state: &&ServiceState| {
        state.service.port(port).is_some_and(|p| is_captured(p) && (p.protocol.is_http() || state.service.is_wide()))
    };
    let states: Vec<_> = context.on_port(port).into_iter().filter(speaks).collect();
    if states.is_empty() {
        return None;
    }
    let (mut made, needs) = listener(context, &states, None, port, (name, &port.to_string()));
    made.address = Some(address("0.0.0.0", port));
    made.additional_addresses = vec![AdditionalAddress { address: Some(address("::", port)) }];
    Some(Compiled::new(&made, needs))
}

fn listener(
    context: &Context<'_>,
    states: &[&ServiceState],
    at: Option<IpAddr>,
    port: u16,
    (name, route): (&str, &str),
) -> (Listener, Vec<Need>) {
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    let mut needs: BTreeSet<Need> = BTreeSet::new();
    let (mut is_http, mut by_name) = (false, false);
    for state in states {
        let Some(declared) = state.service.port(port).filter(|p| is_captured(p)) else { continue };
        is_http |= declared.protocol.is_http() || declared.protocol == Protocol::Auto;
        if declared.protocol.is_http() || !state.service.is_wide() {
            continue;
        }
        let label = names::route(&state.service.host, port);
        let own: Vec<IpNet> = state.service.ranges().collect();
        for Part { names, ranges, to } in parts(context, state, port, is_tls(declared.protocol)) {
            let mut ranges = if ranges.is_empty() { own.clone() } else { ranges };
            if let Some(at) = at {
                if !ranges.is_empty() && !ranges.iter().any(|range| range.contains(&at)) {
                    continue;
                }
                ranges.retain(|range| range.contains(&at));
            }
            let names = names.unwrap_or_default();
            if !taken.insert((ranges.clone(), names.clone())) {
                continue;
            }
            by_name |= !names.is_empty();
            needs.extend(to.iter().map(|(cluster, _)| (TypeUrl::CLUSTER, cluster.as_str().into())));
            let matches = FilterChainMatch {
                prefix_ranges: ranges.iter().map(range).collect(),
                server_names: names,
                ..FilterChainMatch::default()
            };
            chains.push(FilterChain {
                filter_chain_match: Some(matches).filter(|m| *m != FilterChainMatch::default()),
                filters: vec![tcp::to(context, &label, &to)],
                ..FilterChain::default()
            });
        }
    }
    if is_http {
        needs.insert((TypeUrl::ROUTE, route.into()));
        chains.push(FilterChain {
            filter_chain_match: Some(http_chain_match()),
            filters: vec![http::outbound(context, route, name)],
            ..FilterChain::default()
        });
    }
    let inspect = match (is_http, by_name) {
        (false, false) => Inspect::Nothing,
        (true, false) => Inspect::Http,
        (false, true) => Inspect::Tls,
        (true, true) => Inspect::Both,
    };
    needs.insert((TypeUrl::CLUSTER, context.unknown().into()));
    let made = unbound(context, name, chains, Some(passthrough(context)), inspect);
    (made, needs.into_iter().collect())
}

/// Where connections to a service go, by what tells them apart.
fn parts(context: &Context<'_>, state: &ServiceState, port: u16, tls: bool) -> Vec<Part> {
    if !tls {
        return connections::wholes(context, state, port);
    }
    let routes = connections::routes(context, state, port, None);
    if !routes.is_empty() {
        return routes;
    }
    let names = Some(connections::named(context, state));
    connections::wholes(context, state, port).into_iter().map(|part| Part { names: names.clone(), ..part }).collect()
}

fn range(net: &IpNet) -> CidrRange {
    CidrRange { address_prefix: net.network().to_string(), prefix_len: Some(net.prefix_len().into()) }
}
