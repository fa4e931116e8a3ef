//! Clusters: how their endpoints are balanced, reached and limited.
//!
//! In: `Cluster` and its endpoints. Out: [`Cluster`], with endpoints sorted into tiers that balancing walks in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use hawser_api::names::{clusters, metadata};
use hawser_api::proto::envoy::extensions::upstreams::http::v3::{HttpProtocolOptions, http_protocol_options};
use hawser_api::proto::{cluster as proto, core, tls};
use prost_types::value::Kind;

use super::StringMatch;
use super::endpoint::{Endpoint, EndpointSet, EndpointSpec, EndpointState, Health};
use super::listener::validation;
use super::proto::{At as _, RAW_BUFFER, Refused, duration, metadata_value, refuse, timeout, unpack};
use crate::tcp::Habit;

/// A cluster in use.
#[derive(Debug)]
pub struct Cluster {
    /// What discovery says.
    pub spec: Arc<ClusterSpec>,
    /// Endpoints by falling preference; a later tier is used when an earlier one has nothing to offer.
    pub tiers: Vec<Tier>,
    /// All endpoints, the lost and draining ones too.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What is counted; shared by workers, kept over configurations.
    pub state: Arc<ClusterState>,
}

/// Endpoints of equal preference.
#[derive(Debug, Default)]
pub struct Tier {
    /// They.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Running sums of weights; empty if all weigh the same.
    pub sums: Vec<u64>,
}

/// What is counted of a cluster.
#[derive(Debug, Default)]
pub struct ClusterState {
    /// Requests in flight.
    pub requests: AtomicU32,
    /// Connections.
    pub connections: AtomicU32,
    /// Retries in flight.
    pub retries: AtomicU32,
    /// Requests that wait for a connection.
    pub pending: AtomicU32,
    /// What its TCP connections carry.
    pub habit: Habit,
}

/// A checked `Cluster`.
#[derive(Debug)]
pub struct ClusterSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Where its endpoints are from.
    pub discovery: Discovery,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Whether weights of localities count.
    pub locality_weighted: bool,
    /// Limits.
    pub limits: Limits,
    /// When an endpoint is left alone for a while.
    pub outlier: Option<Outlier>,
    /// How connections are secured: for endpoints whose metadata has these pairs; the last has none.
    pub transports: Vec<(Vec<(String, String)>, Transport)>,
    /// Which HTTP is spoken.
    pub protocol: HttpProtocol,
    /// An idle connection is kept so long.
    pub idle_timeout: Duration,
    /// The most requests of a connection; 0: no limit.
    pub requests_per_connection: u32,
    /// The service it belongs to.
    pub service: Service,
    /// Source address of connections, where the configuration names one.
    pub source: Option<std::net::IpAddr>,
}

/// Where the endpoints are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Endpoint discovery, under this name.
    Eds(Arc<str>),
    /// They come with the cluster.
    Static,
    /// Where the connection was going.
    Original,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The least loaded of some, chosen by chance.
    LeastRequest(u32),
    /// By chance.
    Random,
    /// In turn.
    RoundRobin,
}

/// Limits of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
    /// Retries in flight.
    pub retries: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
}

/// When an endpoint is left alone for a while.
#[derive(Clone, Copy, Debug)]
pub struct Outlier {
    /// After so many answers of 500 and above, or failed connections, in a row; 0: never.
    pub consecutive_5xx: u32,
    /// After so many of 502, 503, 504, or failed connections, in a row; 0: never.
    pub consecutive_gateway: u32,
    /// For so long, times the number of times.
    pub base: Duration,
    /// At most so much of a cluster, in percent.
    pub most_percent: u32,
}

/// How a connection is secured.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Not.
    Raw,
    /// By TLS.
    Tls(Arc<UpstreamTls>),
}

/// TLS as a client.
#[derive(Debug)]
pub struct UpstreamTls {
    /// Server name sent.
    pub sni: String,
    /// Protocols offered, where the mesh does not decide.
    pub alpn: Vec<String>,
    /// What the server's URI must match, one of them, unless the endpoint names its identity.
    pub names: Vec<StringMatch>,
    /// Secret with our certificate; with it, it is mTLS of the mesh.
    pub certificate: Option<Arc<str>>,
    /// Secret with the roots of servers.
    pub roots: Arc<str>,
    /// Tells connections of different contexts apart.
    pub fingerprint: u64,
}

/// Which HTTP is spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    /// That of the request.
    AsReceived,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A service, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Host name.
    pub host: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
}

impl ClusterSpec {
    /// Checks a cluster; endpoints that come with it are returned.
    pub(super) fn new(cluster: &proto::Cluster) -> Result<(Self, Option<EndpointSet>), Refused> {
        use proto::cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy};
        let Some(ClusterDiscoveryType::Type(kind)) = cluster.cluster_discovery_type else { refuse!("type is missing") };
        let mut endpoints = None;
        let discovery = match DiscoveryType::try_from(kind) {
            Ok(DiscoveryType::Eds) => {
                let name = cluster.eds_cluster_config.as_ref().map_or("", |c| c.service_name.as_str());
                Discovery::Eds(if name.is_empty() { cluster.name.as_str().into() } else { name.into() })
            }
            Ok(DiscoveryType::Static) => {
                let assignment = cluster.load_assignment.clone().unwrap_or_default();
                endpoints = Some(EndpointSet::new(&assignment).at("load_assignment")?);
                Discovery::Static
            }
            Ok(DiscoveryType::OriginalDst) => Discovery::Original,
            Ok(DiscoveryType::StrictDns | DiscoveryType::LogicalDns) => {
                refuse!("type: names are resolved by discovery, STRICT_DNS and LOGICAL_DNS are not supported")
            }
            Err(_) => refuse!("type {kind} is unknown"),
        };
        let balance = match LbPolicy::try_from(cluster.lb_policy) {
            Ok(LbPolicy::RoundRobin) => Balance::RoundRobin,
            Ok(LbPolicy::LeastRequest) => {
                let config = match &cluster.lb_config {
                    Some(LbConfig::LeastRequestLbConfig(c)) => c.choice_count,
                    None => None,
                };
                Balance::LeastRequest(config.unwrap_or(2).clamp(2, 10))
            }
            Ok(LbPolicy::Random) => Balance::Random,
            Ok(LbPolicy::ClusterProvided) => Balance::Random,
            Ok(other) => refuse!("lb_policy {} is not supported", other.as_str_name()),
            Err(_) => refuse!("lb_policy {} is unknown", cluster.lb_policy),
        };
        let mut transports = Vec::new();
        for (i, m) in cluster.transport_socket_matches.iter().enumerate() {
            let pairs = match_pairs(m.r#match.as_ref()).at(format_args!("transport_socket_matches[{i}].match"))?;
            let transport = transport(m.transport_socket.as_ref())
                .at(format_args!("transport_socket_matches[{i}].transport_socket"))?;
            transports.push((pairs, transport));
        }
        transports.push((Vec::new(), transport(cluster.transport_socket.as_ref()).at("transport_socket")?));
        let options = http_options(cluster)?;
        let weighted = cluster.common_lb_config.as_ref().is_some_and(|c| c.locality_config_specifier.is_some());
        let source = cluster.upstream_bind_config.as_ref().and_then(|b| b.source_address.as_ref());
        let source = match source.map(|a| a.address.parse::<std::net::IpAddr>()) {
            None => None,
            Some(Ok(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
            Some(Err(_)) => refuse!("upstream_bind_config.source_address is no IP address"),
        };
        let spec = Self {
            name: cluster.name.as_str().into(),
            discovery,
            connect_timeout: timeout("connect_timeout", cluster.connect_timeout.as_ref())?
                .unwrap_or(Duration::from_secs(5))
                .min(Duration::from_secs(60)),
            balance,
            locality_weighted: weighted,
            limits: limits(cluster.circuit_breakers.as_ref()),
            outlier: cluster.outlier_detection.as_ref().map(outlier).transpose().at("outlier_detection")?,
            transports,
            protocol: options.protocol,
            idle_timeout: options.idle_timeout,
            requests_per_connection: options.requests_per_connection,
            service: service(cluster),
            source,
        };
        Ok((spec, endpoints))
    }

    /// A cluster that goes to where a connection was going; `inbound|<port>||` and the passthrough clusters are such
    /// even where discovery does not spell them out.
    pub fn original(name: &str) -> Option<Self> {
        let built_in =
            name.starts_with("inbound|") || [clusters::PASSTHROUGH, clusters::INBOUND_PASSTHROUGH].contains(&name);
        built_in.then(|| Self {
            name: name.into(),
            discovery: Discovery::Original,
            connect_timeout: Duration::from_secs(5),
            balance: Balance::Random,
            locality_weighted: false,
            limits: limits(None),
            outlier: None,
            transports: vec![(Vec::new(), Transport::Raw)],
            protocol: HttpProtocol::AsReceived,
            idle_timeout: Duration::from_secs(60),
            requests_per_connection: 0,
            service: Service::default(),
            source: None,
        })
    }

    /// Which transport an endpoint takes.
    fn transport_of(&self, endpoint: &EndpointSpec) -> usize {
        let fits = |pairs: &[(String, String)]| pairs.iter().all(|pair| endpoint.transport.contains(pair));
        self.transports.iter().position(|(pairs, _)| fits(pairs)).unwrap_or(self.transports.len() - 1)
    }
}

impl Cluster {
    /// Joins a cluster and its endpoints. What was counted is taken over from `before`; endpoints that are lost now
    /// are told so.
    pub fn new(spec: Arc<ClusterSpec>, set: &EndpointSet, before: Option<&Self>) -> Self {
        let mut sums = std::collections::HashMap::<(&str, u32), u64>::new();
        for e in &set.endpoints {
            *sums.entry((&*e.locality, e.priority)).or_default() += u64::from(e.weight);
        }
        let kept = before.into_iter().flat_map(|b| &b.endpoints);
        let kept: std::collections::HashMap<SocketAddr, &Arc<Endpoint>> = kept.map(|e| (e.spec.address, e)).collect();
        let mut endpoints = Vec::with_capacity(set.endpoints.len());
        for e in &set.endpoints {
            let weight = if spec.locality_weighted && e.locality_weight > 0 {
                // A locality's weight is shared by its endpoints.
                let all = sums.get(&(&*e.locality, e.priority)).copied().unwrap_or(1).max(1);
                u64::from(e.locality_weight) * 1000 * u64::from(e.weight) / all
            } else {
                u64::from(e.weight)
            };
            // Another identity at the same address is another endpoint.
            let old = kept.get(&e.address).filter(|old| old.spec.identity == e.identity).map(|old| &old.state);
            let state = match (old, e.health) {
                (Some(state), Health::Lost) => {
                    state.lost.cancel();
                    state.clone()
                }
                (Some(state), _) if !state.lost.is_cancelled() => state.clone(),
                _ => Arc::<EndpointState>::default(),
            };
            let transport = spec.transport_of(e);
            let weight = u32::try_from(weight).unwrap_or(u32::MAX).max(1);
            endpoints.push(Arc::new(Endpoint { spec: e.clone(), weight, transport, state }));
        }
        let tiers = tiers(&endpoints);
        let state = before.map(|b| b.state.clone()).unwrap_or_default();
        Self { spec, tiers, endpoints, state }
    }

    /// How connections to an endpoint are secured.
    pub fn transport(&self, endpoint: &Endpoint) -> &Transport {
        &self.spec.transports[endpoint.transport.min(self.spec.transports.len() - 1)].1
    }
}

/// Healthy ones by priority, then degraded ones by priority.
fn tiers(endpoints: &[Arc<Endpoint>]) -> Vec<Tier> {
    let mut sorted = std::collections::BTreeMap::<(bool, u32), Tier>::new();
    for endpoint in endpoints {
        let degraded = match endpoint.spec.health {
            Health::Healthy => false,
            Health::Degraded => true,
            Health::Draining | Health::Lost => continue,
        };
        sorted.entry((degraded, endpoint.spec.priority)).or_default().endpoints.push(endpoint.clone());
    }
    for tier in sorted.values_mut() {
        let first = tier.endpoints[0].weight;
        if tier.endpoints.iter().any(|e| e.weight != first) {
            let mut sum = 0;
            tier.sums = tier
                .endpoints
                .iter()
                .map(|e| {
                    sum += u64::from(e.weight);
                    sum
                })
                .collect();
        }
    }
    sorted.into_values().collect()
}

fn match_pairs(m: Option<&prost_types::Struct>) -> Result<Vec<(String, String)>, Refused> {
    let mut pairs = Vec::new();
    for (key, value) in m.iter().flat_map(|m| &m.fields) {
        let Some(Kind::StringValue(text)) = &value.kind else { refuse!("{key:?} is no text") };
        pairs.push((key.clone(), text.clone()));
    }
    Ok(pairs)
}

fn transport(socket: Option<&core::TransportSocket>) -> Result<Transport, Refused> {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = socket.and_then(|s| s.config_type.as_ref()) else {
        return Ok(Transport::Raw);
    };
    if any.type_url.ends_with(RAW_BUFFER) {
        return Ok(Transport::Raw);
    }
    let Some(context) = unpack::<tls::UpstreamTlsContext>(any)? else { refuse!("{:?} is not supported", any.type_url) };
    let Some(common) = &context.common_tls_context else { refuse!("common_tls_context is missing") };
    let certificate = match common.tls_certificate_sds_secret_configs.as_slice() {
        [] => None,
        [one] => Some(one.name.as_str().into()),
        _ => refuse!("tls_certificate_sds_secret_configs: one at most"),
    };
    let (Some(roots), names) = validation(common)? else {
        refuse!("validation_context_type: without roots nobody's certificate could be checked");
    };
    let fingerprint = {
        use std::hash::{Hash as _, Hasher as _};
        let mut hasher = std::hash::DefaultHasher::new();
        any.value.hash(&mut hasher);
        hasher.finish() | 1
    };
    let alpn = common.alpn_protocols.clone();
    Ok(Transport::Tls(Arc::new(UpstreamTls { sni: context.sni.clone(), alpn, names, certificate, roots, fingerprint })))
}

struct Options {
    protocol: HttpProtocol,
    idle_timeout: Duration,
    requests_per_connection: u32,
}

fn http_options(cluster: &proto::Cluster) -> Result<Options, Refused> {
    use http_protocol_options::UpstreamProtocolOptions as Upstream;
    use http_protocol_options::explicit_http_config::ProtocolConfig;
    let default = Duration::from_secs(60);
    // As in Envoy: a server is only known to speak HTTP/2 if somebody says so.
    let mut options = Options { protocol: HttpProtocol::Http1, idle_timeout: default, requests_per_connection: 0 };
    for any in cluster.typed_extension_protocol_options.values() {
        let Some(message) = unpack::<HttpProtocolOptions>(any)? else {
            refuse!("typed_extension_protocol_options: {:?} is not supported", any.type_url);
        };
        options.protocol = match &message.upstream_protocol_options {
            Some(Upstream::ExplicitHttpConfig(c)) => match c.protocol_config {
                Some(ProtocolConfig::Http2ProtocolOptions(_)) => HttpProtocol::Http2,
                _ => HttpProtocol::Http1,
            },
            Some(Upstream::UseDownstreamProtocolConfig(_)) | None => HttpProtocol::AsReceived,
        };
        if let Some(common) = &message.common_http_protocol_options {
            options.idle_timeout = duration("idle_timeout", common.idle_timeout.as_ref())?
                .unwrap_or(default)
                .clamp(Duration::from_secs(1), Duration::from_secs(3600));
            options.requests_per_connection = common.max_requests_per_connection.unwrap_or(0);
        }
    }
    Ok(options)
}

fn limits(breakers: Option<&proto::CircuitBreakers>) -> Limits {
    let found = breakers.and_then(|b| b.thresholds.iter().find(|t| t.priority == 0));
    let of = |value: Option<u32>| value.unwrap_or(u32::MAX);
    Limits {
        connections: of(found.and_then(|t| t.max_connections)),
        requests: of(found.and_then(|t| t.max_requests)),
        retries: found.and_then(|t| t.max_retries).unwrap_or(u32::MAX),
        pending: of(found.and_then(|t| t.max_pending_requests)),
    }
}

fn outlier(o: &proto::OutlierDetection) -> Result<Outlier, Refused> {
    let enforced = |count: Option<u32>, default, enforcing: Option<u32>, by_default: u32| {
        if enforcing.unwrap_or(by_default) == 0 { 0 } else { count.unwrap_or(default) }
    };
    Ok(Outlier {
        consecutive_5xx: enforced(o.consecutive_5xx, 5, o.enforcing_consecutive_5xx, 100),
        consecutive_gateway: enforced(o.consecutive_gateway_failure, 5, o.enforcing_consecutive_gateway_failure, 0),
        base: duration("base_ejection_time", o.base_ejection_time.as_ref())?.unwrap_or(Duration::from_secs(30)),
        most_percent: o.max_ejection_percent.unwrap_or(10).min(100),
    })
}

/// `filter_metadata["istio"].services[0]`.
fn service(cluster: &proto::Cluster) -> Service {
    let Some(Kind::ListValue(list)) = metadata_value(cluster.metadata.as_ref(), metadata::ISTIO, "services") else {
        return Service::default();
    };
    let Some(Kind::StructValue(first)) = list.values.first().and_then(|v| v.kind.as_ref()) else {
        return Service::default();
    };
    let text = |key: &str| match first.fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.as_str().into(),
        _ => "".into(),
    };
    Service { host: text("host"), name: text("name"), namespace: text("namespace") }
}
