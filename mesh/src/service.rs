//! Services as callers see them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::Hostname;

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// TLS of the application's own, carrying HTTP.
    Https,
    /// TLS of the application's own.
    Tls,
    /// Anything else.
    Tcp,
    /// Datagrams: known, never captured.
    Udp,
    /// Not declared: found by looking at the first bytes.
    #[default]
    Auto,
}

impl Protocol {
    /// From a port's name (`http`, `http-web`, `grpc-api`, …) by Istio's rule: the part before the first `-`.
    /// A name that says nothing is [`Protocol::Auto`].
    pub fn from_port_name(name: &str) -> Self {
        if name.to_ascii_lowercase().starts_with("grpc-web") {
            return Self::GrpcWeb;
        }
        name.split('-').next().unwrap_or_default().parse().unwrap_or_default()
    }

    /// Requests can be routed one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// HTTP/2 throughout.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// As ports declare it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Https => "https",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Auto => "",
        }
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" | "mongo" | "mysql" | "redis" | "thrift" => Self::Tcp,
            "udp" => Self::Udp,
            "" => Self::Auto,
            _ => return Err(UnknownProtocol(text.chars().take(64).collect())),
        })
    }
}

/// A protocol that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol: http, http2, grpc, grpc-web, https, tls, tcp and udp are")]
pub struct UnknownProtocol(String);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Unique within the service; may be empty if there is only one.
    pub name: String,
    /// What callers dial.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where instances listen, unless the instance says otherwise (by port name).
    pub target_port: u16,
}

/// How instances are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// They are registered.
    #[default]
    Static,
    /// Each host name is looked up; all addresses are used.
    Dns,
    /// One address of the look-up is used.
    DnsRoundRobin,
    /// The caller's own address is used.
    None,
}

/// Whose a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In the mesh: its instances have identities.
    #[default]
    Internal,
    /// Outside.
    External,
}

/// Which instances callers prefer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// All alike.
    #[default]
    Any,
    /// Those of their own zone, as long as there are some.
    Zone,
}

/// An address that callers dial.
pub type ServiceAddress = IpNet;

/// A service of one registry, before it is merged with those of the same name.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name; the key of the merge.
    pub host: Hostname,
    /// The namespace whose configuration counts for it.
    pub namespace: String,
    /// Its short name, for metrics and for people.
    pub name: String,
    /// Sorted by number.
    pub ports: Vec<ServicePort>,
    /// Addresses that the registry gave it; if none, discovery allocates a virtual one.
    pub addresses: Vec<ServiceAddress>,
    /// How instances are found.
    pub resolution: Resolution,
    /// Whose it is.
    pub location: Location,
    /// Workloads that belong to it, by label, in its own namespace; `None` for those that name it.
    pub selector: Option<BTreeMap<String, String>>,
    /// Namespaces that may see it; empty is all. `.` is its own.
    pub export_to: Vec<String>,
    /// Identities that its instances may have besides their own.
    pub subject_alt_names: Vec<String>,
    /// Endpoints that the service lists itself.
    pub endpoints: Vec<crate::Workload>,
    /// Labels of the service.
    pub labels: BTreeMap<String, String>,
    /// Which instances callers prefer, where no rule says.
    pub nearness: Nearness,
    /// It is another name for this one, if the mesh has a service of that name. Where it has none, the rest counts.
    pub alias_of: Option<Hostname>,
}

impl Service {
    /// One without ports, of the mesh, whose instances name it or are listed.
    pub fn new(host: Hostname, namespace: String, name: String) -> Self {
        Self {
            host,
            namespace,
            name,
            ports: Vec::new(),
            addresses: Vec::new(),
            resolution: Resolution::Static,
            location: Location::Internal,
            selector: None,
            export_to: Vec::new(),
            subject_alt_names: Vec::new(),
            endpoints: Vec::new(),
            labels: BTreeMap::new(),
            nearness: Nearness::Any,
            alias_of: None,
        }
    }

    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.port == number)
    }

    /// Addresses that are single ones.
    pub fn single_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter(|a| a.prefix_len() == a.max_prefix_len()).map(|a| a.addr())
    }
}
