//! The inbound side of a workload: `virtualInbound` and the clusters behind it.
//!
//! In: a workload, the services it is an instance of, its policies. Out: filter chains as Istio's sidecars have them.
//! Invariant: a port that takes mTLS only has no chain that plaintext could match.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hawser_api::names::{self, SECRET_DEFAULT, alpn, clusters, listeners, metadata, ports};
use hawser_api::proto::cluster::Cluster;
use hawser_api::proto::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
use hawser_api::proto::core::{self, TrafficDirection};
use hawser_api::proto::endpoint::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use hawser_api::proto::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use hawser_api::proto::listener::{FilterChain, FilterChainMatch, Listener};
use hawser_api::proto::route::{Route, RouteConfiguration, VirtualHost};
use hawser_mesh::Protocol;
use hawser_xds::TypeUrl;

use super::Compiled;
use super::access_log;
use super::cluster::{as_received, connect_timeout, from_itself, keepalive, lasting, limits, original, set_http};
use super::context::Context;
use super::endpoints::istio_workload;
use super::listener::chain::{Inspect, http, inspectors, listener_filter, tcp};
use super::listener::{bound, ipv6};
use super::policy::Policy;
use super::proto::{address, any, duration, endpoint_address, list, name, structure, text};
use super::route::action::to;
use super::route::everything;
use super::security::{self, Guard};
use super::tls;
use crate::registry::model::{Member, TlsMode};
use crate::registry::{Intake, Snapshot, spoken};
use crate::view::Class;

/// The ports that a workload declares, with what they speak: those of its services that it serves.
pub(super) fn declared(snapshot: &Snapshot, member: &Member) -> BTreeMap<u16, Protocol> {
    let mut all = BTreeMap::new();
    for (port, number) in &member.workload.ports {
        all.insert(*number, Protocol::from_port_name(port));
    }
    for state in snapshot.services_of(&member.id) {
        for instance in state.instances.iter().filter(|i| i.member.id == member.id) {
            for port in &state.service.ports {
                if let Some(target) = state.service.target(port, instance) {
                    // The first service that says something of a port is believed.
                    let known = all.entry(target).or_insert(Protocol::Auto);
                    if *known == Protocol::Auto {
                        *known = port.protocol;
                    }
                }
            }
        }
    }
    all.retain(|_, protocol| *protocol != Protocol::Udp);
    all
}

/// What a workload's Sidecar says of what it takes in.
fn intake<'a>(snapshot: &'a Snapshot, member: &Member) -> Intake<'a> {
    let root = &snapshot.settings.root_namespace;
    snapshot.rules.intake(&member.id.key.namespace, &member.workload.labels, root)
}

/// The ports that a workload takes in, with what they speak: those that its Sidecar lists, else those it declares.
pub(super) fn taken(snapshot: &Snapshot, member: &Member) -> BTreeMap<u16, Protocol> {
    let intake = intake(snapshot, member);
    if intake.ports.is_empty() {
        return declared(snapshot, member);
    }
    let ports = intake.ports.iter().filter_map(|listener| listener.port.as_ref());
    let spoken = ports.filter_map(|port| Some((port.number.number()?, spoken(port))));
    spoken.filter(|(_, protocol)| *protocol != Protocol::Udp).collect()
}

/// Clusters that `virtualInbound` brings along for our proxy: those that are not what it takes them for.
fn brought(snapshot: &Snapshot, member: &Member) -> Vec<String> {
    let intake = intake(snapshot, member);
    let is_special = |port: &u16| {
        let leads = intake.port(*port).is_some_and(|listener| !listener.default_endpoint.is_empty());
        leads || intake.pool(*port).is_some()
    };
    let special = taken(snapshot, member).into_keys().filter(is_special);
    special.map(|port| names::inbound_cluster(port, None)).collect()
}

/// Where the proxy of a workload listens by itself for what comes in.
pub(super) fn bound_of(snapshot: &Snapshot, member: &Member) -> Vec<SocketAddr> {
    intake(snapshot, member).bound(member.address("").and_then(|own| own.parse().ok())).collect()
}

/// A listener of its own, for a port that its Sidecar has it bind.
pub(super) fn listener_at(context: &Context<'_>, member: &Arc<Member>, name: &str) -> Option<Compiled> {
    let at = bound::at(context.view.class, name)?;
    if !bound_of(context.snapshot, member).contains(&at) {
        return None;
    }
    let protocol = *taken(context.snapshot, member).get(&at.port())?;
    let Guard { http, tcp, mut needs } = security::guard(context, &member.security);
    let guard = Guard { http, tcp, needs: Vec::new() };
    let chains = port_chains(context, Some(at.port()), protocol, mode(context, member.modes.of(at.port())), &guard);
    if chains.is_empty() {
        return None;
    }
    needs.push((TypeUrl::CLUSTER, names::inbound_cluster(at.port(), None).into()));
    Some(bound::inbound(context, name, at, chains, needs))
}

/// `virtualInbound`; without a workload, only what passes through.
pub(super) fn listener(
    context: &Context<'_>,
    member: Option<&Arc<Member>>,
    labels: &BTreeMap<String, String>,
) -> Option<Compiled> {
    let mut chains = Vec::new();
    let ours = context.is_hawser();
    // A proxy whose workload nobody has registered is held to the policies of what it says it is.
    let rules = &context.snapshot.rules;
    let security = member.map_or_else(|| rules.security(&context.view.namespace, labels), |m| m.security.clone());
    let guard = security::guard(context, &security);
    if let Some(member) = member {
        let taken = taken(context.snapshot, member);
        for (port, protocol) in &taken {
            let mode = mode(context, member.modes.of(*port));
            chains.extend(port_chains(context, Some(*port), *protocol, mode, &guard));
        }
        // A port that is captured and not listed goes on to where it was going, as with an Envoy.
        let others = declared(context.snapshot, member).into_keys().filter(|port| ours && !taken.contains_key(port));
        for port in others {
            let mode = mode(context, member.modes.of(port));
            let to = clusters::INBOUND_PASSTHROUGH;
            chains.extend(chains_to(context, (Some(port), to), Protocol::Auto, mode, &guard));
        }
    }
    if !ours {
        let modes = member.map_or_else(|| rules.modes(&context.view.namespace, labels), |m| m.modes.clone());
        chains.insert(0, black_hole(context));
        chains.extend(port_chains(context, None, Protocol::Auto, mode(context, modes.all), &guard));
    }
    // Ours is told here which other listeners are its own.
    let calls = context.view.scope.iter().flat_map(|scope| scope.bound());
    let bound: Vec<SocketAddr> =
        member.into_iter().flat_map(|m| bound_of(context.snapshot, m)).chain(calls).filter(|_| ours).collect();
    if chains.is_empty() && !bound.is_empty() {
        chains.push(black_hole(context));
    }
    if chains.is_empty() {
        return None;
    }
    let mut filters = Vec::new();
    if !ours {
        filters.push(listener_filter("envoy.filters.listener.original_dst", any(name::ORIGINAL_DST, &OriginalDst {})));
    }
    filters.extend(inspectors(Inspect::Both));
    let made = Listener {
        name: listeners::VIRTUAL_INBOUND.to_owned(),
        address: Some(address("0.0.0.0", ports::INBOUND)),
        additional_addresses: ipv6(context, ports::INBOUND),
        filter_chains: chains,
        listener_filters: filters,
        listener_filters_timeout: Some(duration(context.settings().detect)),
        continue_on_listener_filters_timeout: true,
        traffic_direction: TrafficDirection::Inbound as i32,
        access_log: access_log::of_listener(context),
        metadata: (ours && (member.is_some() || !bound.is_empty())).then(|| own(context, member, &bound)),
        ..Listener::default()
    };
    let brought = member.filter(|_| ours).into_iter().flat_map(|member| brought(context.snapshot, member));
    let mut needs = guard.needs;
    needs.extend(brought.map(|name| (TypeUrl::CLUSTER, name.into())));
    Some(Compiled::new(&made, needs))
}

/// Names of the inbound clusters of a workload.
pub(super) fn clusters_of(snapshot: &Snapshot, member: &Member) -> Vec<String> {
    taken(snapshot, member).into_keys().map(|port| names::inbound_cluster(port, None)).collect()
}

/// An inbound cluster by name.
pub(super) fn cluster(context: &Context<'_>, member: Option<&Arc<Member>>, name: &str) -> Option<Compiled> {
    let member = member?;
    let port: u16 = name.strip_prefix("inbound|")?.strip_suffix("||")?.parse().ok()?;
    let protocol = *taken(context.snapshot, member).get(&port)?;
    let intake = intake(context.snapshot, member);
    let policy = Policy { pool: intake.pool(port), ..Policy::default() };
    let endpoint = intake.port(port).map_or("", |listener| listener.default_endpoint.as_str());
    let mut made = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(duration(connect_timeout(&policy))),
        circuit_breakers: policy.pool.map(|_| limits(&policy)),
        ..Cluster::default()
    };
    match local(endpoint, member) {
        Some(at) => {
            made.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
            made.load_assignment = Some(assignment(name, at));
        }
        None => original(&mut made),
    }
    if !context.is_hawser() && endpoint.is_empty() {
        let v6 = member.address("").and_then(|a| a.parse::<IpAddr>().ok()).is_some_and(|a| a.is_ipv6());
        made.upstream_bind_config = Some(from_itself(context, v6));
    }
    if super::route::is_routed(protocol) {
        let options = hawser_api::proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions {
            common_http_protocol_options: lasting(&policy),
            upstream_protocol_options: Some(as_received()),
            ..Default::default()
        };
        set_http(&mut made, &options);
    }
    made.upstream_connection_options = keepalive(&policy);
    Some(Compiled::new(&made, Vec::new()))
}

/// Where a Sidecar's endpoint is: on this host, or at the workload's own address.
fn local(endpoint: &str, member: &Member) -> Option<core::Address> {
    if endpoint.starts_with("unix://") {
        return endpoint_address(endpoint, 0);
    }
    let at: SocketAddr = endpoint.parse().ok()?;
    let own = || member.address("").filter(|a| a.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == at.is_ipv4()));
    let ip = if at.ip().is_unspecified() { own().map(str::to_owned) } else { None };
    let loopback = if at.is_ipv4() { "127.0.0.1" } else { "::1" };
    Some(address(ip.as_deref().unwrap_or(loopback), at.port()))
}

fn assignment(cluster: &str, at: core::Address) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(at), hostname: String::new() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let group = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![group], policy: None }
}

/// How a port may be spoken to, for this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    Plaintext,
    Both,
    Mutual,
    Nothing,
}

fn mode(context: &Context<'_>, mode: TlsMode) -> Accept {
    match (context.view.plaintext, mode) {
        (_, TlsMode::Disable) | (true, TlsMode::Permissive) => Accept::Plaintext,
        // It has no certificate to prove itself with, and plaintext is forbidden.
        (true, TlsMode::Strict) => Accept::Nothing,
        (false, TlsMode::Permissive) => Accept::Both,
        (false, TlsMode::Strict) => Accept::Mutual,
    }
}

/// How a connection is told from others.
#[derive(Clone, Copy)]
struct Kind {
    /// `tls`, `raw_buffer` or any.
    transport: &'static str,
    protocols: &'static [&'static str],
    mutual: bool,
    http: bool,
}

const HTTP_PLAIN: &[&str] = &["http/1.1", "h2c"];
const MESH_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_ALL: &[&str] = &["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
const OURS_ALL: &[&str] =
    &[alpn::HAWSER_H2, "istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

fn kinds(accept: Accept, protocol: Protocol, ours: bool) -> Vec<Kind> {
    let (mesh_http, mesh_all): (&'static [&'static str], &'static [&'static str]) =
        if ours { (&alpn::MESH_HTTP, OURS_ALL) } else { (MESH_HTTP, MESH_ALL) };
    let kind = |transport, protocols, mutual, http| Kind { transport, protocols, mutual, http };
    let auto = protocol == Protocol::Auto;
    let is_http = protocol.is_http();
    match accept {
        Accept::Nothing => vec![],
        Accept::Plaintext if auto => vec![kind("raw_buffer", HTTP_PLAIN, false, true), kind("", &[], false, false)],
        Accept::Plaintext => vec![kind("", &[], false, is_http)],
        Accept::Mutual if auto => vec![kind("tls", mesh_http, true, true), kind("tls", &[], true, false)],
        Accept::Mutual => vec![kind("tls", &[], true, is_http)],
        Accept::Both if auto => vec![
            kind("tls", mesh_http, true, true),
            kind("raw_buffer", HTTP_PLAIN, false, true),
            kind("tls", &alpn::MESH_TCP, true, false),
            kind("raw_buffer", &[], false, false),
            kind("tls", &[], false, false),
        ],
        Accept::Both if is_http => vec![kind("tls", mesh_all, true, true), kind("raw_buffer", &[], false, true)],
        Accept::Both => vec![
            kind("tls", mesh_all, true, false),
            kind("tls", &[], false, false),
            kind("raw_buffer", &[], false, false),
        ],
    }
}

fn port_chains(
    context: &Context<'_>,
    port: Option<u16>,
    protocol: Protocol,
    accept: Accept,
    guard: &Guard,
) -> Vec<FilterChain> {
    let to = port.map_or_else(|| clusters::INBOUND_PASSTHROUGH.to_owned(), |port| names::inbound_cluster(port, None));
    chains_to(context, (port, &to), protocol, accept, guard)
}

fn chains_to(
    context: &Context<'_>,
    (port, cluster): (Option<u16>, &str),
    protocol: Protocol,
    accept: Accept,
    guard: &Guard,
) -> Vec<FilterChain> {
    let trust_domains = context.settings().trust_domains();
    let label = port.map_or_else(|| "virtualInbound-catchall".to_owned(), |port| format!("0.0.0.0_{port}"));
    let chain = |(index, kind): (usize, Kind)| FilterChain {
        name: if index == 0 { label.clone() } else { format!("{label}-{index}") },
        filter_chain_match: Some(FilterChainMatch {
            destination_port: port.map(u32::from),
            transport_protocol: kind.transport.to_owned(),
            application_protocols: kind.protocols.iter().map(|p| (*p).to_owned()).collect(),
            ..FilterChainMatch::default()
        }),
        transport_socket: kind
            .mutual
            .then(|| tls::downstream(SECRET_DEFAULT, kind.http, context.view.class, &trust_domains)),
        filters: match kind.http {
            true => {
                vec![http::inbound(context, route(cluster, context.view.class), &label, kind.mutual, &guard.http)]
            }
            false => {
                let mut filters = guard.tcp.clone();
                filters.push(tcp::to(context, cluster, &[(cluster.to_owned(), 1)]));
                filters
            }
        },
        ..FilterChain::default()
    };
    kinds(accept, protocol, context.is_hawser()).into_iter().enumerate().map(chain).collect()
}

fn route(cluster: &str, class: Class) -> RouteConfiguration {
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(everything()),
        action: Some(to(cluster, class, None)),
        ..Route::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: "inbound|http".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..VirtualHost::default()
        }],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

/// A connection to the capture port itself was never captured.
fn black_hole(context: &Context<'_>) -> FilterChain {
    FilterChain {
        name: "virtualInbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(ports::INBOUND.into()),
            ..FilterChainMatch::default()
        }),
        filters: vec![tcp::to(context, clusters::BLACK_HOLE, &[(clusters::BLACK_HOLE.to_owned(), 1)])],
        ..FilterChain::default()
    }
}

/// Tells our proxy which workload it serves, which endpoints are its own host, and which listeners it is to bind.
fn own(context: &Context<'_>, member: Option<&Arc<Member>>, bound: &[SocketAddr]) -> core::Metadata {
    let mut all = BTreeMap::new();
    if let Some(member) = member {
        all.insert(metadata::ISTIO.to_owned(), structure([("workload", text(istio_workload(member)))]));
    }
    let instance = member.and_then(|member| member.workload.instance.as_ref());
    let names = || bound.iter().map(|at| text(bound::name(context.view.class, *at))).collect();
    let said = [
        instance.map(|instance| ("host", text(&*instance.instance_id))),
        (!bound.is_empty()).then(|| (metadata::BOUND, list(names()))),
    ];
    if said.iter().any(Option::is_some) {
        all.insert(metadata::HAWSER.to_owned(), structure(said.into_iter().flatten()));
    }
    core::Metadata { filter_metadata: all }
}
