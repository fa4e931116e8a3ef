//! Resources whose content is `<revision>;<name>,<name>`: the names are what the resource leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::{Resource, Source, TypeUrl};

pub(crate) const CDS: TypeUrl = TypeUrl::CLUSTER;
pub(crate) const EDS: TypeUrl = TypeUrl::ENDPOINTS;
pub(crate) const RDS: TypeUrl = TypeUrl::ROUTE;
pub(crate) const LDS: TypeUrl = TypeUrl::LISTENER;

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) resources: BTreeMap<(TypeUrl, Arc<str>), String>,
    pub(crate) undecided: BTreeSet<(TypeUrl, Arc<str>)>,
}

impl World {
    pub(crate) fn with<const N: usize>(resources: [(TypeUrl, &str, &str); N]) -> Self {
        let mut world = Self::default();
        for (ty, name, content) in resources {
            world.put(ty, name, content);
        }
        world
    }

    pub(crate) fn put(&mut self, ty: TypeUrl, name: &str, content: &str) {
        self.resources.insert((ty, name.into()), content.to_owned());
    }

    pub(crate) fn remove(&mut self, ty: TypeUrl, name: &str) {
        self.resources.remove(&(ty, name.into()));
    }

    fn refers_to(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        let Some(content) = self.resources.get(&(ty.clone(), name.into())) else { return Vec::new() };
        let next = match ty {
            t if *t == LDS => RDS,
            t if *t == RDS => CDS,
            t if *t == CDS => return vec![(EDS, name.into())],
            _ => return Vec::new(),
        };
        let names = content.split_once(';').map_or("", |(_, names)| names);
        names.split(',').filter(|name| !name.is_empty()).map(|name| (next.clone(), name.into())).collect()
    }
}

impl Source for World {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Resource> {
        let content = self.resources.get(&(ty.clone(), name.into()))?;
        Some(Resource {
            name: name.into(),
            version: content.as_str().into(),
            body: Bytes::copy_from_slice(content.as_bytes()),
        })
    }

    fn names(&self, ty: &TypeUrl) -> Vec<Arc<str>> {
        self.resources.keys().filter(|(t, _)| t == ty).map(|(_, name)| name.clone()).collect()
    }

    fn closure(&self, ty: &TypeUrl, name: &str) -> Vec<(TypeUrl, Arc<str>)> {
        let mut found = BTreeSet::new();
        let mut open = self.refers_to(ty, name);
        while let Some(next) = open.pop() {
            if found.insert(next.clone()) {
                open.extend(self.refers_to(&next.0, &next.1));
            }
        }
        found.into_iter().collect()
    }

    fn undecided(&self, ty: &TypeUrl, name: &str) -> bool {
        self.undecided.contains(&(ty.clone(), name.into()))
    }
}
