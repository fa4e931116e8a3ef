//! Instances on hosts that run no agent, registered by hand.
//!
//! A registration is one workload that names its service; registrations of one service together define it, with the
//! union of their ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::proto::admin::{
    DeregisterRequest, DeregisterResponse, NamedPort, ObjectRef, RegisterRequest, RegisterResponse,
};
use hawser_mesh::{
    Event, Hostname, Locality, Object, ObjectKey, Protocol, Service, ServicePort, Workload, WorkloadKey,
};
use tonic::Status;

use super::{AdminService, ApiSource};
use crate::registry::Settings;
use crate::registry::model::WorkloadId;
use crate::store::{PortRecord, Registration, StoreError};

impl AdminService {
    pub(super) async fn register_instance(&self, request: RegisterRequest) -> Result<RegisterResponse, Status> {
        let settings = &self.inner.settings;
        let new = parse(request)?;
        let host = host(&new, settings).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let mut warnings = Vec::new();
        if let Ok(ip) = new.address.parse::<std::net::IpAddr>() {
            if settings.virtual_ranges.contain(ip) {
                return Err(Status::invalid_argument(format!("{ip} lies in the ranges of virtual addresses")));
            }
            if ip.is_loopback() {
                warnings.push(format!("{ip} is a loopback address: every caller reaches itself there"));
            }
        }
        let name = name(&new);
        let key = key(&new);
        let id = workload_id(&new);
        let reference = ObjectRef { kind: "WorkloadEntry".into(), namespace: new.namespace.clone(), name };
        let _turn = self.inner.source.turn().await;
        let (before, after) = self
            .inner
            .store
            .write(move |txn| {
                let before: BTreeMap<String, Registration> = txn.list()?.into_iter().collect();
                txn.put(&key, &new)?;
                let mut after = before.clone();
                after.insert(key, new);
                Ok::<_, StoreError>((before, after))
            })
            .await?;
        self.inner.source.publish(events(&before, &after, settings)).await;
        self.shown(|snapshot| snapshot.workload(&id).is_some()).await;
        Ok(RegisterResponse { host: host.to_string(), entry: Some(reference), warnings })
    }

    pub(super) async fn deregister_instance(&self, request: DeregisterRequest) -> Result<DeregisterResponse, Status> {
        let namespace = or_default(request.namespace);
        let (service, address) = (request.service, canonical(&request.address));
        let _turn = self.inner.source.turn().await;
        let (before, after) = self
            .inner
            .store
            .write(move |txn| {
                let before: BTreeMap<String, Registration> = txn.list()?.into_iter().collect();
                let mut after = before.clone();
                after.retain(|_, r| {
                    !(r.service == service && r.namespace == namespace && (address.is_empty() || r.address == address))
                });
                for key in before.keys().filter(|key| !after.contains_key(*key)) {
                    txn.remove::<Registration>(key)?;
                }
                Ok::<_, StoreError>((before, after))
            })
            .await?;
        let removed = u32::try_from(before.len() - after.len()).unwrap_or(u32::MAX);
        self.inner.source.publish(events(&before, &after, &self.inner.settings)).await;
        let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
        let gone: Vec<WorkloadId> = gone.map(|(_, registration)| workload_id(registration)).collect();
        self.shown(|snapshot| gone.iter().all(|id| snapshot.workload(id).is_none())).await;
        Ok(DeregisterResponse { removed })
    }
}

/// What to say when registrations go from `before` to `after`.
pub(super) fn events(
    before: &BTreeMap<String, Registration>,
    after: &BTreeMap<String, Registration>,
    settings: &Settings,
) -> Vec<Event> {
    let (old, new) = (objects(before, settings), objects(after, settings));
    let gone = old.keys().filter(|key| !new.contains_key(*key)).cloned().map(Event::Delete);
    let changed = new.iter().filter(|(key, object)| old.get(*key) != Some(*object));
    gone.chain(changed.map(|(_, object)| Event::Upsert(object.clone()))).collect()
}

fn objects(registrations: &BTreeMap<String, Registration>, settings: &Settings) -> BTreeMap<ObjectKey, Object> {
    let mut objects = BTreeMap::new();
    let mut services: BTreeMap<Hostname, (&Registration, BTreeSet<&PortRecord>)> = BTreeMap::new();
    for registration in registrations.values() {
        // What is stored was checked when it came; a changed domain can't make it wrong.
        let Ok(host) = host(registration, settings) else { continue };
        let workload = workload(registration, &host, settings);
        objects.insert(ObjectKey::Workload(workload.key.clone()), Object::Workload(Arc::new(workload)));
        services.entry(host).or_insert((registration, BTreeSet::new())).1.extend(&registration.ports);
    }
    for (host, (first, ports)) in services {
        let service = service(host.clone(), first, ports);
        objects.insert(ObjectKey::Service(host), Object::Service(Arc::new(service)));
    }
    objects
}

fn service(host: Hostname, of: &Registration, ports: BTreeSet<&PortRecord>) -> Service {
    let mut by_number: BTreeMap<u16, ServicePort> = BTreeMap::new();
    for PortRecord { name, port } in ports {
        let protocol = Protocol::from_port_name(name);
        by_number.entry(*port).or_insert(ServicePort { name: name.clone(), port: *port, protocol, target_port: *port });
    }
    Service { ports: by_number.into_values().collect(), ..Service::new(host, of.namespace.clone(), of.service.clone()) }
}

fn workload(of: &Registration, host: &Hostname, settings: &Settings) -> Workload {
    let (region, zone, sub_zone) = of.locality.clone();
    let identity = (!of.service_account.is_empty())
        .then(|| settings.trust_domain.workload(&of.namespace, &of.service_account).ok())
        .flatten();
    Workload {
        addresses: [(String::new(), vec![of.address.clone()])].into(),
        ports: of.ports.iter().map(|p| (p.name.clone(), p.port)).collect(),
        labels: of.labels.clone(),
        identity,
        service_account: of.service_account.clone(),
        locality: Locality { region, zone, sub_zone },
        weight: of.weight,
        services: vec![host.clone()],
        ..Workload::new(WorkloadKey { namespace: of.namespace.as_str().into(), name: name(of).into() })
    }
}

fn host(of: &Registration, settings: &Settings) -> Result<Hostname, hawser_api::hostname::InvalidHostname> {
    Hostname::service(&of.service, &of.namespace, &settings.domain)
}

fn workload_id(of: &Registration) -> WorkloadId {
    let key = WorkloadKey { namespace: of.namespace.as_str().into(), name: name(of).into() };
    WorkloadId { registry: ApiSource::id(), key }
}

fn key(of: &Registration) -> String {
    format!("{}/{}/{}", of.namespace, of.service, of.address)
}

/// A name that objects may have: dots of addresses stay, colons do not.
fn name(of: &Registration) -> String {
    format!("{}-{}", of.service, of.address.replace(':', "-")).to_ascii_lowercase()
}

fn parse(request: RegisterRequest) -> Result<Registration, Status> {
    let bad = |why: String| Status::invalid_argument(why);
    let namespace = or_default(request.namespace);
    for (what, text) in [("service", &request.service), ("namespace", &namespace)] {
        check_label(what, text)?;
    }
    let address = canonical(&request.address);
    if address.parse::<std::net::IpAddr>().is_err() && address.parse::<Hostname>().is_err() {
        return Err(bad(format!("{:?} is neither an IP address nor a host name", request.address)));
    }
    let ports = ports(&request.ports)?;
    if ports.is_empty() {
        return Err(bad("an instance serves at least one port: --port http=9080".into()));
    }
    let locality = request.locality.unwrap_or_default();
    Ok(Registration {
        service: request.service,
        namespace,
        address,
        ports,
        labels: request.labels,
        service_account: request.service_account,
        weight: request.weight,
        locality: (locality.region, locality.zone, locality.sub_zone),
    })
}

/// Ports with distinct names and numbers.
pub(super) fn ports(asked: &[NamedPort]) -> Result<Vec<PortRecord>, Status> {
    let mut ports: Vec<PortRecord> = Vec::new();
    for NamedPort { name, port } in asked {
        let number = u16::try_from(*port).ok().filter(|p| *p != 0);
        let number = number.ok_or_else(|| Status::invalid_argument(format!("{port} is no port: 1 to 65535 are")))?;
        check_label("port name", name)?;
        if ports.iter().any(|p| p.name == *name || p.port == number) {
            return Err(Status::invalid_argument(format!("port {name}={port} is there twice, by name or by number")));
        }
        ports.push(PortRecord { name: name.clone(), port: number });
    }
    if ports.len() > 64 {
        return Err(Status::invalid_argument("64 ports at most"));
    }
    Ok(ports)
}

/// A label of RFC 1123, as Kubernetes names namespaces, services and ports.
pub(super) fn check_label(what: &str, text: &str) -> Result<(), Status> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(ok) || text.starts_with('-') || text.ends_with('-') {
        let rule = "1 to 63 lower-case letters, digits and '-', neither first nor last '-'";
        return Err(Status::invalid_argument(format!("{text:?} is no {what}: {rule}")));
    }
    Ok(())
}

/// An empty namespace is `default`.
pub(super) fn or_default(namespace: String) -> String {
    if namespace.is_empty() { "default".to_owned() } else { namespace }
}

fn canonical(address: &str) -> String {
    address.parse::<std::net::IpAddr>().map_or_else(|_| address.to_owned(), |ip| ip.to_canonical().to_string())
}
