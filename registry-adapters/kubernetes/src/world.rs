//! What a cluster's objects mean together. No I/O.
//!
//! In: whole lists and changes of namespaces, nodes, pods, services and slices. Out: parts (a service with what it lists
//! itself, a pod) that have to be made anew, and what each of them is. Invariant: nothing is said of a cluster before
//! each of its kinds was heard whole, and a change costs what it touches.

mod endpoints;
mod namespaces;
mod pods;
mod services;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use hawser_mesh::{Locality, Object};

pub(crate) use self::namespaces::Selectors;
use self::namespaces::{Namespace, locality_of};
use self::pods::Pod;
use self::services::Service;
use crate::adapter::Mesh;
use crate::name::Name;
use crate::watch::Change;
use crate::wire;

/// Something that is told as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// A service, and endpoints of its own: those that are no pods.
    Service(Name),
    /// A pod.
    Pod(Name),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service/{name}"),
            Self::Pod(name) => write!(f, "pod/{name}"),
        }
    }
}

/// A part that changed.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    /// This is all of it now.
    Is(Vec<Object>),
    /// It is gone, as the server said of it.
    Gone,
    /// It is not in a list that it was in before.
    Missing,
}

/// What is known of one cluster.
#[derive(Debug)]
pub(crate) struct World {
    mesh: Mesh,
    /// Network of pods for which nothing else is said.
    network: String,
    /// Callers dial addresses that the cluster gave its services; else the mesh gives them some.
    cluster_addresses: bool,
    selectors: Selectors,
    namespaces: HashMap<Arc<str>, Namespace>,
    nodes: HashMap<Arc<str>, Locality>,
    pods: HashMap<Name, Pod>,
    services: HashMap<Name, Service>,
    slices: HashMap<Name, endpoints::Slice>,
    /// Slices of a service, sorted: what is made of them must not depend on the order in which they came.
    by_service: HashMap<Name, BTreeMap<Arc<str>, Name>>,
    /// Slices that name a pod.
    by_pod: HashMap<Name, HashSet<Name>>,
    by_node: HashMap<Arc<str>, HashSet<Name>>,
    heard: Heard,
    /// Parts to make anew; `true` if what is no longer there went by the server's own word.
    dirty: BTreeMap<Part, bool>,
    listed: bool,
}

/// Kinds of which everything was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    namespaces: bool,
    nodes: bool,
    pods: bool,
    services: bool,
    slices: bool,
}

impl World {
    pub(crate) fn new(mesh: Mesh, network: String, cluster_addresses: bool, selectors: Selectors) -> Self {
        Self {
            mesh,
            network,
            cluster_addresses,
            selectors,
            namespaces: HashMap::new(),
            nodes: HashMap::new(),
            pods: HashMap::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            by_service: HashMap::new(),
            by_pod: HashMap::new(),
            by_node: HashMap::new(),
            heard: Heard::default(),
            dirty: BTreeMap::new(),
            listed: false,
        }
    }

    /// Whether each kind was heard whole.
    pub(crate) fn is_whole(&self) -> bool {
        let Heard { namespaces, nodes, pods, services, slices } = self.heard;
        namespaces && nodes && pods && services && slices
    }

    /// Nodes can't be seen: pods are where their own labels and slices say.
    pub(crate) fn without_nodes(&mut self) {
        self.heard.nodes = true;
    }

    /// Whether what is said of a namespace counts; also one of which nothing is known.
    pub(crate) fn counts(&self, namespace: &str) -> bool {
        self.selectors.take(self.namespaces.get(namespace).map(|n| &n.labels), namespace)
    }

    /// Namespaces that are no part of the mesh, by name.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let all = self.namespaces.keys().filter(|name| !self.counts(name)).map(ToString::to_string);
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    }

    /// Why nothing is written into a namespace; `None` if something may be.
    pub(crate) fn refuses(&self, namespace: &str) -> Option<&'static str> {
        match self.namespaces.get(namespace) {
            None => Some("the cluster has no namespace of that name; create it if they are to be seen there"),
            Some(known) if known.ending => Some("the namespace is being deleted"),
            Some(_) if !self.counts(namespace) => Some("discoverySelectors leave the namespace out of the mesh"),
            Some(_) => None,
        }
    }

    /// Parts that changed, and whether some kind was listed anew since this was last asked: then what is in no part any
    /// more is gone too. Nothing before all kinds were heard.
    pub(crate) fn take(&mut self) -> (Vec<(Part, Told)>, bool) {
        if !self.is_whole() {
            return (Vec::new(), false);
        }
        let dirty = std::mem::take(&mut self.dirty);
        let told = |(part, surely): (Part, bool)| {
            let told = match (self.make(&part), surely) {
                (Some(objects), _) => Told::Is(objects),
                (None, true) => Told::Gone,
                (None, false) => Told::Missing,
            };
            (part, told)
        };
        (dirty.into_iter().map(told).collect(), std::mem::take(&mut self.listed))
    }

    /// Names of all parts that there are.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let told = |(name, service): &(&Name, &Service)| service.is_told(name, &self.mesh);
        let services = self.services.iter().filter(told).map(|(name, _)| name);
        let services = services.filter(|name| self.counts(&name.namespace));
        let pods = self.pods.iter().filter(|(name, pod)| pod.is_known() && self.counts(&name.namespace));
        services.cloned().map(Part::Service).chain(pods.map(|(name, _)| Part::Pod(name.clone())))
    }

    /// Services that have something to say to operators: what of them has no effect.
    pub(crate) fn warnings(&self, name: &Name) -> Option<String> {
        self.services.get(name).filter(|_| self.counts(&name.namespace))?.warning(name, &self.mesh)
    }

    fn make(&self, part: &Part) -> Option<Vec<Object>> {
        match part {
            Part::Service(name) if self.counts(&name.namespace) => self.service(name),
            Part::Pod(name) if self.counts(&name.namespace) => self.pod(name),
            _ => None,
        }
    }

    fn touch(&mut self, part: Part, surely: bool) {
        // The last word counts: what a list lacked, and the server then said is gone, is gone.
        *self.dirty.entry(part).or_default() |= surely;
    }

    pub(crate) fn namespaces(&mut self, change: Change<wire::Named>) {
        match change {
            Change::Whole(all) => {
                (self.heard.namespaces, self.listed) = (true, true);
                let new: HashMap<Arc<str>, Namespace> =
                    all.iter().map(|item| (item.metadata.name.as_str().into(), Namespace::of(item))).collect();
                let names: HashSet<Arc<str>> = new.keys().chain(self.namespaces.keys()).cloned().collect();
                let old = std::mem::replace(&mut self.namespaces, new);
                for name in names {
                    if old.get(&name) != self.namespaces.get(&name) {
                        self.touch_namespace(&name);
                    }
                }
            }
            Change::Set(item) => {
                let name: Arc<str> = item.metadata.name.as_str().into();
                let new = Namespace::of(&item);
                if self.namespaces.get(&name) != Some(&new) {
                    self.namespaces.insert(name.clone(), new);
                    self.touch_namespace(&name);
                }
            }
            Change::Gone(gone) => {
                if self.namespaces.remove(&gone.name).is_some() {
                    self.touch_namespace(&gone.name);
                }
            }
        }
    }

    fn touch_namespace(&mut self, namespace: &str) {
        // The network of a cluster is written at the root namespace.
        let all = namespace == self.mesh.root_namespace;
        let within = |name: &&Name| all || *name.namespace == *namespace;
        let services = self.services.keys().filter(within).cloned().map(Part::Service);
        let pods = self.pods.keys().filter(within).cloned().map(Part::Pod);
        let touched: Vec<Part> = services.chain(pods).collect();
        // Whoever takes a namespace out of the mesh means what is in it.
        touched.into_iter().for_each(|part| self.touch(part, true));
    }

    pub(crate) fn nodes(&mut self, change: Change<wire::Named>) {
        match change {
            Change::Whole(all) => {
                (self.heard.nodes, self.listed) = (true, true);
                let named =
                    |item: &wire::Named| (item.metadata.name.as_str().into(), locality_of(&item.metadata.labels));
                let new: HashMap<Arc<str>, Locality> = all.iter().map(named).collect();
                let names: HashSet<Arc<str>> = new.keys().chain(self.nodes.keys()).cloned().collect();
                let old = std::mem::replace(&mut self.nodes, new);
                for name in names {
                    if old.get(&name) != self.nodes.get(&name) {
                        self.touch_node(&name);
                    }
                }
            }
            Change::Set(item) => {
                let (name, at): (Arc<str>, _) =
                    (item.metadata.name.as_str().into(), locality_of(&item.metadata.labels));
                if self.nodes.get(&name) != Some(&at) {
                    self.nodes.insert(name.clone(), at);
                    self.touch_node(&name);
                }
            }
            Change::Gone(gone) => {
                if self.nodes.remove(&gone.name).is_some() {
                    self.touch_node(&gone.name);
                }
            }
        }
    }

    fn touch_node(&mut self, node: &str) {
        let on: Vec<Name> = self.by_node.get(node).into_iter().flatten().cloned().collect();
        on.into_iter().for_each(|pod| self.touch(Part::Pod(pod), false));
    }

    pub(crate) fn pods(&mut self, change: Change<wire::Pod>) {
        match change {
            Change::Whole(all) => {
                (self.heard.pods, self.listed) = (true, true);
                let listed: HashSet<Name> = all.iter().map(wire::Item::name).collect();
                let lost: Vec<Name> = self.pods.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                lost.into_iter().for_each(|name| self.set_pod(name, None, false));
                all.into_iter().for_each(|pod| self.set_pod(wire::Item::name(&pod), Some(Pod::of(&pod)), false));
            }
            Change::Set(pod) => self.set_pod(wire::Item::name(&pod), Some(Pod::of(&pod)), true),
            Change::Gone(name) => self.set_pod(name, None, true),
        }
    }

    fn set_pod(&mut self, name: Name, pod: Option<Pod>, surely: bool) {
        if self.pods.get(&name) == pod.as_ref() {
            return;
        }
        if let Some(old) = self.pods.get(&name)
            && let Some(on) = self.by_node.get_mut(&old.node)
        {
            on.remove(&name);
            if on.is_empty() {
                self.by_node.remove(&old.node);
            }
        }
        match pod {
            Some(pod) => {
                self.by_node.entry(pod.node.clone()).or_default().insert(name.clone());
                // A pod that ended is gone by its own word, however that was heard.
                let over = !pod.is_known();
                self.pods.insert(name.clone(), pod);
                self.touch(Part::Pod(name), surely || over);
            }
            None => {
                self.pods.remove(&name);
                self.touch(Part::Pod(name), surely);
            }
        }
    }

    pub(crate) fn services(&mut self, change: Change<wire::Service>) {
        match change {
            Change::Whole(all) => {
                (self.heard.services, self.listed) = (true, true);
                let listed: HashSet<Name> = all.iter().map(wire::Item::name).collect();
                let lost: Vec<Name> = self.services.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                lost.into_iter().for_each(|name| self.set_service(name, None, false));
                for service in all {
                    self.set_service(wire::Item::name(&service), Some(Service::of(service)), false);
                }
            }
            Change::Set(service) => self.set_service(wire::Item::name(&service), Some(Service::of(service)), true),
            Change::Gone(name) => self.set_service(name, None, true),
        }
    }

    fn set_service(&mut self, name: Name, service: Option<Service>, surely: bool) {
        if self.services.get(&name) == service.as_ref() {
            return;
        }
        match service {
            Some(service) => self.services.insert(name.clone(), service),
            None => self.services.remove(&name),
        };
        self.touch_backends(&name);
        self.touch(Part::Service(name), surely);
    }

    pub(crate) fn slices(&mut self, change: Change<wire::Slice>) {
        match change {
            Change::Whole(all) => {
                (self.heard.slices, self.listed) = (true, true);
                let listed: HashSet<Name> = all.iter().map(wire::Item::name).collect();
                let lost: Vec<Name> = self.slices.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                lost.into_iter().for_each(|name| self.set_slice(name, None));
                all.into_iter().for_each(|slice| {
                    self.set_slice(wire::Item::name(&slice), endpoints::Slice::of(slice));
                });
            }
            Change::Set(slice) => self.set_slice(wire::Item::name(&slice), endpoints::Slice::of(slice)),
            Change::Gone(name) => self.set_slice(name, None),
        }
    }

    fn set_slice(&mut self, name: Name, slice: Option<endpoints::Slice>) {
        if self.slices.get(&name) == slice.as_ref() {
            return;
        }
        if let Some(old) = self.slices.remove(&name) {
            for pod in old.pods(&name.namespace) {
                if let Some(slices) = self.by_pod.get_mut(&pod) {
                    slices.remove(&name);
                    if slices.is_empty() {
                        self.by_pod.remove(&pod);
                    }
                }
                self.touch(Part::Pod(pod), false);
            }
            let service = Name { namespace: name.namespace.clone(), name: old.service.clone() };
            if let Some(slices) = self.by_service.get_mut(&service) {
                slices.remove(&name.name);
                if slices.is_empty() {
                    self.by_service.remove(&service);
                }
            }
            self.touch_service_of(service);
        }
        let Some(new) = slice else { return };
        for pod in new.pods(&name.namespace) {
            self.by_pod.entry(pod.clone()).or_default().insert(name.clone());
            self.touch(Part::Pod(pod), false);
        }
        let service = Name { namespace: name.namespace.clone(), name: new.service.clone() };
        self.by_service.entry(service.clone()).or_default().insert(name.name.clone(), name.clone());
        self.slices.insert(name, new);
        self.touch_service_of(service);
    }

    /// Where a service's pods listen may have changed: then what differs from that has, too.
    fn touch_service_of(&mut self, service: Name) {
        if self.services.get(&service).is_some_and(|known| known.has_named_targets()) {
            self.touch_backends(&service);
        }
        self.touch(Part::Service(service), false);
    }

    fn touch_backends(&mut self, service: &Name) {
        let slices = self.by_service.get(service).into_iter().flat_map(|all| all.values());
        let pods = slices.filter_map(|name| self.slices.get(name)).flat_map(|slice| slice.pods(&service.namespace));
        let pods: Vec<Name> = pods.collect();
        pods.into_iter().for_each(|pod| self.touch(Part::Pod(pod), false));
    }

    /// Slices of a service, in an order that is always the same.
    fn slices_of(&self, service: &Name) -> impl Iterator<Item = &endpoints::Slice> {
        let names = self.by_service.get(service).into_iter().flat_map(|all| all.values());
        names.filter_map(|name| self.slices.get(name))
    }
}

#[cfg(test)]
mod tests;
