//! Where connections go that are not routed request by request: TLS by the server name it asks for, all else as a whole.
//!
//! In: a port, the services that share its address, a view. Out: filter chains, and the clusters that they lead to.
//! Invariant: no server name stands in two chains of a listener, as Envoy would refuse it whole: the first route that
//! names it keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hawser_api::istio::Port;
use hawser_api::istio::virtual_service::{L4MatchAttributes, MESH_GATEWAY, RouteDestination};
use hawser_api::names::{self, OutboundCluster};
use hawser_api::proto::listener::{FilterChain, FilterChainMatch};
use hawser_xds::TypeUrl;
use ipnet::IpNet;

use super::chain::{Inspect, tcp};
use super::{Chains, passthrough};
use crate::compiler::Need;
use crate::compiler::context::Context;
use crate::compiler::route::action::cluster as destination;
use crate::compiler::route::matching::labelled;
use crate::registry::ServiceState;
use crate::view::Class;

/// Clusters by weight.
pub(super) type To = Vec<(String, u32)>;

/// Some connections of a port, and where they go.
pub(super) struct Part {
    /// Server names that they ask for; whatever, if absent.
    pub(super) names: Option<Vec<String>>,
    /// Addresses that they go to, where a route says so; else those of the service.
    pub(super) ranges: Vec<IpNet>,
    /// Where they go.
    pub(super) to: To,
}

/// Where connections of a port go whose addresses are known when there are some only.
pub(super) fn wholes(context: &Context<'_>, state: &ServiceState, port: u16) -> Vec<Part> {
    let mut all = Vec::new();
    let rule = context.virtual_service(state, port, |r| !r.tcp.is_empty());
    for (namespace, route) in rule.iter().flat_map(|(namespace, rule)| rule.tcp.iter().map(move |r| (*namespace, r))) {
        let Some(to) = weighted(context, &route.route, namespace, port) else { continue };
        let fitting: Vec<_> =
            route.r#match.iter().filter(|m| Caller::of_tcp(m).concerns(context, port, None)).collect();
        let always = route.r#match.is_empty() || fitting.iter().any(|m| m.destination_subnets.is_empty());
        if !always && fitting.is_empty() {
            continue;
        }
        let subnets = fitting.iter().flat_map(|m| &m.destination_subnets).filter_map(|subnet| net(subnet));
        let ranges = if always { Vec::new() } else { subnets.collect() };
        all.push(Part { names: None, ranges, to });
        if always {
            return all;
        }
    }
    all.push(Part { names: None, ranges: Vec::new(), to: own(state, port) });
    all
}

/// Where connections of a port go as a whole.
pub(super) fn whole(context: &Context<'_>, state: &ServiceState, port: u16, at: IpAddr) -> To {
    let Some((namespace, rule)) = context.virtual_service(state, port, |r| !r.tcp.is_empty()) else {
        return own(state, port);
    };
    let concerns = |m: &L4MatchAttributes| Caller::of_tcp(m).concerns(context, port, Some(at));
    let route = rule.tcp.iter().find(|route| route.r#match.is_empty() || route.r#match.iter().any(concerns));
    route.and_then(|route| weighted(context, &route.route, namespace, port)).unwrap_or_else(|| own(state, port))
}

/// The chains of a port that carries TLS of the application's own; `states` share its address and are all of that kind.
/// `captured`: names that no route has may go on to that address.
pub(super) fn by_server_name(
    context: &Context<'_>,
    states: &[&ServiceState],
    port: u16,
    at: IpAddr,
    captured: bool,
) -> Chains {
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    let mut everything: Option<FilterChain> = None;
    let mut needs: BTreeSet<String> = BTreeSet::new();
    let mut add = |label: &str, names: Option<Vec<String>>, to: &To| {
        let names: Option<Vec<String>> = names.map(|all| all.into_iter().filter(|n| !taken.contains(n)).collect());
        let empty = names.as_ref().is_some_and(Vec::is_empty);
        if empty || names.is_none() && everything.is_some() {
            return;
        }
        needs.extend(to.iter().map(|(cluster, _)| cluster.clone()));
        let filters = vec![tcp::to(context, label, to)];
        match names {
            None => everything = Some(FilterChain { filters, ..FilterChain::default() }),
            Some(names) => {
                taken.extend(names.iter().cloned());
                let matches = FilterChainMatch { server_names: names, ..FilterChainMatch::default() };
                chains.push(FilterChain { filter_chain_match: Some(matches), filters, ..FilterChain::default() });
            }
        }
    };
    for state in states {
        let label = names::route(&state.service.host, port);
        let routes = routes(context, state, port, Some(at));
        for Part { names, to, .. } in &routes {
            add(&label, names.clone(), to);
        }
        if routes.is_empty() {
            let to = whole(context, state, port, at);
            if states.len() > 1 {
                add(&label, Some(named(context, state)), &to);
            }
            // What names none of several goes to the first of them.
            add(&label, None, &to);
        }
    }
    let mut needs: Vec<Need> = needs.into_iter().map(|c| (TypeUrl::CLUSTER, c.into())).collect();
    if chains.is_empty() {
        chains.extend(everything);
        return (chains, None, Inspect::Nothing, needs);
    }
    if everything.is_none() && captured {
        everything = elsewhere(context, at);
        if everything.is_some() {
            needs.push((TypeUrl::CLUSTER, context.unknown().into()));
        }
    }
    (chains, everything, Inspect::Tls, needs)
}

/// Server names of a service.
pub(super) fn named(context: &Context<'_>, state: &ServiceState) -> Vec<String> {
    let others = state.service.other_names(&context.view.namespace);
    std::iter::once(&state.service.host).chain(others).map(ToString::to_string).collect()
}

/// For names that no route has: on to where the connection was going, if there may be anything there.
fn elsewhere(context: &Context<'_>, at: IpAddr) -> Option<FilterChain> {
    let real = !context.settings().virtual_ranges.contain(at);
    (context.view.class == Class::Envoy || real).then(|| passthrough(context))
}

/// The TLS routes of a service's port to an address, or to any.
pub(super) fn routes(context: &Context<'_>, state: &ServiceState, port: u16, at: Option<IpAddr>) -> Vec<Part> {
    let rule = context.virtual_service(state, port, |r| !r.tls.is_empty());
    let Some((namespace, rule)) = rule else { return Vec::new() };
    let mut all = Vec::new();
    for route in &rule.tls {
        let Some(to) = weighted(context, &route.route, namespace, port) else { continue };
        for m in &route.r#match {
            let caller = Caller {
                port: &m.port,
                subnets: &m.destination_subnets,
                gateways: &m.gateways,
                namespace: &m.source_namespace,
                labels: &m.source_labels,
            };
            if caller.concerns(context, port, at) {
                let ranges = m.destination_subnets.iter().filter_map(|subnet| net(subnet)).collect();
                all.push(Part { names: server_names(&m.sni_hosts, context.view.class), ranges, to: to.clone() });
            }
        }
    }
    all
}

/// As filter chains say them; `None` if any will do.
fn server_names(hosts: &[String], class: Class) -> Option<Vec<String>> {
    if hosts.iter().any(|host| host == "*") {
        return None;
    }
    let mut names: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    // Envoy knows `*` only as a whole label, and refuses a listener for a name that is not so.
    names.retain(|name| class != Class::Envoy || !name.starts_with('*') || name.starts_with("*."));
    names.sort();
    names.dedup();
    Some(names)
}

/// What a match says of where a connection goes and whose it is. All of it is known before there is one.
struct Caller<'a> {
    port: &'a Port,
    subnets: &'a [String],
    gateways: &'a [String],
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
}

impl<'m> Caller<'m> {
    fn of_tcp(m: &'m L4MatchAttributes) -> Self {
        Self {
            port: &m.port,
            subnets: &m.destination_subnets,
            gateways: &m.gateways,
            namespace: &m.source_namespace,
            labels: &m.source_labels,
        }
    }

    /// Whether a match is about callers of the view, and about an address if it is known.
    fn concerns(&self, context: &Context<'_>, port: u16, at: Option<IpAddr>) -> bool {
        self.port.number().is_none_or(|number| number == port)
            && (self.gateways.is_empty() || self.gateways.iter().any(|g| g == MESH_GATEWAY))
            && (self.namespace.is_empty() || *self.namespace == *context.view.namespace)
            && at.is_none_or(|at| self.subnets.is_empty() || self.subnets.iter().any(|subnet| within(subnet, at)))
            && labelled(self.labels, &context.view.labels)
    }
}

fn within(subnet: &str, at: IpAddr) -> bool {
    net(subnet).is_some_and(|net| net.contains(&at))
}

fn net(subnet: &str) -> Option<IpNet> {
    subnet.parse().ok().or_else(|| subnet.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A route's destinations; `None` if all of them have no weight.
fn weighted(context: &Context<'_>, route: &[RouteDestination], namespace: &str, port: u16) -> Option<To> {
    let share = |d: &RouteDestination| u32::try_from(d.weight).unwrap_or(0);
    let mut to: To = route.iter().map(|d| (destination(context, &d.destination, namespace, port), share(d))).collect();
    if let [(_, weight)] = to.as_mut_slice() {
        *weight = 1;
    }
    to.retain(|(_, weight)| *weight > 0);
    (!to.is_empty()).then_some(to)
}

fn own(state: &ServiceState, port: u16) -> To {
    vec![(OutboundCluster::new(state.service.host.clone(), port).to_string(), 1)]
}
