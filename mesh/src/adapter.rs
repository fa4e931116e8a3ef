//! What passes between a registry and discovery.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{Gateway, Hostname, Service, Workload, WorkloadKey};

/// The kinds of registry, in the order in which their definition of a service wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegistryKind {
    /// Kubernetes.
    Kubernetes,
    /// Files of Istio resources.
    Files,
    /// Resources applied through the API, and what was registered by hand.
    Api,
    /// Hosts that joined.
    Hosts,
    /// Consul.
    Consul,
    /// Target lists by HTTP.
    HttpSd,
    /// Target lists in files.
    FileSd,
    /// SRV records of DNS.
    DnsSrv,
}

impl RegistryKind {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Files => "files",
            Self::Api => "api",
            Self::Hosts => "hosts",
            Self::Consul => "consul",
            Self::HttpSd => "http_sd",
            Self::FileSd => "file_sd",
            Self::DnsSrv => "dns_srv",
        }
    }

    /// Its instances are of a world that knows nothing of ours: they belong to the services that they name, never to a
    /// selector's, and may be the same as a joined host's.
    pub fn is_outside(self) -> bool {
        matches!(self, Self::Consul | Self::HttpSd | Self::FileSd | Self::DnsSrv)
    }
}

/// One registry: a kind, and which of that kind (a cluster, a datacenter).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryId {
    /// What it is.
    pub kind: RegistryKind,
    /// Which one; empty where there can be only one.
    pub name: Arc<str>,
}

impl RegistryId {
    /// The only registry of its kind.
    pub fn only(kind: RegistryKind) -> Self {
        Self { kind, name: "".into() }
    }
}

impl fmt::Display for RegistryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        if self.name.is_empty() { f.write_str(kind) } else { write!(f, "{kind}/{}", self.name) }
    }
}

/// Where a person finds what an object came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// A file, or the name of an object in another system.
    pub name: Arc<str>,
    /// Line of the document's start, 1 upwards; 0 where there are no lines.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.name) } else { write!(f, "{}:{}", self.name, self.line) }
    }
}

/// Something that a registry holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A service that the registry itself knows as one.
    Service(Arc<Service>),
    /// An instance.
    Workload(Arc<Workload>),
    /// A resource of Istio's API, as it was written; ServiceEntry, WorkloadEntry and WorkloadGroup too.
    Config(Arc<hawser_api::istio::Resource>, Origin),
    /// A way into a network.
    Gateway(Arc<Gateway>),
}

/// The name of an [`Object`] within its registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// A service.
    Service(Hostname),
    /// An instance.
    Workload(WorkloadKey),
    /// A resource.
    Config(hawser_api::istio::ObjectRef),
    /// A way into a network.
    Gateway(WorkloadKey),
}

/// What a registry says.
#[derive(Clone, Debug)]
pub enum Event {
    /// New or changed.
    Upsert(Object),
    /// Gone, by the registry's own word.
    Delete(ObjectKey),
    /// Everything the registry held at its start has been said. Once a run, before `Stale` or after.
    Synced,
    /// The registry is silent, and why; what it said stays.
    Stale(String),
    /// It speaks again.
    Fresh,
    /// Something there can't be used: shown with the configuration until the same origin is said again.
    Rejected {
        /// Where.
        origin: Origin,
        /// File, line, field, reason, cure.
        message: String,
    },
    /// What was wrong at this origin no longer is.
    Cleared(Origin),
    /// The registry is no more, as an operator took it out: nothing of it is left, nor will be said.
    Ended,
}

/// Where an adapter says its events; bounded, so that a fast registry waits for discovery.
#[derive(Clone, Debug)]
pub struct Publisher {
    registry: RegistryId,
    sender: mpsc::Sender<(RegistryId, Vec<Event>)>,
}

impl Publisher {
    /// A publisher of `registry` into discovery's queue.
    pub fn new(registry: RegistryId, sender: mpsc::Sender<(RegistryId, Vec<Event>)>) -> Self {
        Self { registry, sender }
    }

    /// The registry whose events these are.
    pub fn registry(&self) -> &RegistryId {
        &self.registry
    }

    /// Waits until nobody listens any more: discovery is shutting down.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Says events that take effect together. Waits while discovery is behind; `false` when it is shutting down.
    pub async fn publish(&self, events: Vec<Event>) -> bool {
        events.is_empty() || self.sender.send((self.registry.clone(), events)).await.is_ok()
    }
}

/// A registry as discovery runs it.
pub trait RegistryAdapter: Send + 'static {
    /// Which registry.
    fn id(&self) -> RegistryId;

    /// Follows the registry until discovery stops listening. Errors of the registry are events, not returns:
    /// an adapter only returns when there is nobody to tell.
    fn run(self, publisher: Publisher) -> impl Future<Output = ()> + Send;
}
