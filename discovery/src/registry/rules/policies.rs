//! PeerAuthentication: whether a workload's ports take plaintext, mTLS or both.
//!
//! In: policies of the mesh, of namespaces, of workloads. Out: the modes of a workload. Invariant: the narrowest policy
//! that says something counts; of two of one width the oldest; nobody's word is PERMISSIVE.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hawser_api::istio::peer_authentication::MutualTlsMode;
use hawser_api::istio::{ObjectRef, PeerAuthentication, Spec};
use parking_lot::Mutex;

use super::{Named, age};
use crate::registry::merge::selects;
use crate::registry::model::{TlsMode, TlsModes};

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    mesh: Vec<Named>,
    namespaces: HashMap<String, Vec<Named>>,
    workloads: HashMap<String, Vec<Named>>,
    /// Equal modes are one value: there are many workloads and few policies.
    known: Mutex<BTreeMap<TlsModes, Arc<TlsModes>>>,
}

impl Policies {
    pub(super) fn add(&mut self, named: Named, root: &str) {
        let Some(policy) = read(&named) else { return };
        let selected = policy.selector.as_ref().is_some_and(|s| !s.match_labels.is_empty());
        let namespace = named.0.namespace.clone();
        let list = match (selected, namespace == root) {
            (true, _) => self.workloads.entry(namespace).or_default(),
            (false, true) => &mut self.mesh,
            (false, false) => self.namespaces.entry(namespace).or_default(),
        };
        list.push(named);
    }

    pub(super) fn sort(&mut self) {
        let lists = self.namespaces.values_mut().chain(self.workloads.values_mut());
        for list in lists.chain([&mut self.mesh]) {
            list.sort_by(|a, b| age(a).cmp(&age(b)));
        }
    }

    pub(super) fn modes(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Arc<TlsModes> {
        let [own, wide, mesh] = self.concerning(namespace, labels);
        let all = said(own).or_else(|| said(wide)).or_else(|| said(mesh)).unwrap_or_default();
        let own = own.and_then(read);
        let ports = own.into_iter().flat_map(|policy| &policy.port_level_mtls);
        let ports = ports.filter_map(|(port, mtls)| Some((port.get(), mode(mtls.mode)?)));
        let modes = TlsModes { all, ports: ports.collect() };
        let mut known = self.known.lock();
        known.entry(modes).or_insert_with_key(|modes| Arc::new(modes.clone())).clone()
    }

    /// Whose word counts for a port.
    pub(super) fn decided_by(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        port: u16,
    ) -> Option<&ObjectRef> {
        let all = self.concerning(namespace, labels);
        let of_port = |named: &&Named| {
            let mut ports = read(named).into_iter().flat_map(|policy| &policy.port_level_mtls);
            ports.any(|(of, mtls)| of.get() == port && mode(mtls.mode).is_some())
        };
        let own = all[0].filter(of_port);
        own.or_else(|| all.into_iter().flatten().find(|named| said(Some(named)).is_some())).map(|named| &named.0)
    }

    /// The policies that may say something of a workload, the narrowest first.
    fn concerning(&self, namespace: &str, labels: &BTreeMap<String, String>) -> [Option<&Named>; 3] {
        let chosen = |named: &&Named| {
            let selector = read(named).and_then(|policy| policy.selector.as_ref());
            selector.is_some_and(|s| selects(&s.match_labels, labels))
        };
        let own = self.workloads.get(namespace).into_iter().flatten().find(chosen);
        [own, self.namespaces.get(namespace).and_then(|list| list.first()), self.mesh.first()]
    }
}

/// What a policy says of all ports.
fn said(named: Option<&Named>) -> Option<TlsMode> {
    mode(read(named?)?.mtls.as_ref()?.mode)
}

fn read(named: &Named) -> Option<&PeerAuthentication> {
    match &named.1.spec {
        Spec::PeerAuthentication(policy) => Some(policy),
        _ => None,
    }
}

fn mode(mode: MutualTlsMode) -> Option<TlsMode> {
    match mode {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(TlsMode::Disable),
        MutualTlsMode::Permissive => Some(TlsMode::Permissive),
        MutualTlsMode::Strict => Some(TlsMode::Strict),
    }
}
