//! Resources that define services and workloads, in the registry's own words.
//!
//! In: ServiceEntry, WorkloadEntry, WorkloadGroup, checked. Out: definitions and workloads. Invariant: what can't be
//! said in the registry's words is left out, never guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::istio::service_entry::{self, ServiceEntry};
use hawser_api::istio::{Kind, ObjectRef, Resource, Spec, WorkloadEntry, WorkloadGroup, honoured};
use hawser_api::names::labels;
use hawser_mesh::{
    Hostname, Locality, Location, Protocol, RegistryId, RegistryKind, Resolution, Service, ServicePort, Transport,
    Workload, WorkloadKey,
};

use super::Settings;
use super::merge::{Definition, DefinitionKey};
use super::model::{Rank, WorkloadId};

/// The key of what a resource defines.
pub(super) fn definition_key(
    object: &ObjectRef,
    resource: &Resource,
    registry: &RegistryId,
    precedence: u8,
) -> DefinitionKey {
    let rank = match object.kind {
        Kind::WorkloadGroup => Rank::Group,
        _ => Rank::ServiceEntry,
    };
    let age = resource.metadata.creation_timestamp.clone();
    DefinitionKey { rank, precedence, registry: registry.clone(), age, origin: object.to_string() }
}

/// The name of the workload that a WorkloadEntry is. In a cluster a pod may have the same one.
pub(super) fn workload_id(object: &ObjectRef, registry: &RegistryId) -> WorkloadId {
    let name = match registry.kind {
        RegistryKind::Kubernetes => format!("{ENTRY}{}", object.name).into(),
        _ => object.name.as_str().into(),
    };
    WorkloadId { registry: registry.clone(), key: WorkloadKey { namespace: object.namespace.as_str().into(), name } }
}

/// Whether a workload of a cluster is a WorkloadEntry there.
pub(super) fn is_entry(id: &WorkloadId) -> bool {
    id.key.name.starts_with(ENTRY)
}

/// How names of such workloads begin; no pod's does.
const ENTRY: &str = "entry/";

/// Fields of a resource that have no effect, in words.
pub(super) fn warnings(resource: &Resource) -> Vec<String> {
    let report = honoured(resource);
    let fields = report.unhonoured.iter().map(|field| format!("{}: {}", field.path, field.why));
    report.refuse.iter().cloned().chain(fields).collect()
}

/// Services that a resource defines.
pub(super) fn definitions(object: &ObjectRef, resource: &Resource, settings: &Settings) -> Vec<(Hostname, Definition)> {
    match &resource.spec {
        // Its names would lead nowhere.
        Spec::ServiceEntry(entry) if entry.resolution == service_entry::Resolution::DynamicDns => Vec::new(),
        Spec::ServiceEntry(entry) => {
            let hosts = entry.hosts.iter().filter_map(|host| host.parse::<Hostname>().ok());
            hosts.map(|host| (host.clone(), service_entry(object, resource, entry, host, settings))).collect()
        }
        Spec::WorkloadGroup(group) => self::group(object, group, settings).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The workload that a WorkloadEntry is.
pub(super) fn workload(object: &ObjectRef, resource: &Resource, settings: &Settings) -> Option<Workload> {
    let Spec::WorkloadEntry(entry) = &resource.spec else { return None };
    // Labels of the object count like those of a pod, and go before those of the entry, as in Istio.
    let mut labels = entry.labels.clone();
    labels.extend(resource.metadata.labels.clone());
    Some(instance(&object.namespace, &object.name, entry, labels, settings))
}

fn service_entry(
    object: &ObjectRef,
    resource: &Resource,
    entry: &ServiceEntry,
    host: Hostname,
    settings: &Settings,
) -> Definition {
    let ports = entry.ports.iter().filter_map(|port| {
        let protocol = match port.protocol.as_str() {
            "" => Protocol::from_port_name(&port.name),
            text => text.parse().unwrap_or_default(),
        };
        let number = port.number.number()?;
        Some(ServicePort { name: port.name.clone(), port: number, protocol, target_port: port.target().get() })
    });
    let mut ports: Vec<ServicePort> = ports.collect();
    ports.sort_by_key(|p| p.port);
    let resolution = match entry.resolution {
        service_entry::Resolution::None => Resolution::None,
        service_entry::Resolution::Static => Resolution::Static,
        service_entry::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        _ => Resolution::Dns,
    };
    let location = match entry.location {
        service_entry::Location::MeshInternal => Location::Internal,
        service_entry::Location::MeshExternal => Location::External,
    };
    let mut endpoints: Vec<Arc<Workload>> = Vec::new();
    for (number, endpoint) in entry.endpoints.iter().enumerate() {
        let name = format!("{}-{number}", object.name);
        let mut made = instance(&object.namespace, &name, endpoint, endpoint.labels.clone(), settings);
        if location == Location::External {
            made.transport = Transport::Plaintext;
        }
        endpoints.push(Arc::new(made));
    }
    let by_name = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if by_name && endpoints.is_empty() && entry.workload_selector.is_none() && !host.is_wildcard() {
        let itself = WorkloadEntry { address: host.to_string(), ..WorkloadEntry::default() };
        endpoints.push(Arc::new(instance(&object.namespace, &object.name, &itself, BTreeMap::new(), settings)));
    }
    let name = host.as_str().split('.').next().unwrap_or_default().to_owned();
    let addresses = entry
        .addresses
        .iter()
        .filter_map(|text| text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from)));
    let service = Service {
        ports,
        addresses: addresses.collect(),
        resolution,
        location,
        selector: entry.workload_selector.as_ref().map(|s| s.labels.clone()),
        export_to: entry.export_to.clone(),
        subject_alt_names: entry.subject_alt_names.clone(),
        labels: resource.metadata.labels.clone(),
        ..Service::new(host, object.namespace.clone(), name)
    };
    Definition { service: Arc::new(service), endpoints, group: None }
}

/// The service that a group implies.
fn group(object: &ObjectRef, group: &WorkloadGroup, settings: &Settings) -> Option<(Hostname, Definition)> {
    let host = Hostname::service(&object.name, &object.namespace, &settings.domain).ok()?;
    let mut labels = group.template.as_ref().map(|t| t.0.labels.clone()).unwrap_or_default();
    labels.extend(group.metadata.iter().flat_map(|m| m.labels.clone()));
    let declared = group.template.iter().flat_map(|t| &t.0.ports);
    let ports = declared.filter_map(|(name, port)| {
        let number = port.number()?;
        Some(ServicePort {
            name: name.clone(),
            port: number,
            protocol: Protocol::from_port_name(name),
            target_port: number,
        })
    });
    let mut ports: Vec<ServicePort> = ports.collect();
    ports.sort_by_key(|p| p.port);
    let service = Service { ports, ..Service::new(host.clone(), object.namespace.clone(), object.name.clone()) };
    let group = Some((object.name.clone(), labels));
    Some((host, Definition { service: Arc::new(service), endpoints: Vec::new(), group }))
}

fn instance(
    namespace: &str,
    name: &str,
    entry: &WorkloadEntry,
    labels: BTreeMap<String, String>,
    settings: &Settings,
) -> Workload {
    let account = entry.service_account.as_str();
    let identity = Some(account).filter(|a| !a.is_empty());
    let identity = identity.and_then(|account| settings.trust_domain.workload(namespace, account).ok());
    let said = |label: &str| labels.get(label).map(String::as_str);
    let transport = match said(labels::TLS_MODE) {
        // Whoever has both is reached through the tunnel by those who can.
        _ if said(labels::TUNNEL) == Some(labels::TUNNEL_HTTP) => Transport::Hbone,
        Some("istio") => Transport::Mtls,
        Some(_) => Transport::Plaintext,
        None if identity.is_some() => Transport::Mtls,
        None => Transport::Plaintext,
    };
    let mut parts = entry.locality.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let locality = Locality { region: part(), zone: part(), sub_zone: part() };
    let addresses = Some(entry.address.clone()).filter(|a| !a.is_empty());
    Workload {
        addresses: addresses.map(|address| (entry.network.clone(), vec![address])).into_iter().collect(),
        ports: entry.ports.iter().filter_map(|(name, port)| Some((name.clone(), port.number()?))).collect(),
        labels,
        identity,
        service_account: account.to_owned(),
        locality,
        weight: entry.weight,
        transport,
        ..Workload::new(WorkloadKey { namespace: namespace.into(), name: name.into() })
    }
}
