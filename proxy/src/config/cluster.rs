//! Clusters: how their endpoints are balanced, reached and limited.
//!
//! In: `Cluster` and its endpoints. Out: [`Cluster`], with endpoints sorted into tiers that balancing walks in order.

mod balance;
mod limits;
mod options;

pub use balance::{Balance, WarmUp};
pub use limits::{Limits, Outlier};
pub use options::{Keepalive, Options};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use hawser_api::names::{clusters, metadata};
use hawser_api::proto::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use hawser_api::proto::{cluster as proto, core, tls};
use prost_types::value::Kind;

use super::endpoint::{Endpoint, EndpointSet, EndpointSpec, EndpointState, Health};
use super::listener::validation;
use super::proto::{At as _, RAW_BUFFER, Refused, metadata_value, refuse, timeout, unpack};
use super::{Foreign, StringMatch};
use crate::balance::Hashed;
use crate::dns::Wish;
use crate::tcp::Habit;

/// Between two look-ups of a name, where nothing is said of it.
const REFRESH: Duration = Duration::from_secs(5);

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
    /// Which endpoint a hash leads to, where that decides.
    pub hashed: Option<Hashed>,
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
    /// Whose turn it is.
    pub turn: AtomicU32,
    /// Until when some endpoint may be ejected, in milliseconds of [`crate::clock`].
    pub ejected_until: AtomicU64,
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
    /// The header that connections begin with.
    pub header: Option<ProxyHeader>,
    /// How new endpoints come to their share.
    pub warm_up: Option<WarmUp>,
    /// Below this share of endpoints that are not ejected, in percent, all are used.
    pub least_healthy: f64,
    /// How connections are spoken on and how long they last.
    pub options: Options,
    /// The service it belongs to.
    pub service: Service,
    /// Source address of connections, where the configuration names one.
    pub source: Option<std::net::IpAddr>,
    /// The port of what goes on to where it was going, if it is another one.
    pub port: Option<u16>,
}

/// Where the endpoints are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Endpoint discovery, under this name.
    Eds(Arc<str>),
    /// They come with the cluster.
    Static,
    /// They come with the cluster, and are names.
    Names {
        /// How they are looked up.
        wish: Wish,
        /// The first address of an answer stands for all.
        one: bool,
    },
    /// Where the connection was going.
    Original,
}

/// How a connection is secured.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Not.
    Raw,
    /// By TLS.
    Tls(Arc<UpstreamTls>),
}

/// A header before all else that says whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
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
    /// Secret with the roots of servers; empty of servers outside of the mesh.
    pub roots: Arc<str>,
    /// What holds for servers outside of the mesh.
    pub foreign: Option<Arc<Foreign>>,
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
        use proto::cluster::{ClusterDiscoveryType, DiscoveryType};
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
            Ok(kind @ (DiscoveryType::StrictDns | DiscoveryType::LogicalDns)) => {
                let assignment = cluster.load_assignment.clone().unwrap_or_default();
                endpoints = Some(EndpointSet::of_names(&assignment).at("load_assignment")?);
                let refresh = timeout("dns_refresh_rate", cluster.dns_refresh_rate.as_ref())?;
                let wish = Wish { refresh: refresh.unwrap_or(REFRESH), by_answer: cluster.respect_dns_ttl };
                Discovery::Names { wish, one: kind == DiscoveryType::LogicalDns }
            }
            Err(_) => refuse!("type {kind} is unknown"),
        };
        let (balance, warm_up) = balance::balance(cluster)?;
        let mut transports = Vec::new();
        let mut headers = Vec::new();
        for (i, m) in cluster.transport_socket_matches.iter().enumerate() {
            let pairs = match_pairs(m.r#match.as_ref()).at(format_args!("transport_socket_matches[{i}].match"))?;
            let (transport, header) = announced(m.transport_socket.as_ref())
                .at(format_args!("transport_socket_matches[{i}].transport_socket"))?;
            transports.push((pairs, transport));
            headers.push(header);
        }
        let (last, header) = announced(cluster.transport_socket.as_ref()).at("transport_socket")?;
        transports.push((Vec::new(), last));
        if headers.is_empty() || cluster.transport_socket.is_some() {
            headers.push(header);
        }
        if headers.iter().any(|other| *other != headers[0]) {
            refuse!("transport_socket_matches: either all connections begin with the same PROXY header or none does");
        }
        let (options, errors) = options::options(cluster)?;
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
            limits: limits::limits(cluster.circuit_breakers.as_ref()),
            outlier: cluster
                .outlier_detection
                .as_ref()
                .map(|o| limits::outlier(o, errors.as_ref()))
                .transpose()
                .at("outlier_detection")?,
            transports,
            header: headers[0],
            warm_up,
            least_healthy: cluster
                .common_lb_config
                .as_ref()
                .and_then(|c| c.healthy_panic_threshold.as_ref())
                .map_or(0.0, |p| p.value),
            options,
            service: service(cluster),
            source,
            port: port(cluster)?,
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
            limits: limits::limits(None),
            outlier: None,
            transports: vec![(Vec::new(), Transport::Raw)],
            header: None,
            warm_up: None,
            least_healthy: 0.0,
            options: Options::of(HttpProtocol::AsReceived),
            service: Service::default(),
            source: None,
            port: None,
        })
    }

    /// Where a connection goes on to that was going there.
    pub fn original_address(&self, mut to: SocketAddr) -> SocketAddr {
        to.set_port(self.port.unwrap_or(to.port()));
        to
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
            let same = |old: &&&Arc<Endpoint>| old.spec.identity == e.identity && old.spec.socket == e.socket;
            let old = kept.get(&e.address).filter(same).map(|old| &old.state);
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
        let tiers = tiers(&endpoints, spec.balance);
        let state = before.map(|b| b.state.clone()).unwrap_or_default();
        Self { spec, tiers, endpoints, state }
    }

    /// How connections to an endpoint are secured.
    pub fn transport(&self, endpoint: &Endpoint) -> &Transport {
        &self.spec.transports[endpoint.transport.min(self.spec.transports.len() - 1)].1
    }
}

/// Healthy ones by priority, then degraded ones by priority.
fn tiers(endpoints: &[Arc<Endpoint>], balance: Balance) -> Vec<Tier> {
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
        if let Balance::Hashed(table) = balance {
            let all: Vec<_> = tier.endpoints.iter().map(|e| (e.spec.address, e.weight)).collect();
            tier.hashed = Hashed::new(table, &all);
        }
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

/// How a connection is secured behind the header that it begins with.
fn announced(socket: Option<&core::TransportSocket>) -> Result<(Transport, Option<ProxyHeader>), Refused> {
    if let Some(core::transport_socket::ConfigType::TypedConfig(any)) = socket.and_then(|s| s.config_type.as_ref())
        && let Some(proxied) = unpack::<ProxyProtocolUpstreamTransport>(any)?
    {
        let version = proxied.config.map_or(0, |config| config.version);
        let header = match core::proxy_protocol_config::Version::try_from(version) {
            Ok(core::proxy_protocol_config::Version::V1) => ProxyHeader::V1,
            Ok(core::proxy_protocol_config::Version::V2) => ProxyHeader::V2,
            Err(_) => refuse!("config: version {version} is unknown"),
        };
        return Ok((transport(proxied.transport_socket.as_ref()).at("transport_socket")?, Some(header)));
    }
    Ok((transport(socket)?, None))
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
    if let Some(tls::common_tls_context::ValidationContextType::ValidationContext(checks)) =
        &common.validation_context_type
        && certificate.is_none()
    {
        let foreign = Some(Arc::new(Foreign::new(common, checks)?));
        let (sni, alpn) = (context.sni.clone(), common.alpn_protocols.clone());
        let (roots, names) = ("".into(), Vec::new());
        return Ok(Transport::Tls(Arc::new(UpstreamTls {
            sni,
            alpn,
            names,
            certificate,
            roots,
            foreign,
            fingerprint: fingerprint(&any.value),
        })));
    }
    let (Some(roots), names) = validation(common)? else {
        refuse!("validation_context_type: without roots nobody's certificate could be checked");
    };
    let alpn = common.alpn_protocols.clone();
    let (sni, foreign, fingerprint) = (context.sni.clone(), None, fingerprint(&any.value));
    Ok(Transport::Tls(Arc::new(UpstreamTls { sni, alpn, names, certificate, roots, foreign, fingerprint })))
}

/// Tells contexts apart; 0 is none.
fn fingerprint(context: &[u8]) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    context.hash(&mut hasher);
    hasher.finish() | 1
}

fn port(cluster: &proto::Cluster) -> Result<Option<u16>, Refused> {
    let Some(proto::cluster::LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config else { return Ok(None) };
    match config.upstream_port_override {
        None | Some(0) => Ok(None),
        Some(port) => match u16::try_from(port) {
            Ok(port) => Ok(Some(port)),
            Err(_) => refuse!("original_dst_lb_config: {port} is no port"),
        },
    }
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
