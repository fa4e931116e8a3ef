//! Compiled resources, read back.

use hawser_api::proto::http_connection_manager::HttpConnectionManager;
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{Filter, FilterChain, Listener, filter};
use hawser_api::proto::route::{Route, RouteConfiguration, route, route_action};
use hawser_api::proto::tcp_proxy::{TcpProxy, tcp_proxy};
use hawser_routing::{ChainMatch, Matched};
use hawser_xds::{Source as _, TypeUrl};
use prost::{Message, Name};

use crate::compiler::Sight;

/// A resource of a client's, decoded.
pub(super) fn get<M: Message + Default>(sight: &Sight<'_>, ty: &TypeUrl, name: &str) -> Option<M> {
    M::decode(&sight.get(ty, name)?.body[..]).ok()
}

/// A chain that can be chosen.
pub(super) struct Chain<'a> {
    pub(super) chain: &'a FilterChain,
    matches: ChainMatch,
}

impl Matched for Chain<'_> {
    fn matches(&self) -> &ChainMatch {
        &self.matches
    }
}

/// The chains of a listener, without the default one.
pub(super) fn chains(listener: &Listener) -> Vec<Chain<'_>> {
    let read = |chain| {
        let m: &FilterChain = chain;
        let matches = m.filter_chain_match.as_ref().map(ChainMatch::new).transpose().ok()?.unwrap_or_default();
        Some(Chain { chain, matches })
    };
    listener.filter_chains.iter().filter_map(read).collect()
}

/// What a chain does with its bytes.
pub(super) enum Serves {
    /// Requests are routed: the name of the routes, and the routes if they come with it.
    Http(String, Option<Box<RouteConfiguration>>),
    /// Connections go to clusters, by weight.
    Tcp(Vec<(String, u32)>),
    /// Something that this program does not write.
    Other,
}

impl Serves {
    /// Whether it is requests.
    pub(super) fn is_http(&self) -> bool {
        matches!(self, Self::Http(..))
    }

    /// Of a chain.
    pub(super) fn of(chain: &FilterChain) -> Self {
        let Some(last) = chain.filters.last() else { return Self::Other };
        if let Some(manager) = unpack::<HttpConnectionManager>(last) {
            return match manager.route_specifier {
                Some(RouteSpecifier::Rds(rds)) => Self::Http(rds.route_config_name, None),
                Some(RouteSpecifier::RouteConfig(routes)) => Self::Http(routes.name.clone(), Some(Box::new(routes))),
                None => Self::Other,
            };
        }
        match unpack::<TcpProxy>(last).and_then(|tcp| tcp.cluster_specifier) {
            Some(tcp_proxy::ClusterSpecifier::Cluster(name)) => Self::Tcp(vec![(name, 1)]),
            Some(tcp_proxy::ClusterSpecifier::WeightedClusters(all)) => {
                Self::Tcp(all.clusters.into_iter().map(|c| (c.name, c.weight)).collect())
            }
            None => Self::Other,
        }
    }
}

/// Where connections of a chain are to be led by the proxies that they go to, if these are such.
pub(super) fn tunnel(chain: &FilterChain) -> Option<String> {
    let tunnel = unpack::<TcpProxy>(chain.filters.last()?)?.tunneling_config?;
    Some(format!("tunnel to {} by {}", tunnel.hostname, if tunnel.use_post { "POST" } else { "CONNECT" }))
}

fn unpack<M: Message + Name + Default>(filter: &Filter) -> Option<M> {
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else { return None };
    (any.type_url == M::type_url()).then(|| M::decode(&any.value[..]).ok()).flatten()
}

/// The clusters that a route forwards to, by weight.
pub(super) fn clusters(route: &Route) -> Vec<(String, u32)> {
    let Some(route::Action::Route(action)) = &route.action else { return Vec::new() };
    match &action.cluster_specifier {
        Some(route_action::ClusterSpecifier::Cluster(name)) => vec![(name.clone(), 1)],
        Some(route_action::ClusterSpecifier::WeightedClusters(all)) => {
            all.clusters.iter().map(|c| (c.name.clone(), c.weight.unwrap_or(0))).collect()
        }
        None => Vec::new(),
    }
}
