//! RDS: virtual hosts and what is done with a request.
//!
//! In: a route's name: `<host>:<port>` or, for Envoy, `<port>`. Out: its virtual hosts, and the clusters they lead to.
//! Invariant: no domain stands twice in one resource; the first service by name keeps it.

pub(super) mod action;
mod filters;
pub(super) mod hash;
pub(super) mod matching;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use hawser_api::names::{self, OutboundCluster, clusters};
use hawser_api::proto::route::{
    DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action, route_match::PathSpecifier,
};
use hawser_mesh::{Hostname, Protocol, ServicePort};
use hawser_xds::TypeUrl;

use super::Compiled;
use super::context::Context;
use crate::registry::ServiceState;
use crate::view::Class;

/// A route configuration by name.
pub(super) fn compile(context: &Context<'_>, name: &str) -> Option<Compiled> {
    if context.view.class == Class::Envoy
        && let Ok(port) = name.parse::<u16>()
    {
        return of_port(context, name, port);
    }
    if let Some(port) = names::port_of_route(name) {
        return context.is_hawser().then(|| of_wide(context, name, port))?;
    }
    if let Some(at) = names::bound_at(name) {
        return of_bound(context, name, at);
    }
    let (host, port) = parse(name)?;
    let state = context.called(&host, port)?;
    let port = state.service.port(port).filter(|p| is_routed(p.protocol))?;
    // Services that share an address share its listener, so their routes stand together.
    let shared = super::listener::sharing(context, state, port.port);
    let virtual_hosts = if shared.len() > 1 {
        hosts(context, &shared, port.port)
    } else {
        vec![virtual_host(context, state, port, vec!["*".to_owned()])]
    };
    finish(name, virtual_hosts)
}

/// Whether requests of a port's may be routed one by one.
pub(super) fn is_routed(protocol: Protocol) -> bool {
    protocol.is_http() || protocol == Protocol::Auto
}

/// `<host>:<port>`.
pub(super) fn parse(name: &str) -> Option<(Hostname, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    Some((host.parse().ok()?, port.parse().ok()?))
}

/// Everything that is HTTP on one port.
fn of_port(context: &Context<'_>, name: &str, port: u16) -> Option<Compiled> {
    let speaks = |s: &&ServiceState| {
        let protocol = s.service.port(port).map(|p| p.protocol);
        protocol.is_some_and(|p| p.is_http() || is_routed(p) && s.service.is_wide())
    };
    by_host(context, name, &context.on_port(port).into_iter().filter(speaks).collect::<Vec<_>>(), port)
}

/// Everything that is HTTP on one port and is not told by its address.
fn of_wide(context: &Context<'_>, name: &str, port: u16) -> Option<Compiled> {
    let speaks = |s: &&ServiceState| s.service.port(port).is_some_and(|p| is_routed(p.protocol));
    by_host(context, name, &context.wide_on_port(port).into_iter().filter(speaks).collect::<Vec<_>>(), port)
}

/// Everything behind a listener that a Sidecar has proxies bind.
fn of_bound(context: &Context<'_>, name: &str, at: SocketAddr) -> Option<Compiled> {
    let states = context.behind(at);
    if states.is_empty() {
        return None;
    }
    let mut virtual_hosts = hosts(context, &states, at.port());
    // Where such a request was going is the listener itself.
    virtual_hosts.push(match context.passes_unknown() {
        true => otherwise("allow_any", action::to(clusters::BLACK_HOLE, context.view.class, None)),
        false => unknown(context),
    });
    finish(name, virtual_hosts)
}

/// Services told by the host that requests name, and what becomes of other requests.
fn by_host(context: &Context<'_>, name: &str, states: &[&ServiceState], port: u16) -> Option<Compiled> {
    if states.is_empty() {
        return None;
    }
    let mut virtual_hosts = hosts(context, states, port);
    virtual_hosts.push(unknown(context));
    finish(name, virtual_hosts)
}

/// Hosts that no service has.
fn unknown(context: &Context<'_>) -> VirtualHost {
    let (label, action) = match context.allows_any() {
        true => ("allow_any", action::to(&context.unknown(), context.view.class, None)),
        false => ("block_all", Action::DirectResponse(DirectResponseAction { status: 502, body: None })),
    };
    otherwise(label, action)
}

fn otherwise(label: &str, action: Action) -> VirtualHost {
    let route = Route { name: label.to_owned(), r#match: Some(everything()), action: Some(action), ..Route::default() };
    VirtualHost {
        name: label.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

fn hosts(context: &Context<'_>, states: &[&ServiceState], port: u16) -> Vec<VirtualHost> {
    let mut taken = BTreeSet::new();
    let mut made = Vec::new();
    for state in states {
        let Some(port) = state.service.port(port) else { continue };
        let domains: Vec<String> =
            domains(context, state, port.port).into_iter().filter(|domain| taken.insert(domain.clone())).collect();
        if !domains.is_empty() {
            made.push(virtual_host(context, state, port, domains));
        }
    }
    made
}

fn finish(name: &str, virtual_hosts: Vec<VirtualHost>) -> Option<Compiled> {
    let mut needs = BTreeSet::new();
    for route in virtual_hosts.iter().flat_map(|host| &host.routes) {
        needs.extend(action::clusters(route));
    }
    let made = RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        validate_clusters: Some(false),
        max_direct_response_body_size_bytes: Some(1 << 20),
        ignore_port_in_host_matching: false,
    };
    Some(Compiled::new(&made, needs.into_iter().map(|c| (TypeUrl::CLUSTER, c.into())).collect()))
}

fn virtual_host(context: &Context<'_>, state: &ServiceState, port: &ServicePort, domains: Vec<String>) -> VirtualHost {
    let service = &state.service;
    let mut routes = Vec::new();
    let rule = context.virtual_service(state, port.port, |r| !r.http.is_empty());
    if let Some((namespace, rule)) = rule {
        for http in &rule.http {
            for r#match in matching::matches(http, context.view, port.port) {
                routes.push(action::route(context, http, r#match, namespace, port.port));
            }
        }
    }
    if rule.is_none() {
        let cluster = OutboundCluster::new(service.host.clone(), port.port).to_string();
        routes.push(Route {
            name: "default".to_owned(),
            r#match: Some(everything()),
            action: Some(action::to(&cluster, context.view.class, Some(action::default_retries(context.view.class)))),
            ..Route::default()
        });
    }
    routes.iter_mut().for_each(|route| action::hashes(context, route));
    VirtualHost {
        name: names::route(&service.host, port.port),
        domains,
        routes,
        include_request_attempt_count: context.view.class != Class::Grpc,
        ..VirtualHost::default()
    }
}

/// Every name that callers in the view's namespace use for a service, with and without the port.
fn domains(context: &Context<'_>, state: &ServiceState, port: u16) -> Vec<String> {
    let (namespace, domain) = (&*context.view.namespace, &context.settings().domain);
    let mut all = Vec::new();
    for host in std::iter::once(&state.service.host).chain(state.service.other_names(namespace)) {
        all.push(host.to_string());
        all.extend(short_names(host, namespace, domain));
    }
    all.extend(state.service.dialled().into_iter().map(|address| match address {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    }));
    all.into_iter().flat_map(|name| [name.clone(), format!("{name}:{port}")]).collect()
}

/// `name`, `name.namespace` and `name.namespace.svc` of a service of the mesh's domain, as far as they mean it in
/// `namespace`.
pub(super) fn short_names(host: &Hostname, namespace: &str, domain: &str) -> Vec<String> {
    let Some(rest) = host.as_str().strip_suffix(domain).and_then(|rest| rest.strip_suffix(".svc.")) else {
        return Vec::new();
    };
    let Some((name, own)) = rest.split_once('.').filter(|(name, own)| *name != "*" && !own.contains('.')) else {
        return Vec::new();
    };
    let mut all = vec![format!("{rest}.svc"), rest.to_owned()];
    if own == namespace {
        all.push(name.to_owned());
    }
    all
}

pub(super) fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() }
}
