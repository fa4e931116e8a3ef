//! Services made anew: definitions merged, instances gathered, indexes of the snapshot kept.
//!
//! In: a host name that something touched. Out: its state in the next snapshot, and what changed. Invariant: a
//! state that is equal to the one before is not replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use hawser_mesh::{Hostname, Nearness, RegistryId, RegistryKind, Resolution, WorkloadKey};

use super::Tables;
use super::aliases::{self, Leads};
use crate::registry::convert;
use crate::registry::merge::{Definition, DefinitionKey, Merged, merge};
use crate::registry::model::{Instance, Member, Rank, Service, WorkloadId};
use crate::registry::rules::HostRules;
use crate::registry::snapshot::ServiceState;
use crate::registry::twins::unite;

/// Label of a ServiceEntry that wants no virtual address.
const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";

impl Tables {
    pub(super) fn define(&mut self, host: Hostname, key: DefinitionKey, definition: Definition) {
        self.undefine(&host, &key);
        if let Some(selector) = &definition.service.selector {
            self.members.anchor(&host, &definition.service.namespace, selector, true);
        }
        self.definitions.entry(host.clone()).or_default().insert(key, definition);
        self.touch_aliases(&host);
        self.dirty.insert(host);
    }

    pub(super) fn undefine(&mut self, host: &Hostname, key: &DefinitionKey) {
        let Some(definitions) = self.definitions.get_mut(host) else { return };
        let Some(old) = definitions.remove(key) else { return };
        if definitions.is_empty() {
            self.definitions.remove(host);
        }
        if let Some(selector) = &old.service.selector {
            self.members.anchor(host, &old.service.namespace, selector, false);
        }
        self.touch_aliases(host);
        self.dirty.insert(host.clone());
    }

    /// A workload came, changed (`Some`) or went (`None`).
    pub(super) fn set_workload(&mut self, id: WorkloadId, workload: Option<Arc<hawser_mesh::Workload>>) {
        if let Some(hosts) = self.snapshot.memberships.get(&id) {
            self.dirty.extend(hosts.iter().cloned());
        }
        let old = self.members.get(&id).cloned();
        if let (Some(old), Some(new)) = (&old, &workload)
            && old.workload == *new
        {
            return;
        }
        if let Some(old) = &old {
            self.touch_twins(&old.workload);
        }
        if let Some(new) = &workload {
            self.touch_twins(new);
        }
        self.count(&id, i64::from(workload.is_some()) - i64::from(old.is_some()));
        if let Some(old) = &old {
            self.dirty.extend(self.members.candidates(old));
            self.dirty.extend(self.group_host(old));
            self.unindex(old);
        }
        match workload {
            None => {
                self.members.remove(&id);
                self.snapshot.workloads.remove(&id);
            }
            Some(workload) => {
                let member = Arc::new(self.member(id.clone(), workload));
                self.dirty.extend(self.members.candidates(&member));
                self.dirty.extend(self.group_host(&member));
                self.index(&member);
                self.members.insert(member.clone());
                self.snapshot.workloads.insert(id.clone(), member);
            }
        }
        self.changes.workloads.insert(id);
    }

    /// A workload with what policies make of it.
    fn member(&self, id: WorkloadId, workload: Arc<hawser_mesh::Workload>) -> Member {
        let (namespace, labels) = (&id.key.namespace, &workload.labels);
        let modes = self.snapshot.rules.modes(namespace, labels);
        let security = self.snapshot.rules.security(namespace, labels);
        Member { id, workload, modes, security }
    }

    /// Workloads whose policy changed get their new modes.
    pub(super) fn refresh_modes(&mut self) {
        let rules = self.snapshot.rules.clone();
        let changed: Vec<Arc<Member>> = self
            .members
            .iter()
            .filter_map(|old| {
                let (namespace, labels) = (&old.id.key.namespace, &old.workload.labels);
                let modes = rules.modes(namespace, labels);
                let security = rules.security(namespace, labels);
                let changed = modes != old.modes || security != old.security;
                let new = || Member { id: old.id.clone(), workload: old.workload.clone(), modes, security };
                changed.then(|| Arc::new(new()))
            })
            .collect();
        for member in changed {
            if let Some(hosts) = self.snapshot.memberships.get(&member.id) {
                self.dirty.extend(hosts.iter().cloned());
            }
            self.members.replace(member.clone());
            self.snapshot.workloads.insert(member.id.clone(), member.clone());
            self.changes.workloads.insert(member.id.clone());
        }
        let listing = self.definitions.iter().filter(|(_, all)| all.values().any(|d| !d.endpoints.is_empty()));
        self.dirty.extend(listing.map(|(host, _)| host.clone()));
    }

    /// Makes the service of one name anew, of each namespace that defines it.
    pub(super) fn rebuild(&mut self, host: &Hostname, now: SystemTime, ready: bool) {
        let old = self.snapshot.services.get(host).cloned().unwrap_or_default();
        let none = BTreeMap::new();
        let definitions = self.definitions.get(host).unwrap_or(&none);
        let leads = self.leads(host);
        let (merged, apart) = match &leads {
            Leads::To(_) | Leads::InACircle => (Vec::new(), aliases::set_apart(definitions, &leads)),
            Leads::Outside | Leads::Nowhere => merge(host, definitions, &self.settings),
        };
        // A name for something that is no service of the mesh is one as far as it says ports.
        let nothing = leads == Leads::Outside && merged.iter().all(|(service, _)| service.ports.is_empty());
        let merged = if nothing { Vec::new() } else { merged };
        let instances: Vec<Vec<Instance>> = merged
            .iter()
            .map(|part| {
                let found = self.gather(host, definitions, part, &merged);
                unite(&part.0, found, |address| self.joined_at(address))
            })
            .collect();
        if apart.is_empty() {
            if self.apart.remove(host).is_some() {
                self.configs.touch();
            }
        } else if self.apart.get(host) != Some(&apart) {
            self.apart.insert(host.clone(), apart);
            self.configs.touch();
        }
        if merged.is_empty() && !old.is_empty() && ready {
            self.allocator.release(host, now);
        }
        let to = if let Leads::To(to) = leads { Some(to) } else { None };
        self.set_alias(host, to.as_ref());
        let rules = Arc::new(self.snapshot.rules.for_host(host));
        let names = self.other_names(host);
        let mut new = Vec::new();
        for ((mut service, _), instances) in merged.into_iter().zip(instances) {
            service.virtual_addresses = self.virtual_addresses(&service, now);
            service.aliases.clone_from(&names);
            let before = old.iter().find(|state| state.service.namespace == service.namespace);
            new.push(self.renewed(before, service, instances, &rules));
        }
        self.replace(host, &old, new);
    }

    /// A state of a service that shares with the one before what did not change.
    fn renewed(
        &self,
        before: Option<&ServiceState>,
        service: Service,
        instances: Vec<Instance>,
        rules: &Arc<HostRules>,
    ) -> ServiceState {
        let revision = self.snapshot.revision + 1;
        let mut state = ServiceState {
            service: Arc::new(service),
            instances: Arc::new(instances),
            rules: rules.clone(),
            defined: revision,
            populated: revision,
        };
        if let Some(old) = before {
            if old.service == state.service && old.rules == state.rules {
                (state.service, state.rules, state.defined) = (old.service.clone(), old.rules.clone(), old.defined);
            }
            if old.instances == state.instances {
                (state.instances, state.populated) = (old.instances.clone(), old.populated);
            }
        }
        state
    }

    /// Puts the new states in the place of the old ones, in the snapshot and its indexes.
    fn replace(&mut self, host: &Hostname, old: &[ServiceState], new: Vec<ServiceState>) {
        let all = |states: &[ServiceState], of: fn(&ServiceState) -> u64| -> Vec<(Arc<str>, u64)> {
            states.iter().map(|state| (state.service.namespace.clone(), of(state))).collect()
        };
        let defined = all(old, |s| s.defined) != all(&new, |s| s.defined);
        let populated = all(old, |s| s.populated) != all(&new, |s| s.populated);
        if defined {
            let near = |states: &[ServiceState]| states.iter().filter(|s| s.service.nearness == Nearness::Zone).count();
            let was = self.snapshot.reads_locality();
            self.snapshot.near = (self.snapshot.near + near(&new)).saturating_sub(near(old));
            // Then views differ by where callers are, or no longer do.
            self.changes.rules |= was != self.snapshot.reads_locality();
            let dialled = |states: &[ServiceState]| -> Vec<IpAddr> {
                states.iter().flat_map(|state| state.service.dialled()).collect()
            };
            let ports = |states: &[ServiceState]| -> BTreeSet<u16> {
                states.iter().flat_map(|state| state.service.ports.iter().map(|p| p.port)).collect()
            };
            let (before, after) = (dialled(old), dialled(&new));
            let (ports_before, ports_after) = (ports(old), ports(&new));
            self.move_host(host, &before, &after, &ports_before, &ports_after);
            self.changes.addresses.extend(before.into_iter().chain(after));
            self.changes.ports.extend(ports_before.into_iter().chain(ports_after));
            self.changes.defined.insert(host.clone());
            self.touch_readers(host);
        }
        if populated {
            // Health changes often, and those that have it seldom.
            if !members(old).eq(members(&new)) {
                let (before, after): (BTreeSet<_>, BTreeSet<_>) = (members(old).collect(), members(&new).collect());
                for id in before.symmetric_difference(&after).copied() {
                    self.set_membership(id, host, after.contains(&id));
                }
            }
            self.changes.populated.insert(host.clone());
        }
        // Inbound sides read the protocol of their ports from the services they belong to.
        if defined {
            self.changes.workloads.extend(members(old).chain(members(&new)).cloned());
        }
        if new.is_empty() {
            self.snapshot.services.remove(host);
        } else if defined || populated {
            self.snapshot.services.insert(host.clone(), new.into());
        }
    }

    /// Services whose routes go to one that changed.
    pub(super) fn touch_readers(&mut self, host: &Hostname) {
        let readers: Vec<Hostname> = self.snapshot.rules.readers_of(host).map(|(reader, _)| reader.clone()).collect();
        readers.iter().for_each(|reader| self.touch_reader(reader));
    }

    /// A service whose routes go to one that changed reads that one's ports.
    fn touch_reader(&mut self, reader: &Hostname) {
        let states = self.snapshot.definitions(reader);
        if states.is_empty() {
            return;
        }
        self.changes.addresses.extend(states.iter().flat_map(|state| state.service.dialled()));
        self.changes.ports.extend(states.iter().flat_map(|state| state.service.ports.iter().map(|p| p.port)));
        self.changes.defined.insert(reader.clone());
    }

    /// The instances of a service as one namespace defines it; `all` is how each does.
    fn gather(
        &self,
        host: &Hostname,
        definitions: &BTreeMap<DefinitionKey, Definition>,
        (service, used): &Merged,
        all: &[Merged],
    ) -> BTreeMap<WorkloadId, Instance> {
        let mut found: BTreeMap<WorkloadId, Instance> = BTreeMap::new();
        let mut add = |member: &Arc<Member>, index: usize| {
            let instance = found.entry(member.id.clone());
            instance.or_insert_with(|| Instance::new(member.clone())).via |= 1 << index;
        };
        // Who names a service means his own namespace's, if that defines it.
        let meant = |member: &&Arc<Member>| {
            let namespace = &member.id.key.namespace;
            *namespace == service.namespace || all.iter().all(|(other, _)| other.namespace != *namespace)
        };
        for (index, key) in used.iter().enumerate() {
            let Some(definition) = definitions.get(key) else { continue };
            let namespace = &definition.service.namespace;
            for (number, workload) in definition.endpoints.iter().enumerate() {
                let name = format!("{}#{}-{number}", definition.service.host, definition.service.name);
                let id = WorkloadId {
                    registry: key.registry.clone(),
                    key: WorkloadKey { namespace: namespace.as_str().into(), name: name.into() },
                };
                add(&Arc::new(self.member(id, workload.clone())), index);
            }
            if let Some((group, _)) = &definition.group {
                self.members.of_group(namespace, group).for_each(|member| add(member, index));
            }
            match &definition.service.selector {
                Some(selector) if !selector.is_empty() => {
                    // Which of its pods back a service, a cluster itself says, and what it says is exact.
                    let said = key.rank == Rank::Kubernetes;
                    let takes = |m: &&Arc<Member>| {
                        let kind = m.id.registry.kind;
                        let listed = said && kind == RegistryKind::Kubernetes && !convert::is_entry(&m.id);
                        !kind.is_outside() && !listed
                    };
                    let chosen = self.members.selected(namespace, selector);
                    chosen.into_iter().filter(takes).for_each(|m| add(m, index));
                    if said {
                        self.members.naming(host, Some(&key.registry)).for_each(|member| add(member, index));
                    }
                }
                _ => self.members.naming(host, Some(&key.registry)).filter(meant).for_each(|m| add(m, index)),
            }
        }
        // Who names a service that its own registry does not define is an instance of what there is.
        let defines =
            |registry: &RegistryId| all.iter().flat_map(|(_, used)| used).any(|key| key.registry == *registry);
        for member in self.members.naming(host, None).filter(meant) {
            if !defines(&member.id.registry) {
                add(member, 0);
            }
        }
        found
    }

    /// Workloads of joined hosts at an address.
    fn joined_at(&self, address: &str) -> Vec<Arc<Member>> {
        let ids = self.snapshot.by_workload_address.get(address).into_iter().flatten();
        ids.filter_map(|id| self.members.get(id)).filter(|m| m.workload.instance.is_some()).cloned().collect()
    }

    /// A joined host came, changed or went: services that another registry says of its addresses.
    fn touch_twins(&mut self, workload: &hawser_mesh::Workload) {
        if workload.instance.is_none() {
            return;
        }
        let ids = workload.addresses.values().flatten().filter_map(|a| self.snapshot.by_workload_address.get(a));
        let outside = ids.flatten().filter(|id| id.registry.kind.is_outside());
        let members = outside.filter_map(|id| self.members.get(id));
        let hosts: BTreeSet<Hostname> = members.flat_map(|member| member.workload.services.iter().cloned()).collect();
        self.dirty.extend(hosts);
    }

    fn group_host(&self, member: &Member) -> Option<Hostname> {
        let group = member.workload.group.as_ref()?;
        Hostname::service(group, &member.id.key.namespace, &self.settings.domain).ok()
    }

    fn virtual_addresses(&mut self, service: &Service, now: SystemTime) -> Vec<IpAddr> {
        // Where callers' own addresses count, another one would lead nowhere.
        let declined = service.labels.get(AUTO_ALLOCATE).is_some_and(|said| said.eq_ignore_ascii_case("false"));
        if !service.addresses.is_empty() || service.resolution == Resolution::None || declined {
            return Vec::new();
        }
        let (v4, v6) = self.allocator.assign(&service.host, now);
        v4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(v6)]).collect()
    }

    fn move_host(
        &mut self,
        host: &Hostname,
        before: &[IpAddr],
        after: &[IpAddr],
        ports_before: &BTreeSet<u16>,
        ports_after: &BTreeSet<u16>,
    ) {
        for address in before {
            let remove = |hosts: &mut BTreeSet<Hostname>| {
                hosts.remove(host);
            };
            self.snapshot.by_address.edit(*address, remove, |hosts| !hosts.is_empty());
        }
        for address in after {
            let add = |hosts: &mut BTreeSet<Hostname>| {
                hosts.insert(host.clone());
            };
            self.snapshot.by_address.edit(*address, add, |_| true);
        }
        for port in ports_before.difference(ports_after) {
            if let Some(hosts) = self.snapshot.by_port.get_mut(port) {
                Arc::make_mut(hosts).remove(host);
                if hosts.is_empty() {
                    self.snapshot.by_port.remove(port);
                }
            }
        }
        for port in ports_after.difference(ports_before) {
            Arc::make_mut(self.snapshot.by_port.entry(*port).or_default()).insert(host.clone());
        }
    }

    fn set_membership(&mut self, id: &WorkloadId, host: &Hostname, member: bool) {
        let old = self.snapshot.memberships.get(id);
        let mut hosts: BTreeSet<Hostname> = old.into_iter().flat_map(|hosts| hosts.iter().cloned()).collect();
        if member {
            hosts.insert(host.clone())
        } else {
            hosts.remove(host)
        };
        if hosts.is_empty() {
            self.snapshot.memberships.remove(id);
        } else {
            self.snapshot.memberships.insert(id.clone(), hosts.into_iter().collect());
        }
        self.changes.workloads.insert(id.clone());
    }

    fn index(&mut self, member: &Member) {
        if let Some(instance) = &member.workload.instance {
            self.snapshot.by_instance.insert(instance.clone(), member.id.clone());
        }
        for address in member.workload.addresses.values().flatten() {
            let id = member.id.clone();
            let add = |ids: &mut Vec<WorkloadId>| {
                ids.push(id);
                ids.sort();
                ids.dedup();
            };
            self.snapshot.by_workload_address.edit(address.clone(), add, |_| true);
        }
    }

    fn unindex(&mut self, member: &Member) {
        if let Some(instance) = &member.workload.instance
            && self.snapshot.by_instance.get(instance) == Some(&member.id)
        {
            self.snapshot.by_instance.remove(instance);
        }
        for address in member.workload.addresses.values().flatten() {
            let remove = |ids: &mut Vec<WorkloadId>| ids.retain(|id| *id != member.id);
            self.snapshot.by_workload_address.edit(address.clone(), remove, |ids| !ids.is_empty());
        }
    }

    fn count(&mut self, id: &WorkloadId, by: i64) {
        if let Some(status) = self.registries.get_mut(&id.registry) {
            status.objects = status.objects.saturating_add_signed(by as isize);
        }
    }
}

/// Who is in them, in their order.
fn members(states: &[ServiceState]) -> impl Iterator<Item = &WorkloadId> {
    states.iter().flat_map(|state| state.instances.iter()).map(|instance| &instance.member.id)
}
