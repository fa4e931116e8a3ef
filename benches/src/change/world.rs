//! What the proxy is told: one service at a virtual address, on plaintext endpoints that move.

use std::sync::Arc;

use hawser_api::any::pack;
use hawser_api::proto::cluster::Cluster;
use hawser_api::proto::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
use hawser_api::proto::core::{self, address, socket_address};
use hawser_api::proto::endpoint::{self, ClusterLoadAssignment};
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::http_connection_manager::{HttpConnectionManager, Rds};
use hawser_api::proto::listener::{self, Filter, FilterChain, Listener};
use hawser_api::proto::route::{self, Route, RouteConfiguration, RouteMatch, VirtualHost};
use hawser_xds::TypeUrl;

use super::ads::Resources;
use super::{ADDRESS, PORT};

/// The service's name.
pub(super) const HOST: &str = "moves.default.svc.cluster.local";
const CLUSTERS: [&str; 2] =
    ["outbound|9080||moves.default.svc.cluster.local", "outbound|9080|other|moves.default.svc.cluster.local"];

/// An application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum App {
    /// Where the first cluster may be.
    A,
    /// Where it may be as well.
    B,
    /// Where the second cluster is.
    C,
}

/// What is so now.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The first cluster is at B.
    moved: bool,
    /// The route leads to the second cluster.
    rerouted: bool,
}

impl App {
    pub(super) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    pub(super) fn port(self) -> u16 {
        8000 + u16::from(self.letter())
    }

    pub(super) fn letter(self) -> u8 {
        match self {
            Self::A => b'A',
            Self::B => b'B',
            Self::C => b'C',
        }
    }
}

impl World {
    /// Moves the first cluster's endpoint.
    pub(super) fn move_endpoint(&mut self) {
        self.moved = !self.moved;
    }

    /// Leads the route elsewhere.
    pub(super) fn move_route(&mut self) {
        self.rerouted = !self.rerouted;
    }

    /// Who answers.
    pub(super) fn answers(&self) -> App {
        match (self.rerouted, self.moved) {
            (true, _) => App::C,
            (false, true) => App::B,
            (false, false) => App::A,
        }
    }

    /// All that the proxy may ask for.
    pub(super) fn resources(&self) -> Resources {
        let mut all = Resources::default();
        let (listener, route) = (format!("{ADDRESS}_{PORT}"), format!("{HOST}:{PORT}"));
        all.add(TypeUrl::LISTENER, &listener, &self::listener(&listener, &route));
        all.add(TypeUrl::ROUTE, &route, &routes(&route, CLUSTERS[usize::from(self.rerouted)]));
        for (name, app) in CLUSTERS.into_iter().zip([if self.moved { App::B } else { App::A }, App::C]) {
            all.add(TypeUrl::CLUSTER, name, &cluster(name));
            all.add(TypeUrl::ENDPOINTS, name, &endpoints(name, app.port()));
        }
        let both = CLUSTERS.into_iter().flat_map(|c| [(TypeUrl::CLUSTER, c), (TypeUrl::ENDPOINTS, c)]);
        let needs = both.chain([(TypeUrl::ROUTE, route.as_str())]);
        all.brings(&listener, needs.map(|(ty, name)| (ty, Arc::from(name))).collect());
        all
    }
}

fn listener(name: &str, route: &str) -> Listener {
    let rds = Rds { route_config_name: route.to_owned(), config_source: None };
    let manager =
        pack(&HttpConnectionManager { route_specifier: Some(RouteSpecifier::Rds(rds)), ..Default::default() });
    let filter =
        Filter { name: "http".to_owned(), config_type: Some(listener::filter::ConfigType::TypedConfig(manager)) };
    let chain = FilterChain { filters: vec![filter], ..Default::default() };
    Listener { name: name.to_owned(), filter_chains: vec![chain], ..Default::default() }
}

fn routes(name: &str, cluster: &str) -> RouteConfiguration {
    let to = route::route_action::ClusterSpecifier::Cluster(cluster.to_owned());
    let action = route::RouteAction { cluster_specifier: Some(to), ..Default::default() };
    let everything = route::route_match::PathSpecifier::Prefix("/".to_owned());
    let route = Route {
        r#match: Some(RouteMatch { path_specifier: Some(everything), ..Default::default() }),
        action: Some(route::route::Action::Route(action)),
        ..Default::default()
    };
    let (name, domains) = (name.to_owned(), vec!["*".to_owned()]);
    let host = VirtualHost { name: "all".to_owned(), domains, routes: vec![route], ..Default::default() };
    RouteConfiguration { name, virtual_hosts: vec![host], ..Default::default() }
}

fn cluster(name: &str) -> Cluster {
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds as i32);
    Cluster { name: name.to_owned(), cluster_discovery_type: Some(eds), ..Default::default() }
}

fn endpoints(name: &str, port: u16) -> ClusterLoadAssignment {
    let socket = core::SocketAddress {
        address: "127.0.0.1".to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    let address = core::Address { address: Some(address::Address::SocketAddress(socket)) };
    let endpoint = endpoint::Endpoint { address: Some(address), ..Default::default() };
    let one = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let group = endpoint::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: vec![group], policy: None }
}
