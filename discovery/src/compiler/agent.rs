//! The agent's own types: names for DNS, addresses for redirection.
//!
//! In: the services that a host may see. Out: `Name`, one a host name; `Capture`, the ranges and the shards of
//! addresses outside them. Invariant: every address that a name has is captured.

use std::hash::Hasher as _;
use std::net::IpAddr;

use hawser_api::proto::mesh::{Capture, Name, Target};
use hawser_mesh::Hostname;

use super::Compiled;
use super::context::Context;
use super::route::short_names;
use crate::registry::Fnv;
use crate::registry::model::{Service, is_captured};

/// Every address of either family; in halves, as a set of ranges and ports takes no range of all there is.
const ANYWHERE: [&str; 4] = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"];
/// Number of shards.
const SHARDS: u64 = 64;

/// A name by its host name.
pub(super) fn name(context: &Context<'_>, host: &str) -> Option<Compiled> {
    let host: Hostname = host.parse().ok()?;
    let state = context.named(&host)?;
    let addresses: Vec<String> = state.service.dialled().into_iter().map(|a| a.to_string()).collect();
    if addresses.is_empty() {
        return None;
    }
    let domain = &context.settings().domain;
    let mut aliases = short_names(&host, "", domain);
    for other in state.service.other_names(&context.view.namespace) {
        aliases.push(other.to_string());
        aliases.extend(short_names(other, "", domain));
    }
    aliases.sort();
    Some(Compiled::new(&Name { host: host.to_string(), addresses, aliases }, Vec::new()))
}

/// Names of all shards that are not empty, and `ranges`.
pub(super) fn capture_names(context: &Context<'_>) -> Vec<String> {
    let mut all: std::collections::BTreeSet<String> =
        context.all().iter().flat_map(|s| outside(context, &s.service)).map(|(address, _)| shard(&address)).collect();
    all.insert("ranges".to_owned());
    all.into_iter().collect()
}

/// What is captured, by the resource's name.
pub(super) fn capture(context: &Context<'_>, name: &str) -> Option<Compiled> {
    if name == "ranges" {
        let ranges = context.settings().virtual_ranges;
        let ranges = vec![ranges.v4.to_string(), ranges.v6.to_string()];
        // What no service has must come to the proxy to be refused or sent elsewhere.
        let wide = if context.passes_unknown() { Vec::new() } else { vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()] };
        let made = Capture { ranges, wide, targets: Vec::new() };
        return Some(Compiled::new(&made, Vec::new()));
    }
    if !name.starts_with("targets/") {
        return None;
    }
    let mut targets: Vec<(String, u16)> =
        context.all().iter().flat_map(|s| outside(context, &s.service)).filter(|(a, _)| shard(a) == name).collect();
    targets.sort();
    targets.dedup();
    if targets.is_empty() {
        return None;
    }
    let targets = targets.into_iter().map(|(address, port)| Target { address, port: port.into() }).collect();
    Some(Compiled::new(&Capture { ranges: Vec::new(), wide: Vec::new(), targets }, Vec::new()))
}

/// Shards that a service's addresses fall into.
pub(super) fn shards_of(service: &Service) -> impl Iterator<Item = String> {
    dialled(service).into_iter().map(|address| shard(&address))
}

/// Pairs of an address or a range and a port of a service, outside the virtual ranges.
fn outside(context: &Context<'_>, service: &Service) -> Vec<(String, u16)> {
    let ranges = &context.settings().virtual_ranges;
    let addresses: Vec<String> = dialled(service)
        .into_iter()
        .filter(|a| a.parse::<IpAddr>().is_ok_and(|ip| !ranges.contain(ip)) || a.contains('/'))
        .collect();
    let admitted = |port: u16| context.view.scope.as_ref().is_none_or(|scope| scope.admits(service, port));
    let ports = || service.ports.iter().filter(|p| is_captured(p)).map(|p| p.port).filter(|port| admitted(*port));
    addresses.iter().flat_map(|a| ports().map(move |port| (a.clone(), port))).collect()
}

/// Addresses and ranges that callers dial; all there are, if none is known.
fn dialled(service: &Service) -> Vec<String> {
    if service.is_anywhere() {
        return ANYWHERE.map(str::to_owned).to_vec();
    }
    let single = service.dialled().into_iter().map(|address| address.to_string());
    single.chain(service.ranges().map(|range| range.trunc().to_string())).collect()
}

fn shard(address: &str) -> String {
    let mut hash = Fnv::default();
    hash.write(address.as_bytes());
    format!("targets/{:02x}", hash.finish() % SHARDS)
}
