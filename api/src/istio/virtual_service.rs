//! VirtualService: how requests and connections to hosts are routed.

mod fault;
mod http;
mod rewrite;
mod tcp;

pub use fault::{Abort, Delay, HttpFaultInjection, Percent};
pub use http::{
    Delegate, Destination, HeaderOperations, Headers, HttpMatchRequest, HttpMirrorPolicy, HttpRoute,
    HttpRouteDestination, PortSelector,
};
pub use rewrite::{
    CorsPolicy, HttpBody, HttpDirectResponse, HttpRedirect, HttpRetry, HttpRewrite, RedirectPort, RegexRewrite,
    UnmatchedPreflights,
};
pub use tcp::{L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute};

use std::collections::BTreeSet;

use super::check::{Checker, net, text};
use super::error::shown;
use super::message::message;

message! {
    /// How requests and connections to hosts are routed.
    pub struct VirtualService [check_virtual_service] {
        /// Hosts whose traffic it routes. Empty in one that others delegate to.
        hosts: Vec<String>,
        /// Gateways and `mesh`, the sidecars; none is `mesh`.
        gateways: Vec<String>,
        /// Routes of HTTP, the first that matches counts.
        http: Vec<HttpRoute>,
        /// Routes of TLS by SNI.
        tls: Vec<TlsRoute>,
        /// Routes of TCP.
        tcp: Vec<TcpRoute>,
        /// Namespaces that see it; none is all.
        export_to: Vec<String>,
    }
}

/// The gateway that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

impl VirtualService {
    /// Whether it counts for workloads of the mesh, and not only for gateways.
    pub fn is_for_mesh(&self) -> bool {
        self.gateways.is_empty() || self.gateways.iter().any(|g| g == MESH_GATEWAY)
    }
}

fn check_virtual_service(service: &VirtualService, c: &mut Checker) {
    if service.hosts.is_empty() {
        check_delegate(service, c);
    } else if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        c.problem("one of http, tls, tcp is required");
    }
    let mut seen = BTreeSet::new();
    c.each("hosts", &service.hosts, |c, host| {
        text::tell(c, net::wildcard_host_or_address(host));
        if host == "*" && service.is_for_mesh() {
            c.problem("a wildcard host * is for gateways only, not for the mesh; name the hosts");
        }
        if !seen.insert(host.to_ascii_lowercase()) {
            c.problem(format!("Duplicate value: \"{}\" is listed twice", shown(host)));
        }
    });
    gateways(c, &service.gateways);
    text::export_to(c, &service.export_to);
}

fn check_delegate(service: &VirtualService, c: &mut Checker) {
    let delegate = !service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty();
    if !delegate || !service.gateways.is_empty() {
        c.wrong("hosts", "at least one host is required (only a delegate of another VirtualService has none, and then http routes alone)");
    }
}

/// Names of gateways: `mesh`, `name` or `namespace/name`.
fn gateways(c: &mut Checker, gateways: &[String]) {
    c.each("gateways", gateways, |c, gateway| {
        let (namespace, name) = gateway.split_once('/').map_or((None, gateway.as_str()), |(n, g)| (Some(n), g));
        if namespace.is_some_and(|n| n != "." && text::label(n).is_err()) || text::object_name(name).is_err() {
            c.problem(format!("\"{}\" is not a gateway: name, namespace/name or mesh", shown(gateway)));
        }
    });
}

/// Weights of destinations: all at least 0, not all 0 where there are several.
fn weights(c: &mut Checker, weights: &[i32]) {
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight < 0) {
        c.index(index, |c| c.wrong("weight", format!("Invalid value: {weight} is less than 0")));
    }
    let sum: i64 = weights.iter().map(|w| i64::from(*w)).sum();
    if weights.len() > 1 && sum == 0 {
        c.problem("the weights add up to 0: give the destinations weights, such as 90 and 10");
    }
    if sum > i64::from(u32::MAX) {
        c.problem(format!("the weights add up to {sum}, more than {}", u32::MAX));
    }
}
