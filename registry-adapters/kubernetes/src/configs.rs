//! Istio's resources of a cluster, and which of them are configuration of the mesh. No I/O.
//!
//! In: whole lists and changes of custom resources. Out: parts, one a resource, and what can't be used. Invariant: of an
//! object that says nonsense the last good version stays.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use hawser_api::istio::{Kind, Resource};
use hawser_mesh::{Object, Origin};

use crate::name::Name;
use crate::watch::Change;
use crate::wire::{Config, Item as _};
use crate::world::Told;

/// A resource, as a part of what is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Part(pub(crate) Kind, pub(crate) Name);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", prefix(self.0), self.1)
    }
}

/// How names of parts of a kind begin.
pub(crate) fn prefix(kind: Kind) -> String {
    format!("config/{kind}/")
}

/// An object that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Field, reason, cure.
    message: String,
    /// An earlier version of it counts on.
    kept: bool,
}

impl Refusal {
    /// As it is told.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.message, if self.kept { "; its last good version counts on" } else { "" })
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Configs {
    all: HashMap<Part, Known>,
    heard: HashSet<Kind>,
    dirty: BTreeMap<Part, bool>,
    listed: bool,
    /// Objects that are wrong now, or no longer are: told once.
    told: BTreeMap<Part, Option<Refusal>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last version that can be used.
    good: Option<Arc<Resource>>,
    /// The version of now can't be.
    wrong: bool,
}

impl Configs {
    /// Whether a kind was heard whole.
    pub(crate) fn was_heard(&self, kind: Kind) -> bool {
        self.heard.contains(&kind)
    }

    /// A kind was heard whole that is no configuration.
    pub(crate) fn hear(&mut self, kind: Kind) {
        self.heard.insert(kind);
    }

    /// Takes in what became of a kind's objects.
    pub(crate) fn take(&mut self, kind: Kind, change: Change<Config>) {
        match change {
            Change::Whole(all) => {
                self.heard.insert(kind);
                self.listed = true;
                let listed: HashSet<Name> = all.iter().map(|config| config.name()).collect();
                let lost = self.all.keys().filter(|part| part.0 == kind && !listed.contains(&part.1));
                let lost: Vec<Part> = lost.cloned().collect();
                lost.into_iter().for_each(|part| self.remove(part, false));
                all.into_iter().for_each(|config| self.set(kind, &config));
            }
            Change::Set(config) => self.set(kind, &config),
            Change::Gone(name) => self.remove(Part(kind, name), true),
        }
    }

    fn set(&mut self, kind: Kind, config: &Config) {
        let part = Part(kind, config.name());
        if kind == Kind::WorkloadEntry && config.is_ours() {
            // What we wrote down for others to see is no news.
            self.remove(part, true);
            return;
        }
        let known = self.all.entry(part.clone()).or_default();
        match config.resource() {
            Ok(resource) => {
                if std::mem::take(&mut known.wrong) {
                    self.told.insert(part.clone(), None);
                }
                if known.good.as_deref().is_some_and(|good| is_same(good, &resource)) {
                    return;
                }
                known.good = Some(Arc::new(resource));
                self.dirty.entry(part).or_default();
            }
            Err(error) => {
                known.wrong = true;
                let refusal = Refusal { message: error.to_string(), kept: known.good.is_some() };
                self.told.insert(part, Some(refusal));
            }
        }
    }

    fn remove(&mut self, part: Part, surely: bool) {
        let Some(known) = self.all.remove(&part) else { return };
        if known.wrong {
            self.told.insert(part.clone(), None);
        }
        *self.dirty.entry(part).or_default() |= surely;
    }

    /// The mesh has a namespace now, or no longer has it.
    pub(crate) fn touch(&mut self, namespace: &str) {
        let within = self.all.keys().filter(|part| *part.1.namespace == *namespace).cloned();
        let within: Vec<Part> = within.collect();
        within.into_iter().for_each(|part| *self.dirty.entry(part).or_default() = true);
    }

    /// Parts that changed, and whether some kind was listed anew. `counts` says which namespaces do.
    pub(crate) fn changed(&mut self, counts: impl Fn(&str) -> bool) -> (Vec<(Part, Told)>, bool) {
        let dirty = std::mem::take(&mut self.dirty);
        let told = |(part, surely): (Part, bool)| {
            let told = match (self.make(&part, &counts), surely) {
                (Some(objects), _) => Told::Is(objects),
                (None, true) => Told::Gone,
                (None, false) => Told::Missing,
            };
            (part, told)
        };
        let changed = dirty.into_iter().map(told).collect();
        (changed, std::mem::take(&mut self.listed))
    }

    /// What is wrong since this was last asked; `None` for what no longer is.
    pub(crate) fn refusals(&mut self) -> BTreeMap<Part, Option<Refusal>> {
        std::mem::take(&mut self.told)
    }

    /// All parts that there are; `true` for those that have a version that can be used.
    pub(crate) fn parts(&self, counts: impl Fn(&str) -> bool) -> impl Iterator<Item = (&Part, bool)> {
        let counted = self.all.iter().filter(move |(part, _)| counts(&part.1.namespace));
        counted.map(|(part, known)| (part, known.good.is_some()))
    }

    fn make(&self, part: &Part, counts: impl Fn(&str) -> bool) -> Option<Vec<Object>> {
        if !counts(&part.1.namespace) {
            return None;
        }
        let good = self.all.get(part)?.good.clone()?;
        Some(vec![Object::Config(good, origin(part))])
    }
}

/// Where a person finds it.
pub(crate) fn origin(part: &Part) -> Origin {
    Origin { name: format!("{} {}", part.0, part.1).into(), line: 0 }
}

/// Whether nothing changed that anybody reads: a status, the version.
fn is_same(old: &Resource, new: &Resource) -> bool {
    let (a, b) = (&old.metadata, &new.metadata);
    old.spec == new.spec
        && old.api_version == new.api_version
        && a.labels == b.labels
        && a.annotations == b.annotations
        && a.uid == b.uid
        && a.generation == b.generation
}

#[cfg(test)]
mod tests;
