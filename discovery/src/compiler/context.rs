//! What a compile function sees of the world, and a note of what it read.
//!
//! In: a view and a snapshot. Out: services that the view may see. Invariant: whatever a result depends on is in
//! the note, so that a result is used again exactly as long as nothing that it read has changed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::Hasher as _;
use std::net::IpAddr;

use hawser_api::istio::destination_rule::{DestinationRule, Subset};
use hawser_mesh::{Hostname, Resolution};

use super::policy::Policy;
use crate::registry::model::Instance;
use crate::registry::{Fnv, ServiceState, Settings, Snapshot};
use crate::view::{Class, View};

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Read {
    Defined(Hostname),
    Populated(Hostname),
    Address(IpAddr),
    Port(u16),
    Addresses,
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

    pub(super) fn is_hawser(&self) -> bool {
        matches!(self.view.class, Class::Hawser(_))
    }

    /// A service that the view may see.
    pub(super) fn service(&self, host: &Hostname) -> Option<&'a ServiceState> {
        self.note(Read::Defined(host.clone()));
        self.snapshot.service(host).filter(|state| self.sees(state))
    }

    /// Instances of a service.
    pub(super) fn instances(&self, state: &'a ServiceState) -> &'a [Instance] {
        self.note(Read::Populated(state.service.host.clone()));
        &state.instances
    }

    /// Services at an address that the view may see, by name.
    pub(super) fn at_address(&self, address: IpAddr) -> Vec<&'a ServiceState> {
        self.note(Read::Address(address));
        self.snapshot.at_address(address).filter(|state| self.sees(state)).collect()
    }

    /// Services with a port of that number that the view may see, by name.
    pub(super) fn on_port(&self, port: u16) -> Vec<&'a ServiceState> {
        self.note(Read::Port(port));
        self.snapshot.on_port(port).filter(|state| self.sees(state)).collect()
    }

    /// All services that the view may see, by name; for what depends on the whole.
    pub(super) fn all(&self) -> Vec<&'a ServiceState> {
        self.note(Read::Addresses);
        self.snapshot.services().into_iter().filter(|state| self.sees(state)).collect()
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

    fn sees(&self, state: &'a ServiceState) -> bool {
        state.service.visible_from(&self.view.namespace) && self.reaches(state)
    }

    /// Our proxy resolves no names: a service whose instances are known by name only is none of its business, and
    /// calls to it go as if there were no mesh.
    fn reaches(&self, state: &'a ServiceState) -> bool {
        let by_name = matches!(state.service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if !by_name || self.view.class == Class::Envoy {
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
    let all = |states: &mut dyn Iterator<Item = &ServiceState>| {
        let mut hash = Fnv::default();
        for state in states {
            hash.write_u64(state.defined);
            hash.write(state.service.host.as_str().as_bytes());
        }
        hash.finish()
    };
    match read {
        Read::Defined(host) => snapshot.service(host).map_or(0, |s| s.defined),
        Read::Populated(host) => snapshot.service(host).map_or(0, |s| s.populated),
        Read::Address(address) => all(&mut snapshot.at_address(*address)),
        Read::Port(port) => all(&mut snapshot.on_port(*port)),
        Read::Addresses => all(&mut snapshot.services().into_iter()),
    }
}
