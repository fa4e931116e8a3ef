//! Pods as workloads: where they are, who they are, how they are spoken to, and which services they back.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::names::labels::{TLS_MODE, TUNNEL, TUNNEL_HTTP};
use hawser_mesh::{Exception, Health, Hostname, Locality, Object, Transport, Workload, WorkloadKey};

use super::World;
use super::endpoints::State;
use super::namespaces::{AMBIENT, DATAPLANE, NETWORK, locality_of};
use crate::name::Name;
use crate::wire::{self, Readiness};

/// Where a pod is, if it says so itself: `region.zone.sub-zone`.
const LOCALITY: &str = "topology.istio.io/locality";
/// Istio writes down here what it put into a pod.
const INJECTED: &str = "sidecar.istio.io/status";
/// An ambient mesh writes down here that it leads a pod's traffic.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Containers that are sidecars.
const ISTIO: &str = "istio-proxy";
const HAWSER: &str = "hawser-proxy";

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    addresses: Box<[String]>,
    labels: BTreeMap<String, String>,
    account: String,
    pub(super) node: Arc<str>,
    readiness: Readiness,
    deleting: bool,
    over: bool,
    /// It shares its machine's addresses.
    on_host: bool,
    sidecar: Sidecar,
    /// An ambient mesh says that it leads, or does not lead, its traffic.
    redirected: bool,
}

/// What stands before the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sidecar {
    None,
    Istio,
    Hawser,
}

impl Pod {
    pub(super) fn of(pod: &wire::Pod) -> Self {
        let meta = &pod.metadata;
        let mode = meta.labels.get(TLS_MODE).map(String::as_str);
        let sidecar = match mode {
            _ if pod.has_container(HAWSER) => Sidecar::Hawser,
            Some("istio") => Sidecar::Istio,
            // Whoever says another mode takes no mTLS.
            Some(_) => Sidecar::None,
            None if meta.annotation(INJECTED).is_some() || pod.has_container(ISTIO) => Sidecar::Istio,
            None => Sidecar::None,
        };
        Self {
            addresses: pod.addresses().into(),
            labels: meta.labels.clone(),
            account: pod.spec.service_account_name.clone(),
            node: pod.spec.node_name.as_str().into(),
            readiness: pod.readiness(),
            deleting: meta.deleting,
            over: pod.is_over(),
            on_host: pod.spec.host_network,
            sidecar,
            redirected: meta.annotation(REDIRECTION) == Some("enabled"),
        }
    }

    /// Whether there is something to tell of it: it has an address, and has not ended.
    pub(super) fn is_known(&self) -> bool {
        !self.over && !self.addresses.is_empty()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl World {
    /// A pod as it is told.
    pub(super) fn pod(&self, name: &Name) -> Option<Vec<Object>> {
        let pod = self.pods.get(name).filter(|pod| pod.is_known())?;
        let transport = self.transport(name, pod);
        let identity = match transport {
            Transport::Plaintext => None,
            _ => self.mesh.trust_domain.workload(&name.namespace, &pod.account).ok(),
        };
        let health = State::of_pod(pod.readiness, pod.deleting).health(pod.readiness);
        let backed = self.backed(name, pod, health);
        let workload = Workload {
            addresses: [(self.network_of(pod), pod.addresses.to_vec())].into(),
            labels: pod.labels.clone(),
            // Without a name that callers can expect there is no mTLS.
            transport: if identity.is_some() { transport } else { Transport::Plaintext },
            identity,
            service_account: pod.account.clone(),
            locality: self.locality(name, pod),
            health,
            hawser: pod.sidecar == Sidecar::Hawser,
            node: Some(pod.node.clone()).filter(|node| !node.is_empty()),
            services: backed.iter().map(|(host, _)| host.clone()).collect(),
            exceptions: backed.into_iter().filter_map(|(host, exception)| Some((host, exception?))).collect(),
            ..Workload::new(WorkloadKey { namespace: name.namespace.clone(), name: name.name.clone() })
        };
        Some(vec![Object::Workload(Arc::new(workload))])
    }

    /// How a pod is spoken to. One that shares its machine's addresses has neither sidecar nor tunnel.
    fn transport(&self, name: &Name, pod: &Pod) -> Transport {
        if pod.on_host {
            return Transport::Plaintext;
        }
        let mode = |labels: &BTreeMap<String, String>| labels.get(DATAPLANE).map(|mode| mode == AMBIENT);
        let namespace = self.namespaces.get(&name.namespace);
        let ambient = mode(&pod.labels).or_else(|| mode(&namespace?.labels)).unwrap_or(false);
        let tunnel = pod.label(TUNNEL) == Some(TUNNEL_HTTP);
        match pod.sidecar {
            // A pod with a sidecar is left alone by ambient meshes, unless the sidecar takes tunnels itself.
            Sidecar::Istio | Sidecar::Hawser if tunnel => Transport::Hbone,
            Sidecar::Istio | Sidecar::Hawser => Transport::Mtls,
            Sidecar::None if tunnel || ambient || pod.redirected => Transport::Hbone,
            Sidecar::None => Transport::Plaintext,
        }
    }

    /// Which network a pod is in: its own label, its cluster's, the one that the cluster is said to be.
    fn network_of(&self, pod: &Pod) -> String {
        pod.label(NETWORK).map_or_else(|| self.network(), str::to_owned)
    }

    /// Network of pods that do not say one themselves.
    pub(crate) fn network(&self) -> String {
        let root = self.namespaces.get(self.mesh.root_namespace.as_str());
        root.and_then(|root| root.label(NETWORK)).unwrap_or(&self.network).to_owned()
    }

    fn locality(&self, name: &Name, pod: &Pod) -> Locality {
        if let Some(said) = pod.label(LOCALITY) {
            let mut parts = said.splitn(3, '.').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            return Locality { region: part(), zone: part(), sub_zone: part() };
        }
        let mut at = self.nodes.get(&pod.node).cloned().unwrap_or_else(|| locality_of(&pod.labels));
        if at.zone.is_empty()
            && let Some(zone) = self.zone_in_slices(name)
        {
            at.zone = zone.to_owned();
        }
        at
    }

    /// The zone of a pod as a slice says it: where nodes can't be seen.
    fn zone_in_slices(&self, name: &Name) -> Option<&str> {
        let slices = self.by_pod.get(name)?.iter().filter_map(|slice| self.slices.get(slice));
        let endpoints = slices.flat_map(|slice| slice.endpoints.iter());
        endpoints.filter(|e| e.pod.as_ref() == Some(&name.name)).find_map(|endpoint| endpoint.zone.as_deref())
    }

    /// Services that a pod backs, sorted, and what of it differs for each from what is said of the pod and the service.
    fn backed(&self, name: &Name, pod: &Pod, health: Health) -> Vec<(Hostname, Option<Exception>)> {
        let mut found: BTreeMap<Name, (Health, BTreeMap<String, u16>)> = BTreeMap::new();
        let mut slices: Vec<&Name> = self.by_pod.get(name).into_iter().flatten().collect();
        slices.sort();
        for slice in slices.into_iter().filter_map(|slice| self.slices.get(slice)) {
            let service = Name { namespace: name.namespace.clone(), name: slice.service.clone() };
            let Some(known) = self.services.get(&service) else { continue };
            for endpoint in slice.endpoints.iter().filter(|e| e.pod.as_ref() == Some(&name.name)) {
                let state = endpoint.state.health(pod.readiness);
                let (best, ports) = found.entry(service.clone()).or_insert((state, BTreeMap::new()));
                // A slice for each family of addresses, which may be a moment apart.
                *best = (*best).min(state);
                for port in known.port_names() {
                    if let Some(number) = slice.port(port) {
                        ports.insert(port.to_owned(), number);
                    }
                }
            }
        }
        let all = found.into_iter().filter_map(|(service, (state, ports))| {
            let host = self.host(&service)?;
            let usual = self.targets(&service);
            let known = self.services.get(&service)?;
            let target = |name: &str| usual.get(name).copied().unwrap_or_default();
            let differs = |name: &&str| ports.get(*name).copied().unwrap_or_default() != target(name);
            let ports: BTreeMap<String, u16> = known
                .port_names()
                .filter(differs)
                .map(|name| (name.to_owned(), ports.get(name).copied().unwrap_or_default()))
                .collect();
            let health = Some(state).filter(|state| *state != health);
            let exception = Exception { ports, health };
            Some((host, (exception != Exception::default()).then_some(exception)))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}
