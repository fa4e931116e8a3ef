//! What registries say, merged: services with their instances, as compilers and listings read them.
//!
//! In: definitions and workloads of all registries. Out: immutable values, shared by every snapshot in which they
//! did not change. Invariant: lists are sorted; equal input gives equal values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::istio::ObjectRef;
use hawser_mesh::{
    Health, Hostname, Location, Nearness, Origin, Protocol, RegistryId, RegistryKind, Resolution, ServicePort,
    Transport, Workload, WorkloadKey,
};
use ipnet::IpNet;

use super::rules::Security;

/// The name of a workload among those of all registries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId {
    /// Who says it.
    pub registry: RegistryId,
    /// Its name there.
    pub key: WorkloadKey,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.key)
    }
}

/// What a workload's ports take, by PeerAuthentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsMode {
    /// Plaintext only.
    Disable,
    /// Plaintext and mTLS.
    #[default]
    Permissive,
    /// mTLS only.
    Strict,
}

/// Modes of a workload: of all ports but some.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsModes {
    /// Of ports that are not named.
    pub all: TlsMode,
    /// Of ports that are, by the number that the workload listens on.
    pub ports: BTreeMap<u16, TlsMode>,
}

impl TlsModes {
    /// Of one port.
    pub fn of(&self, port: u16) -> TlsMode {
        self.ports.get(&port).copied().unwrap_or(self.all)
    }
}

/// A workload with what policies make of it.
#[derive(Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub id: WorkloadId,
    /// As its registry says it.
    pub workload: Arc<Workload>,
    /// What its ports take.
    pub modes: Arc<TlsModes>,
    /// Who may do what with it.
    pub security: Arc<Security>,
}

impl Member {
    /// The first address that a proxy of `network` can dial: one of the same network, else of the default one.
    pub fn address(&self, network: &str) -> Option<&str> {
        let of = |network: &str| self.workload.addresses.get(network).and_then(|list| list.first());
        of(network)
            .or_else(|| of(""))
            .or_else(
                || if network.is_empty() { self.workload.addresses.values().find_map(|l| l.first()) } else { None },
            )
            .map(String::as_str)
    }

    /// How one port is spoken to: mTLS only if the workload has it and its policy does not forbid it.
    pub fn transport(&self, port: u16) -> Transport {
        match self.workload.transport {
            Transport::Plaintext => Transport::Plaintext,
            _ if self.modes.of(port) == TlsMode::Disable => Transport::Plaintext,
            transport => transport,
        }
    }
}

/// A workload as an instance of a service.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The workload.
    pub member: Arc<Member>,
    /// Which of the service's sources take it, as bits by index.
    pub via: u32,
    /// The workload of another registry that it is found as: the same address and ports, said twice. Ports are those that
    /// the other one has, everything else is the workload's own.
    pub found_as: Option<Arc<Member>>,
    /// Ports of the service that it serves, if not all that it could.
    pub only: Option<Box<[u16]>>,
}

impl Instance {
    /// A workload that a source takes, as it is.
    pub fn new(member: Arc<Member>) -> Self {
        Self { member, via: 0, found_as: None, only: None }
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Arc<Member>, b: &Arc<Member>| Arc::ptr_eq(a, b) || a == b;
        self.via == other.via
            && self.only == other.only
            && same(&self.member, &other.member)
            && match (&self.found_as, &other.found_as) {
                (Some(a), Some(b)) => same(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
    }
}

/// One definition that a merged service is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Who says it.
    pub registry: RegistryId,
    /// What it is there, for people.
    pub origin: String,
    /// Its own ports.
    pub ports: Vec<ServicePort>,
}

impl Source {
    /// Its own port for a port of the merged service: the one of that name, else of that number.
    pub fn port(&self, port: &ServicePort) -> Option<&ServicePort> {
        let named = self.ports.iter().find(|p| !p.name.is_empty() && p.name == port.name);
        named.or_else(|| self.ports.iter().find(|p| p.port == port.port))
    }
}

/// Another name for a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alias {
    /// The name.
    pub host: Hostname,
    /// The namespace that it is of.
    pub namespace: Arc<str>,
    /// Namespaces that may see it; empty is all.
    pub export_to: Vec<String>,
}

/// A service as callers see it, whoever backs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub host: Hostname,
    /// The namespace whose configuration counts for it.
    pub namespace: Arc<str>,
    /// Its short name.
    pub name: Arc<str>,
    /// Sorted by number.
    pub ports: Vec<ServicePort>,
    /// Addresses that its registries gave it, sorted.
    pub addresses: Vec<IpNet>,
    /// Addresses that we gave it because it has none of its own.
    pub virtual_addresses: Vec<IpAddr>,
    /// How instances are found.
    pub resolution: Resolution,
    /// Whose it is.
    pub location: Location,
    /// Namespaces that may see it; empty is all.
    pub export_to: Vec<String>,
    /// Identities that its instances may have besides their own, sorted.
    pub subject_alt_names: Vec<String>,
    /// Labels of the service.
    pub labels: BTreeMap<String, String>,
    /// Which instances callers prefer, where no rule says.
    pub nearness: Nearness,
    /// Other names that callers have for it, sorted.
    pub aliases: Vec<Alias>,
    /// What it is made of; the first that has something wins.
    pub sources: Vec<Source>,
    /// What its sources do not agree on, in words.
    pub conflicts: Vec<String>,
}

impl Service {
    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.port == number)
    }

    /// Addresses that callers dial and that name a listener: single ones, its own or the virtual ones.
    pub fn dialled(&self) -> Vec<IpAddr> {
        let own = self.addresses.iter().filter(|a| a.prefix_len() == a.max_prefix_len()).map(|a| a.addr());
        own.chain(self.virtual_addresses.iter().copied()).collect()
    }

    /// Ranges of addresses that callers dial.
    pub fn ranges(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().filter(|a| a.prefix_len() != a.max_prefix_len()).copied()
    }

    /// Whether nothing is known of the addresses that callers dial: its port is all that tells a connection to it.
    pub fn is_anywhere(&self) -> bool {
        self.addresses.is_empty() && self.virtual_addresses.is_empty()
    }

    /// Whether some of its callers dial addresses that are not its alone.
    pub fn is_wide(&self) -> bool {
        self.is_anywhere() || self.ranges().next().is_some()
    }

    /// Whether its instances are known by name.
    pub fn is_looked_up(&self) -> bool {
        matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
    }

    /// The port on which an instance serves `port`; `None` if it does not.
    pub fn target(&self, port: &ServicePort, instance: &Instance) -> Option<u16> {
        if instance.only.as_ref().is_some_and(|only| !only.contains(&port.port)) {
            return None;
        }
        let workload = &instance.found_as.as_ref().unwrap_or(&instance.member).workload;
        let exception = workload.exceptions.get(&self.host).and_then(|exception| exception.ports.get(&port.name));
        if let Some(target) = exception.or_else(|| workload.ports.get(&port.name)) {
            return Some(*target).filter(|target| *target != 0);
        }
        let sources = self.sources.iter().enumerate().filter(|(index, _)| instance.via & (1 << index) != 0);
        sources
            .filter_map(|(_, source)| source.port(port))
            .map(|p| workload.ports.get(&p.name).copied().unwrap_or(p.target_port))
            .next()
            .filter(|target| *target != 0)
    }

    /// Whether a proxy of `namespace` may see it.
    pub fn visible_from(&self, namespace: &str) -> bool {
        visible(&self.export_to, &self.namespace, namespace)
    }

    /// Names that a proxy of `namespace` may call it by besides its own.
    pub fn other_names(&self, namespace: &str) -> impl Iterator<Item = &Hostname> {
        let seen = move |alias: &&Alias| visible(&alias.export_to, &alias.namespace, namespace);
        self.aliases.iter().filter(seen).map(|alias| &alias.host)
    }

    /// Registries that back it.
    pub fn registries(&self) -> BTreeSet<&RegistryId> {
        self.sources.iter().map(|s| &s.registry).collect()
    }
}

/// Whether something of namespace `own`, exported to `export_to`, is seen from `namespace`.
pub fn visible(export_to: &[String], own: &str, namespace: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|to| match to.as_str() {
            "*" => true,
            "." => own == namespace,
            "~" => false,
            to => to == namespace,
        })
}

/// One endpoint of a service's port, for listings.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The service.
    pub host: Hostname,
    /// Its port.
    pub port: u16,
    /// The workload.
    pub member: Arc<Member>,
    /// Where it listens, in the default network if it is there.
    pub address: String,
    /// On which port.
    pub target_port: u16,
    /// Health of that port.
    pub health: Health,
    /// How it is spoken to.
    pub transport: Transport,
}

/// What became of a resource of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigOutcome {
    /// All of it counts.
    Honoured,
    /// Some of it does not; messages name it.
    Partly,
    /// It can't be used; what was there before stays.
    Rejected,
    /// Another source has a resource of that name, and wins.
    Shadowed,
}

impl ConfigOutcome {
    /// As listings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Partly => "partly",
            Self::Rejected => "rejected",
            Self::Shadowed => "shadowed",
        }
    }
}

/// A resource of the configuration and what became of it.
#[derive(Clone, Debug)]
pub struct ConfigState {
    /// Its name; `None` for something that could not be read.
    pub object: Option<ObjectRef>,
    /// Who says it.
    pub registry: RegistryId,
    /// Where it is written.
    pub origin: Origin,
    /// What became of it.
    pub outcome: ConfigOutcome,
    /// Why, what is not honoured, what it conflicts with.
    pub messages: Vec<String>,
    /// As it was written; `None` for something that could not be read.
    pub resource: Option<Arc<hawser_api::istio::Resource>>,
}

/// How a registry is.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryStatus {
    /// Which.
    pub id: RegistryId,
    /// Snapshots are not ready before it has said everything it held at its start.
    pub awaited: bool,
    /// It has.
    pub synced: bool,
    /// It is silent, since when, and why; what it said stays.
    pub stale: Option<(std::time::SystemTime, String)>,
    /// Since when it is as it is.
    pub since: std::time::SystemTime,
    /// How many objects it says.
    pub objects: usize,
}

impl RegistryStatus {
    /// `synced`, `syncing` or `stale`.
    pub fn state(&self) -> &'static str {
        match (&self.stale, self.synced) {
            (Some(_), _) => "stale",
            (None, true) => "synced",
            (None, false) => "syncing",
        }
    }
}

/// The order in which definitions of a service win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry, and a service that a registry of configuration says itself.
    ServiceEntry,
    /// Implied by a WorkloadGroup.
    Group,
    /// Consul.
    Consul,
    /// Lists of targets, which know least of a service.
    Targets,
}

impl Rank {
    /// Of a service that a registry says itself.
    pub fn of(kind: RegistryKind) -> Self {
        match kind {
            RegistryKind::Kubernetes => Self::Kubernetes,
            RegistryKind::Files | RegistryKind::Api => Self::ServiceEntry,
            RegistryKind::Hosts => Self::Group,
            RegistryKind::Consul => Self::Consul,
            RegistryKind::HttpSd | RegistryKind::FileSd | RegistryKind::DnsSrv => Self::Targets,
        }
    }
}

/// A protocol after what is not served as such was put aside.
pub fn is_captured(port: &ServicePort) -> bool {
    port.protocol != Protocol::Udp
}
