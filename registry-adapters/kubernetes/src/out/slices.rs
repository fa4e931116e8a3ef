//! Joined hosts as endpoints of a service that selects them, for those who know of nothing but Kubernetes. Pure.
//!
//! In: a service, the hosts that its selector takes, what was written before. Out: EndpointSlices. A slice has one family
//! of addresses and one list of ports, so hosts are sorted by both. Invariant: a host stays in the slice that it is in:
//! who comes or goes changes one slice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_mesh::{Health, Workload};
use hawser_registry_source::Fingerprint;
use hawser_registry_source::settings::digest;
use serde_json::{Value, json};

use super::MESH;
use crate::name::Name;
use crate::wire::{AddressType, MANAGED_BY, Port, SERVICE_NAME, Service, ServiceType, Slice, TargetPort, WE};

/// Most endpoints of a slice, as the cluster's own controller has it.
pub(super) const MOST: usize = 100;
/// Says that kube-proxy need not look.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// An istiod does not read slices with this label: it knows the hosts from their entries, with their identities.
const SERVICE_OF_SET: &str = "multicluster.kubernetes.io/service-name";

/// A service that may select hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    uid: String,
    pub(super) selector: BTreeMap<String, String>,
    ports: Vec<Port>,
    families: Vec<String>,
    headless: bool,
    publish_not_ready: bool,
    near: bool,
}

/// What slices are made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct With<'a> {
    /// Network whose addresses pods reach, besides the default one.
    pub(super) network: &'a str,
    pub(super) mesh: &'a str,
    /// Hosts are entries too.
    pub(super) entries: Option<&'a str>,
}

/// Addresses by the name of the slice that they are in.
pub(super) type Before = BTreeMap<Arc<str>, BTreeSet<String>>;

/// What all endpoints of a slice have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    six: bool,
    /// Name, number, protocol, what it speaks.
    ports: Vec<Served>,
}

/// A port of a slice: name, number, protocol, protocol of the application.
type Served = (String, u16, String, Option<String>);
/// `ready`, `serving`, `terminating`.
type Conditions = (bool, bool, bool);

impl Target {
    /// `None` for one that selects nothing.
    pub(super) fn of(service: &Service) -> Option<Self> {
        let selector = service.spec.selector.clone().filter(|selector| !selector.is_empty())?;
        if service.spec.kind == ServiceType::ExternalName || service.metadata.deleting {
            return None;
        }
        let served = |port: &&Port| matches!(port.protocol.as_str(), "" | "TCP" | "UDP");
        Some(Self {
            uid: service.metadata.uid.clone(),
            selector,
            ports: service.spec.ports.iter().filter(served).cloned().collect(),
            families: service.spec.ip_families.clone(),
            headless: service.is_headless(),
            publish_not_ready: service.spec.publish_not_ready_addresses,
            near: !service.spec.traffic_distribution.is_empty(),
        })
    }

    /// Its slices, by name.
    pub(super) fn slices(
        &self,
        name: &Name,
        hosts: &[&Arc<Workload>],
        before: &Before,
        with: With<'_>,
    ) -> BTreeMap<Arc<str>, Value> {
        let mut groups: BTreeMap<Group, BTreeMap<String, Value>> = BTreeMap::new();
        for host in hosts {
            for address in self.addresses(host, with.network) {
                for (ports, conditions) in self.served(host) {
                    let group = Group { six: address.is_ipv6(), ports };
                    let endpoint = self.endpoint(host, address, conditions, with);
                    groups.entry(group).or_default().entry(address.to_string()).or_insert(endpoint);
                }
            }
        }
        let mut slices = BTreeMap::new();
        for (group, endpoints) in groups {
            let base = format!("{}-hawser-{:010x}", name.name, digest(&format!("{} {group:?}", self.uid)) >> 24);
            for (slice, addresses) in place(&base, &endpoints, before) {
                let within: Vec<&Value> = addresses.iter().filter_map(|address| endpoints.get(*address)).collect();
                let object = self.slice(name, &slice, &group, &within, with);
                slices.insert(Arc::from(slice), object);
            }
        }
        slices
    }

    /// Addresses of a host that the cluster's pods reach: one of each family that the service has.
    fn addresses(&self, host: &Workload, network: &str) -> Vec<IpAddr> {
        let of = |network: &str| host.addresses.get(network).filter(|list| !list.is_empty());
        let all = of(network).or_else(|| of("")).into_iter().flatten();
        let all: Vec<IpAddr> = all.filter_map(|text| text.parse().ok()).collect();
        let has = |six: bool| {
            let family = if six { "IPv6" } else { "IPv4" };
            self.families.is_empty() || self.families.iter().any(|of| of == family)
        };
        let first = |six: bool| all.iter().find(|ip| ip.is_ipv6() == six && has(six)).copied();
        [first(false), first(true)].into_iter().flatten().collect()
    }

    /// Ports that a host serves, those that are alike together.
    fn served(&self, host: &Workload) -> Vec<(Vec<Served>, Conditions)> {
        if self.ports.is_empty() {
            return if self.headless { vec![(Vec::new(), self.conditions(host.health))] } else { Vec::new() };
        }
        let mut alike: BTreeMap<Conditions, Vec<_>> = BTreeMap::new();
        for port in &self.ports {
            let Some(number) = target(port, host) else { continue };
            let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
            let of = (port.name.clone(), number, protocol.to_owned(), port.app_protocol.clone());
            alike.entry(self.conditions(host.health_of(number))).or_default().push(of);
        }
        alike.into_iter().map(|(conditions, ports)| (ports, conditions)).collect()
    }

    /// Who ends, and who is only believed to be there, is called where there is nobody else.
    fn conditions(&self, health: Health) -> Conditions {
        let ready = self.publish_not_ready;
        match health {
            Health::Healthy => (true, true, false),
            Health::Degraded | Health::Draining => (ready, true, true),
            Health::Unhealthy => (ready, false, false),
        }
    }

    fn endpoint(&self, host: &Workload, address: IpAddr, conditions: Conditions, with: With<'_>) -> Value {
        let (ready, serving, terminating) = conditions;
        let mut endpoint = json!({
            "addresses": [address.to_string()],
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        });
        let zone = &host.locality.zone;
        if !zone.is_empty() {
            endpoint["zone"] = zone.as_str().into();
            // One endpoint without a hint, and nobody's hints count.
            if self.near && ready {
                endpoint["hints"] = json!({"forZones": [{"name": zone}]});
            }
        }
        if let Some(version) = with.entries {
            let (namespace, name) = (&*host.key.namespace, &*host.key.name);
            endpoint["targetRef"] =
                json!({"apiVersion": version, "kind": "WorkloadEntry", "namespace": namespace, "name": name});
        }
        endpoint
    }

    fn slice(&self, name: &Name, slice: &str, group: &Group, endpoints: &[&Value], with: With<'_>) -> Value {
        let service = &*name.name;
        let mut labels = json!({MANAGED_BY: WE, SERVICE_NAME: service});
        if self.headless {
            labels[HEADLESS] = "".into();
        }
        if with.entries.is_some() {
            labels[SERVICE_OF_SET] = service.into();
        }
        let port = |(name, number, protocol, speaks): &(String, u16, String, Option<String>)| {
            let mut port = json!({"name": name, "port": number, "protocol": protocol});
            if let Some(speaks) = speaks {
                port["appProtocol"] = speaks.as_str().into();
            }
            port
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": &*name.namespace, "name": slice, "labels": labels,
                "annotations": {MESH: with.mesh},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": service, "uid": self.uid}]},
            "addressType": if group.six { "IPv6" } else { "IPv4" },
            "endpoints": endpoints,
            "ports": group.ports.iter().map(port).collect::<Vec<_>>(),
        })
    }
}

/// Where a host serves a port: as it names the port itself, as the service names the target, else by the number.
fn target(port: &Port, host: &Workload) -> Option<u16> {
    let named = host.ports.get(&port.name).copied();
    let number = named.or_else(|| match &port.target_port {
        Some(TargetPort::Name(name)) => host.ports.get(name).copied(),
        Some(TargetPort::Number(0)) | None => Some(port.port),
        Some(TargetPort::Number(number)) => Some(*number),
    });
    number.filter(|number| *number != 0)
}

/// Slices of a group with the addresses in each: as before, where that is known, and new ones where there is room.
fn place<'a>(base: &str, wanted: &'a BTreeMap<String, Value>, before: &Before) -> BTreeMap<String, Vec<&'a str>> {
    let mut slices: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    for (name, addresses) in before.iter().filter(|(name, _)| is_of(name, base)) {
        for (address, _) in addresses.iter().filter_map(|address| wanted.get_key_value(address)).take(MOST) {
            if placed.insert(address) {
                slices.entry(name.to_string()).or_default().push(address);
            }
        }
    }
    let mut number = 0;
    for address in wanted.keys().filter(|address| !placed.contains(address.as_str())) {
        loop {
            let slice = slices.entry(format!("{base}-{number}")).or_default();
            if slice.len() < MOST {
                slice.push(address);
                break;
            }
            number += 1;
        }
    }
    slices.values_mut().for_each(|addresses| addresses.sort_unstable());
    slices
}

fn is_of(name: &str, base: &str) -> bool {
    name.strip_prefix(base).and_then(|rest| rest.strip_prefix('-')).is_some_and(|n| n.parse::<u32>().is_ok())
}

/// What of a slice is ours to say, to compare what is wanted with what is there.
pub(super) fn print(slice: &Slice) -> Fingerprint {
    let labels = [MANAGED_BY, SERVICE_NAME, HEADLESS, SERVICE_OF_SET].map(|label| slice.metadata.labels.get(label));
    Fingerprint::of(&(slice.address_type, &slice.endpoints, &slice.ports, labels, slice.metadata.annotation(MESH)))
}

/// Addresses that are in a slice.
pub(super) fn addresses(slice: &Slice) -> BTreeSet<String> {
    slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect()
}

/// Whether a slice is of addresses that we write.
pub(super) fn is_numbered(slice: &Slice) -> bool {
    matches!(slice.address_type, AddressType::IPv4 | AddressType::IPv6)
}

#[cfg(test)]
mod tests;
