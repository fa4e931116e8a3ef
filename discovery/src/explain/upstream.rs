//! Where a cluster leads: its endpoints, and how each is spoken to.

use std::sync::Arc;

use hawser_api::names::{OutboundCluster, metadata};
use hawser_api::proto::cluster::Cluster;
use hawser_api::proto::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use hawser_api::proto::core::address::Address;
use hawser_api::proto::core::socket_address::PortSpecifier;
use hawser_api::proto::core::{self, HealthStatus};
use hawser_api::proto::endpoint::{ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier};
use hawser_api::proto::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use hawser_api::proto::tls::UpstreamTlsContext;
use hawser_xds::TypeUrl;
use prost::{Message, Name};
use prost_types::value::Kind;

use super::resource::get;
use crate::compiler::Sight;
use crate::registry::ServiceState;
use crate::registry::model::Member;

/// One endpoint, as the caller has it.
pub(super) struct Target {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) health: &'static str,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) locality: String,
    /// Whether the caller speaks mTLS there.
    pub(super) mtls: bool,
    /// The identity that it must have, where the caller checks each one's own.
    pub(super) identity: String,
    /// Whose it is.
    pub(super) member: Option<Arc<Member>>,
}

impl Target {
    /// `address:port`.
    pub(super) fn place(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }

    /// Whether calls go there while it is so.
    pub(super) fn takes_calls(&self) -> bool {
        matches!(self.health, "healthy" | "degraded")
    }
}

/// The endpoints of a cluster, in the order in which they are sent.
pub(super) fn targets(sight: &Sight<'_>, cluster: &Cluster, state: Option<&ServiceState>) -> Vec<Target> {
    let sent = get::<ClusterLoadAssignment>(sight, &TypeUrl::ENDPOINTS, &cluster.name);
    let Some(all) = sent.or_else(|| cluster.load_assignment.clone()) else { return Vec::new() };
    let mut targets = Vec::new();
    for group in &all.endpoints {
        for endpoint in &group.lb_endpoints {
            let Some((address, port)) = place(endpoint) else { continue };
            targets.push(Target {
                health: health(endpoint.health_status),
                weight: endpoint.load_balancing_weight.unwrap_or(1),
                priority: group.priority,
                locality: group.locality.as_ref().map(locality).unwrap_or_default(),
                mtls: speaks_mtls(cluster, endpoint.metadata.as_ref()),
                identity: text(endpoint.metadata.as_ref(), metadata::HAWSER, "identity").unwrap_or_default().to_owned(),
                member: state.and_then(|state| whose(state, cluster, &address, port)),
                address,
                port,
            });
        }
    }
    targets
}

/// How endpoints are found and chosen.
pub(super) fn describe(cluster: &Cluster) -> String {
    let found = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(ty)) => match DiscoveryType::try_from(*ty) {
            Ok(DiscoveryType::Eds) => "EDS",
            Ok(DiscoveryType::Static) => "static",
            Ok(DiscoveryType::OriginalDst) => "where the connection was going",
            Ok(DiscoveryType::StrictDns | DiscoveryType::LogicalDns) => "DNS",
            Err(_) => "unknown",
        },
        _ => "static",
    };
    let balance = LbPolicy::try_from(cluster.lb_policy).map_or("", |policy| policy.as_str_name());
    if balance == LbPolicy::ClusterProvided.as_str_name() {
        return found.to_owned();
    }
    format!("{found}, {}", balance.to_ascii_lowercase().replace('_', " "))
}

/// How a cluster is spoken to, whichever endpoint it is.
pub(super) fn tls(cluster: &Cluster) -> String {
    let first = cluster.transport_socket_matches.first().and_then(|m| m.transport_socket.as_ref());
    let said = match (&cluster.transport_socket, first) {
        (None, Some(_)) => "mTLS where the endpoint has it".to_owned(),
        (socket, _) => match socket.as_ref().and_then(context) {
            Some(context) if is_mesh(&context) => "mTLS".to_owned(),
            Some(context) => foreign(&context),
            None => "plaintext".to_owned(),
        },
    };
    match cluster.transport_socket.as_ref().or(first).and_then(proxied) {
        Some(proxied) => {
            let version = proxied.config.unwrap_or_default().version();
            format!("{said}, behind a PROXY header {}", version.as_str_name())
        }
        None => said,
    }
}

/// TLS that is not the mesh's, if the caller starts one.
pub(super) fn foreign_tls(cluster: &Cluster) -> bool {
    cluster.transport_socket.as_ref().and_then(context).is_some_and(|context| !is_mesh(&context))
}

fn foreign(context: &UpstreamTlsContext) -> String {
    let certificates = context.common_tls_context.as_ref().is_some_and(|common| !common.tls_certificates.is_empty());
    let with = if certificates { ", with a certificate of the caller's host" } else { "" };
    let asked = if context.sni.is_empty() { "the host that is called" } else { &context.sni };
    format!("TLS for {asked}{with}")
}

fn speaks_mtls(cluster: &Cluster, of: Option<&core::Metadata>) -> bool {
    let said = of.and_then(|of| of.filter_metadata.get(metadata::TRANSPORT_SOCKET_MATCH));
    // The first match whose every field the endpoint has, as Envoy chooses.
    let fits = |wanted: &prost_types::Struct| {
        wanted.fields.iter().all(|(key, value)| said.and_then(|said| said.fields.get(key)) == Some(value))
    };
    let chosen = cluster.transport_socket_matches.iter().find(|m| m.r#match.as_ref().is_none_or(fits));
    let socket = chosen.and_then(|m| m.transport_socket.as_ref()).or(cluster.transport_socket.as_ref());
    socket.and_then(context).is_some_and(|context| is_mesh(&context))
}

/// Whether keys come from the mesh.
fn is_mesh(context: &UpstreamTlsContext) -> bool {
    context.common_tls_context.as_ref().is_some_and(|common| !common.tls_certificate_sds_secret_configs.is_empty())
}

/// TLS of a socket, behind the header that there may be.
fn context(socket: &core::TransportSocket) -> Option<UpstreamTlsContext> {
    match proxied(socket) {
        Some(proxied) => unpack(proxied.transport_socket.as_ref()?),
        None => unpack(socket),
    }
}

fn proxied(socket: &core::TransportSocket) -> Option<ProxyProtocolUpstreamTransport> {
    unpack(socket)
}

fn unpack<M: Message + Name + Default>(socket: &core::TransportSocket) -> Option<M> {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else { return None };
    (any.type_url == M::type_url()).then(|| M::decode(&any.value[..]).ok()).flatten()
}

fn whose(state: &ServiceState, cluster: &Cluster, address: &str, port: u16) -> Option<Arc<Member>> {
    let parsed = OutboundCluster::parse(&cluster.name)?;
    let declared = state.service.port(parsed.port)?;
    let is = |i: &&crate::registry::model::Instance| {
        state.service.target(declared, i) == Some(port)
            && i.member.workload.addresses.values().flatten().any(|own| own == address)
    };
    state.instances.iter().find(is).map(|instance| instance.member.clone())
}

fn place(endpoint: &LbEndpoint) -> Option<(String, u16)> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return None };
    match endpoint.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => {
            let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
            Some((socket.address.clone(), u16::try_from(port).ok()?))
        }
        Address::Pipe(pipe) => Some((format!("unix://{}", pipe.path), 0)),
    }
}

fn text<'a>(of: Option<&'a core::Metadata>, filter: &str, key: &str) -> Option<&'a str> {
    match of?.filter_metadata.get(filter)?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn locality(of: &core::Locality) -> String {
    let parts = [&of.region, &of.zone, &of.sub_zone];
    let filled = parts.iter().rposition(|p| !p.is_empty()).map_or(0, |last| last + 1);
    parts[..filled].iter().map(|p| p.as_str()).collect::<Vec<_>>().join("/")
}

fn health(status: i32) -> &'static str {
    match HealthStatus::try_from(status) {
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => "unhealthy",
        Ok(HealthStatus::Draining) => "draining",
        Ok(HealthStatus::Degraded) => "degraded",
        _ => "healthy",
    }
}
