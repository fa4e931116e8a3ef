//! Services and workloads as the file has them. Numbers of fields are never used again for something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::istio::Resource;
use hawser_mesh::{
    Exception, Gateway, Health, Hostname, Locality, Location, Nearness, Object, Origin, Protocol, Resolution, Service,
    ServicePort, Transport, Workload, WorkloadKey,
};
use prost::encoding::{self, DecodeContext};
use prost::{DecodeError, Message};

use crate::ledger::Remembered;

/// All of it: fields 1 to 3 are the head's, 4 is a part's, as often as there are parts.
pub(super) struct State {
    pub(super) head: Head,
    pub(super) parts: Vec<Remembered>,
}

/// What is said of all parts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(string, tag = "1")]
    pub(super) registry: String,
    #[prost(fixed64, tag = "2")]
    pub(super) settings: u64,
    #[prost(uint64, tag = "3")]
    pub(super) written: u64,
}

const PART: u32 = 4;

/// Appends a part.
pub(super) fn write(part: &Remembered, bytes: &mut Vec<u8>) {
    encoding::message::encode(PART, &Part::from_remembered(part), bytes);
}

impl State {
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        // Parts are unknown to it, and are passed over.
        let (head, mut parts) = (Head::decode(bytes)?, Vec::new());
        while !bytes.is_empty() {
            let (tag, wire) = encoding::decode_key(&mut bytes)?;
            if tag == PART {
                let mut part = Part::default();
                encoding::message::merge(wire, &mut part, &mut bytes, DecodeContext::default())?;
                parts.push(part.into_remembered());
            } else {
                encoding::skip_field(wire, tag, &mut bytes, DecodeContext::default())?;
            }
        }
        Ok(Self { head, parts })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Part {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    services: Vec<StoredService>,
    #[prost(message, repeated, tag = "3")]
    workloads: Vec<StoredWorkload>,
    #[prost(message, repeated, tag = "4")]
    configs: Vec<StoredConfig>,
    #[prost(message, repeated, tag = "5")]
    gateways: Vec<StoredGateway>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredGateway {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    network: String,
    #[prost(string, repeated, tag = "4")]
    addresses: Vec<String>,
    #[prost(uint32, tag = "5")]
    port: u32,
}

/// A resource of Istio's API, as its text.
#[derive(Clone, PartialEq, Message)]
struct StoredConfig {
    #[prost(string, tag = "1")]
    json: String,
    #[prost(string, tag = "2")]
    origin: String,
    #[prost(uint32, tag = "3")]
    line: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredException {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(btree_map = "string, uint32", tag = "2")]
    ports: BTreeMap<String, u32>,
    /// One more than the health; 0 is none.
    #[prost(uint32, tag = "3")]
    health: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredService {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(message, repeated, tag = "4")]
    ports: Vec<StoredPort>,
    #[prost(string, repeated, tag = "5")]
    addresses: Vec<String>,
    #[prost(uint32, tag = "6")]
    resolution: u32,
    #[prost(bool, tag = "7")]
    external: bool,
    #[prost(bool, tag = "8")]
    selects: bool,
    #[prost(btree_map = "string, string", tag = "9")]
    selector: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "10")]
    export_to: Vec<String>,
    #[prost(string, repeated, tag = "11")]
    subject_alt_names: Vec<String>,
    #[prost(message, repeated, tag = "12")]
    endpoints: Vec<StoredWorkload>,
    #[prost(btree_map = "string, string", tag = "13")]
    labels: BTreeMap<String, String>,
    #[prost(bool, tag = "14")]
    near: bool,
    #[prost(string, tag = "15")]
    alias_of: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPort {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, tag = "3")]
    protocol: String,
    #[prost(uint32, tag = "4")]
    target_port: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWorkload {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    addresses: Vec<StoredAddresses>,
    #[prost(btree_map = "string, uint32", tag = "4")]
    ports: BTreeMap<String, u32>,
    #[prost(btree_map = "string, string", tag = "5")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    identity: String,
    #[prost(string, tag = "7")]
    service_account: String,
    #[prost(string, tag = "8")]
    region: String,
    #[prost(string, tag = "9")]
    zone: String,
    #[prost(string, tag = "10")]
    sub_zone: String,
    #[prost(uint32, tag = "11")]
    weight: u32,
    #[prost(uint32, tag = "12")]
    health: u32,
    #[prost(btree_map = "uint32, uint32", tag = "13")]
    port_health: BTreeMap<u32, u32>,
    #[prost(uint32, tag = "14")]
    transport: u32,
    #[prost(bool, tag = "15")]
    hawser: bool,
    #[prost(string, tag = "16")]
    group: String,
    #[prost(string, repeated, tag = "17")]
    services: Vec<String>,
    #[prost(string, tag = "18")]
    node: String,
    #[prost(message, repeated, tag = "19")]
    exceptions: Vec<StoredException>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredAddresses {
    #[prost(string, tag = "1")]
    network: String,
    #[prost(string, repeated, tag = "2")]
    addresses: Vec<String>,
}

impl Part {
    fn from_remembered((name, objects): &Remembered) -> Self {
        let mut part = Self { name: name.to_string(), ..Self::default() };
        for object in objects {
            match object {
                Object::Service(service) => part.services.push(store_service(service)),
                Object::Workload(workload) => part.workloads.push(store_workload(workload)),
                Object::Gateway(gateway) => part.gateways.push(StoredGateway {
                    namespace: gateway.key.namespace.to_string(),
                    name: gateway.key.name.to_string(),
                    network: gateway.network.clone(),
                    addresses: gateway.addresses.iter().map(ToString::to_string).collect(),
                    port: gateway.port.into(),
                }),
                Object::Config(resource, origin) => part.configs.push(StoredConfig {
                    json: resource.to_json().to_string(),
                    origin: origin.name.to_string(),
                    line: origin.line,
                }),
            }
        }
        part
    }

    /// What in it can't be read any more is left out.
    fn into_remembered(self) -> Remembered {
        let services = self.services.into_iter().filter_map(service).map(|s| Object::Service(Arc::new(s)));
        let workloads = self.workloads.into_iter().filter_map(workload).map(|w| Object::Workload(Arc::new(w)));
        let configs = self.configs.into_iter().filter_map(config);
        let gateways = self.gateways.into_iter().filter_map(gateway);
        (self.name.into(), services.chain(workloads).chain(configs).chain(gateways).collect())
    }
}

fn config(stored: StoredConfig) -> Option<Object> {
    let resource = Resource::from_json(&serde_json::from_str(&stored.json).ok()?).ok()?;
    Some(Object::Config(Arc::new(resource), Origin { name: stored.origin.into(), line: stored.line }))
}

fn gateway(stored: StoredGateway) -> Option<Object> {
    Some(Object::Gateway(Arc::new(Gateway {
        key: WorkloadKey { namespace: stored.namespace.into(), name: stored.name.into() },
        network: stored.network,
        addresses: stored.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        port: u16::try_from(stored.port).ok()?,
    })))
}

fn store_service(service: &Service) -> StoredService {
    let port = |port: &ServicePort| StoredPort {
        name: port.name.clone(),
        port: port.port.into(),
        protocol: port.protocol.as_str().to_owned(),
        target_port: port.target_port.into(),
    };
    StoredService {
        host: service.host.to_string(),
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        ports: service.ports.iter().map(port).collect(),
        addresses: service.addresses.iter().map(ToString::to_string).collect(),
        resolution: match service.resolution {
            Resolution::Static => 0,
            Resolution::Dns => 1,
            Resolution::DnsRoundRobin => 2,
            Resolution::None => 3,
        },
        external: service.location == Location::External,
        selects: service.selector.is_some(),
        selector: service.selector.clone().unwrap_or_default(),
        export_to: service.export_to.clone(),
        subject_alt_names: service.subject_alt_names.clone(),
        endpoints: service.endpoints.iter().map(store_workload).collect(),
        labels: service.labels.clone(),
        near: service.nearness == Nearness::Zone,
        alias_of: service.alias_of.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn service(stored: StoredService) -> Option<Service> {
    let port = |stored: StoredPort| {
        Some(ServicePort {
            name: stored.name,
            port: u16::try_from(stored.port).ok()?,
            protocol: stored.protocol.parse::<Protocol>().ok()?,
            target_port: u16::try_from(stored.target_port).ok()?,
        })
    };
    Some(Service {
        host: stored.host.parse().ok()?,
        namespace: stored.namespace,
        name: stored.name,
        ports: stored.ports.into_iter().filter_map(port).collect(),
        addresses: stored.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        resolution: match stored.resolution {
            1 => Resolution::Dns,
            2 => Resolution::DnsRoundRobin,
            3 => Resolution::None,
            _ => Resolution::Static,
        },
        location: if stored.external { Location::External } else { Location::Internal },
        selector: stored.selects.then_some(stored.selector),
        export_to: stored.export_to,
        subject_alt_names: stored.subject_alt_names,
        endpoints: stored.endpoints.into_iter().filter_map(workload).collect(),
        labels: stored.labels,
        nearness: if stored.near { Nearness::Zone } else { Nearness::Any },
        alias_of: stored.alias_of.parse().ok(),
    })
}

fn store_workload(workload: &Workload) -> StoredWorkload {
    let addresses = workload.addresses.iter();
    let identity = workload.identity.as_ref().map(|identity| identity.as_str().to_owned());
    let port_health = workload.port_health.iter();
    StoredWorkload {
        namespace: workload.key.namespace.to_string(),
        name: workload.key.name.to_string(),
        addresses: addresses
            .map(|(network, list)| StoredAddresses { network: network.clone(), addresses: list.clone() })
            .collect(),
        ports: workload.ports.iter().map(|(name, port)| (name.clone(), (*port).into())).collect(),
        labels: workload.labels.clone(),
        identity: identity.unwrap_or_default(),
        service_account: workload.service_account.clone(),
        region: workload.locality.region.clone(),
        zone: workload.locality.zone.clone(),
        sub_zone: workload.locality.sub_zone.clone(),
        weight: workload.weight,
        health: store_health(workload.health),
        port_health: port_health.map(|(port, health)| ((*port).into(), store_health(*health))).collect(),
        transport: match workload.transport {
            Transport::Plaintext => 0,
            Transport::Mtls => 1,
            Transport::Hbone => 2,
        },
        hawser: workload.hawser,
        group: workload.group.clone().unwrap_or_default(),
        services: workload.services.iter().map(ToString::to_string).collect(),
        node: workload.node.as_deref().unwrap_or_default().to_owned(),
        exceptions: workload.exceptions.iter().map(store_exception).collect(),
    }
}

/// A workload as it was; `None` if its identity can't be read: without it, it would be called without mTLS.
fn workload(stored: StoredWorkload) -> Option<Workload> {
    let identity = match stored.identity.as_str() {
        "" => None,
        identity => Some(identity.parse().ok()?),
    };
    let ports = stored.ports.into_iter().filter_map(|(name, port)| Some((name, u16::try_from(port).ok()?)));
    let port_health =
        stored.port_health.into_iter().filter_map(|(port, h)| Some((u16::try_from(port).ok()?, health(h))));
    Some(Workload {
        key: WorkloadKey { namespace: stored.namespace.into(), name: stored.name.into() },
        addresses: stored.addresses.into_iter().map(|of| (of.network, of.addresses)).collect(),
        ports: ports.collect(),
        labels: stored.labels,
        identity,
        service_account: stored.service_account,
        locality: Locality { region: stored.region, zone: stored.zone, sub_zone: stored.sub_zone },
        weight: stored.weight,
        health: health(stored.health),
        port_health: port_health.collect(),
        transport: match stored.transport {
            1 => Transport::Mtls,
            2 => Transport::Hbone,
            _ => Transport::Plaintext,
        },
        hawser: stored.hawser,
        instance: None,
        node: Some(stored.node).filter(|node| !node.is_empty()).map(Into::into),
        group: Some(stored.group).filter(|group| !group.is_empty()),
        services: stored.services.iter().filter_map(|host| host.parse().ok()).collect(),
        exceptions: stored.exceptions.into_iter().filter_map(exception).collect(),
    })
}

fn store_exception((host, exception): (&Hostname, &Exception)) -> StoredException {
    StoredException {
        host: host.to_string(),
        ports: exception.ports.iter().map(|(name, port)| (name.clone(), (*port).into())).collect(),
        health: exception.health.map_or(0, |health| store_health(health) + 1),
    }
}

fn exception(stored: StoredException) -> Option<(Hostname, Exception)> {
    let ports = stored.ports.into_iter().filter_map(|(name, port)| Some((name, u16::try_from(port).ok()?)));
    let health = stored.health.checked_sub(1).map(health);
    Some((stored.host.parse().ok()?, Exception { ports: ports.collect(), health }))
}

fn store_health(health: Health) -> u32 {
    match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Draining => 2,
        Health::Unhealthy => 3,
    }
}

fn health(stored: u32) -> Health {
    match stored {
        1 => Health::Degraded,
        2 => Health::Draining,
        3 => Health::Unhealthy,
        _ => Health::Healthy,
    }
}
