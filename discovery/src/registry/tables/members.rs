//! Workloads with the indexes by which services find them and they find their services.
//!
//! In: workloads that came, changed or went; anchors of selectors. Out: who may be touched. Invariant: a selector
//! is found by one of its labels, its anchor; a workload that has the anchor is only a candidate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hawser_mesh::{Hostname, RegistryId};

use crate::registry::merge::selects;
use crate::registry::model::{Member, WorkloadId};

type Label = (Arc<str>, String, String);

/// All workloads. Slots are small numbers for them, so that indexes stay small.
#[derive(Default)]
pub(super) struct Members {
    slots: Vec<Option<Arc<Member>>>,
    free: Vec<u32>,
    ids: HashMap<WorkloadId, u32>,
    by_label: HashMap<Label, BTreeSet<u32>>,
    by_service: HashMap<Hostname, BTreeSet<u32>>,
    by_group: HashMap<(Arc<str>, String), BTreeSet<u32>>,
    anchors: HashMap<Label, BTreeMap<Hostname, u32>>,
}

impl Members {
    pub(super) fn get(&self, id: &WorkloadId) -> Option<&Arc<Member>> {
        self.ids.get(id).and_then(|slot| self.slots[*slot as usize].as_ref())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.slots.iter().flatten()
    }

    /// Takes a workload in, in place of the one of that name.
    pub(super) fn insert(&mut self, member: Arc<Member>) {
        self.remove(&member.id);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        for label in labels(&member) {
            self.by_label.entry(label).or_default().insert(slot);
        }
        for host in &member.workload.services {
            self.by_service.entry(host.clone()).or_default().insert(slot);
        }
        if let Some(group) = group(&member) {
            self.by_group.entry(group).or_default().insert(slot);
        }
        self.ids.insert(member.id.clone(), slot);
        self.slots[slot as usize] = Some(member);
    }

    /// The same workload with other modes: no index changes.
    pub(super) fn replace(&mut self, member: Arc<Member>) {
        if let Some(slot) = self.ids.get(&member.id) {
            self.slots[*slot as usize] = Some(member);
        }
    }

    pub(super) fn remove(&mut self, id: &WorkloadId) -> Option<Arc<Member>> {
        let slot = self.ids.remove(id)?;
        let member = self.slots[slot as usize].take()?;
        self.free.push(slot);
        for label in labels(&member) {
            take(&mut self.by_label, &label, slot);
        }
        for host in &member.workload.services {
            take(&mut self.by_service, host, slot);
        }
        if let Some(group) = group(&member) {
            take(&mut self.by_group, &group, slot);
        }
        Some(member)
    }

    /// A service selects by these labels in this namespace, or no longer does.
    pub(super) fn anchor(&mut self, host: &Hostname, namespace: &str, selector: &BTreeMap<String, String>, add: bool) {
        let Some((key, value)) = selector.iter().next() else { return };
        let label = (Arc::from(namespace), key.clone(), value.clone());
        let hosts = self.anchors.entry(label.clone()).or_default();
        if add {
            *hosts.entry(host.clone()).or_default() += 1;
        } else if let Some(count) = hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(host);
            }
        }
        if hosts.is_empty() {
            self.anchors.remove(&label);
        }
    }

    /// Services whose selector may take this workload, and those that it names.
    pub(super) fn candidates(&self, member: &Member) -> BTreeSet<Hostname> {
        let anchored = labels(member).filter_map(|label| self.anchors.get(&label)).flat_map(|hosts| hosts.keys());
        anchored.chain(&member.workload.services).cloned().collect()
    }

    /// Workloads that a selector takes.
    pub(super) fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<&Arc<Member>> {
        let namespace: Arc<str> = namespace.into();
        let sets = selector.iter().map(|(k, v)| self.by_label.get(&(namespace.clone(), k.clone(), v.clone())));
        // The rarest label first: the others are checked one by one.
        let Some(rarest) = sets.min_by_key(|set| set.map_or(0, BTreeSet::len)).flatten() else { return Vec::new() };
        self.of(rarest).filter(|member| selects(selector, &member.workload.labels)).collect()
    }

    /// Workloads that name a service, of one registry or of all.
    pub(super) fn naming<'a>(
        &'a self,
        host: &Hostname,
        registry: Option<&'a RegistryId>,
    ) -> impl Iterator<Item = &'a Arc<Member>> {
        let slots = self.by_service.get(host);
        slots
            .into_iter()
            .flat_map(|slots| self.of(slots))
            .filter(move |member| registry.is_none_or(|registry| member.id.registry == *registry))
    }

    /// Workloads that were made from a group.
    pub(super) fn of_group(&self, namespace: &str, group: &str) -> impl Iterator<Item = &Arc<Member>> {
        let slots = self.by_group.get(&(Arc::from(namespace), group.to_owned()));
        slots.into_iter().flat_map(|slots| self.of(slots))
    }

    fn of<'a>(&'a self, slots: &'a BTreeSet<u32>) -> impl Iterator<Item = &'a Arc<Member>> {
        slots.iter().filter_map(|slot| self.slots[*slot as usize].as_ref())
    }
}

fn labels(member: &Member) -> impl Iterator<Item = Label> {
    let namespace = &member.id.key.namespace;
    member.workload.labels.iter().map(move |(k, v)| (namespace.clone(), k.clone(), v.clone()))
}

fn group(member: &Member) -> Option<(Arc<str>, String)> {
    member.workload.group.clone().map(|group| (member.id.key.namespace.clone(), group))
}

fn take<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<u32>>, key: &K, slot: u32) {
    if let Some(set) = index.get_mut(key) {
        set.remove(&slot);
        if set.is_empty() {
            index.remove(key);
        }
    }
}
