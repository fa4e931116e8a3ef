//! What is written down of a host, and what agent and registry see of it. Pure.
//!
//! In: a group's template, a record, a lease's state, the health that the agent reports. Out: the agent's view
//! (`hawser.host.v1.Record`) and one `mesh::Workload` for each of its workloads. Invariant: a host has a list of
//! workloads; nothing here assumes that it is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hawser_api::hostname::Hostname;
use hawser_api::identity::{InvalidIdentity, TrustDomain};
use hawser_api::names::{labels, ports};
use hawser_api::proto::host;
use hawser_mesh::{Health, InstanceRef, Locality, Transport, Workload, WorkloadKey};

use super::group::Group;
use super::lease::State;
use crate::store::{HostRecord, HostWorkload};

/// What every record says of the mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Trust domain of identities.
    pub trust_domain: TrustDomain,
    /// Sent to every agent.
    pub settings: host::MeshSettings,
}

/// Characters of the instance id in a workload's name.
const SHORT: usize = 8;

/// The workload that a token makes on a host.
///
/// # Errors
/// If namespace or service account can't be part of an identity.
pub(super) fn new_workload(
    group: &Group,
    token_account: &str,
    instance_id: &str,
    mesh: &Mesh,
) -> Result<HostWorkload, InvalidIdentity> {
    let short: String = instance_id.chars().take(SHORT).collect();
    let workload = host::Workload {
        id: group.name.clone(),
        namespace: group.namespace.clone(),
        name: format!("{}-{short}", group.name),
        group: group.name.clone(),
        scope: Some(host::workload::Scope::WholeHost(true)),
        outbound_port: u32::from(ports::OUTBOUND),
        ..host::Workload::default()
    };
    let mut made = HostWorkload { workload, weight: 0, token_account: token_account.to_owned() };
    apply_group(&mut made, group, mesh)?;
    Ok(made)
}

/// Brings a workload to what its group says now; whether anything changed.
///
/// # Errors
/// If the service account can't be part of an identity; then nothing changes.
pub(super) fn apply_group(of: &mut HostWorkload, group: &Group, mesh: &Mesh) -> Result<bool, InvalidIdentity> {
    let account = [of.token_account.as_str(), group.service_account.as_str(), "default"]
        .into_iter()
        .find(|account| !account.is_empty())
        .unwrap_or_default();
    let id = mesh.trust_domain.workload(&group.namespace, account)?;
    let implied = Hostname::service(&group.name, &group.namespace, &mesh.settings.domain);
    let new = host::Workload {
        service_account: account.to_owned(),
        spiffe_id: id.to_string(),
        labels: group.labels.clone(),
        ports: group.ports.clone(),
        traffic: group.traffic.clone(),
        services: implied.map(|name| vec![name.to_string()]).unwrap_or_default(),
        ..of.workload.clone()
    };
    let changed = new != of.workload || of.weight != group.weight;
    of.workload = new;
    of.weight = group.weight;
    Ok(changed)
}

/// The agent's view of a record.
pub fn for_agent(instance_id: &str, record: &HostRecord, mesh: &Mesh) -> host::Record {
    host::Record {
        instance_id: instance_id.to_owned(),
        trust_domain: mesh.trust_domain.to_string(),
        workloads: record.workloads.iter().map(|w| w.workload.clone()).collect(),
        mesh: Some(mesh.settings.clone()),
        addresses: record.addresses.clone(),
    }
}

/// The registry's view of a record: its workloads, or none if the host is not published.
pub(super) fn for_registry(
    instance_id: &Arc<str>,
    record: &HostRecord,
    state: State,
    health: &[host::WorkloadHealth],
) -> Vec<Workload> {
    let lease = match state {
        State::New | State::Away => return Vec::new(),
        State::Connected | State::Grace | State::Kept => Health::Healthy,
        State::Draining => Health::Draining,
        State::Degraded => Health::Degraded,
        State::Lapsed => Health::Unhealthy,
    };
    let mut all: Vec<Workload> =
        record.workloads.iter().map(|w| workload(instance_id, record, w, lease, health)).collect();
    // A tunnel has no server name to choose a certificate by: it leads to the first workload of an address.
    if let Some(first) = all.first_mut().filter(|w| w.hawser) {
        first.labels.insert(labels::TUNNEL.to_owned(), labels::TUNNEL_HTTP.to_owned());
    }
    all
}

fn workload(
    instance_id: &Arc<str>,
    record: &HostRecord,
    of: &HostWorkload,
    lease: Health,
    reported: &[host::WorkloadHealth],
) -> Workload {
    let own = &of.workload;
    let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for address in &record.addresses {
        addresses.entry(address.network.clone()).or_default().push(address.address.clone());
    }
    let port = |p: &host::Port| Some((p.name.clone(), u16::try_from(p.port).ok()?));
    let (region, zone, sub_zone) = record.locality.clone();
    Workload {
        addresses,
        ports: own.ports.iter().filter_map(port).collect(),
        labels: own.labels.clone(),
        identity: own.spiffe_id.parse().ok(),
        service_account: own.service_account.clone(),
        locality: Locality { region, zone, sub_zone },
        weight: of.weight,
        health: lease,
        port_health: port_health(own, reported),
        transport: Transport::Mtls,
        hawser: record.hawser,
        instance: Some(InstanceRef { instance_id: instance_id.clone(), workload_id: own.id.as_str().into() }),
        node: Some(record.hostname.as_str().into()).filter(|name: &Arc<str>| !name.is_empty()),
        group: (!own.group.is_empty()).then(|| own.group.clone()),
        ..Workload::new(key(own))
    }
}

/// The name of a workload in the registry of hosts.
pub(super) fn key(workload: &host::Workload) -> WorkloadKey {
    WorkloadKey { namespace: workload.namespace.as_str().into(), name: workload.name.as_str().into() }
}

/// Declared ports that the agent found unhealthy. Unknown is not down.
fn port_health(own: &host::Workload, reported: &[host::WorkloadHealth]) -> BTreeMap<u16, Health> {
    let Some(reported) = reported.iter().find(|r| r.workload_id == own.id) else { return BTreeMap::new() };
    let declared: BTreeSet<u32> = own.ports.iter().map(|p| p.port).collect();
    let down = |p: &&host::PortHealth| p.health() == host::Health::Unhealthy && declared.contains(&p.port);
    let ports = reported.ports.iter().filter(down).filter_map(|p| u16::try_from(p.port).ok());
    ports.map(|port| (port, Health::Unhealthy)).collect()
}

/// Names of the services that a host backs, as leases are counted.
pub(super) fn services(record: &HostRecord) -> BTreeSet<Arc<str>> {
    record.workloads.iter().flat_map(|w| w.workload.services.iter()).map(|s| Arc::from(s.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> Mesh {
        let settings = host::MeshSettings { domain: "cluster.local".into(), ..host::MeshSettings::default() };
        Mesh { trust_domain: "cluster.local".parse().unwrap(), settings }
    }

    fn group() -> Group {
        let port = host::Port { name: "http".into(), port: 9080, protocol: "http".into(), probe: None };
        Group {
            namespace: "default".into(),
            name: "reviews".into(),
            labels: [("app".to_owned(), "reviews".to_owned())].into(),
            ports: vec![port],
            ..Group::default()
        }
    }

    #[test]
    fn a_token_s_service_account_wins_over_the_group_s() {
        let mut group = group();
        group.service_account = "of-group".into();
        let made = new_workload(&group, "of-token", "0b0f3c9e-1111", &mesh()).unwrap();
        assert_eq!(made.workload.spiffe_id, "spiffe://cluster.local/ns/default/sa/of-token");
        let made = new_workload(&group, "", "0b0f3c9e-1111", &mesh()).unwrap();
        assert_eq!(made.workload.spiffe_id, "spiffe://cluster.local/ns/default/sa/of-group");
        assert_eq!(made.workload.name, "reviews-0b0f3c9e");
        assert_eq!(made.workload.services, ["reviews.default.svc.cluster.local"]);
    }

    #[test]
    fn the_first_workload_of_a_host_is_published_with_its_tunnel() {
        let mut record = HostRecord {
            revision: 1,
            host_key: Vec::new(),
            hostname: "vm".into(),
            addresses: vec![host::HostAddress { address: "10.0.0.1".into(), ..host::HostAddress::default() }],
            locality: Default::default(),
            workloads: ["a", "b"].map(|id| new_workload(&group(), id, "0b0f3c9e-1111", &mesh()).unwrap()).into(),
            token: String::new(),
            joined: 0,
            seen: 0,
            epoch: 1,
            attempt: Vec::new(),
            version: String::new(),
            hawser: true,
            standing: crate::store::Standing::Present,
            certificate_ends: 0,
            revoked: false,
        };
        let tunnels = |record: &HostRecord| -> Vec<bool> {
            let all = for_registry(&"host".into(), record, State::Connected, &[]);
            all.iter().map(|w| w.labels.get("networking.istio.io/tunnel").is_some_and(|t| t == "http")).collect()
        };
        assert_eq!(tunnels(&record), [true, false]);
        // An Envoy has no tunnel to offer.
        record.hawser = false;
        assert_eq!(tunnels(&record), [false, false]);
    }

    #[test]
    fn an_edit_of_the_group_reaches_the_workload_once() {
        let mut made = new_workload(&group(), "", "0b0f3c9e-1111", &mesh()).unwrap();
        assert!(!apply_group(&mut made, &group(), &mesh()).unwrap());
        let mut edited = group();
        edited.labels.insert("version".into(), "v2".into());
        assert!(apply_group(&mut made, &edited, &mesh()).unwrap());
        assert_eq!(made.workload.labels["version"], "v2");
        assert_eq!(made.workload.id, "reviews");
    }

    #[test]
    fn unknown_is_not_down_and_undeclared_ports_do_not_count() {
        let made = new_workload(&group(), "", "0b0f3c9e-1111", &mesh()).unwrap();
        let port = |port, health: host::Health| host::PortHealth { port, health: health as i32, reason: String::new() };
        let report = |ports| [host::WorkloadHealth { workload_id: "reviews".into(), ports }];
        assert!(port_health(&made.workload, &report(vec![port(9080, host::Health::Unknown)])).is_empty());
        assert!(port_health(&made.workload, &report(vec![port(22, host::Health::Unhealthy)])).is_empty());
        let down = port_health(&made.workload, &report(vec![port(9080, host::Health::Unhealthy)]));
        assert_eq!(down, [(9080, Health::Unhealthy)].into());
    }
}
