//! Slices, as far as they are kept: who backs a service, on which ports, and how each is.

use std::sync::Arc;

use hawser_mesh::Health;

use crate::name::Name;
use crate::wire::{self, AddressType, Readiness};

/// A slice of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) service: Arc<str>,
    /// Its addresses are names that are looked up.
    pub(super) by_name: bool,
    pub(super) endpoints: Box<[Endpoint]>,
    /// By the name of the service's port; none as long as there are no endpoints.
    ports: Box<[(Box<str>, u16)]>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) addresses: Box<[Box<str>]>,
    /// The pod that it is.
    pub(super) pod: Option<Arc<str>>,
    pub(super) state: State,
    pub(super) node: Option<Arc<str>>,
    pub(super) zone: Option<Box<str>>,
}

/// How an endpoint is, as the cluster says it; what is not said is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl Slice {
    /// `None` if it is no service's, or of a kind of address that is not known; or our own word, which is no news.
    pub(super) fn of(slice: wire::Slice) -> Option<Self> {
        if slice.is_ours() {
            return None;
        }
        let service = slice.service()?.into();
        let by_name = match slice.address_type {
            AddressType::IPv4 | AddressType::IPv6 => false,
            AddressType::Fqdn => true,
            AddressType::Other => return None,
        };
        let namespace = slice.metadata.namespace;
        let endpoints = slice.endpoints.into_iter().map(|endpoint| Endpoint::of(endpoint, &namespace));
        let ports = slice.ports.into_iter().filter_map(|port| Some((port.name.into_boxed_str(), port.port?)));
        Some(Self { service, by_name, endpoints: endpoints.collect(), ports: ports.collect() })
    }

    /// Where its endpoints listen for a port of the service; `None` if they do not.
    pub(super) fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|(of, _)| **of == *name).map(|(_, number)| *number)
    }

    /// Pods among its endpoints.
    pub(super) fn pods(&self, namespace: &Arc<str>) -> Vec<Name> {
        let pods = self.endpoints.iter().filter_map(|endpoint| endpoint.pod.clone());
        pods.map(|name| Name { namespace: namespace.clone(), name }).collect()
    }
}

impl Endpoint {
    fn of(endpoint: wire::Endpoint, namespace: &str) -> Self {
        // Who writes a slice by hand may name anything; only a pod of the same namespace is one.
        let pod = endpoint.pod().filter(|of| of.namespace.is_empty() || of.namespace == namespace);
        let conditions = endpoint.conditions;
        let ready = conditions.ready.unwrap_or(true);
        Self {
            pod: pod.map(|of| of.name.as_str().into()),
            addresses: endpoint.addresses.into_iter().map(String::into_boxed_str).collect(),
            state: State {
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
            },
            node: endpoint.node_name.filter(|node| !node.is_empty()).map(Into::into),
            zone: endpoint.zone.filter(|zone| !zone.is_empty()).map(String::into_boxed_str),
        }
    }
}

impl State {
    /// Of a pod, whatever services say of it.
    pub(super) fn of_pod(readiness: Readiness, deleting: bool) -> Self {
        let serving = readiness == Readiness::Ready;
        Self { ready: serving && !deleting, serving, terminating: deleting }
    }

    /// What that means for callers. Who is not ready gets nothing new and finishes what it has; who ends and serves no
    /// more, or is on a machine that nobody hears of, has lost what it had.
    pub(super) fn health(self, readiness: Readiness) -> Health {
        match self {
            _ if readiness == Readiness::Lost => Health::Unhealthy,
            Self { ready: true, .. } => Health::Healthy,
            Self { terminating: true, serving: false, .. } => Health::Unhealthy,
            _ => Health::Draining,
        }
    }
}
