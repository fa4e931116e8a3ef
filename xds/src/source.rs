//! Where a server session reads its resources, and how it hears of changes.
//!
//! In: a caller's view of the world, passed with each call. Out: lookups. Invariant: within one call a source does
//! not change; between calls whatever may differ is named in [`Changes`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource::{Resource, TypeUrl};

/// The resources of one client's view.
pub trait Source {
    /// The resource, or `None` if there is none of that name. Finds every name that [`Source::names`] lists.
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource>;

    /// What a wildcard subscription holds, sorted.
    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>>;

    /// What a resource needs to be of use: a listener its routes, clusters and endpoints, a cluster its endpoints.
    /// Endpoints need nothing.
    fn closure(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)>;

    /// What a client waits for again after this resource changed: a cluster's endpoints, a listener's routes.
    fn follow(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        let wanted = match ty {
            t if *t == TypeUrl::CLUSTER => TypeUrl::ENDPOINTS,
            t if *t == TypeUrl::LISTENER => TypeUrl::ROUTE,
            _ => return Vec::new(),
        };
        self.closure(ty, name).into_iter().filter(|(ty, _)| *ty == wanted).collect()
    }

    /// Whether it is not known yet if there is such a resource. Then a subscription is not answered until a change
    /// names it; for `*`, until [`Changes::all`]. For relays; whoever knows everything leaves this out.
    fn undecided(&self, ty: &TypeUrl, name: &str) -> bool {
        let _ = (ty, name);
        false
    }
}

/// Whether a subscribed resource brings with it what it needs: for clients that subscribe by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closure {
    /// hawser-proxy.
    On,
    /// Envoy, gRPC, the agent's own types.
    Off,
}

/// Names that may have changed since the last call.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(crate) all: bool,
    /// Name to whether it is sent again even if it did not change.
    pub(crate) named: BTreeMap<TypeUrl, BTreeMap<Arc<str>, bool>>,
}

impl Changes {
    /// Anything may have changed.
    pub fn all() -> Self {
        Self { all: true, named: BTreeMap::new() }
    }

    /// This one may have changed, appeared or gone.
    pub fn add(&mut self, ty: TypeUrl, name: impl Into<Arc<str>>) {
        self.named.entry(ty).or_default().entry(name.into()).or_insert(false);
    }

    /// This one is sent again to whoever holds it, changed or not. For relays, whose own server did so.
    pub fn resend(&mut self, ty: TypeUrl, name: impl Into<Arc<str>>) {
        self.named.entry(ty).or_default().insert(name.into(), true);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
    }

    /// Adds what `other` names.
    pub fn merge(&mut self, other: &Changes) {
        self.all |= other.all;
        for (ty, names) in &other.named {
            let mine = self.named.entry(ty.clone()).or_default();
            for (name, resend) in names {
                *mine.entry(name.clone()).or_default() |= resend;
            }
        }
    }

    /// The names, by type; nothing for [`Changes::all`].
    pub fn iter(&self) -> impl Iterator<Item = (&TypeUrl, &Arc<str>)> {
        self.named.iter().flat_map(|(ty, names)| names.keys().map(move |name| (ty, name)))
    }
}

impl FromIterator<(TypeUrl, Arc<str>)> for Changes {
    fn from_iter<I: IntoIterator<Item = (TypeUrl, Arc<str>)>>(names: I) -> Self {
        let mut changes = Self::default();
        for (ty, name) in names {
            changes.add(ty, name);
        }
        changes
    }
}
