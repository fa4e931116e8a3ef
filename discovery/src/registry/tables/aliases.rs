//! Services that are other names for others: an ExternalName that leads to a service of the mesh.
//!
//! In: definitions as they come and go. Out: for a name, the service that it stands for; for a service, its other names.
//! Invariant: what is found depends on the definitions alone, not on the order in which they came, and a circle of names leads
//! nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_mesh::Hostname;

use super::Tables;
use crate::registry::merge::{Apart, Definition, DefinitionKey};
use crate::registry::model::Alias;

/// Names that lead from one to the next at most.
const LONGEST: usize = 8;

/// Which name leads to which, whether there is a service or not.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    to: BTreeMap<Hostname, Hostname>,
    from: BTreeMap<Hostname, BTreeSet<Hostname>>,
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// A service of its own, or nothing.
    Nowhere,
    /// Another name for this service.
    To(Hostname),
    /// Another name for something that is no service of the mesh.
    Outside,
    /// To itself, or too far.
    InACircle,
}

impl Aliases {
    fn set(&mut self, host: &Hostname, to: Option<Hostname>) {
        if let Some(old) = self.to.remove(host)
            && let Some(all) = self.from.get_mut(&old)
        {
            all.remove(host);
            if all.is_empty() {
                self.from.remove(&old);
            }
        }
        if let Some(to) = to {
            self.from.entry(to.clone()).or_default().insert(host.clone());
            self.to.insert(host.clone(), to);
        }
    }

    /// Names that lead to a host, from near to far.
    fn leading_to<'a>(&'a self, host: &'a Hostname) -> Vec<&'a Hostname> {
        let mut all: Vec<&Hostname> = Vec::new();
        let mut last = vec![host];
        for _ in 0..LONGEST {
            let next: Vec<&Hostname> = last.iter().filter_map(|host| self.from.get(*host)).flatten().collect();
            last = next.into_iter().filter(|name| *name != host && !all.contains(name)).collect();
            all.extend(&last);
        }
        all
    }

    /// Where a name leads, from near to far.
    fn led_to(&self, host: &Hostname) -> Vec<&Hostname> {
        let next = |host: &&Hostname| self.to.get(*host);
        std::iter::successors(self.to.get(host), next).take(LONGEST + 1).collect()
    }
}

impl Tables {
    /// A definition of a host came or went.
    pub(super) fn touch_aliases(&mut self, host: &Hostname) {
        let to = self.definitions.get(host).and_then(other_name).cloned();
        if self.aliases.to.get(host) != to.as_ref() {
            self.touch_along(host);
            self.aliases.set(host, to);
        }
        self.touch_along(host);
    }

    /// Who leads to a host, and to whom it leads, may be something else now.
    fn touch_along(&mut self, host: &Hostname) {
        let (before, after) = (self.aliases.leading_to(host), self.aliases.led_to(host));
        self.dirty.extend(before.into_iter().chain(after).cloned());
    }

    /// What a name is.
    pub(super) fn leads(&self, host: &Hostname) -> Leads {
        let all = self.aliases.led_to(host);
        match all.last() {
            None => Leads::Nowhere,
            Some(_) if all.len() > LONGEST => Leads::InACircle,
            Some(last) if self.definitions.contains_key(*last) => Leads::To((*last).clone()),
            Some(_) => Leads::Outside,
        }
    }

    /// Other names of a service, sorted.
    pub(super) fn other_names(&self, host: &Hostname) -> Vec<Alias> {
        if self.aliases.to.contains_key(host) {
            return Vec::new();
        }
        let definition = |host: &Hostname| self.definitions.get(host).and_then(|all| all.values().next());
        let alias = |host: &Hostname| {
            let service = &definition(host)?.service;
            Some(Alias {
                host: host.clone(),
                namespace: service.namespace.as_str().into(),
                export_to: service.export_to.clone(),
            })
        };
        let mut all: Vec<Alias> = self.aliases.leading_to(host).into_iter().filter_map(alias).collect();
        all.sort();
        all
    }

    /// Notes which service a name stands for, if it does for one.
    pub(super) fn set_alias(&mut self, host: &Hostname, to: Option<&Hostname>) {
        if self.snapshot.aliases.get(host) == to {
            return;
        }
        let all = Arc::make_mut(&mut self.snapshot.aliases);
        match to {
            Some(to) => all.insert(host.clone(), to.clone()),
            None => all.remove(host),
        };
        self.changes.defined.insert(host.clone());
        // Routes that lead to the name lead elsewhere now, and rules for it have an effect now, or none.
        self.touch_readers(host);
        self.configs.touch();
    }
}

/// Why definitions of a name that stands for another one do not count: those that say something else.
pub(super) fn set_apart(definitions: &BTreeMap<DefinitionKey, Definition>, leads: &Leads) -> Apart {
    let why = match leads {
        Leads::To(to) => format!("the name stands for {to}, as Kubernetes says"),
        _ => "the name leads to itself, as Kubernetes says".to_owned(),
    };
    let others = definitions.iter().filter(|(_, definition)| definition.service.alias_of.is_none());
    others.map(|(key, _)| (key.clone(), why.clone())).collect()
}

/// The name that a name leads to: if all say so who know best.
fn other_name(definitions: &BTreeMap<DefinitionKey, Definition>) -> Option<&Hostname> {
    let (best, first) = definitions.first_key_value()?;
    let mut others = definitions.iter().filter(|(key, _)| key.rank == best.rank);
    others.all(|(_, definition)| definition.service.alias_of.is_some()).then_some(first.service.alias_of.as_ref()?)
}
