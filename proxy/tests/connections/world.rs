//! Resources, put together from a few words.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_api::any::pack;
use hawser_api::names::alpn;
use hawser_api::proto::cluster::{self, Cluster};
use hawser_api::proto::core::{self, address, socket_address};
use hawser_api::proto::endpoint::{self, ClusterLoadAssignment};
use hawser_api::proto::http_connection_manager::http_connection_manager::RouteSpecifier;
use hawser_api::proto::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use hawser_api::proto::tls;
use hawser_xds::TypeUrl;
use prost_types::value::Kind;

use crate::ads::World;
use crate::net::OWN;
use crate::resources::{common, downstream, hcm, routes, socket, structure, tcp, text};

/// The identity that the callee shows.
pub(crate) const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// How an endpoint is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Plain bytes.
    Plain,
    /// Mesh mTLS, to a hawser-proxy or to somebody else's.
    Mesh { hawser: bool },
    /// HBONE.
    Hbone,
}

/// What a port carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Tcp,
    Undeclared,
}

/// A chain to a cluster.
pub(crate) fn to(cluster: &str, matches: FilterChainMatch) -> FilterChain {
    FilterChain { filter_chain_match: Some(matches), filters: vec![tcp(cluster)], ..Default::default() }
}

/// A match of server names.
pub(crate) fn names(names: &[&str]) -> FilterChainMatch {
    FilterChainMatch { server_names: names.iter().map(|n| (*n).to_owned()).collect(), ..Default::default() }
}

/// An outbound listener and the clusters that it leads to, which are `<name>` of [`upstream`].
pub(crate) fn outbound(
    world: &mut World,
    at: &str,
    chains: Vec<FilterChain>,
    default: Option<FilterChain>,
    detect: Duration,
    clusters: &[&str],
) {
    let listener = Listener {
        name: at.into(),
        filter_chains: chains,
        default_filter_chain: default,
        listener_filters_timeout: Some(detect.try_into().unwrap()),
        ..Default::default()
    };
    world.add(TypeUrl::LISTENER, at, &listener);
    let needs: Vec<_> = clusters.iter().flat_map(|c| [(TypeUrl::CLUSTER, *c), (TypeUrl::ENDPOINTS, *c)]).collect();
    world.brings(at, &needs);
}

/// A cluster of one endpoint.
pub(crate) fn upstream(world: &mut World, name: &str, to: SocketAddr, by: By) {
    world.add(TypeUrl::CLUSTER, name, &cluster(name));
    world.add(TypeUrl::ENDPOINTS, name, &endpoint_by(name, to, by));
}

/// The endpoint of [`upstream`].
pub(crate) fn endpoint_by(name: &str, to: SocketAddr, by: By) -> ClusterLoadAssignment {
    let mut metadata = Vec::new();
    if by != By::Plain {
        let mut ours = vec![("identity", text(REVIEWS))];
        match by {
            By::Mesh { hawser: true } => ours.push(("h2", prost_types::Value { kind: Some(Kind::BoolValue(true)) })),
            By::Hbone => ours.push(("tunnel", text("hbone"))),
            _ => {}
        }
        metadata.push(("hawser", structure(&ours)));
        metadata.push(("envoy.transport_socket_match", structure(&[("tlsMode", text("istio"))])));
    }
    assignment(name, to, metadata)
}

fn assignment(name: &str, to: SocketAddr, metadata: Vec<(&str, prost_types::Struct)>) -> ClusterLoadAssignment {
    let address = core::Address {
        address: Some(address::Address::SocketAddress(core::SocketAddress {
            address: to.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(to.port().into())),
            ..Default::default()
        })),
    };
    let endpoint = endpoint::Endpoint { address: Some(address), ..Default::default() };
    let filter_metadata = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let one = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        metadata: Some(core::Metadata { filter_metadata }),
        ..Default::default()
    };
    let group = endpoint::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
    ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![group], policy: None }
}

fn cluster(name: &str) -> Cluster {
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common()),
        sni: "outbound_.1_._.reviews.default.svc.cluster.local".into(),
        ..Default::default()
    };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds as i32,
        )),
        transport_socket_matches: vec![cluster::cluster::TransportSocketMatch {
            name: "mesh".into(),
            r#match: Some(structure(&[("tlsMode", text("istio"))])),
            transport_socket: Some(socket(pack(&context))),
        }],
        typed_extension_protocol_options: as_received(),
        ..Default::default()
    }
}

/// Servers that speak what their clients do.
fn as_received() -> std::collections::BTreeMap<String, prost_types::Any> {
    use hawser_api::proto::envoy::extensions::upstreams::http::v3::{
        HttpProtocolOptions, http_protocol_options as options,
    };
    let received = options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(Default::default());
    let options = HttpProtocolOptions { upstream_protocol_options: Some(received), ..Default::default() };
    [("http".to_owned(), pack(&options))].into()
}

/// The callee's side, permissive: each port with what it carries, HTTP or not.
pub(crate) fn inbound(world: &mut World, ports: &[(u16, Speaks)], detect: Duration) {
    let mut chains = Vec::new();
    for (port, speaks) in ports {
        let name = format!("inbound|{port}||");
        let filter = |mutual: bool, http: bool| -> Filter {
            if http { hcm(RouteSpecifier::RouteConfig(routes(&name, &name)), mutual) } else { tcp(&name) }
        };
        let chain = |transport: &str, protocols: Vec<&str>, mutual: bool, http: bool| FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some((*port).into()),
                transport_protocol: transport.into(),
                application_protocols: protocols.into_iter().map(str::to_owned).collect(),
                ..Default::default()
            }),
            transport_socket: mutual.then(downstream),
            filters: vec![filter(mutual, http)],
            ..Default::default()
        };
        let http = *speaks == Speaks::Http;
        if *speaks == Speaks::Undeclared {
            chains.push(chain("tls", alpn::MESH_HTTP.to_vec(), true, true));
            chains.push(chain("tls", alpn::MESH_TCP.to_vec(), true, false));
        } else {
            chains.push(chain("tls", alpn::MESH_HTTP.iter().chain(&alpn::MESH_TCP).copied().collect(), true, http));
        }
        chains.push(chain("tls", Vec::new(), false, false));
        chains.push(chain("raw_buffer", Vec::new(), false, http));
        world.add(TypeUrl::CLUSTER, &name, &original(&name));
    }
    let listener = Listener {
        name: "virtualInbound".into(),
        filter_chains: chains,
        listener_filters_timeout: Some(detect.try_into().unwrap()),
        ..Default::default()
    };
    world.add(TypeUrl::LISTENER, "virtualInbound", &listener);
    let clusters: Vec<String> = ports.iter().map(|(port, _)| format!("inbound|{port}||")).collect();
    let needs: Vec<_> = clusters.iter().map(|c| (TypeUrl::CLUSTER, c.as_str())).collect();
    world.brings("virtualInbound", &needs);
}

pub(crate) fn original(name: &str) -> Cluster {
    let source = core::SocketAddress {
        address: OWN.into(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::OriginalDst as i32,
        )),
        lb_policy: cluster::cluster::LbPolicy::ClusterProvided as i32,
        upstream_bind_config: Some(core::BindConfig { source_address: Some(source), ..Default::default() }),
        typed_extension_protocol_options: as_received(),
        ..Default::default()
    }
}
