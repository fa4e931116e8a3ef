//! CDS: how the instances of a port and subset are found, balanced and spoken to.
//!
//! In: a cluster's name. Out: the cluster, and which endpoints it needs. Invariant: the shapes are Istio's.

use std::collections::BTreeSet;
use std::time::Duration;

use hawser_api::istio::destination_rule::{
    ClientTlsMode, H2UpgradePolicy, HttpSettings, LoadBalancerSettings, OutlierDetection, ProxyProtocolVersion,
    SimpleLb,
};
use hawser_api::names::{OutboundCluster, clusters, metadata};
use hawser_api::proto::cluster::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbConfig, LbPolicy,
    LeastRequestLbConfig, MaglevLbConfig, OriginalDstLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
    TransportSocketMatch,
    common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
};
use hawser_api::proto::cluster::{
    self as proto, CircuitBreakers, Cluster,
    circuit_breakers::{Thresholds, thresholds::RetryBudget},
};
use hawser_api::proto::core;
use hawser_api::proto::envoy::config::common::matcher::v3::{
    HttpHeadersMatch, MatchPredicate, match_predicate, match_predicate::MatchSet,
};
use hawser_api::proto::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use hawser_api::proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use hawser_api::proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
    },
};
use hawser_api::proto::envoy::r#type::v3::Percent;
use hawser_api::proto::route::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use hawser_mesh::{Location, Protocol, Resolution, Transport};
use hawser_xds::TypeUrl;

use super::Compiled;
use super::context::Context;
use super::policy::Policy;
use super::proto::{ads, any, duration, exact, list, name, nested, socket_address, structure, text, transport_socket};
use super::{endpoints, tls};
use crate::registry::ServiceState;
use crate::view::Class;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An outbound cluster.
pub(super) fn outbound(context: &Context<'_>, cluster: &OutboundCluster) -> Option<Compiled> {
    let state = context.reached(&cluster.host, cluster.port)?;
    let service = &state.service;
    let port = service.port(cluster.port).filter(|p| p.protocol != Protocol::Udp)?;
    let (policy, _) = context.policy(state, cluster.port, &cluster.subset)?;
    let mut made = Cluster {
        name: cluster.to_string(),
        connect_timeout: Some(duration(connect_timeout(&policy))),
        circuit_breakers: Some(limits(&policy)),
        outlier_detection: policy.outlier.map(outlier),
        metadata: Some(describe(state)),
        common_lb_config: Some(CommonLbConfig {
            // A few healthy endpoints are better than all of them, unless somebody says otherwise.
            healthy_panic_threshold: Some(Percent {
                value: policy.outlier.map_or(0.0, |o| o.min_health_percent.into()),
            }),
            locality_config_specifier: (context.view.class == Class::Grpc || endpoints::by_shares(context, &policy))
                .then_some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {})),
        }),
        close_connections_on_host_health_failure: context.view.class == Class::Envoy,
        ..Cluster::default()
    };
    let mut needs = Vec::new();
    discover(context, state, cluster, &mut made, &mut needs)?;
    balance(context, &policy, &mut made);
    if context.view.class == Class::Grpc {
        if matches!(policy.tls_mode(), Some(ClientTlsMode::Simple | ClientTlsMode::Mutual)) {
            // It would call in plaintext.
            return None;
        }
        if policy.proxy_protocol.is_some() {
            // Its servers would wait for a header.
            return None;
        }
        made.circuit_breakers = None;
        made.common_lb_config = None;
        made.metadata = None;
    } else {
        let foreign = policy.tls.filter(|tls| matches!(tls.mode(), ClientTlsMode::Simple | ClientTlsMode::Mutual));
        speak(&policy, port.protocol, foreign.map(tls::by_host), &mut made);
        if let Some(settings) = foreign {
            let http2 = speaks_http2(&policy, port.protocol);
            made.transport_socket = Some(tls::foreign(settings, &service.subject_alt_names, http2));
        } else if !context.view.plaintext {
            secure(context, state, cluster, port.protocol, &policy, &mut made);
        }
        if let Some(said) = policy.proxy_protocol {
            announce(said.version, &mut made);
        }
    }
    Some(Compiled::new(&made, needs))
}

/// To where the connection was going, or nowhere.
pub(super) fn built_in(context: &Context<'_>, cluster: &str) -> Option<Compiled> {
    let mut made =
        Cluster { name: cluster.to_owned(), connect_timeout: Some(duration(CONNECT_TIMEOUT)), ..Cluster::default() };
    match cluster {
        clusters::BLACK_HOLE => {
            made.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
        }
        clusters::PASSTHROUGH | clusters::INBOUND_PASSTHROUGH => {
            original(&mut made);
            let options = HttpProtocolOptions {
                upstream_protocol_options: Some(as_received()),
                ..HttpProtocolOptions::default()
            };
            set_http(&mut made, &options);
            if cluster == clusters::INBOUND_PASSTHROUGH {
                made.upstream_bind_config = Some(from_itself(context, false));
            }
        }
        _ => return None,
    }
    (context.view.class != Class::Grpc).then(|| Compiled::new(&made, Vec::new()))
}

/// Addresses by which capture tells an Envoy's connections to its own applications from calls.
pub(super) fn from_itself(context: &Context<'_>, v6: bool) -> core::BindConfig {
    let extra = || core::ExtraSourceAddress { address: Some(socket_address("::6", 0)) };
    core::BindConfig {
        source_address: Some(socket_address(if v6 && !context.view.ipv6 { "::6" } else { "127.0.0.6" }, 0)),
        extra_source_addresses: context.view.ipv6.then(extra).into_iter().collect(),
    }
}

/// A cluster that goes to where the connection was going.
pub(super) fn original(cluster: &mut Cluster) {
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32));
    cluster.lb_policy = LbPolicy::ClusterProvided as i32;
}

pub(super) fn as_received() -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(core::Http1ProtocolOptions::default()),
        http2_protocol_options: Some(core::Http2ProtocolOptions::default()),
    })
}

pub(super) fn set_http(cluster: &mut Cluster, options: &HttpProtocolOptions) {
    cluster.typed_extension_protocol_options.insert(name::HTTP_OPTIONS.to_owned(), any(name::HTTP_OPTIONS, options));
}

fn discover<'a>(
    context: &Context<'a>,
    state: &'a ServiceState,
    name: &OutboundCluster,
    made: &mut Cluster,
    needs: &mut Vec<(TypeUrl, std::sync::Arc<str>)>,
) -> Option<()> {
    if endpoints::by_eds(context, state) {
        made.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
        made.eds_cluster_config = Some(EdsClusterConfig { eds_config: Some(ads()), service_name: made.name.clone() });
        needs.push((TypeUrl::ENDPOINTS, made.name.as_str().into()));
        return Some(());
    }
    match state.service.resolution {
        Resolution::None => {
            original(made);
            let port = state.service.port(name.port).filter(|port| port.target_port != port.port);
            made.lb_config = port.map(|port| {
                let upstream_port_override = Some(port.target_port.into());
                LbConfig::OriginalDstLbConfig(OriginalDstLbConfig { upstream_port_override })
            });
        }
        resolution => {
            let kind = match resolution {
                Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
                _ => DiscoveryType::StrictDns,
            };
            made.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
            made.dns_refresh_rate = Some(duration(context.settings().dns_refresh));
            made.respect_dns_ttl = true;
            // Ours takes what its host has a way to.
            if context.view.class == Class::Envoy {
                let family = if context.view.ipv6 { DnsLookupFamily::All } else { DnsLookupFamily::V4Only };
                made.dns_lookup_family = family as i32;
            }
            let mut assignment = endpoints::assignment(context, state, name)?;
            if kind == DiscoveryType::LogicalDns {
                // It takes exactly one.
                assignment.endpoints.truncate(1);
                assignment.endpoints.iter_mut().for_each(|locality| locality.lb_endpoints.truncate(1));
            }
            made.load_assignment = Some(assignment);
        }
    }
    Some(())
}

fn balance(context: &Context<'_>, policy: &Policy<'_>, made: &mut Cluster) {
    if made.lb_policy == LbPolicy::ClusterProvided as i32 {
        return;
    }
    let said = policy.load_balancer.filter(|_| context.view.class != Class::Grpc);
    if let Some(hash) = said.and_then(|lb| lb.consistent_hash.as_ref()) {
        let size = |size: u64| Some(size).filter(|size| *size > 0);
        let (policy, config) = match (&hash.maglev, &hash.ring_hash) {
            (Some(maglev), _) => {
                (LbPolicy::Maglev, LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: size(maglev.table_size) }))
            }
            (None, ring) => {
                let least = ring.as_ref().map_or(hash.minimum_ring_size, |ring| ring.minimum_ring_size);
                let config = RingHashLbConfig { minimum_ring_size: size(least).or(Some(1024)) };
                (LbPolicy::RingHash, LbConfig::RingHashLbConfig(config))
            }
        };
        made.lb_policy = policy as i32;
        made.lb_config = Some(config);
        return;
    }
    let simple = said.and_then(|lb| lb.simple).unwrap_or(SimpleLb::Unspecified);
    let chosen = match simple {
        _ if context.view.class == Class::Grpc => LbPolicy::RoundRobin,
        SimpleLb::RoundRobin => LbPolicy::RoundRobin,
        SimpleLb::Random => LbPolicy::Random,
        SimpleLb::Passthrough => {
            original(made);
            made.eds_cluster_config = None;
            made.load_assignment = None;
            return;
        }
        SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => LbPolicy::LeastRequest,
    };
    made.lb_policy = chosen as i32;
    let slowly = said.and_then(warm_up);
    made.lb_config = slowly.and_then(|slow_start_config| match chosen {
        LbPolicy::RoundRobin => {
            Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow_start_config) }))
        }
        LbPolicy::LeastRequest => Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
            slow_start_config: Some(slow_start_config),
            ..LeastRequestLbConfig::default()
        })),
        _ => None,
    });
}

/// How new endpoints come to their share.
fn warm_up(settings: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    let warmup = settings.warmup.as_ref();
    let window = warmup.and_then(|w| w.duration).or(settings.warmup_duration_secs)?;
    let aggression = |value| core::RuntimeDouble { default_value: value, runtime_key: "aggression".to_owned() };
    Some(SlowStartConfig {
        slow_start_window: Some(duration(window.get())),
        // Of 0 proxies make nothing: it is left at its default.
        aggression: warmup.and_then(|w| w.aggression).filter(|a| *a > 0.0).map(aggression),
        min_weight_percent: warmup.and_then(|w| w.minimum_percent).map(|value| Percent { value }),
    })
}

pub(super) fn connect_timeout(policy: &Policy<'_>) -> Duration {
    policy.pool.and_then(|p| p.tcp.as_ref()?.connect_timeout).map_or(CONNECT_TIMEOUT, |d| d.get())
}

pub(super) fn limits(policy: &Policy<'_>) -> CircuitBreakers {
    let tcp = policy.pool.and_then(|p| p.tcp.as_ref());
    let http = policy.pool.and_then(|p| p.http.as_ref());
    let limit =
        |value: Option<i32>| Some(value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        priority: 0,
        max_connections: limit(tcp.map(|t| t.max_connections)),
        max_pending_requests: limit(http.map(|h| h.http1_max_pending_requests)),
        max_requests: limit(http.map(|h| h.http2_max_requests)),
        max_retries: limit(http.map(|h| h.max_retries)),
        track_remaining: true,
        retry_budget: policy.retry_budget.map(|budget| RetryBudget {
            budget_percent: budget.percent.map(|value| Percent { value }),
            min_retry_concurrency: Some(budget.min_retry_concurrency).filter(|n| *n > 0),
        }),
    };
    CircuitBreakers { thresholds: vec![thresholds] }
}

fn outlier(detection: &OutlierDetection) -> proto::OutlierDetection {
    let errors = u32::try_from(detection.consecutive_errors).ok().filter(|n| *n > 0);
    let fives = detection.consecutive5xx_errors.or(errors);
    let gateway = detection.consecutive_gateway_errors;
    let local = detection.consecutive_local_origin_failures;
    let on = |n: Option<u32>| n.map(|n| if n == 0 { 0 } else { 100 });
    let split = detection.split_external_local_origin_errors;
    proto::OutlierDetection {
        consecutive_5xx: fives.filter(|n| *n > 0),
        enforcing_consecutive_5xx: on(fives),
        consecutive_gateway_failure: gateway.filter(|n| *n > 0),
        enforcing_consecutive_gateway_failure: on(gateway),
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: local.filter(|n| *n > 0 && split),
        enforcing_consecutive_local_origin_failure: on(local).filter(|_| split),
        enforcing_local_origin_success_rate: split.then_some(0),
        enforcing_success_rate: Some(0),
        interval: detection.interval.map(|d| duration(d.get())),
        base_ejection_time: detection.base_ejection_time.map(|d| duration(d.get())),
        max_ejection_percent: u32::try_from(detection.max_ejection_percent).ok().filter(|n| *n > 0),
    }
}

fn describe(state: &ServiceState) -> core::Metadata {
    let service = &state.service;
    let one = structure([
        ("host", text(service.host.as_str())),
        ("name", text(&*service.name)),
        ("namespace", text(&*service.namespace)),
    ]);
    let all = structure([("services", list(vec![nested(one)]))]);
    core::Metadata { filter_metadata: [(metadata::ISTIO.to_owned(), all)].into() }
}

/// HTTP versions, keepalive, limits of a connection.
fn speak(
    policy: &Policy<'_>,
    protocol: Protocol,
    names: Option<core::UpstreamHttpProtocolOptions>,
    made: &mut Cluster,
) {
    let http = policy.pool.and_then(|p| p.http.as_ref());
    made.upstream_connection_options = keepalive(policy);
    let common = lasting(policy);
    let explicit =
        |config| UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) });
    let errors = policy.outlier.and_then(errors);
    let version = match protocol {
        _ if speaks_http2(policy, protocol) => {
            let h2 = http.map(of_http2).unwrap_or_default();
            Some(explicit(ProtocolConfig::Http2ProtocolOptions(h2)))
        }
        Protocol::Auto => Some(as_received()),
        Protocol::Http if http.is_some_and(|h| h.use_client_protocol) => Some(as_received()),
        Protocol::Http if common.is_some() || errors.is_some() || names.is_some_and(|names| names.auto_sni) => {
            Some(explicit(ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default())))
        }
        _ => None,
    };
    if version.is_some() {
        let options = HttpProtocolOptions {
            common_http_protocol_options: common,
            upstream_http_protocol_options: names.filter(|names| names.auto_sni),
            upstream_protocol_options: version,
            outlier_detection: errors,
        };
        set_http(made, &options);
    }
}

/// Probes of connections that nothing is said on.
pub(super) fn keepalive(policy: &Policy<'_>) -> Option<proto::UpstreamConnectionOptions> {
    let keepalive = policy.pool?.tcp.as_ref()?.tcp_keepalive.as_ref()?;
    let seconds = |d: Option<hawser_api::istio::Duration>| d.map(|d| d.get().as_secs().clamp(1, 1 << 30) as u32);
    Some(proto::UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_probes: Some(keepalive.probes).filter(|n| *n > 0),
            keepalive_time: seconds(keepalive.time),
            keepalive_interval: seconds(keepalive.interval),
        }),
    })
}

/// How long connections of HTTP last, if anything is said of it.
pub(super) fn lasting(policy: &Policy<'_>) -> Option<core::HttpProtocolOptions> {
    let http = policy.pool.and_then(|p| p.http.as_ref());
    let tcp = policy.pool.and_then(|p| p.tcp.as_ref());
    let positive = |n: i32| u32::try_from(n).ok().filter(|n| *n > 0);
    let common = http.map(|http| core::HttpProtocolOptions {
        idle_timeout: http.idle_timeout.map(|d| duration(d.get())),
        max_requests_per_connection: positive(http.max_requests_per_connection),
        ..core::HttpProtocolOptions::default()
    });
    let longest = tcp.and_then(|t| t.max_connection_duration).map(|d| duration(d.get()));
    let common = match (common, longest) {
        (common, None) => common,
        (common, longest) => {
            Some(core::HttpProtocolOptions { max_connection_duration: longest, ..common.unwrap_or_default() })
        }
    };
    common.filter(|c| *c != core::HttpProtocolOptions::default())
}

/// Whether endpoints are spoken to in HTTP/2, whatever callers speak.
fn speaks_http2(policy: &Policy<'_>, protocol: Protocol) -> bool {
    let http = policy.pool.and_then(|p| p.http.as_ref());
    let upgrade = http.is_some_and(|h| h.h2_upgrade_policy == H2UpgradePolicy::Upgrade);
    protocol.is_http2() || protocol == Protocol::Http && upgrade
}

fn of_http2(http: &HttpSettings) -> core::Http2ProtocolOptions {
    core::Http2ProtocolOptions {
        max_concurrent_streams: u32::try_from(http.max_concurrent_streams).ok().filter(|n| *n > 0),
        connection_keepalive: http.http2_keep_alive.as_ref().map(|keepalive| core::KeepaliveSettings {
            interval: keepalive.interval.map(|d| duration(d.get())),
            timeout: keepalive.timeout.map(|d| duration(d.get())),
        }),
        ..core::Http2ProtocolOptions::default()
    }
}

/// Which statuses count as errors, if that is said.
fn errors(detection: &OutlierDetection) -> Option<http_protocol_options::OutlierDetection> {
    let status = |code: &u32| MatchPredicate {
        rule: Some(match_predicate::Rule::HttpResponseHeadersMatch(HttpHeadersMatch {
            headers: vec![HeaderMatcher {
                name: ":status".to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact(&code.to_string()))),
                ..HeaderMatcher::default()
            }],
        })),
    };
    let rules: Vec<_> = detection.outlier_detection_http_error_codes.iter().map(status).collect();
    let matcher = match rules.as_slice() {
        [] => return None,
        // Of one alone there is no choice.
        [only] => only.clone(),
        _ => MatchPredicate { rule: Some(match_predicate::Rule::OrMatch(MatchSet { rules })) },
    };
    Some(http_protocol_options::OutlierDetection { error_matcher: Some(matcher) })
}

/// Mesh mTLS: to all if the rule says so, else to endpoints that have it.
fn secure<'a>(
    context: &Context<'a>,
    state: &'a ServiceState,
    cluster: &OutboundCluster,
    protocol: Protocol,
    policy: &Policy<'_>,
    made: &mut Cluster,
) {
    let (sni, names) = match policy.tls_mode() {
        None => (None, &[][..]),
        Some(ClientTlsMode::IstioMutual) => {
            let settings = policy.tls.map(|tls| (tls.sni.as_str(), tls.subject_alt_names.as_slice()));
            let (sni, names) = settings.unwrap_or_default();
            (Some(sni).filter(|sni| !sni.is_empty()), names)
        }
        Some(_) => return,
    };
    if state.service.location == Location::External && policy.tls.is_none() {
        return;
    }
    let identities: Vec<String> = match context.view.class {
        // Ours checks each endpoint's own identity, which comes with it; those that have none are whom the service says.
        Class::Hawser(_) if names.is_empty() => state.service.subject_alt_names.clone(),
        Class::Hawser(_) => names.to_vec(),
        _ if !names.is_empty() => names.to_vec(),
        Class::Envoy | Class::Grpc => {
            let mutual =
                context.instances(state).iter().filter(|i| i.member.workload.transport != Transport::Plaintext);
            let own = mutual.filter_map(|i| i.member.workload.identity.as_ref().map(|id| id.as_str().to_owned()));
            let said = state.service.subject_alt_names.iter().cloned();
            // Their like of the other trust domains, too.
            let aliases = &context.settings().trust_domain_aliases;
            let like = |name: String| {
                let rest = name.strip_prefix("spiffe://").and_then(|rest| Some(rest.split_once('/')?.1.to_owned()));
                let others = rest.map(|rest| aliases.iter().map(move |domain| format!("spiffe://{domain}/{rest}")));
                std::iter::once(name).chain(others.into_iter().flatten())
            };
            own.chain(said).flat_map(like).collect::<BTreeSet<_>>().into_iter().collect()
        }
    };
    let trust_domains = context.settings().trust_domains();
    let socket = tls::upstream(cluster, sni, protocol, context.view.class, &identities, &trust_domains);
    if policy.tls.is_some() {
        made.transport_socket = Some(socket);
        return;
    }
    made.transport_socket_matches = vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(structure([("tlsMode", text("istio"))])),
            transport_socket: Some(socket),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(structure([])),
            transport_socket: Some(plain()),
        },
    ];
}

fn plain() -> core::TransportSocket {
    transport_socket("envoy.transport_sockets.raw_buffer", any(name::RAW_BUFFER, &RawBuffer {}))
}

/// Connections begin with a header that says whose they are, before all else, TLS too.
fn announce(version: ProxyProtocolVersion, made: &mut Cluster) {
    let version = match version {
        ProxyProtocolVersion::V1 => core::proxy_protocol_config::Version::V1,
        ProxyProtocolVersion::V2 => core::proxy_protocol_config::Version::V2,
    };
    let behind = |socket: Option<core::TransportSocket>| {
        let transport = ProxyProtocolUpstreamTransport {
            config: Some(core::ProxyProtocolConfig { version: version as i32 }),
            transport_socket: Some(socket.unwrap_or_else(plain)),
        };
        let config = any(name::UPSTREAM_PROXY_PROTOCOL, &transport);
        Some(transport_socket("envoy.transport_sockets.upstream_proxy_protocol", config))
    };
    for of_match in &mut made.transport_socket_matches {
        of_match.transport_socket = behind(of_match.transport_socket.take());
    }
    if made.transport_socket.is_some() || made.transport_socket_matches.is_empty() {
        made.transport_socket = behind(made.transport_socket.take());
    }
}
