//! Joined hosts, found by their labels.
//!
//! In: all of them, again and again. Out: which changed, and which a selector takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use hawser_mesh::{Health, Workload, WorkloadKey};

/// Workloads of joined hosts, by name.
pub type Joined = BTreeMap<WorkloadKey, Arc<Workload>>;

/// Those that are there.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    all: Joined,
    /// By namespace, a label, its value.
    labelled: HashMap<(Arc<str>, String, String), BTreeSet<WorkloadKey>>,
}

/// A host that came, went or changed.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) key: WorkloadKey,
    /// Labels that it had or has.
    pub(super) labels: Vec<BTreeMap<String, String>>,
}

impl Hosts {
    /// Takes in all that there are. One whose lease ended is not there.
    pub(super) fn set(&mut self, joined: &Joined) -> Vec<Changed> {
        let is_there = |workload: &Workload| workload.health != Health::Unhealthy;
        let gone = self.all.keys().filter(|key| !joined.get(key).is_some_and(|workload| is_there(workload)));
        let gone: Vec<WorkloadKey> = gone.cloned().collect();
        let mut changed = Vec::new();
        for key in gone {
            changed.push(self.replace(key, None));
        }
        for (key, workload) in joined.iter().filter(|(_, workload)| is_there(workload)) {
            let same = |old: &Arc<Workload>| Arc::ptr_eq(old, workload) || old == workload;
            if !self.all.get(key).is_some_and(same) {
                changed.push(self.replace(key.clone(), Some(workload.clone())));
            }
        }
        changed
    }

    fn replace(&mut self, key: WorkloadKey, new: Option<Arc<Workload>>) -> Changed {
        let mut labels = Vec::new();
        let old = match &new {
            Some(new) => self.all.insert(key.clone(), new.clone()),
            None => self.all.remove(&key),
        };
        if let Some(old) = old {
            for (label, value) in &old.labels {
                let place = (key.namespace.clone(), label.clone(), value.clone());
                if let Some(with) = self.labelled.get_mut(&place) {
                    with.remove(&key);
                    if with.is_empty() {
                        self.labelled.remove(&place);
                    }
                }
            }
            labels.push(old.labels.clone());
        }
        if let Some(new) = new {
            for (label, value) in &new.labels {
                let place = (key.namespace.clone(), label.clone(), value.clone());
                self.labelled.entry(place).or_default().insert(key.clone());
            }
            labels.push(new.labels.clone());
        }
        Changed { key, labels }
    }

    pub(super) fn get(&self, key: &WorkloadKey) -> Option<&Arc<Workload>> {
        self.all.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkloadKey, &Arc<Workload>)> {
        self.all.iter()
    }

    /// Hosts of a namespace that a selector takes, by name; one that asks for nothing takes none.
    pub(super) fn selected(&self, namespace: &Arc<str>, selector: &BTreeMap<String, String>) -> Vec<&Arc<Workload>> {
        let with =
            |(label, value): (&String, &String)| self.labelled.get(&(namespace.clone(), label.clone(), value.clone()));
        let Some(all) = selector.iter().map(with).collect::<Option<Vec<_>>>() else { return Vec::new() };
        let Some(fewest) = all.into_iter().min_by_key(|with| with.len()) else { return Vec::new() };
        let found = fewest.iter().filter_map(|key| self.all.get(key));
        found.filter(|workload| takes(selector, &workload.labels)).collect()
    }
}

/// Whether a selector takes something with these labels.
pub(super) fn takes(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, labels: &[(&str, &str)], health: Health) -> (WorkloadKey, Arc<Workload>) {
        let key = WorkloadKey { namespace: "shop".into(), name: name.into() };
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        (key.clone(), Arc::new(Workload { labels, health, ..Workload::new(key) }))
    }

    fn names(hosts: &Hosts, selector: &[(&str, &str)]) -> Vec<String> {
        let selector = selector.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        hosts.selected(&"shop".into(), &selector).iter().map(|w| w.key.name.to_string()).collect()
    }

    #[test]
    fn a_selector_takes_hosts_that_have_all_of_it_and_follows_their_labels() {
        let mut hosts = Hosts::default();
        let web = [("app", "web"), ("version", "v1")];
        let first: Joined = [host("a", &web, Health::Healthy), host("b", &web[..1], Health::Degraded)].into();
        assert_eq!(hosts.set(&first).len(), 2);
        assert!(hosts.set(&first).is_empty(), "nothing changed");
        assert_eq!(names(&hosts, &web[..1]), ["a", "b"]);
        assert_eq!(names(&hosts, &web), ["a"]);
        assert!(names(&hosts, &[]).is_empty(), "nothing is asked for");
        let other = [host("a", &[("app", "db")], Health::Healthy), host("b", &web[..1], Health::Unhealthy)].into();
        let changed = hosts.set(&other);
        assert_eq!(changed.iter().map(|c| c.labels.len()).collect::<Vec<_>>(), [1, 2], "b left, a has others");
        assert!(names(&hosts, &web[..1]).is_empty() && names(&hosts, &[("app", "db")]) == ["a"]);
        assert_eq!(hosts.labelled.len(), 1);
    }
}
