//! The registry's working state: everything said, the indexes that tell what a change touches, the next snapshot.
//!
//! In: events, one batch at a time. Out: a snapshot when asked. Invariant: a change costs what it touches, not what
//! there is: only services that a changed object belongs to are made anew.

mod aliases;
mod configs;
mod members;
mod services;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hawser_mesh::{Event, Gateway, Hostname, Object, ObjectKey, RegistryId, WorkloadKey};

use self::aliases::Aliases;
use self::configs::Configs;
use self::members::Members;
use super::Settings;
use super::addresses::{AddressBook, AddressRecord, Allocator};
use super::merge::{Apart, Definition, DefinitionKey};
use super::model::{Rank, RegistryStatus, WorkloadId};
use super::snapshot::{Changes, Snapshot};
use crate::keys::Fetched;

/// Everything said, and what became of it.
pub(super) struct Tables {
    settings: Arc<Settings>,
    registries: BTreeMap<RegistryId, RegistryStatus>,
    configs: Configs,
    members: Members,
    definitions: HashMap<Hostname, BTreeMap<DefinitionKey, Definition>>,
    apart: HashMap<Hostname, Apart>,
    aliases: Aliases,
    gateways: BTreeMap<(RegistryId, WorkloadKey), Arc<Gateway>>,
    allocator: Allocator,
    snapshot: Snapshot,
    /// Services to make anew.
    dirty: BTreeSet<Hostname>,
    changes: Changes,
    /// When the oldest event that no snapshot shows yet came.
    since: Option<Instant>,
    was_ready: bool,
}

impl Tables {
    pub(super) fn new(
        settings: Arc<Settings>,
        expected: impl IntoIterator<Item = RegistryId>,
        records: Vec<AddressRecord>,
    ) -> Self {
        let now = SystemTime::now();
        let status = |id| RegistryStatus { id, awaited: true, synced: false, stale: None, since: now, objects: 0 };
        let registries: BTreeMap<_, _> = expected.into_iter().map(|id| (id.clone(), status(id))).collect();
        let mut snapshot = Snapshot::empty(settings.clone());
        snapshot.registries = registries.values().cloned().collect();
        Self {
            allocator: Allocator::new(settings.virtual_ranges, records),
            settings,
            registries,
            configs: Configs::default(),
            members: Members::default(),
            definitions: HashMap::new(),
            apart: HashMap::new(),
            aliases: Aliases::default(),
            gateways: BTreeMap::new(),
            snapshot,
            dirty: BTreeSet::new(),
            changes: Changes::default(),
            since: None,
            was_ready: false,
        }
    }

    /// The last snapshot that was made.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.snapshot.clone())
    }

    /// Takes what a registry says.
    pub(super) fn apply(&mut self, registry: &RegistryId, events: Vec<Event>, now: SystemTime) {
        self.since.get_or_insert_with(Instant::now);
        self.status(registry, now);
        for event in events {
            match event {
                Event::Upsert(object) => self.upsert(registry, object),
                Event::Delete(key) => self.delete(registry, &key),
                Event::Synced => self.change_status(registry, now, |s| s.synced = true),
                Event::Stale(why) => self.change_status(registry, now, |s| s.stale = Some((now, why))),
                Event::Fresh => self.change_status(registry, now, |s| s.stale = None),
                Event::Rejected { origin, message } => self.configs.reject(registry, origin, message),
                Event::Cleared(origin) => self.configs.clear(registry, &origin),
                Event::Ended => self.end(registry),
            }
        }
    }

    /// Takes keys of issuers.
    pub(super) fn set_keys(&mut self, keys: Arc<Fetched>) {
        if *keys == *self.snapshot.keys {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.snapshot.keys = keys;
        self.changes.policies = true;
        let users = self.members.iter().filter(|member| !member.security.tokens.is_empty());
        self.changes.workloads.extend(users.map(|member| member.id.clone()));
        self.configs.touch();
    }

    /// Makes a snapshot of what is so now; `None` if nothing that it shows changed.
    pub(super) fn publish(&mut self, now: SystemTime, book: &mut dyn AddressBook) -> Option<Arc<Snapshot>> {
        self.refresh_rules();
        let ready = self.registries.values().all(|r| r.synced || !r.awaited);
        for host in std::mem::take(&mut self.dirty) {
            self.rebuild(&host, now, ready);
        }
        if ready && !self.was_ready {
            self.was_ready = true;
            let gone: Vec<_> =
                self.allocator.held().filter(|host| self.snapshot.services.get(*host).is_none()).cloned().collect();
            gone.iter().for_each(|host| self.allocator.release(host, now));
        }
        let (changed, forgotten) = self.allocator.take_changes();
        if (!changed.is_empty() || !forgotten.is_empty())
            && let Err(error) = book.save(&changed, &forgotten)
        {
            tracing::error!(%error, "virtual addresses are not written down; trying again with the next change");
            self.allocator.put_back(changed, forgotten);
        }
        let registries: Vec<_> = self.registries.values().cloned().collect();
        let configs = self.configs.take_states(
            &self.apart,
            &self.snapshot.rules,
            &self.snapshot.keys,
            (&self.settings, &self.snapshot.aliases),
        );
        let same = self.changes.is_empty() && registries == self.snapshot.registries && configs.is_none();
        let since = self.since.take().unwrap_or_else(Instant::now);
        if same && self.snapshot.revision > 0 {
            return None;
        }
        self.snapshot.registries = registries;
        if let Some(configs) = configs {
            self.snapshot.configs = Arc::new(configs);
        }
        self.snapshot.since = since;
        let changes = std::mem::take(&mut self.changes);
        self.snapshot.record(changes);
        Some(self.snapshot())
    }

    fn upsert(&mut self, registry: &RegistryId, object: Object) {
        match object {
            Object::Service(service) => {
                let endpoints = service.endpoints.iter().cloned().map(Arc::new).collect();
                let key = DefinitionKey {
                    rank: Rank::of(registry.kind),
                    precedence: 0,
                    registry: registry.clone(),
                    age: String::new(),
                    origin: String::new(),
                };
                self.define(service.host.clone(), key, Definition { service, endpoints, group: None });
            }
            Object::Workload(workload) => {
                let id = WorkloadId { registry: registry.clone(), key: workload.key.clone() };
                self.set_workload(id, Some(workload));
            }
            Object::Gateway(gateway) => self.set_gateway(registry, gateway.key.clone(), Some(gateway)),
            Object::Config(resource, origin) => {
                let changed = self.configs.upsert(registry, resource, origin);
                self.config_changed(changed);
            }
        }
    }

    fn delete(&mut self, registry: &RegistryId, key: &ObjectKey) {
        match key {
            ObjectKey::Service(host) => {
                let key = DefinitionKey {
                    rank: Rank::of(registry.kind),
                    precedence: 0,
                    registry: registry.clone(),
                    age: String::new(),
                    origin: String::new(),
                };
                self.undefine(host, &key);
            }
            ObjectKey::Workload(key) => {
                self.set_workload(WorkloadId { registry: registry.clone(), key: key.clone() }, None);
            }
            ObjectKey::Gateway(key) => self.set_gateway(registry, key.clone(), None),
            ObjectKey::Config(object) => {
                let changed = self.configs.delete(registry, object);
                self.config_changed(changed);
            }
        }
    }

    /// A registry that is no more: what it did not take back itself goes too.
    fn end(&mut self, registry: &RegistryId) {
        let workloads = self.members.iter().filter(|member| member.id.registry == *registry);
        let workloads: Vec<WorkloadId> = workloads.map(|member| member.id.clone()).collect();
        workloads.into_iter().for_each(|id| self.set_workload(id, None));
        for object in self.configs.of(registry) {
            let changed = self.configs.delete(registry, &object);
            self.config_changed(changed);
        }
        let defined = self.definitions.iter().flat_map(|(host, all)| all.keys().map(move |key| (host, key)));
        let defined = defined.filter(|(_, key)| key.registry == *registry);
        let defined: Vec<_> = defined.map(|(host, key)| (host.clone(), key.clone())).collect();
        defined.iter().for_each(|(host, key)| self.undefine(host, key));
        let gateways: Vec<_> = self.gateways.keys().filter(|(of, _)| of == registry).cloned().collect();
        gateways.into_iter().for_each(|(registry, key)| self.set_gateway(&registry, key, None));
        self.configs.clear_all(registry);
        self.registries.remove(registry);
    }

    /// A way into a network came, changed or went. That is rare, and whoever has endpoints there may have to look.
    fn set_gateway(&mut self, registry: &RegistryId, key: WorkloadKey, gateway: Option<Arc<Gateway>>) {
        match gateway {
            Some(gateway) => self.gateways.insert((registry.clone(), key), gateway),
            None => self.gateways.remove(&(registry.clone(), key)),
        };
        let mut networks: BTreeMap<String, BTreeSet<(IpAddr, u16)>> = BTreeMap::new();
        for gateway in self.gateways.values() {
            let all = gateway.addresses.iter().map(|address| (*address, gateway.port));
            networks.entry(gateway.network.clone()).or_default().extend(all);
        }
        networks.retain(|_, all| !all.is_empty());
        if networks != *self.snapshot.gateways {
            self.snapshot.gateways = Arc::new(networks);
            self.changes.rules = true;
        }
    }

    fn status(&mut self, registry: &RegistryId, now: SystemTime) -> &mut RegistryStatus {
        let fresh = || RegistryStatus {
            id: registry.clone(),
            awaited: false,
            synced: false,
            stale: None,
            since: now,
            objects: 0,
        };
        self.registries.entry(registry.clone()).or_insert_with(fresh)
    }

    fn change_status(&mut self, registry: &RegistryId, now: SystemTime, change: impl FnOnce(&mut RegistryStatus)) {
        let status = self.status(registry, now);
        let before = status.state();
        change(status);
        if status.state() != before {
            status.since = now;
        }
    }
}
