//! What is so, at one moment: everything that compilers, listings and pages read.
//!
//! In: the registry's working state. Out: an immutable value that shares with its predecessors what did not
//! change, and knows what did. Invariant: everything in it fits together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::istio::{ObjectRef, VirtualService};
use hawser_mesh::{Hostname, InstanceRef};

use super::Settings;
use super::model::{ConfigState, Endpoint, Instance, Member, RegistryStatus, Service, WorkloadId};
use super::rules::{HostRules, Rules, Scope};
use super::shards::ShardMap;
use crate::keys::Fetched;

/// How many snapshots back a reader may be and still learn what changed.
const LOG: usize = 64;
/// Changes that are not told one by one.
const MANY: usize = 20_000;

/// A service as one namespace defines it, with its instances and the rules that name it.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// The service.
    pub service: Arc<Service>,
    /// Its instances, by name.
    pub instances: Arc<Vec<Instance>>,
    /// Routing and destination rules of its name.
    pub rules: Arc<HostRules>,
    /// Revision of the last change to the service or its rules.
    pub defined: u64,
    /// Revision of the last change to its instances.
    pub populated: u64,
}

impl ServiceState {
    /// Endpoints: of each port, each instance that serves it.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for port in &self.service.ports {
            for instance in self.instances.iter() {
                let Some(target_port) = self.service.target(port, instance) else { continue };
                let Some(address) = instance.member.address("") else { continue };
                endpoints.push(Endpoint {
                    host: self.service.host.clone(),
                    port: port.port,
                    address: address.to_owned(),
                    target_port,
                    health: instance.member.workload.health_for(&self.service.host, target_port),
                    transport: instance.member.transport(target_port),
                    member: instance.member.clone(),
                });
            }
        }
        endpoints
    }

    /// The VirtualService that counts for calls to a port: of those that callers of that namespace see, and whose Sidecar lets
    /// count, if they have one. `fits` says what it must have; `domain` is the mesh's.
    pub fn virtual_service(
        &self,
        (namespace, scope): (&str, Option<&Scope>),
        port: u16,
        domain: &str,
        fits: impl Fn(&VirtualService) -> bool,
    ) -> Option<(&ObjectRef, &VirtualService)> {
        self.rules.virtual_service(namespace, |object, rule| {
            fits(rule) && scope.is_none_or(|scope| scope.counts(&self.service, port, (object, rule), domain))
        })
    }
}

/// What changed between two snapshots; old and new values both counted.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Services that came, went or changed, or whose rules did.
    pub defined: BTreeSet<Hostname>,
    /// Services whose instances changed.
    pub populated: BTreeSet<Hostname>,
    /// Addresses of services in `defined`.
    pub addresses: BTreeSet<IpAddr>,
    /// Port numbers of services in `defined`.
    pub ports: BTreeSet<u16>,
    /// Workloads that came, went or changed, or joined or left a service.
    pub workloads: BTreeSet<WorkloadId>,
    /// A rule that does not belong to one service changed: Sidecar, say.
    pub rules: bool,
    /// A security policy changed. Workloads that it is about are in `workloads`; clients without one must look.
    pub policies: bool,
}

impl Changes {
    /// Whether nothing did.
    pub fn is_empty(&self) -> bool {
        self.defined.is_empty()
            && self.populated.is_empty()
            && self.workloads.is_empty()
            && !self.rules
            && !self.policies
    }

    fn add(&mut self, other: &Self) {
        self.defined.extend(other.defined.iter().cloned());
        self.populated.extend(other.populated.iter().cloned());
        self.addresses.extend(other.addresses.iter().copied());
        self.ports.extend(other.ports.iter().copied());
        self.workloads.extend(other.workloads.iter().cloned());
        self.rules |= other.rules;
        self.policies |= other.policies;
    }
}

/// Everything that is so.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts snapshots; 0 is the empty one before the first event.
    pub revision: u64,
    /// Settings of the mesh.
    pub settings: Arc<Settings>,
    /// Rules of the configuration.
    pub rules: Arc<Rules>,
    /// Keys of issuers of tokens.
    pub keys: Arc<Fetched>,
    /// Resources of the configuration with what became of them, by name.
    pub configs: Arc<Vec<ConfigState>>,
    /// Registries, by name.
    pub registries: Vec<RegistryStatus>,
    /// When the oldest event that this snapshot is the first to show was taken.
    pub since: std::time::Instant,
    /// Those that define a name, one a namespace, the best first.
    pub(super) services: ShardMap<Hostname, Arc<[ServiceState]>>,
    pub(super) workloads: ShardMap<WorkloadId, Arc<Member>>,
    pub(super) memberships: ShardMap<WorkloadId, Arc<[Hostname]>>,
    pub(super) by_address: ShardMap<IpAddr, BTreeSet<Hostname>>,
    pub(super) by_port: BTreeMap<u16, Arc<BTreeSet<Hostname>>>,
    pub(super) by_instance: ShardMap<InstanceRef, WorkloadId>,
    pub(super) by_workload_address: ShardMap<String, Vec<WorkloadId>>,
    /// Names that stand for services, and for which.
    pub(super) aliases: Arc<BTreeMap<Hostname, Hostname>>,
    /// Ways into networks, by network.
    pub(super) gateways: Arc<BTreeMap<String, BTreeSet<(IpAddr, u16)>>>,
    /// Services whose callers prefer what is near.
    pub(super) near: usize,
    pub(super) log: VecDeque<(u64, Arc<Changes>)>,
}

impl Snapshot {
    pub(super) fn empty(settings: Arc<Settings>) -> Self {
        Self {
            revision: 0,
            settings,
            rules: Arc::default(),
            keys: Arc::default(),
            configs: Arc::default(),
            registries: Vec::new(),
            since: std::time::Instant::now(),
            services: ShardMap::default(),
            workloads: ShardMap::default(),
            memberships: ShardMap::default(),
            by_address: ShardMap::default(),
            by_port: BTreeMap::new(),
            by_instance: ShardMap::default(),
            by_workload_address: ShardMap::default(),
            aliases: Arc::default(),
            gateways: Arc::default(),
            near: 0,
            log: VecDeque::new(),
        }
    }

    pub(super) fn record(&mut self, changes: Changes) {
        self.revision += 1;
        if changes.workloads.len() + changes.defined.len() > MANY {
            // To look at everything costs no more, and nobody keeps the list.
            self.log.clear();
            return;
        }
        self.log.push_back((self.revision, Arc::new(changes)));
        if self.log.len() > LOG {
            self.log.pop_front();
        }
    }

    /// Whether every registry that is waited for has said everything it held at its start. Until then, nobody is told that something
    /// is gone.
    pub fn ready(&self) -> bool {
        self.revision > 0 && self.registries.iter().all(|r| r.synced || !r.awaited)
    }

    /// Registries that have not, by name.
    pub fn missing(&self) -> Vec<String> {
        self.registries.iter().filter(|r| r.awaited && !r.synced).map(|r| r.id.to_string()).collect()
    }

    /// What changed after `revision`; `None` if that is too long ago to know.
    pub fn changes_since(&self, revision: u64) -> Option<Changes> {
        let mut all = Changes::default();
        if revision >= self.revision {
            return Some(all);
        }
        if self.log.front().is_none_or(|(first, _)| *first > revision + 1) {
            return None;
        }
        self.log.iter().filter(|(r, _)| *r > revision).for_each(|(_, changes)| all.add(changes));
        Some(all)
    }

    /// All services, by name; of those that several namespaces define, each definition.
    pub fn services(&self) -> Vec<&ServiceState> {
        self.names().into_iter().flatten().collect()
    }

    /// The definitions of each name, by name.
    pub fn names(&self) -> Vec<&[ServiceState]> {
        self.services.sorted().into_iter().map(|(_, states)| &**states).collect()
    }

    /// The definitions of a name, one a namespace, the best first.
    pub fn definitions(&self, host: &Hostname) -> &[ServiceState] {
        self.services.get(host).map(|states| &**states).unwrap_or_default()
    }

    /// The service that a name stands for, if it is another name for one.
    pub fn stands_for(&self, host: &Hostname) -> Option<&Hostname> {
        self.aliases.get(host)
    }

    /// Number of names of services.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Definitions of each name that has this address in one of them, by name.
    pub fn at_address(&self, address: IpAddr) -> impl Iterator<Item = &[ServiceState]> {
        self.by_address.get(&address).into_iter().flatten().map(|host| self.definitions(host))
    }

    /// Addresses that services have.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.by_address.iter().map(|(address, _)| *address).collect()
    }

    /// Definitions of each name that has a port of this number in one of them, by name.
    pub fn on_port(&self, port: u16) -> impl Iterator<Item = &[ServiceState]> {
        self.by_port.get(&port).into_iter().flat_map(|hosts| hosts.iter()).map(|host| self.definitions(host))
    }

    /// Numbers of all ports of services.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.by_port.keys().copied()
    }

    /// All workloads, by name.
    pub fn workloads(&self) -> Vec<&Arc<Member>> {
        self.workloads.sorted().into_iter().map(|(_, member)| member).collect()
    }

    /// Number of workloads.
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// One workload.
    pub fn workload(&self, id: &WorkloadId) -> Option<&Arc<Member>> {
        self.workloads.get(id)
    }

    /// Services that a workload is an instance of.
    pub fn services_of(&self, id: &WorkloadId) -> impl Iterator<Item = &ServiceState> {
        let hosts = self.memberships.get(id).into_iter().flat_map(|hosts| hosts.iter());
        hosts.flat_map(|host| {
            let states = self.definitions(host);
            // Of several definitions it need not be in each.
            let is = |state: &&ServiceState| state.instances.iter().any(|instance| instance.member.id == *id);
            states.iter().filter(move |state| states.len() == 1 || is(state))
        })
    }

    /// Where those outside of a network get into it, sorted.
    pub fn gateways(&self, network: &str) -> impl Iterator<Item = (IpAddr, u16)> {
        self.gateways.get(network).into_iter().flatten().copied()
    }

    /// Whether some rule, or some service, looks at where callers are.
    pub fn reads_locality(&self) -> bool {
        self.near > 0 || self.rules.reads_locality()
    }

    /// The workload of a joined host.
    pub fn of_instance(&self, instance: &InstanceRef) -> Option<&Arc<Member>> {
        self.by_instance.get(instance).and_then(|id| self.workloads.get(id))
    }

    /// Workloads that have this address, by name.
    pub fn at_workload_address(&self, address: &str) -> impl Iterator<Item = &Arc<Member>> {
        self.by_workload_address.get(address).into_iter().flatten().filter_map(|id| self.workloads.get(id))
    }

    /// Endpoints of all services, by service, port and workload.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.services().into_iter().flat_map(ServiceState::endpoints)
    }
}
