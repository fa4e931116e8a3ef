//! Routes of TCP, and of TLS by SNI.

use std::collections::BTreeMap;

use super::Destination;
use crate::istio::Port;
use crate::istio::check::{Checker, net, text};
use crate::istio::message::message;

message! {
    /// A route of TLS that is passed through.
    pub struct TlsRoute [check_tls] {
        /// Any of these.
        r#match: Vec<TlsMatchAttributes>,
        /// Where connections go, by weight.
        route: Vec<RouteDestination>,
    }

    /// What a TLS connection must be; all that is set must hold.
    pub struct TlsMatchAttributes [check_tls_match] {
        /// Server names of the ClientHello.
        sni_hosts: Vec<String>,
        /// Where it goes.
        destination_subnets: Vec<String>,
        /// The port that was dialled.
        port: Port,
        /// Labels of the caller.
        source_labels: BTreeMap<String, String>,
        /// Gateways, instead of the VirtualService's own.
        gateways: Vec<String>,
        /// Namespace of the caller.
        source_namespace: String,
    }

    /// A route of TCP.
    pub struct TcpRoute [check_tcp] {
        /// Any of these; none is every connection.
        r#match: Vec<L4MatchAttributes>,
        /// Where connections go, by weight.
        route: Vec<RouteDestination>,
    }

    /// What a connection must be; all that is set must hold.
    pub struct L4MatchAttributes [check_l4_match] {
        /// Where it goes.
        destination_subnets: Vec<String>,
        /// The port that was dialled.
        port: Port,
        /// Known, and without effect.
        source_subnet: String,
        /// Labels of the caller.
        source_labels: BTreeMap<String, String>,
        /// Gateways, instead of the VirtualService's own.
        gateways: Vec<String>,
        /// Namespace of the caller.
        source_namespace: String,
    }

    /// A destination of connections and its share.
    pub struct RouteDestination {
        /// Where.
        destination: Destination,
        /// Share among the route's destinations; alone it is all.
        weight: i32,
    }
}

fn check_tls(route: &TlsRoute, c: &mut Checker) {
    c.required("match", !route.r#match.is_empty());
    check_destinations(&route.route, c);
}

fn check_tcp(route: &TcpRoute, c: &mut Checker) {
    check_destinations(&route.route, c);
}

fn check_destinations(route: &[RouteDestination], c: &mut Checker) {
    c.required("route", !route.is_empty());
    c.field("route", |c| super::weights(c, &route.iter().map(|r| r.weight).collect::<Vec<_>>()));
}

fn check_tls_match(attributes: &TlsMatchAttributes, c: &mut Checker) {
    c.required("sni_hosts", !attributes.sni_hosts.is_empty());
    c.each("sni_hosts", &attributes.sni_hosts, |c, host| text::tell(c, net::wildcard_host(host)));
    check_common(c, &attributes.destination_subnets, &attributes.source_labels, &attributes.source_namespace);
    super::gateways(c, &attributes.gateways);
}

fn check_l4_match(attributes: &L4MatchAttributes, c: &mut Checker) {
    if !attributes.source_subnet.is_empty() {
        c.field("source_subnet", |c| text::tell(c, net::range(&attributes.source_subnet)));
    }
    check_common(c, &attributes.destination_subnets, &attributes.source_labels, &attributes.source_namespace);
    super::gateways(c, &attributes.gateways);
}

fn check_common(c: &mut Checker, subnets: &[String], labels: &BTreeMap<String, String>, namespace: &str) {
    net::ranges(c, "destination_subnets", subnets);
    text::labels(c, "source_labels", labels);
    if !namespace.is_empty() {
        c.field("source_namespace", |c| text::tell(c, text::label(namespace)));
    }
}
