//! Instances.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{Hostname, SpiffeId};

/// The name of a workload within its registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name, unique in the namespace.
    pub name: Arc<str>,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where a workload runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone within it.
    pub zone: String,
    /// Rack, host group, whatever is smaller.
    pub sub_zone: String,
}

/// Whether a workload takes requests. Order matters: the worst of several is the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It does, or nobody said otherwise: unknown is not down.
    #[default]
    Healthy,
    /// Last choice: it lapsed while its registry is frozen.
    Degraded,
    /// It goes on with what it has, and gets nothing new.
    Draining,
    /// It does not, or its lease lapsed: connections to it are closed.
    Unhealthy,
}

/// How a workload is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Plain bytes: it has no sidecar.
    #[default]
    Plaintext,
    /// Mesh mTLS as Istio's sidecars speak it.
    Mtls,
    /// HBONE.
    Hbone,
}

/// A joined host's part in a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceRef {
    /// The host's instance id.
    pub instance_id: Arc<str>,
    /// The workload's id on that host.
    pub workload_id: Arc<str>,
}

/// An instance: something that listens on an address with an identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name.
    pub key: WorkloadKey,
    /// IP address, host name or `unix://` path by network; the empty network is the default one.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// Ports by name, where they differ from the service's target ports; 0: it does not serve that one.
    pub ports: BTreeMap<String, u16>,
    /// What selectors look at.
    pub labels: BTreeMap<String, String>,
    /// Whom callers expect; `None` where there is no mTLS.
    pub identity: Option<SpiffeId>,
    /// Service account, empty if unknown.
    pub service_account: String,
    /// Where it runs.
    pub locality: Locality,
    /// Share of requests among its like; 0 is the default, 1.
    pub weight: u32,
    /// Of the whole workload; ports may say worse.
    pub health: Health,
    /// Ports whose health differs, by number.
    pub port_health: BTreeMap<u16, Health>,
    /// How it is spoken to.
    pub transport: Transport,
    /// A hawser-proxy answers there: HTTP/2 between proxies.
    pub hawser: bool,
    /// The joined host it lives on.
    pub instance: Option<InstanceRef>,
    /// Name of the machine it runs on, as its registry knows it.
    pub node: Option<Arc<str>>,
    /// WorkloadGroup it was made from: implies the service of that name.
    pub group: Option<String>,
    /// Services that it names itself, besides those whose selector takes it.
    pub services: Vec<Hostname>,
    /// What for some of these is otherwise than for all.
    pub exceptions: BTreeMap<Hostname, Exception>,
}

/// What of a workload is otherwise for one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// Ports by the service's names; 0: it does not serve that one.
    pub ports: BTreeMap<String, u16>,
    /// Health of the whole workload.
    pub health: Option<Health>,
}

/// A way into a network whose addresses those outside can't reach. It leads on what comes with mTLS, by its server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub key: WorkloadKey,
    /// The network.
    pub network: String,
    /// Where it takes connections from outside.
    pub addresses: Vec<IpAddr>,
    /// On which port.
    pub port: u16,
}

impl Workload {
    /// One of which only the name is known: healthy, spoken to in plaintext, of nobody's services.
    pub fn new(key: WorkloadKey) -> Self {
        Self {
            key,
            addresses: BTreeMap::new(),
            ports: BTreeMap::new(),
            labels: BTreeMap::new(),
            identity: None,
            service_account: String::new(),
            locality: Locality::default(),
            weight: 0,
            health: Health::Healthy,
            port_health: BTreeMap::new(),
            transport: Transport::Plaintext,
            hawser: false,
            instance: None,
            node: None,
            group: None,
            services: Vec::new(),
            exceptions: BTreeMap::new(),
        }
    }

    /// Health of one port.
    pub fn health_of(&self, port: u16) -> Health {
        self.port_health.get(&port).copied().unwrap_or_default().max(self.health)
    }

    /// Health of one port, for callers of a service.
    pub fn health_for(&self, host: &Hostname, port: u16) -> Health {
        let whole = self.exceptions.get(host).and_then(|exception| exception.health).unwrap_or(self.health);
        self.port_health.get(&port).copied().unwrap_or_default().max(whole)
    }
}
