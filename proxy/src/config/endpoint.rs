//! Endpoints of a cluster: address, health, who answers there, and what is counted of it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hawser_api::names::metadata;
use hawser_api::proto::core::HealthStatus;
use hawser_api::proto::core::address::Address;
use hawser_api::proto::endpoint as proto;
use tokio_util::sync::CancellationToken;

use super::proto::{At as _, Refused, host_and_port, metadata_text, metadata_value, refuse, socket_address};

/// The longest path that the kernel takes.
const LONGEST_PATH: usize = 107;

/// All endpoints of a cluster.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In the order of the resource.
    pub endpoints: Vec<EndpointSpec>,
    /// Those that are known by name only; of their addresses the port counts.
    pub named: Vec<(Arc<str>, EndpointSpec)>,
}

/// An endpoint as discovery says it.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Where it listens.
    pub address: SocketAddr,
    /// The Unix socket that it is, in place of an address; `@` begins an abstract name.
    pub socket: Option<Arc<str>>,
    /// Its health.
    pub health: Health,
    /// Its share among the endpoints of its locality.
    pub weight: u32,
    /// The share of its locality.
    pub locality_weight: u32,
    /// Region and zone, for telling localities apart.
    pub locality: Arc<str>,
    /// 0 is used first.
    pub priority: u32,
    /// The identity that must answer.
    pub identity: Option<Arc<str>>,
    /// Whether a hawser-proxy answers, which takes HTTP as HTTP/2.
    pub hawser: bool,
    /// Whether it is reached through HBONE.
    pub hbone: bool,
    /// Instance id of its host.
    pub host: Option<Arc<str>>,
    /// What its metadata offers to `transport_socket_matches`.
    pub transport: Vec<(String, String)>,
    /// Who it is, for metrics.
    pub workload: Arc<Workload>,
}

/// Health as the control plane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Used.
    Healthy,
    /// Used when no healthy one is left.
    Degraded,
    /// Gets nothing new, keeps what it has.
    Draining,
    /// Gets nothing, and loses what it has.
    Lost,
}

/// Names of a workload, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Canonical service.
    pub service: String,
    /// Its revision.
    pub revision: String,
    /// Cluster.
    pub cluster: String,
}

/// An endpoint in use.
#[derive(Debug)]
pub struct Endpoint {
    /// What discovery says.
    pub spec: EndpointSpec,
    /// Weight among all endpoints of its tier.
    pub weight: u32,
    /// Which of the cluster's transports it takes.
    pub transport: usize,
    /// What is counted; shared by workers, kept over configurations.
    pub state: Arc<EndpointState>,
}

/// What is counted of an endpoint.
#[derive(Debug)]
pub struct EndpointState {
    /// Of this process, never used twice.
    pub id: u64,
    /// Requests and connections in flight.
    pub active: AtomicU32,
    /// Since when it is known, in milliseconds of [`crate::clock`].
    pub since: u64,
    /// Errors in a row.
    pub failures: AtomicU32,
    /// Errors of gateways in a row.
    pub gateway: AtomicU32,
    /// Failed connections in a row, where they are counted apart.
    pub local: AtomicU32,
    /// How often it was ejected lately.
    pub ejections: AtomicU32,
    /// Ejected until then, in milliseconds of [`crate::clock`].
    pub ejected_until: AtomicU64,
    /// Fires when the endpoint is lost: whoever holds a connection to it drops it.
    pub lost: CancellationToken,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Default for EndpointState {
    fn default() -> Self {
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            active: AtomicU32::new(0),
            since: crate::clock::now_ms(),
            failures: AtomicU32::new(0),
            gateway: AtomicU32::new(0),
            local: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            lost: CancellationToken::new(),
        }
    }
}

impl EndpointSet {
    pub(super) fn new(assignment: &proto::ClusterLoadAssignment) -> Result<Self, Refused> {
        Self::read(assignment, false)
    }

    /// The same of endpoints that may be names.
    pub(super) fn of_names(assignment: &proto::ClusterLoadAssignment) -> Result<Self, Refused> {
        Self::read(assignment, true)
    }

    fn read(assignment: &proto::ClusterLoadAssignment, names: bool) -> Result<Self, Refused> {
        let mut set = Self::default();
        for (i, group) in assignment.endpoints.iter().enumerate() {
            let locality = group.locality.clone().unwrap_or_default();
            let locality: Arc<str> = format!("{}/{}/{}", locality.region, locality.zone, locality.sub_zone).into();
            for (j, endpoint) in group.lb_endpoints.iter().enumerate() {
                let at = format_args!("endpoints[{i}].lb_endpoints[{j}]").to_string();
                let (name, spec) = spec(endpoint, group, &locality, names).at(at)?;
                match name {
                    Some(name) => set.named.push((name, spec)),
                    None => set.endpoints.push(spec),
                }
            }
        }
        Ok(set)
    }

    /// The same with names replaced by what they stand for; one address alone, where only one counts. No address stands
    /// twice for names.
    pub(super) fn resolved<'a>(&self, addresses: impl Fn(&str) -> &'a [IpAddr], one: bool) -> Self {
        let mut endpoints = self.endpoints.clone();
        let mut known: HashSet<SocketAddr> = endpoints.iter().map(|e| e.address).collect();
        for (name, spec) in &self.named {
            let all = addresses(name);
            for ip in if one { &all[..all.len().min(1)] } else { all } {
                let address = SocketAddr::new(*ip, spec.address.port());
                if known.insert(address) {
                    endpoints.push(EndpointSpec { address, ..spec.clone() });
                }
            }
        }
        Self { endpoints, named: Vec::new() }
    }
}

/// An endpoint; with its name, if that is all that is known of where it listens.
fn spec(
    endpoint: &proto::LbEndpoint,
    group: &proto::LocalityLbEndpoints,
    locality: &Arc<str>,
    names: bool,
) -> Result<(Option<Arc<str>>, EndpointSpec), Refused> {
    let Some(proto::lb_endpoint::HostIdentifier::Endpoint(at)) = &endpoint.host_identifier else {
        refuse!("endpoint is missing");
    };
    let socket: Option<Arc<str>> = match at.address.as_ref().and_then(|at| at.address.as_ref()) {
        Some(Address::Pipe(pipe)) if pipe.path.len() > 1 && pipe.path.len() <= LONGEST_PATH => {
            Some(pipe.path.as_str().into())
        }
        Some(Address::Pipe(pipe)) => refuse!("address: {:?} is no path of a socket", pipe.path),
        _ => None,
    };
    let (name, address) = match host_and_port(at.address.as_ref()).filter(|_| names) {
        Some((name, port)) => (Some(name.into()), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        None if socket.is_some() => (None, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)),
        None => (None, socket_address("address", at.address.as_ref())?),
    };
    let health = match HealthStatus::try_from(endpoint.health_status) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy) => Health::Healthy,
        Ok(HealthStatus::Degraded) => Health::Degraded,
        Ok(HealthStatus::Draining) => Health::Draining,
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => Health::Lost,
        Err(_) => refuse!("health_status {} is unknown", endpoint.health_status),
    };
    let meta = endpoint.metadata.as_ref();
    let text = |key| metadata_text(meta, metadata::HAWSER, key).map(Arc::from);
    let hawser = match metadata_value(meta, metadata::HAWSER, "h2") {
        Some(prost_types::value::Kind::BoolValue(yes)) => *yes,
        Some(prost_types::value::Kind::StringValue(text)) => text == "true",
        _ => false,
    };
    let mut transport = Vec::new();
    let filter = meta.and_then(|m| m.filter_metadata.get(metadata::TRANSPORT_SOCKET_MATCH));
    for (key, value) in filter.iter().flat_map(|s| &s.fields) {
        if let Some(prost_types::value::Kind::StringValue(text)) = &value.kind {
            transport.push((key.clone(), text.clone()));
        }
    }
    let spec = EndpointSpec {
        address,
        socket,
        health,
        weight: endpoint.load_balancing_weight.unwrap_or(1).max(1),
        locality_weight: group.load_balancing_weight.unwrap_or(0),
        locality: locality.clone(),
        priority: group.priority,
        identity: text("identity"),
        hawser,
        hbone: metadata_text(meta, metadata::HAWSER, metadata::TUNNEL) == Some(metadata::TUNNEL_HBONE),
        host: text("host"),
        transport,
        workload: Arc::new(Workload::parse(metadata_text(meta, metadata::ISTIO, "workload").unwrap_or_default())),
    };
    Ok((name, spec))
}

impl Workload {
    /// Reads `name;namespace;canonical name;revision;cluster`; what is missing is empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(|part| part.chars().take(253).collect::<String>());
        let mut next = || parts.next().unwrap_or_default();
        Self { name: next(), namespace: next(), service: next(), revision: next(), cluster: next() }
    }
}
