//! Names and numbers that programs of the mesh must agree on.
//!
//! Istio's where Istio has them (clusters, listeners, ports, metadata keys), ours otherwise.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::hostname::Hostname;

/// TCP and UDP ports of the data plane and of discovery.
pub mod ports {
    /// Outbound capture of a host's first workload.
    pub const OUTBOUND: u16 = 15001;
    /// Outbound capture of further workloads: this one and the next 63.
    pub const OUTBOUND_FIRST: u16 = 15100;
    /// The last of them.
    pub const OUTBOUND_LAST: u16 = 15163;
    /// Inbound capture.
    pub const INBOUND: u16 = 15006;
    /// HBONE.
    pub const HBONE: u16 = 15008;
    /// The proxy's admin page, loopback only.
    pub const PROXY_ADMIN: u16 = 15000;
    /// Prometheus metrics of agent and proxy.
    pub const METRICS: u16 = 15020;
    /// Readiness of the proxy: `GET /healthz/ready`.
    pub const READINESS: u16 = 15021;
    /// The agent's DNS, loopback only.
    pub const DNS: u16 = 15053;
    /// Discovery, plaintext xDS, loopback.
    pub const DISCOVERY_PLAINTEXT: u16 = 15010;
    /// Discovery, TLS: xDS, CA, Host.
    pub const DISCOVERY: u16 = 15012;
    /// Discovery's metrics, health and debug pages.
    pub const DISCOVERY_HTTP: u16 = 15014;

    /// Whether a port of a host is the mesh's own: nothing else may be bound there.
    pub fn is_own(port: u16) -> bool {
        matches!(port, 22 | PROXY_ADMIN | OUTBOUND | INBOUND | HBONE | METRICS | READINESS | DNS)
            || (OUTBOUND_FIRST..=OUTBOUND_LAST).contains(&port)
    }
}

/// Default DNS suffix of services, and default trust domain.
pub const DEFAULT_DOMAIN: &str = "cluster.local";
/// Namespace whose configuration counts for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// Virtual addresses of services that have none of their own (Istio's default ranges).
pub const DEFAULT_VIRTUAL_RANGES: [&str; 2] = ["240.240.0.0/16", "2001:2::/48"];

/// Type URLs of xDS resources.
pub mod types {
    /// LDS.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// RDS.
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// CDS.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// EDS.
    pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// SDS.
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// Host names for the agent's DNS.
    pub const NAME: &str = "type.googleapis.com/hawser.mesh.v1.Name";
    /// What the agent captures.
    pub const CAPTURE: &str = "type.googleapis.com/hawser.mesh.v1.Capture";
    /// Prefix of every type URL.
    pub const PREFIX: &str = "type.googleapis.com/";
}

/// The version of the xDS dialect that this build's hawser-proxy speaks; sent as node metadata
/// [`metadata::HAWSER_XDS`] in decimal. Discovery serves this class and the one before.
pub const HAWSER_XDS: u32 = 1;

/// Keys of `Node.metadata` and of endpoint metadata.
pub mod metadata {
    /// Node: dialect of hawser-proxy; absent for Envoy and gRPC.
    pub const HAWSER_XDS: &str = "HAWSER_XDS";
    /// Node: namespace of the workload.
    pub const NAMESPACE: &str = "NAMESPACE";
    /// Node: labels of the workload, a struct of strings.
    pub const LABELS: &str = "LABELS";
    /// Node: service account of the workload.
    pub const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";
    /// Node: network of the workload.
    pub const NETWORK: &str = "NETWORK";
    /// Node: id of the workload within its host, for joined hosts.
    pub const WORKLOAD: &str = "HAWSER_WORKLOAD";
    /// Node: asks for Istio's plaintext-only generation, as gRPC clients do: `grpc`.
    pub const GENERATOR: &str = "GENERATOR";
    /// Node: `true` if an Envoy is to listen on IPv6 too.
    pub const IPV6: &str = "HAWSER_IPV6";
    /// Node: comma-separated addresses of the workload; wins over the one in the id.
    pub const INSTANCE_IPS: &str = "INSTANCE_IPS";
    /// Node: `true` for a proxy in whose place another one serves; only its old connections go on.
    pub const FORMER: &str = "HAWSER_FORMER";
    /// Endpoint filter metadata: key `workload` = `name;namespace;canonical name;revision;cluster`.
    pub const ISTIO: &str = "istio";
    /// Endpoint filter metadata: `tlsMode: istio` or `tunnel: http`.
    pub const TRANSPORT_SOCKET_MATCH: &str = "envoy.transport_socket_match";
    /// Endpoint filter metadata of ours: `identity` (SPIFFE id), `h2` (true: a hawser-proxy answers there),
    /// `host` (instance id of the joined host, for calls to oneself), [`TUNNEL`].
    pub const HAWSER: &str = "hawser";
    /// Key of [`HAWSER`]: how the endpoint is reached, if not directly: [`TUNNEL_HBONE`].
    pub const TUNNEL: &str = "tunnel";
    /// Through HBONE at the endpoint's address.
    pub const TUNNEL_HBONE: &str = "hbone";
    /// Key of [`HAWSER`] in a listener's metadata: what it says of its port holds at addresses of which nothing is known.
    pub const ANYWHERE: &str = "anywhere";
    /// Key of [`HAWSER`] in the metadata of `virtualInbound`: names of listeners that the proxy binds itself, a list of texts.
    pub const BOUND: &str = "bound";
}

/// Labels of workloads that say how they are spoken to.
pub mod labels {
    /// `istio`: mesh mTLS as sidecars speak it; anything else: plaintext.
    pub const TLS_MODE: &str = "security.istio.io/tlsMode";
    /// [`TUNNEL_HTTP`]: HBONE at port 15008 of the workload's address.
    pub const TUNNEL: &str = "networking.istio.io/tunnel";
    /// The value that says so.
    pub const TUNNEL_HTTP: &str = "http";
}

/// Why discovery refuses a host: words of the gRPC metadata key [`reasons::KEY`]; the status's message is the sentence
/// with the cure.
pub mod reasons {
    /// The metadata key.
    pub const KEY: &str = "hawser-reason";
    /// No such token, or a wrong secret.
    pub const TOKEN_UNKNOWN: &str = "token-unknown";
    /// Past its end.
    pub const TOKEN_EXPIRED: &str = "token-expired";
    /// No use left.
    pub const TOKEN_USED_UP: &str = "token-used-up";
    /// Taken back.
    pub const TOKEN_REVOKED: &str = "token-revoked";
    /// The connection comes from outside the token's networks.
    pub const SOURCE_REFUSED: &str = "source-refused";
    /// Another host uses the same host key.
    pub const HOST_CLONED: &str = "host-cloned";
    /// Taken out by an administrator.
    pub const HOST_REVOKED: &str = "host-revoked";
    /// No record of it.
    pub const HOST_UNKNOWN: &str = "host-unknown";
    /// Off for too long.
    pub const REJOIN_WINDOW_PASSED: &str = "rejoin-window-passed";
    /// The host key did not sign this.
    pub const SIGNATURE_INVALID: &str = "signature-invalid";
    /// The token's group does not exist any more.
    pub const GROUP_UNKNOWN: &str = "group-unknown";
    /// A security policy selects the group and can't be enforced yet.
    pub const POLICY_NOT_ENFORCEABLE: &str = "policy-not-enforceable";
    /// An announced address is not the host's, or nobody can reach it.
    pub const ADDRESS_REFUSED: &str = "address-refused";
    /// The host has joined as another group.
    pub const ALREADY_JOINED: &str = "already-joined";
    /// The request breaks the protocol.
    pub const MALFORMED: &str = "malformed";
    /// Discovery is starting or has too much to do: try again.
    pub const NOT_READY: &str = "not-ready";
    /// Discovery's own fault.
    pub const INTERNAL: &str = "internal";
}

/// ALPN protocols, in the order they are offered.
pub mod alpn {
    /// Mesh TCP.
    pub const TCP: [&str; 2] = ["istio-peer-exchange", "istio"];
    /// Mesh HTTP/1.1.
    pub const HTTP1: [&str; 3] = ["istio-http/1.1", "istio", "http/1.1"];
    /// Mesh HTTP/1.0.
    pub const HTTP10: [&str; 3] = ["istio-http/1.0", "istio", "http/1.0"];
    /// Mesh HTTP/2.
    pub const HTTP2: [&str; 3] = ["istio-h2", "istio", "h2"];
    /// HTTP between two hawser-proxies, offered before the others.
    pub const HAWSER_H2: &str = "hawser-h2";
    /// TCP connections between two hawser-proxies, as tunnels of one HTTP/2 connection; offered before the others.
    pub const HAWSER_TUNNEL: &str = "hawser-tunnel";
    /// HBONE.
    pub const HBONE: &str = "h2";
    /// What marks a ClientHello as mesh mTLS that carries HTTP.
    pub const MESH_HTTP: [&str; 4] = ["hawser-h2", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
    /// What marks a ClientHello as mesh mTLS that carries TCP.
    pub const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];
}

/// SDS name of the mesh's roots.
pub const SECRET_ROOT: &str = "ROOTCA";
/// SDS name of the certificate of the client's own workload.
pub const SECRET_DEFAULT: &str = "default";

/// Clusters that are not a service's.
pub mod clusters {
    /// To where the connection was going.
    pub const PASSTHROUGH: &str = "PassthroughCluster";
    /// Nowhere.
    pub const BLACK_HOLE: &str = "BlackHoleCluster";
    /// Inbound, to where the connection was going.
    pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
}

/// Listeners that are not a service's.
pub mod listeners {
    /// Everything captured outbound.
    pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
    /// Everything captured inbound.
    pub const VIRTUAL_INBOUND: &str = "virtualInbound";
}

/// Name of an outbound cluster: `outbound|<port>|<subset>|<host>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboundCluster {
    /// The service's port.
    pub port: u16,
    /// A DestinationRule's subset; empty is all endpoints.
    pub subset: String,
    /// The service.
    pub host: Hostname,
}

impl OutboundCluster {
    /// The cluster of all endpoints of a port.
    pub fn new(host: Hostname, port: u16) -> Self {
        Self { port, subset: String::new(), host }
    }

    /// The same with a subset.
    pub fn with_subset(host: Hostname, port: u16, subset: impl Into<String>) -> Self {
        Self { port, subset: subset.into(), host }
    }

    /// Reads a cluster's name; `None` if it is not of this form.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("outbound|")?.splitn(3, '|');
        let port = parts.next()?.parse().ok().filter(|p| *p != 0)?;
        let subset = parts.next()?.to_owned();
        let host = parts.next()?.parse().ok()?;
        Some(Self { port, subset, host })
    }

    /// SNI of mesh mTLS: `outbound_.<port>_.<subset>_.<host>`.
    pub fn sni(&self) -> String {
        format!("outbound_.{}_.{}_.{}", self.port, self.subset, self.host)
    }
}

impl fmt::Display for OutboundCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset, self.host)
    }
}

/// Inbound cluster `inbound|<port>||`; with an address where two workloads share a port.
pub fn inbound_cluster(port: u16, address: Option<IpAddr>) -> String {
    match address {
        None => format!("inbound|{port}||"),
        Some(address) => format!("inbound|{port}||{address}"),
    }
}

/// Listener of a service port: `<vip>_<port>`; `0.0.0.0_<port>` where the service has no address.
pub fn listener(address: IpAddr, port: u16) -> String {
    format!("{address}_{port}")
}

/// The most listeners that a Sidecar may have bound: each is a socket a worker.
pub const MOST_BOUND: usize = 256;

/// A listener that a Sidecar has a hawser-proxy really bind, and the route of its requests: `bound_<address>_<port>`.
pub fn bound(at: SocketAddr) -> String {
    format!("{BOUND}{}_{}", at.ip(), at.port())
}

/// Where such a listener is.
pub fn bound_at(name: &str) -> Option<SocketAddr> {
    let (address, port) = name.strip_prefix(BOUND)?.rsplit_once('_')?;
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok().filter(|port| *port != 0)?))
}

const BOUND: &str = "bound_";

/// Route of a service port, for clients that subscribe by name: `<host>:<port>`.
pub fn route(host: &Hostname, port: u16) -> String {
    format!("{host}:{port}")
}

/// Route of all services of a port that are told by the host of a request alone, for clients that subscribe by name.
pub fn route_of_port(port: u16) -> String {
    format!("{ANY_ADDRESS}:{port}")
}

/// The port of such a route.
pub fn port_of_route(name: &str) -> Option<u16> {
    name.strip_prefix(ANY_ADDRESS)?.strip_prefix(':')?.parse().ok()
}

const ANY_ADDRESS: &str = "0.0.0.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbound_cluster_name_reads_back() {
        let host: Hostname = "reviews.default.svc.cluster.local".parse().unwrap();
        let name = OutboundCluster::with_subset(host, 9080, "v1");
        assert_eq!(name.to_string(), "outbound|9080|v1|reviews.default.svc.cluster.local");
        assert_eq!(name.sni(), "outbound_.9080_.v1_.reviews.default.svc.cluster.local");
        assert_eq!(OutboundCluster::parse(&name.to_string()), Some(name));
        assert_eq!(OutboundCluster::parse("inbound|9080||"), None);
        assert_eq!(OutboundCluster::parse("outbound|0||x"), None);
    }

    #[test]
    fn the_name_of_a_bound_listener_says_where_it_is() {
        for at in ["127.0.0.1:9080", "[::1]:9080"] {
            let at: SocketAddr = at.parse().unwrap();
            assert_eq!(bound_at(&bound(at)), Some(at));
        }
        assert_eq!(bound_at("127.0.0.1_9080"), None);
        assert_eq!(bound_at("bound_127.0.0.1_0"), None);
    }
}
