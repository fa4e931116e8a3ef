//! Services as callers see them, with those of their endpoints that are no pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hawser_mesh::{
    Gateway, Hostname, Location, Nearness, Object, Protocol, Resolution, ServicePort, Workload, WorkloadKey,
};

use super::World;
use super::namespaces::NETWORK;
use crate::adapter::Mesh;
use crate::name::Name;
use crate::wire::{self, Readiness, ServiceType, TargetPort};

/// Annotations of services.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Slices get hints by zone, with the name of today or the one before.
const HINTED: [&str; 2] = ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/// Label of a gateway: its port for other networks, if not the usual one.
const GATEWAY_PORT: &str = "networking.istio.io/gatewayPort";
const EAST_WEST: u16 = 15443;

/// What is kept of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    labels: BTreeMap<String, String>,
    ports: Box<[Port]>,
    selector: Option<BTreeMap<String, String>>,
    addresses: Box<[IpAddr]>,
    /// It is another name for this one.
    external_name: Option<Box<str>>,
    export_to: Box<[String]>,
    nearness: Nearness,
    /// Addresses for those outside of the cluster: used of gateways.
    external: Box<[IpAddr]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    number: u16,
    protocol: Protocol,
    /// By number; else by the name of a port of the pods, which slices know.
    target: Option<u16>,
}

impl Service {
    pub(super) fn of(service: wire::Service) -> Self {
        let export_to = service.metadata.annotation(EXPORT_TO).unwrap_or_default();
        let export_to = export_to.split(',').map(str::trim).filter(|to| !to.is_empty()).map(str::to_owned).collect();
        let distribution = match service.spec.traffic_distribution.as_str() {
            "" => service.metadata.annotation(DISTRIBUTION).unwrap_or_default(),
            said => said,
        };
        let hinted = HINTED.iter().any(|key| matches!(service.metadata.annotation(key), Some("Auto" | "auto")));
        let nearness = match distribution {
            "PreferClose" | "PreferSameZone" | "PreferSameNode" => Nearness::Zone,
            "" if hinted => Nearness::Zone,
            _ => Nearness::Any,
        };
        let external = service.spec.kind == ServiceType::ExternalName;
        let addresses = service.cluster_ips().filter_map(|ip| ip.parse().ok()).collect();
        Self {
            external: service.external_ips().filter_map(|ip| ip.parse().ok()).collect(),
            ports: ports(&service.spec.ports),
            selector: service.spec.selector.filter(|selector| !selector.is_empty() && !external),
            addresses: if external { Box::default() } else { addresses },
            external_name: external.then(|| service.spec.external_name.trim_end_matches('.').into()),
            labels: service.metadata.labels,
            export_to,
            nearness,
        }
    }

    pub(super) fn has_named_targets(&self) -> bool {
        self.ports.iter().any(|port| port.target.is_none())
    }

    pub(super) fn port_names(&self) -> impl Iterator<Item = &str> {
        self.ports.iter().map(|port| port.name.as_str())
    }

    /// Whether there is something to tell of it.
    pub(super) fn is_told(&self, name: &Name, mesh: &Mesh) -> bool {
        let named = Hostname::service(&name.name, &name.namespace, &mesh.domain).is_ok();
        named && (!self.ports.is_empty() || self.alias_of().is_some())
    }

    /// The name that it is another one for.
    fn alias_of(&self) -> Option<Hostname> {
        let to = self.external_name.as_deref()?;
        let host: Hostname = to.parse().ok()?;
        (!host.is_wildcard() && to.parse::<IpAddr>().is_err()).then_some(host)
    }

    /// What of it has no effect.
    pub(super) fn warning(&self, name: &Name, mesh: &Mesh) -> Option<String> {
        if Hostname::service(&name.name, &name.namespace, &mesh.domain).is_err() {
            return Some(format!("{name} can't be part of a host name"));
        }
        if !self.ports.is_empty() {
            return None;
        }
        let Some(to) = self.alias_of() else {
            return Some(
                "it has no port of TCP or UDP: nobody can call it through the mesh; write spec.ports".to_owned(),
            );
        };
        // Whether a service of the mesh is there, others know.
        let within = to.as_str().strip_suffix(&mesh.domain).is_some_and(|rest| rest.ends_with(".svc."));
        (!within).then(|| {
            format!(
                "it has no port of TCP or UDP: it counts only if the mesh has a service {to}; else write spec.ports"
            )
        })
    }
}

/// Ports that can be served. Where TCP and UDP share a number, callers of the mesh mean TCP.
fn ports(all: &[wire::Port]) -> Box<[Port]> {
    let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
    for port in all {
        let protocol = match port.protocol.as_str() {
            "UDP" => Protocol::Udp,
            "TCP" | "" => protocol(port.app_protocol.as_deref(), &port.name),
            _ => continue,
        };
        if protocol == Protocol::Udp && ports.contains_key(&port.port) {
            continue;
        }
        let target = match &port.target_port {
            Some(TargetPort::Number(number)) if *number != 0 => Some(*number),
            Some(TargetPort::Name(_)) => None,
            _ => Some(port.port),
        };
        let made = Port { name: port.name.clone(), number: port.port, protocol, target };
        match ports.get(&port.port) {
            Some(known) if known.protocol != Protocol::Udp => {}
            _ => drop(ports.insert(port.port, made)),
        }
    }
    ports.into_values().collect()
}

/// What a port says it speaks goes before what its name says; what nobody knows is looked at.
fn protocol(said: Option<&str>, name: &str) -> Protocol {
    match said {
        None | Some("") => Protocol::from_port_name(name),
        Some("kubernetes.io/ws") => Protocol::Http,
        Some("kubernetes.io/wss") => Protocol::Https,
        Some(said) => said.parse().unwrap_or_else(|_| Protocol::from_port_name(name)),
    }
}

impl World {
    /// The name of a service for callers.
    pub(super) fn host(&self, name: &Name) -> Option<Hostname> {
        Hostname::service(&name.name, &name.namespace, &self.mesh.domain).ok()
    }

    /// Where most of a service's pods listen, by the name of its port; 0 where nobody does yet.
    pub(super) fn targets(&self, name: &Name) -> BTreeMap<&str, u16> {
        let Some(service) = self.services.get(name) else { return BTreeMap::new() };
        let target = |port: &Port| match port.target {
            Some(number) => number,
            None => {
                let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
                for slice in self.slices_of(name) {
                    if let Some(number) = slice.port(&port.name) {
                        *counts.entry(number).or_default() += slice.endpoints.len();
                    }
                }
                let most = counts.into_iter().max_by_key(|(number, count)| (*count, std::cmp::Reverse(*number)));
                most.map_or(0, |(number, _)| number)
            }
        };
        service.ports.iter().map(|port| (port.name.as_str(), target(port))).collect()
    }

    /// A service as it is told, and its own endpoints.
    pub(super) fn service(&self, name: &Name) -> Option<Vec<Object>> {
        let service = self.services.get(name).filter(|service| service.is_told(name, &self.mesh))?;
        let host = self.host(name)?;
        let targets = self.targets(name);
        let ports = service.ports.iter().map(|port| ServicePort {
            name: port.name.clone(),
            port: port.number,
            protocol: port.protocol,
            target_port: targets.get(port.name.as_str()).copied().unwrap_or_default(),
        });
        let by_name = self.slices_of(name).any(|slice| slice.by_name && !slice.endpoints.is_empty());
        let external = service.external_name.as_deref();
        let told = hawser_mesh::Service {
            ports: ports.collect(),
            addresses: match self.cluster_addresses {
                true => service.addresses.iter().map(|ip| (*ip).into()).collect(),
                false => Vec::new(),
            },
            resolution: if external.is_some() || by_name { Resolution::Dns } else { Resolution::Static },
            location: if external.is_some() { Location::External } else { Location::Internal },
            selector: service.selector.clone(),
            export_to: service.export_to.to_vec(),
            endpoints: external.map(|to| self.elsewhere(name, to)).into_iter().collect(),
            labels: service.labels.clone(),
            nearness: service.nearness,
            alias_of: service.alias_of(),
            ..hawser_mesh::Service::new(host.clone(), name.namespace.to_string(), name.name.to_string())
        };
        let mut objects = vec![Object::Service(Arc::new(told))];
        objects.extend(self.gateway(name, service).map(|gateway| Object::Gateway(Arc::new(gateway))));
        objects.extend(self.own_endpoints(name, &host).into_iter().map(|w| Object::Workload(Arc::new(w))));
        Some(objects)
    }

    /// The way into a network that a service is, by its label.
    fn gateway(&self, name: &Name, service: &Service) -> Option<Gateway> {
        let network = service.labels.get(NETWORK).filter(|network| !network.is_empty())?;
        let said = service.labels.get(GATEWAY_PORT).and_then(|port| port.parse().ok());
        let port = said.unwrap_or(EAST_WEST);
        (!service.external.is_empty() && service.ports.iter().any(|of| of.number == port)).then(|| Gateway {
            key: WorkloadKey { namespace: name.namespace.clone(), name: name.name.clone() },
            network: network.clone(),
            addresses: service.external.to_vec(),
            port,
        })
    }

    /// Endpoints that are no pods, each by its address.
    fn own_endpoints(&self, name: &Name, host: &Hostname) -> Vec<Workload> {
        let mut all: BTreeMap<&str, Workload> = BTreeMap::new();
        let Some(service) = self.services.get(name) else { return Vec::new() };
        for slice in self.slices_of(name) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none()) {
                for address in &endpoint.addresses {
                    let key = format!("{}@{address}", name.name);
                    let mut workload = self.stranger(name, &key, address);
                    let ports = service.port_names().map(|of| (of.to_owned(), slice.port(of).unwrap_or_default()));
                    workload.ports = ports.collect();
                    workload.health = endpoint.state.health(Readiness::Ready);
                    workload.services = vec![host.clone()];
                    workload.node.clone_from(&endpoint.node);
                    if let Some(at) = endpoint.node.as_ref().and_then(|node| self.nodes.get(node)) {
                        workload.locality = at.clone();
                    } else if let Some(zone) = &endpoint.zone {
                        workload.locality.zone = zone.to_string();
                    }
                    all.entry(address).or_insert(workload);
                }
            }
        }
        all.into_values().collect()
    }

    /// What a service is another name for.
    fn elsewhere(&self, name: &Name, to: &str) -> Workload {
        self.stranger(name, &name.name, to)
    }

    /// Something that no mesh knows: it is spoken to as it listens.
    fn stranger(&self, name: &Name, key: &str, address: &str) -> Workload {
        Workload {
            addresses: [(String::new(), vec![address.to_owned()])].into(),
            ..Workload::new(WorkloadKey { namespace: name.namespace.clone(), name: key.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_service_whose_slices_get_hints_by_zone_is_called_nearby() {
        let nearness = |annotations: Value, spec: Value| {
            let metadata = json!({"name": "web", "namespace": "shop", "annotations": annotations});
            let service = json!({"metadata": metadata, "spec": spec});
            Service::of(serde_json::from_value(service).unwrap()).nearness
        };
        let auto = json!({"service.kubernetes.io/topology-mode": "Auto"});
        assert_eq!(nearness(auto.clone(), json!({"ports": [{"port": 80}]})), Nearness::Zone);
        let older = json!({"service.kubernetes.io/topology-aware-hints": "auto"});
        assert_eq!(nearness(older, json!({"ports": [{"port": 80}]})), Nearness::Zone);
        let off = json!({"service.kubernetes.io/topology-mode": "Disabled"});
        assert_eq!(nearness(off, json!({"ports": [{"port": 80}]})), Nearness::Any);
        let unknown = json!({"ports": [{"port": 80}], "trafficDistribution": "Elsewhere"});
        assert_eq!(nearness(auto, unknown), Nearness::Any, "what the service says itself goes before");
    }
}
