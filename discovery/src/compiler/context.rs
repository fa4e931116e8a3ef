//! What a compile function sees of the world, and a note of what it read.
//!
//! In: a view and a snapshot. Out: services that the view may see. Invariant: whatever a result depends on is in
//! the note, so that a result is used again exactly as long as nothing that it read has changed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};

use hawser_api::istio::VirtualService;
use hawser_api::istio::destination_rule::{DestinationRule, Subset};
use hawser_api::names::{OutboundCluster, clusters};
use hawser_mesh::Hostname;

use super::policy::Policy;
use crate::registry::model::Instance;
use crate::registry::{Fnv, ServiceState, Settings, Snapshot, Unknown, choice};
use crate::view::{Class, View};

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Read {
    Defined(Hostname),
    Populated(Hostname),
    Address(IpAddr),
    Port(u16),
    Addresses,
    Network(String),
    Alias(Hostname),
}

/// What was read, and how it was then.
#[derive(Clone, Debug, Default)]
pub(super) struct Note(Vec<(Read, u64)>);

/// The world for one compilation.
pub(super) struct Context<'a> {
    pub(super) view: &'a View,
    pub(super) snapshot: &'a Snapshot,
    reads: RefCell<BTreeSet<Read>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(view: &'a View, snapshot: &'a Snapshot) -> Self {
        Self { view, snapshot, reads: RefCell::default() }
    }

    pub(super) fn settings(&self) -> &'a Settings {
        &self.snapshot.settings
    }

    /// Whether addresses that no service has lead anywhere.
    pub(super) fn allows_any(&self) -> bool {
        match self.view.scope.as_ref().and_then(|scope| scope.unknown.as_ref()) {
            Some(said) => *said != Unknown::Blocked,
            None => self.settings().allow_any,
        }
    }

    /// Whether they are reached as they are: nothing is to be done about them.
    pub(super) fn passes_unknown(&self) -> bool {
        self.allows_any() && self.unknown() == clusters::PASSTHROUGH
    }

    /// The cluster of what no service has.
    pub(super) fn unknown(&self) -> String {
        match self.view.scope.as_ref().and_then(|scope| scope.unknown.as_ref()) {
            Some(Unknown::Sent { host, port, subset }) => {
                OutboundCluster::with_subset(host.clone(), *port, subset).to_string()
            }
            _ if self.allows_any() => clusters::PASSTHROUGH.to_owned(),
            _ => clusters::BLACK_HOLE.to_owned(),
        }
    }

    pub(super) fn is_hawser(&self) -> bool {
        matches!(self.view.class, Class::Hawser(_))
    }

    /// The service that a name stands for, where it is another name for one; else the name itself.
    pub(super) fn meant(&self, host: Hostname) -> Hostname {
        self.note(Read::Alias(host.clone()));
        self.snapshot.stands_for(&host).cloned().unwrap_or(host)
    }

    /// A service that the view may see.
    pub(super) fn service(&self, host: &Hostname) -> Option<&'a ServiceState> {
        self.note(Read::Defined(host.clone()));
        let states = self.snapshot.definitions(host);
        self.seen(states).or_else(|| self.led_to(states))
    }

    /// A service's port of which the view has clusters: one that the Sidecar names, or that routes lead to.
    pub(super) fn reached(&self, host: &Hostname, port: u16) -> Option<&'a ServiceState> {
        self.service(host).filter(|state| self.brings(state, port))
    }

    /// Whether the view has clusters of a port of a service that it may see.
    pub(super) fn brings(&self, state: &ServiceState, port: u16) -> bool {
        let Some(scope) = &self.view.scope else { return true };
        let host = &state.service.host;
        let led = |(reader, ports): (&Hostname, &BTreeSet<Option<u16>>)| {
            self.reader(reader).is_some_and(|reader| scope.infers(&reader.service, ports, port))
        };
        scope.brings(&state.service, port)
            || matches!(&scope.unknown, Some(Unknown::Sent { host: to, .. }) if to == host)
            || self.readers(state).any(led)
    }

    /// A service that callers of the view may call by itself: one that only routes lead to is not.
    pub(super) fn called(&self, host: &Hostname, port: u16) -> Option<&'a ServiceState> {
        self.service(host).filter(|state| self.admits(state, port))
    }

    /// A service that callers of the view see at some port.
    pub(super) fn named(&self, host: &Hostname) -> Option<&'a ServiceState> {
        self.note(Read::Defined(host.clone()));
        self.seen(self.snapshot.definitions(host))
    }

    /// Whether callers of the view see a service's port.
    pub(super) fn admits(&self, state: &ServiceState, port: u16) -> bool {
        self.view.scope.as_ref().is_none_or(|scope| scope.admits(&state.service, port))
    }

    /// The VirtualService that counts for calls to a service's port, with its namespace.
    pub(super) fn virtual_service(
        &self,
        state: &'a ServiceState,
        port: u16,
        fits: impl Fn(&VirtualService) -> bool,
    ) -> Option<(&'a str, &'a VirtualService)> {
        let caller = (&*self.view.namespace, self.view.scope.as_deref());
        let found = state.virtual_service(caller, port, &self.settings().domain, fits);
        found.map(|(object, rule)| (object.namespace.as_str(), rule))
    }

    /// Services behind a listener that the Sidecar has proxies bind, by name.
    pub(super) fn behind(&self, at: SocketAddr) -> Vec<&'a ServiceState> {
        let Some(scope) = &self.view.scope else { return Vec::new() };
        self.note(Read::Port(at.port()));
        let all = self.snapshot.on_port(at.port()).filter_map(|states| self.seen(states));
        all.filter(|state| state.service.port(at.port()).is_some() && scope.leads(at, &state.service)).collect()
    }

    /// Such listeners that lead somewhere.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        let all = self.view.scope.iter().flat_map(|scope| scope.bound());
        all.filter(|at| !self.behind(*at).is_empty()).collect()
    }

    /// Instances of a service.
    pub(super) fn instances(&self, state: &'a ServiceState) -> &'a [Instance] {
        self.note(Read::Populated(state.service.host.clone()));
        &state.instances
    }

    /// Ways into a network.
    pub(super) fn gateways(&self, network: &str) -> Vec<(IpAddr, u16)> {
        self.note(Read::Network(network.to_owned()));
        self.snapshot.gateways(network).collect()
    }

    /// Services at an address that the view may see, by name.
    pub(super) fn at_address(&self, address: IpAddr) -> Vec<&'a ServiceState> {
        self.note(Read::Address(address));
        let all = self.snapshot.at_address(address).filter_map(|states| self.seen(states));
        all.filter(|state| state.service.dialled().contains(&address)).collect()
    }

    /// Services with a port of that number that callers reach at addresses which are not theirs alone.
    pub(super) fn wide_on_port(&self, port: u16) -> Vec<&'a ServiceState> {
        self.on_port(port).into_iter().filter(|state| state.service.is_wide()).collect()
    }

    /// Services with a port of that number that the view may see, by name.
    pub(super) fn on_port(&self, port: u16) -> Vec<&'a ServiceState> {
        self.note(Read::Port(port));
        let all = self.snapshot.on_port(port).filter_map(|states| self.seen(states));
        all.filter(|state| self.admits(state, port)).collect()
    }

    /// All services that the view may see, by name; for what depends on the whole.
    pub(super) fn all(&self) -> Vec<&'a ServiceState> {
        self.note(Read::Addresses);
        self.snapshot.names().into_iter().filter_map(|states| self.seen(states)).collect()
    }

    /// Services that only routes lead to, by name.
    pub(super) fn inferred(&self) -> Vec<&'a ServiceState> {
        if self.view.scope.is_none() {
            return Vec::new();
        }
        self.note(Read::Addresses);
        let only = |states: &'a [ServiceState]| {
            if self.seen(states).is_some() { None } else { self.led_to(states) }
        };
        self.snapshot.names().into_iter().filter_map(only).collect()
    }

    /// The DestinationRule that counts for a service.
    pub(super) fn destination_rule(&self, state: &'a ServiceState) -> Option<&'a DestinationRule> {
        let root = &self.settings().root_namespace;
        state.rules.destination(&self.view.namespace, &self.view.labels, &state.service.namespace, root)
    }

    /// The policy of a service's port, and the subset of that name; `None` if there is no such subset.
    pub(super) fn policy(
        &self,
        state: &'a ServiceState,
        port: u16,
        subset: &str,
    ) -> Option<(Policy<'a>, Option<&'a Subset>)> {
        let rule = self.destination_rule(state);
        let part = match subset {
            "" => None,
            name => Some(rule?.subsets.iter().find(|s| s.name == name)?),
        };
        Some((Policy::of(rule, port, part), part))
    }

    /// The definition of a name that counts for the view, of those that its Sidecar names.
    fn seen(&self, states: &'a [ServiceState]) -> Option<&'a ServiceState> {
        let found = self.counting(states)?;
        let named = self.view.scope.as_ref().is_none_or(|scope| scope.sees(&found.service));
        Some(found).filter(|state| named && self.reaches(state))
    }

    /// The same, where only routes lead to it of a service that the Sidecar names, or the Sidecar sends there what no service has.
    fn led_to(&self, states: &'a [ServiceState]) -> Option<&'a ServiceState> {
        let scope = self.view.scope.as_ref()?;
        let first = states.first()?;
        let host = &first.service.host;
        let led = matches!(&scope.unknown, Some(Unknown::Sent { host: to, .. }) if to == host)
            || self.readers(first).any(|(reader, _)| self.reader(reader).is_some());
        choice(states, &self.view.namespace, None).filter(|state| led && self.reaches(state))
    }

    /// Hosts whose routes lead to a service, by whichever of its names.
    fn readers(
        &self,
        state: &'a ServiceState,
    ) -> impl Iterator<Item = (&'a Hostname, &'a BTreeSet<Option<u16>>)> + use<'a> {
        let names = std::iter::once(&state.service.host).chain(state.service.aliases.iter().map(|alias| &alias.host));
        let rules = &self.snapshot.rules;
        names.flat_map(|name| rules.readers_of(name))
    }

    /// A service that the Sidecar names, whose routes lead elsewhere.
    fn reader(&self, host: &Hostname) -> Option<&'a ServiceState> {
        self.note(Read::Defined(host.clone()));
        self.counting(self.snapshot.definitions(host))
    }

    /// Of those that the Sidecar names.
    fn counting(&self, states: &'a [ServiceState]) -> Option<&'a ServiceState> {
        choice(states, &self.view.namespace, self.view.scope.as_deref())
    }

    /// A gRPC program gets endpoints from us alone: a service whose instances are known by name only is none of its
    /// business.
    fn reaches(&self, state: &'a ServiceState) -> bool {
        if !state.service.is_looked_up() || self.view.class != Class::Grpc {
            return true;
        }
        let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
        self.instances(state).iter().all(|i| i.member.workload.addresses.values().flatten().all(|a| is_address(a)))
    }

    fn note(&self, read: Read) {
        self.reads.borrow_mut().insert(read);
    }

    /// What was read, as it is now.
    pub(super) fn into_note(self) -> Note {
        let snapshot = self.snapshot;
        let mut reads: Vec<(Read, u64)> = Vec::new();
        for read in self.reads.into_inner() {
            let value = state(&read, snapshot);
            reads.push((read, value));
        }
        reads.shrink_to_fit();
        Note(reads)
    }
}

impl Note {
    /// Whether everything is still as it was.
    pub(super) fn holds(&self, snapshot: &Snapshot) -> bool {
        self.0.iter().all(|(read, value)| state(read, snapshot) == *value)
    }
}

fn state(read: &Read, snapshot: &Snapshot) -> u64 {
    let hash = |states: &mut dyn Iterator<Item = &ServiceState>, of: fn(&ServiceState) -> u64| {
        let mut hash = Fnv::default();
        for state in states {
            hash.write_u64(of(state));
            hash.write(state.service.host.as_str().as_bytes());
        }
        hash.finish()
    };
    let defined = |state: &ServiceState| state.defined;
    match read {
        Read::Defined(host) => one(snapshot.definitions(host), defined),
        Read::Populated(host) => one(snapshot.definitions(host), |state| state.populated),
        Read::Address(address) => hash(&mut snapshot.at_address(*address).flatten(), defined),
        Read::Port(port) => hash(&mut snapshot.on_port(*port).flatten(), defined),
        Read::Addresses => hash(&mut snapshot.services().into_iter(), defined),
        Read::Alias(host) => {
            let mut hash = Fnv::default();
            snapshot.stands_for(host).into_iter().for_each(|to| hash.write(to.as_str().as_bytes()));
            hash.finish()
        }
        Read::Network(network) => {
            let mut hash = Fnv::default();
            for (address, port) in snapshot.gateways(network) {
                hash.write(address.to_string().as_bytes());
                hash.write_u64(port.into());
            }
            hash.finish()
        }
    }
}

/// A revision of what defines one name; of several definitions their order counts too.
fn one(states: &[ServiceState], of: fn(&ServiceState) -> u64) -> u64 {
    match states {
        [] => 0,
        [only] => of(only),
        all => {
            let mut hash = Fnv::default();
            for state in all {
                hash.write_u64(of(state));
                hash.write(state.service.namespace.as_bytes());
            }
            hash.finish()
        }
    }
}
