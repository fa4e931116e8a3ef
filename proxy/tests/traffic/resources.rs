//! What a control plane says to a caller's and a callee's proxy.

use std::collections::BTreeMap;

use hawser_api::any::pack;
use hawser_api::names::{SECRET_DEFAULT, SECRET_ROOT, alpn};
use hawser_api::proto::cluster::{self, Cluster};
use hawser_api::proto::core::{self, address, data_source, socket_address, transport_socket};
use hawser_api::proto::endpoint::{self, ClusterLoadAssignment};
use hawser_api::proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use hawser_api::proto::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use hawser_api::proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use hawser_api::proto::http_connection_manager::http_connection_manager::{
    ForwardClientCertDetails, RouteSpecifier, UpgradeConfig,
};
use hawser_api::proto::http_connection_manager::{HttpConnectionManager, Rds};
use hawser_api::proto::listener::{self, Filter, FilterChain, FilterChainMatch, Listener};
use hawser_api::proto::route::{self, Route, RouteConfiguration, RouteMatch, VirtualHost};
use hawser_api::proto::tcp_proxy::{TcpProxy, tcp_proxy};
use hawser_api::proto::tls::{self, common_tls_context, subject_alt_name_matcher::SanType};
use hawser_xds::TypeUrl;
use prost_types::value::Kind;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType as Name};

use super::ads::World;

const HOST: &str = "reviews.default.svc.cluster.local";

/// A mesh's authority.
pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// A chain and a key of an account, as PEM.
    pub(crate) fn issue(&self, account: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        params.subject_alt_names = vec![Name::URI(id.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// The authority's own certificate, as PEM.
    #[allow(dead_code, reason = "not every test has TLS of its own")]
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    pub(crate) fn secrets(&self, world: &mut World, account: &str) {
        let (chain, key) = self.issue(account);
        let source = |text: String| core::DataSource { specifier: Some(data_source::Specifier::InlineString(text)) };
        let certificate =
            tls::TlsCertificate { certificate_chain: Some(source(chain)), private_key: Some(source(key)) };
        let roots =
            tls::CertificateValidationContext { trusted_ca: Some(source(self.root.clone())), ..Default::default() };
        let secret = |name: &str, r#type| tls::Secret { name: name.into(), r#type: Some(r#type) };
        let own = secret(SECRET_DEFAULT, tls::secret::Type::TlsCertificate(certificate));
        world.add(TypeUrl::SECRET, SECRET_DEFAULT, &own);
        world.add(TypeUrl::SECRET, SECRET_ROOT, &secret(SECRET_ROOT, tls::secret::Type::ValidationContext(roots)));
    }
}

/// What a callee takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    Permissive,
    Strict,
}

/// The caller's side: `reviews` at 240.240.0.1 with three ports.
pub(crate) fn caller(pki: &Pki) -> World {
    let mut world = World::default();
    pki.secrets(&mut world, "caller");
    for (port, http) in [(9080, true), (9090, true), (9100, false)] {
        let cluster = format!("outbound|{port}||{HOST}");
        let route = format!("{HOST}:{port}");
        let listener = format!("240.240.0.1_{port}");
        let filter = if http {
            hcm(RouteSpecifier::Rds(Rds { route_config_name: route.clone(), config_source: None }), false)
        } else {
            tcp(&cluster)
        };
        let chain = FilterChain { filters: vec![filter], ..Default::default() };
        world.add(
            TypeUrl::LISTENER,
            &listener,
            &Listener { name: listener.clone(), filter_chains: vec![chain], ..Default::default() },
        );
        world.add(TypeUrl::ROUTE, &route, &routes(&route, &cluster));
        world.add(TypeUrl::CLUSTER, &cluster, &outbound(&cluster, port));
        world.add(TypeUrl::ENDPOINTS, &cluster, &endpoints(&cluster, port));
        let mut needs = vec![(TypeUrl::CLUSTER, cluster.as_str()), (TypeUrl::ENDPOINTS, cluster.as_str())];
        if http {
            needs.push((TypeUrl::ROUTE, route.as_str()));
        }
        world.brings(&listener, &needs);
    }
    world
}

/// The callee's side.
pub(crate) fn callee(pki: &Pki, accept: Accept) -> World {
    let mut world = World::default();
    pki.secrets(&mut world, "reviews");
    let mut chains = Vec::new();
    for (port, http) in [(9080, true), (9090, true), (9100, false)] {
        let name = format!("inbound|{port}||");
        let chain = |transport: &str, protocols: &[&str], tls: bool| FilterChain {
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some(port),
                transport_protocol: transport.into(),
                application_protocols: protocols.iter().map(|p| (*p).to_owned()).collect(),
                ..Default::default()
            }),
            transport_socket: tls.then(downstream),
            filters: vec![if http { hcm(RouteSpecifier::RouteConfig(routes(&name, &name)), tls) } else { tcp(&name) }],
            ..Default::default()
        };
        let all: Vec<&str> = alpn::MESH_HTTP.iter().chain(&alpn::MESH_TCP).copied().collect();
        chains.push(chain("tls", &all, true));
        if accept == Accept::Permissive {
            chains.push(chain("raw_buffer", &[], false));
        }
        let bind = core::BindConfig {
            source_address: Some(core::SocketAddress {
                address: "10.77.0.6".into(),
                port_specifier: Some(socket_address::PortSpecifier::PortValue(0)),
                ..Default::default()
            }),
            ..Default::default()
        };
        world.add(
            TypeUrl::CLUSTER,
            &name,
            &Cluster {
                name: name.clone(),
                cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
                    cluster::cluster::DiscoveryType::OriginalDst as i32,
                )),
                lb_policy: cluster::cluster::LbPolicy::ClusterProvided as i32,
                upstream_bind_config: Some(bind),
                typed_extension_protocol_options: as_received(),
                ..Default::default()
            },
        );
    }
    world.add(
        TypeUrl::LISTENER,
        "virtualInbound",
        &Listener { name: "virtualInbound".into(), filter_chains: chains, ..Default::default() },
    );
    world.brings(
        "virtualInbound",
        &[
            (TypeUrl::CLUSTER, "inbound|9080||"),
            (TypeUrl::CLUSTER, "inbound|9090||"),
            (TypeUrl::CLUSTER, "inbound|9100||"),
        ],
    );
    world
}

pub(crate) fn hcm(routes: RouteSpecifier, mutual: bool) -> Filter {
    let xfcc = if mutual { ForwardClientCertDetails::AppendForward } else { ForwardClientCertDetails::Sanitize };
    filter(pack(&HttpConnectionManager {
        route_specifier: Some(routes),
        forward_client_cert_details: xfcc as i32,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), enabled: None }],
        ..Default::default()
    }))
}

pub(crate) fn tcp(cluster: &str) -> Filter {
    let cluster_specifier = Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.into()));
    filter(pack(&TcpProxy { cluster_specifier, ..Default::default() }))
}

pub(crate) fn filter(any: prost_types::Any) -> Filter {
    Filter { name: "f".into(), config_type: Some(listener::filter::ConfigType::TypedConfig(any)) }
}

pub(crate) fn routes(name: &str, cluster: &str) -> RouteConfiguration {
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    let everything = RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
        ..Default::default()
    };
    let route =
        Route { r#match: Some(everything), action: Some(route::route::Action::Route(action)), ..Default::default() };
    let host = VirtualHost { name: "all".into(), domains: vec!["*".into()], routes: vec![route], ..Default::default() };
    RouteConfiguration { name: name.into(), virtual_hosts: vec![host], ..Default::default() }
}

pub(crate) fn text(text: &str) -> prost_types::Value {
    prost_types::Value { kind: Some(Kind::StringValue(text.into())) }
}

pub(crate) fn structure(fields: &[(&str, prost_types::Value)]) -> prost_types::Struct {
    prost_types::Struct { fields: fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect() }
}

fn outbound(name: &str, port: u32) -> Cluster {
    let service = structure(&[("host", text(HOST)), ("name", text("reviews")), ("namespace", text("default"))]);
    let service = prost_types::Value { kind: Some(Kind::StructValue(service)) };
    let services = prost_types::Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![service] })) };
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common()),
        sni: format!("outbound_.{port}_._.{HOST}"),
        ..Default::default()
    };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds as i32,
        )),
        metadata: Some(core::Metadata {
            filter_metadata: [("istio".into(), structure(&[("services", services)]))].into(),
        }),
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
fn as_received() -> BTreeMap<String, prost_types::Any> {
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(Default::default())),
        ..Default::default()
    };
    [("http".to_owned(), pack(&options))].into()
}

fn endpoints(name: &str, port: u32) -> ClusterLoadAssignment {
    let address = core::Address {
        address: Some(address::Address::SocketAddress(core::SocketAddress {
            address: "10.77.0.2".into(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    };
    let hawser = structure(&[
        ("identity", text("spiffe://cluster.local/ns/default/sa/reviews")),
        ("h2", prost_types::Value { kind: Some(Kind::BoolValue(true)) }),
    ]);
    let filter_metadata = [
        ("hawser".to_owned(), hawser),
        ("envoy.transport_socket_match".to_owned(), structure(&[("tlsMode", text("istio"))])),
    ];
    let endpoint = endpoint::Endpoint { address: Some(address), ..Default::default() };
    let one = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        metadata: Some(core::Metadata { filter_metadata: filter_metadata.into() }),
        ..Default::default()
    };
    let group = endpoint::LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() };
    ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![group], policy: None }
}

pub(crate) fn downstream() -> core::TransportSocket {
    socket(pack(&tls::DownstreamTlsContext {
        common_tls_context: Some(common()),
        require_client_certificate: Some(true),
        ..Default::default()
    }))
}

pub(crate) fn socket(any: prost_types::Any) -> core::TransportSocket {
    core::TransportSocket { name: "tls".into(), config_type: Some(transport_socket::ConfigType::TypedConfig(any)) }
}

pub(crate) fn common() -> tls::CommonTlsContext {
    let sds = |name: &str| tls::SdsSecretConfig { name: name.into(), sds_config: None };
    let matcher = StringMatcher {
        match_pattern: Some(MatchPattern::Prefix("spiffe://cluster.local/".into())),
        ignore_case: false,
    };
    let names = tls::SubjectAltNameMatcher { san_type: SanType::Uri as i32, matcher: Some(matcher) };
    let combined = common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            trusted_ca: None,
            match_typed_subject_alt_names: vec![names],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(sds(SECRET_ROOT)),
    };
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![sds(SECRET_DEFAULT)],
        validation_context_type: Some(common_tls_context::ValidationContextType::CombinedValidationContext(combined)),
        ..Default::default()
    }
}
