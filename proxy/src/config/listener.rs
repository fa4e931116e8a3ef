//! Listeners: filter chains, what detection they need, and the TLS that they end.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hawser_api::names::{self, metadata};
use hawser_api::proto::{core, listener as proto, tcp_proxy, tls};

use prost::Message as _;

use super::StringMatch;
use super::access_log::access_logs;
use super::chain::{Chain, ChainMatch, Filter, Replaced};
use super::endpoint::Workload;
use super::guard::{self, TcpGuard};
use super::http::HttpSpec;
use super::proto::{At as _, Refused, duration, metadata_text, metadata_value, refuse, timeout, unpack};
use crate::access_log::AccessLog;

/// How long the first bytes of a connection are waited for where they decide, unless the listener says.
const DETECT: Duration = Duration::from_secs(1);
const LONGEST_DETECT: Duration = Duration::from_secs(15);
const TCP_IDLE: Duration = Duration::from_secs(3600);

/// A listener.
#[derive(Debug)]
pub struct Listener {
    /// Its resource's name.
    pub name: String,
    /// Chains.
    pub chains: Vec<Arc<Chain>>,
    /// The chain for what no other takes.
    pub default: Option<Arc<Chain>>,
    /// How long first bytes are waited for; then a connection counts as plaintext of an unknown protocol.
    pub detect: Duration,
    /// The instance id of the own host, if the listener says it.
    pub instance: Option<String>,
    /// The own workload, if the listener says it.
    pub workload: Arc<Workload>,
    /// Access logs of connections that no chain takes.
    pub access_log: Vec<Arc<AccessLog>>,
    /// What it says of its port holds at any address of which nothing else can be found out.
    pub anywhere: bool,
    /// It is for what comes in.
    pub inbound: bool,
    /// Names of listeners that we are to bind, if the listener says so.
    pub bound: Vec<Arc<str>>,
    /// Last use in milliseconds of [`crate::clock`]; kept over versions.
    pub used: Arc<AtomicU64>,
}

/// A connection whose bytes are carried.
#[derive(Debug)]
pub struct TcpSpec {
    /// Clusters by weight.
    pub clusters: Vec<(Arc<str>, u32)>,
    /// What refuses its connections, in the order in which it acts.
    pub guards: Vec<TcpGuard>,
    /// Closed after so long without a byte.
    pub idle: Duration,
    /// Closed after so long.
    pub longest: Option<Duration>,
    /// The caller's address leads to the endpoint, where a hash does.
    pub by_source: bool,
    /// How often connecting is tried, each time to another endpoint.
    pub attempts: u32,
    /// Endpoints are proxies that are to lead on.
    pub onward: Option<Onward>,
    /// Access logs of its connections.
    pub access_log: Vec<Arc<AccessLog>>,
}

/// Where proxies are to lead connections.
#[derive(Debug)]
pub struct Onward {
    /// Host and port.
    pub to: String,
    /// By POST, not by CONNECT.
    pub post: bool,
}

/// TLS that we end.
#[derive(Debug)]
pub struct DownstreamTls {
    /// Secret with our certificate.
    pub certificate: Arc<str>,
    /// Secret with the roots of clients.
    pub roots: Option<Arc<str>>,
    /// What a client's URI must match; one of them, if there are any.
    pub names: Vec<StringMatch>,
    /// Whether a client must have a certificate.
    pub require_client: bool,
    /// Protocols we would choose of a client that offers no mesh protocol.
    pub alpn: Vec<String>,
}

impl Listener {
    /// Checks a listener. Chains that `before` has too are taken over, with all that hangs on them; those that are gone
    /// are told so.
    pub(super) fn new(listener: &proto::Listener, before: Option<&Self>) -> Result<Self, Refused> {
        if listener.api_listener.is_some() {
            refuse!("api_listener is for gRPC clients, not for a proxy");
        }
        let mut chains = Vec::with_capacity(listener.filter_chains.len());
        for (i, chain) in listener.filter_chains.iter().enumerate() {
            chains.push(self::chain(chain, before).at(format_args!("filter_chains[{i}]"))?);
        }
        let default = match &listener.default_filter_chain {
            Some(chain) => Some(self::chain(chain, before).at("default_filter_chain")?),
            None => None,
        };
        if chains.is_empty() && default.is_none() {
            refuse!("a listener without filter chains serves nothing");
        }
        // Detection is built in: listener filters are read as what they are, and only known ones are taken.
        for filter in &listener.listener_filters {
            let Some(proto::listener_filter::ConfigType::TypedConfig(config)) = &filter.config_type else { continue };
            let known =
                ["original_dst.v3.OriginalDst", "tls_inspector.v3.TlsInspector", "http_inspector.v3.HttpInspector"];
            if !known.iter().any(|k| config.type_url.ends_with(k)) {
                refuse!("listener_filters: {:?} is not supported", config.type_url);
            }
        }
        let detect = duration("listener_filters_timeout", listener.listener_filters_timeout.as_ref())?;
        let workload = metadata_text(listener.metadata.as_ref(), metadata::ISTIO, "workload").unwrap_or_default();
        let new = Self {
            name: listener.name.clone(),
            chains,
            default,
            detect: match detect {
                None => DETECT,
                // As long as it takes, which is not for ever.
                Some(Duration::ZERO) => LONGEST_DETECT,
                Some(said) => said.min(LONGEST_DETECT),
            },
            instance: metadata_text(listener.metadata.as_ref(), metadata::HAWSER, "host").map(str::to_owned),
            workload: Arc::new(Workload::parse(workload)),
            access_log: access_logs(&listener.access_log)?,
            anywhere: matches!(
                metadata_value(listener.metadata.as_ref(), metadata::HAWSER, metadata::ANYWHERE),
                Some(prost_types::value::Kind::BoolValue(true))
            ),
            inbound: listener.traffic_direction == core::TrafficDirection::Inbound as i32,
            bound: bound(listener.metadata.as_ref())?,
            used: before.map_or_else(|| Arc::new(AtomicU64::new(crate::clock::now_ms())), |b| b.used.clone()),
        };
        let kept = |old: &Arc<Chain>| new.all().any(|c| Arc::ptr_eq(c, old));
        before.iter().flat_map(|b| b.all()).filter(|old| !kept(old)).for_each(|old| old.replaced.cancel());
        Ok(new)
    }

    /// All chains, the default one last.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.chains.iter().chain(self.default.as_ref())
    }
}

/// Listeners to bind that a listener's metadata names.
fn bound(said: Option<&core::Metadata>) -> Result<Vec<Arc<str>>, Refused> {
    use prost_types::value::Kind;
    let Some(Kind::ListValue(all)) = metadata_value(said, metadata::HAWSER, metadata::BOUND) else {
        return Ok(Vec::new());
    };
    if all.values.len() > names::MOST_BOUND {
        refuse!("metadata: {} listeners are to be bound, {} are the most", all.values.len(), names::MOST_BOUND);
    }
    let mut names = Vec::new();
    for value in &all.values {
        match &value.kind {
            Some(Kind::StringValue(name)) if names::bound_at(name).is_some() => names.push(name.as_str().into()),
            other => refuse!("metadata: {other:?} is no listener to bind"),
        }
    }
    Ok(names)
}

impl TcpSpec {
    /// To one cluster.
    pub fn to(cluster: &str) -> Self {
        Self {
            clusters: vec![(cluster.into(), 1)],
            guards: Vec::new(),
            idle: TCP_IDLE,
            longest: None,
            by_source: false,
            attempts: 1,
            onward: None,
            access_log: Vec::new(),
        }
    }
}

fn chain(chain: &proto::FilterChain, before: Option<&Listener>) -> Result<Arc<Chain>, Refused> {
    let mut hasher = std::hash::DefaultHasher::new();
    chain.encode_to_vec().hash(&mut hasher);
    let fingerprint = hasher.finish();
    if let Some(same) = before.iter().flat_map(|b| b.all()).find(|c| c.fingerprint == fingerprint) {
        return Ok(same.clone());
    }
    let matches = match &chain.filter_chain_match {
        Some(m) => ChainMatch::new(m).at("filter_chain_match")?,
        None => ChainMatch::default(),
    };
    let tls = match chain.transport_socket.as_ref().and_then(|s| s.config_type.as_ref()) {
        None => None,
        Some(core::transport_socket::ConfigType::TypedConfig(any)) => match unpack::<tls::DownstreamTlsContext>(any)? {
            Some(context) => Some(Arc::new(downstream_tls(&context).at("transport_socket")?)),
            None if any.type_url.ends_with(super::proto::RAW_BUFFER) => None,
            None => refuse!("transport_socket: {:?} is not supported", any.type_url),
        },
    };
    let Some((last, before)) = chain.filters.split_last() else { refuse!("filters: there is none") };
    let mut guards = Vec::new();
    for (i, filter) in before.iter().enumerate() {
        let at = format_args!("filters[{i}] {:?}", filter.name).to_string();
        match guard::of_tcp(filter).at(&at)? {
            Some(guard) => guards.push(guard),
            None => refuse!("{at}: it is not supported before another one"),
        }
    }
    let at = format_args!("filters[{}] {:?}", before.len(), last.name).to_string();
    let filter = self::filter(last, guards).at(&at)?;
    let replaced = Replaced::default();
    Ok(Arc::new(Chain { name: chain.name.clone(), matches, tls, filter, fingerprint, replaced }))
}

fn filter(filter: &proto::Filter, guards: Vec<TcpGuard>) -> Result<Filter, Refused> {
    use hawser_api::proto::http_connection_manager::HttpConnectionManager;
    let Some(proto::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        refuse!("typed_config is missing");
    };
    if let Some(hcm) = unpack::<HttpConnectionManager>(any)? {
        if !guards.is_empty() {
            refuse!("requests are refused by filters of HTTP, not of connections");
        }
        return Ok(Filter::Http(Arc::new(HttpSpec::new(&hcm)?)));
    }
    match unpack::<tcp_proxy::TcpProxy>(any)? {
        Some(tcp) => Ok(Filter::Tcp(Arc::new(TcpSpec { guards, ..tcp_spec(&tcp)? }))),
        None => refuse!("{:?} is not supported", any.type_url),
    }
}

fn tcp_spec(tcp: &tcp_proxy::TcpProxy) -> Result<TcpSpec, Refused> {
    use tcp_proxy::tcp_proxy::ClusterSpecifier;
    let clusters: Vec<(Arc<str>, u32)> = match &tcp.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![(name.as_str().into(), 1)],
        Some(ClusterSpecifier::WeightedClusters(all)) => {
            all.clusters.iter().filter(|c| c.weight > 0).map(|c| (c.name.as_str().into(), c.weight)).collect()
        }
        None => refuse!("cluster is missing"),
    };
    if clusters.is_empty() || clusters.iter().any(|(name, _)| name.is_empty()) {
        refuse!("cluster is empty");
    }
    let idle = match &tcp.idle_timeout {
        Some(_) => timeout("idle_timeout", tcp.idle_timeout.as_ref())?.unwrap_or(Duration::from_secs(24 * 3600)),
        None => TCP_IDLE,
    };
    let attempts = tcp.max_connect_attempts.unwrap_or(3).clamp(1, 10);
    let longest = timeout("max_downstream_connection_duration", tcp.max_downstream_connection_duration.as_ref())?;
    let by_source = !tcp.hash_policy.is_empty();
    let access_log = access_logs(&tcp.access_log)?;
    let onward = match &tcp.tunneling_config {
        None => None,
        Some(tunnel) => {
            let good = |b: u8| b.is_ascii_graphic() && !b"/?#@%\\,".contains(&b);
            if tunnel.hostname.is_empty() || tunnel.hostname.len() > 512 || !tunnel.hostname.bytes().all(good) {
                refuse!("tunneling_config: {:?} is no host with a port", tunnel.hostname);
            }
            Some(Onward { to: tunnel.hostname.clone(), post: tunnel.use_post })
        }
    };
    Ok(TcpSpec { clusters, guards: Vec::new(), idle, longest, by_source, attempts, onward, access_log })
}

fn downstream_tls(context: &tls::DownstreamTlsContext) -> Result<DownstreamTls, Refused> {
    let Some(common) = &context.common_tls_context else { refuse!("common_tls_context is missing") };
    let [certificate] = common.tls_certificate_sds_secret_configs.as_slice() else {
        refuse!("tls_certificate_sds_secret_configs: exactly one is needed");
    };
    let (roots, names) = validation(common)?;
    let require_client = context.require_client_certificate.unwrap_or(false);
    if require_client && roots.is_none() {
        refuse!("require_client_certificate needs the roots that clients are checked against");
    }
    Ok(DownstreamTls {
        certificate: certificate.name.as_str().into(),
        roots,
        names,
        require_client,
        alpn: common.alpn_protocols.clone(),
    })
}

/// Name of the roots' secret, and what the peer's URI must match.
pub(super) fn validation(common: &tls::CommonTlsContext) -> Result<(Option<Arc<str>>, Vec<StringMatch>), Refused> {
    use tls::common_tls_context::ValidationContextType;
    let mut names = Vec::new();
    let roots = match &common.validation_context_type {
        None => None,
        Some(ValidationContextType::ValidationContextSdsSecretConfig(sds)) => Some(sds.name.as_str().into()),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            for m in combined.default_validation_context.iter().flat_map(|c| &c.match_typed_subject_alt_names) {
                if m.san_type != tls::subject_alt_name_matcher::SanType::Uri as i32 {
                    refuse!("match_typed_subject_alt_names: only URI is supported");
                }
                let Some(matcher) = &m.matcher else { refuse!("match_typed_subject_alt_names: matcher is missing") };
                names.push(StringMatch::new(matcher)?);
            }
            let Some(sds) = &combined.validation_context_sds_secret_config else {
                refuse!("validation_context_sds_secret_config is missing");
            };
            Some(sds.name.as_str().into())
        }
        Some(ValidationContextType::ValidationContext(_)) => {
            refuse!("validation_context: roots are taken from a secret, not from the configuration")
        }
    };
    Ok((roots, names))
}
