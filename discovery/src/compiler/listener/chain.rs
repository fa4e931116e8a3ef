//! Filters and listener filters, as all listeners have them.

use std::time::Duration;

use hawser_api::proto::listener::{FilterChainMatch, ListenerFilter, listener_filter};

use crate::compiler::proto::{any, name};

/// What of a connection's first bytes decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compiler) enum Inspect {
    /// Nothing.
    Nothing,
    /// Whether they are HTTP.
    Http,
    /// Whether they are TLS and what it says.
    Tls,
    /// All of it.
    Both,
}

/// Listener filters for it.
pub(in crate::compiler) fn inspectors(inspect: Inspect) -> Vec<ListenerFilter> {
    use hawser_api::proto::envoy::extensions::filters::listener::{
        http_inspector::v3::HttpInspector, tls_inspector::v3::TlsInspector,
    };
    let mut filters = Vec::new();
    if matches!(inspect, Inspect::Tls | Inspect::Both) {
        filters
            .push(listener_filter("envoy.filters.listener.tls_inspector", any(name::TLS_INSPECTOR, &TlsInspector {})));
    }
    if matches!(inspect, Inspect::Http | Inspect::Both) {
        let config = any(name::HTTP_INSPECTOR, &HttpInspector {});
        filters.push(listener_filter("envoy.filters.listener.http_inspector", config));
    }
    filters
}

pub(in crate::compiler) fn listener_filter(name: &str, config: prost_types::Any) -> ListenerFilter {
    ListenerFilter { name: name.to_owned(), config_type: Some(listener_filter::ConfigType::TypedConfig(config)) }
}

/// Plain HTTP, by its first bytes.
pub(in crate::compiler) fn http_chain_match() -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: ["http/1.1", "h2c"].map(str::to_owned).to_vec(),
        ..FilterChainMatch::default()
    }
}

/// Filters that read HTTP.
pub(in crate::compiler) mod http {
    use hawser_api::proto::envoy::extensions::filters::http::{
        cors::v3::Cors, fault::v3::HttpFault, router::v3::Router,
    };
    use hawser_api::proto::http_connection_manager::http_connection_manager::{
        ForwardClientCertDetails, RouteSpecifier, SetCurrentClientCertDetails, UpgradeConfig,
    };
    use hawser_api::proto::http_connection_manager::{HttpConnectionManager, HttpFilter, Rds, http_filter};
    use hawser_api::proto::listener::{Filter, filter as network_filter};
    use hawser_api::proto::route::RouteConfiguration;

    use super::Duration;
    use crate::compiler::access_log;
    use crate::compiler::context::Context;
    use crate::compiler::proto::{ads, any, duration, filter, name};
    use crate::view::Class;

    /// Of callers, by a named route.
    pub(in crate::compiler) fn outbound(context: &Context<'_>, route: &str, label: &str) -> Filter {
        let mut manager = base(context, &format!("outbound_{label};"));
        if context.view.class == Class::Envoy {
            // Ours needs not be told to look at what routes say of them.
            manager.http_filters.splice(0..0, [fault(), cors()]);
        }
        manager.route_specifier =
            Some(RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: route.to_owned() }));
        network(&manager)
    }

    /// Of a server, by a route that comes with it.
    pub(in crate::compiler) fn inbound(
        context: &Context<'_>,
        route: RouteConfiguration,
        label: &str,
        mutual: bool,
        guard: &[HttpFilter],
    ) -> Filter {
        let mut manager = base(context, &format!("inbound_{label};"));
        manager.http_filters.splice(0..0, guard.iter().cloned());
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(route));
        if mutual {
            manager.forward_client_cert_details = ForwardClientCertDetails::AppendForward as i32;
            manager.set_current_client_cert_details =
                Some(SetCurrentClientCertDetails { subject: Some(true), dns: true, uri: true, ..Default::default() });
        }
        network(&manager)
    }

    /// Of a gRPC program: routes by name, no transport.
    pub(in crate::compiler) fn api(route: &str) -> prost_types::Any {
        let manager = HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::Rds(Rds {
                config_source: Some(ads()),
                route_config_name: route.to_owned(),
            })),
            http_filters: vec![fault(), router()],
            ..HttpConnectionManager::default()
        };
        any(name::HCM, &manager)
    }

    fn base(context: &Context<'_>, label: &str) -> HttpConnectionManager {
        HttpConnectionManager {
            stat_prefix: label.to_owned(),
            access_log: access_log::of_connections(context),
            http_filters: vec![router()],
            use_remote_address: Some(false),
            normalize_path: Some(true),
            stream_idle_timeout: Some(duration(Duration::ZERO)),
            upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), enabled: None }],
            ..HttpConnectionManager::default()
        }
    }

    fn router() -> HttpFilter {
        http_filter("envoy.filters.http.router", any(name::ROUTER, &Router::default()))
    }

    /// Does nothing but where a route says so.
    fn fault() -> HttpFilter {
        http_filter(filter::FAULT, any(name::FAULT, &HttpFault::default()))
    }

    /// The same.
    fn cors() -> HttpFilter {
        http_filter(filter::CORS, any(name::CORS, &Cors {}))
    }

    fn http_filter(name: &str, config: prost_types::Any) -> HttpFilter {
        HttpFilter {
            name: name.to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(config)),
            is_optional: false,
        }
    }

    fn network(manager: &HttpConnectionManager) -> Filter {
        Filter {
            name: "envoy.filters.network.http_connection_manager".to_owned(),
            config_type: Some(network_filter::ConfigType::TypedConfig(any(name::HCM, manager))),
        }
    }
}

/// Filters that carry bytes.
pub(in crate::compiler) mod tcp {
    use hawser_api::istio::destination_rule::{TcpSettings, TunnelSettings};
    use hawser_api::names::OutboundCluster;
    use hawser_api::proto::listener::{Filter, filter};
    use hawser_api::proto::tcp_proxy::TcpProxy;
    use hawser_api::proto::tcp_proxy::tcp_proxy::{
        ClusterSpecifier, TunnelingConfig, WeightedCluster, weighted_cluster::ClusterWeight,
    };

    use crate::compiler::access_log;
    use crate::compiler::context::Context;
    use crate::compiler::policy;
    use crate::compiler::proto::{any, duration, name};
    use crate::compiler::route::hash;

    /// What callers do with connections to a cluster.
    fn pool<'a>(context: &Context<'a>, cluster: &str) -> Option<&'a TcpSettings> {
        let cluster = OutboundCluster::parse(cluster)?;
        let state = context.service(&cluster.host)?;
        let (policy, _) = context.policy(state, cluster.port, &cluster.subset)?;
        policy.pool?.tcp.as_ref()
    }

    /// Through what connections go: of several clusters what the rule of the first one says of all its subsets.
    fn tunnel(context: &Context<'_>, clusters: &[(String, u32)]) -> Option<TunnelingConfig> {
        let (first, _) = clusters.first()?;
        let cluster = OutboundCluster::parse(first)?;
        let state = context.service(&cluster.host)?;
        let subset = if clusters.len() == 1 { cluster.subset.as_str() } else { "" };
        let (_, subset) = context.policy(state, cluster.port, subset)?;
        let TunnelSettings { protocol, target_host, target_port } =
            policy::tunnel(context.destination_rule(state)?, subset)?;
        let v6 = target_host.parse::<std::net::Ipv6Addr>().is_ok();
        let hostname =
            if v6 { format!("[{target_host}]:{target_port}") } else { format!("{target_host}:{target_port}") };
        Some(TunnelingConfig { hostname, use_post: protocol == "POST" })
    }

    /// To clusters by weight.
    pub(in crate::compiler) fn to(context: &Context<'_>, label: &str, clusters: &[(String, u32)]) -> Filter {
        let specifier = match clusters {
            [(only, _)] => ClusterSpecifier::Cluster(only.clone()),
            all => ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: all
                    .iter()
                    .map(|(name, weight)| ClusterWeight { name: name.clone(), weight: *weight })
                    .collect(),
            }),
        };
        let pool = clusters.first().and_then(|(cluster, _)| pool(context, cluster));
        let proxy = TcpProxy {
            stat_prefix: label.to_owned(),
            cluster_specifier: Some(specifier),
            hash_policy: hash::of_connections(context, clusters.iter().map(|(cluster, _)| cluster.as_str())),
            idle_timeout: pool.and_then(|tcp| tcp.idle_timeout).map(|d| duration(d.get())),
            max_downstream_connection_duration: pool
                .and_then(|tcp| tcp.max_connection_duration)
                .map(|d| duration(d.get())),
            access_log: access_log::of_connections(context),
            tunneling_config: tunnel(context, clusters),
            ..TcpProxy::default()
        };
        Filter {
            name: "envoy.filters.network.tcp_proxy".to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(any(name::TCP_PROXY, &proxy))),
        }
    }
}
