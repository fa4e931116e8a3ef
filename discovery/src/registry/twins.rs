//! One endpoint that two registries say: a joined host that Consul, a list of targets or DNS knows too.
//!
//! In: a service's instances as all registries say them. Out: the same with each endpoint once: of an address and port
//! that is a joined host's, the host's workload with its identity, transport and health. Invariant: an instance of a
//! joined host is never lost, and when the host leaves, what the other registry says is back as it was.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Instance, Member, Service, WorkloadId};

/// Makes each endpoint one. `joined_at` are the workloads of joined hosts at an address, as that is written.
pub(super) fn unite(
    service: &Service,
    found: BTreeMap<WorkloadId, Instance>,
    joined_at: impl Fn(&str) -> Vec<Arc<Member>>,
) -> Vec<Instance> {
    let mut united = Vec::with_capacity(found.len());
    for (id, outside) in &found {
        if !id.registry.kind.is_outside() {
            united.push(outside.clone());
            continue;
        }
        let joined = joined(&outside.member, &joined_at);
        if joined.is_empty() {
            united.push(outside.clone());
            continue;
        }
        // Which of the service's ports are whose.
        let mut own = Vec::new();
        let mut hosts: BTreeMap<&WorkloadId, (&Arc<Member>, Vec<u16>)> = BTreeMap::new();
        for port in &service.ports {
            let Some(target) = service.target(port, outside) else { continue };
            let twin = joined.iter().find(|member| member.workload.ports.values().any(|number| *number == target));
            match twin {
                None => own.push(port.port),
                Some(twin) => {
                    let itself = found.get(&twin.id).and_then(|instance| service.target(port, instance));
                    if itself != Some(target) {
                        hosts.entry(&twin.id).or_insert((twin, Vec::new())).1.push(port.port);
                    }
                }
            }
        }
        for (twin, ports) in hosts.into_values() {
            united.push(Instance {
                member: twin.clone(),
                via: outside.via,
                found_as: Some(outside.member.clone()),
                only: Some(ports.into()),
            });
        }
        if !own.is_empty() {
            united.push(Instance { only: Some(own.into()), ..outside.clone() });
        }
    }
    united.sort_by(|a, b| key(a).cmp(&key(b)));
    // Two registries may both know the host: what one of them said of a port is enough.
    let mut ports: BTreeMap<(WorkloadId, u16, u16), ()> = BTreeMap::new();
    united.retain_mut(|instance| {
        let (Some(only), Some(_)) = (&instance.only, &instance.found_as) else { return true };
        let target = |port: &u16| service.port(*port).and_then(|p| service.target(p, instance)).unwrap_or_default();
        let new = |port: &&u16| ports.insert((instance.member.id.clone(), **port, target(port)), ()).is_none();
        let left: Box<[u16]> = only.iter().filter(new).copied().collect();
        let any = !left.is_empty();
        instance.only = Some(left);
        any
    });
    united
}

fn key(instance: &Instance) -> (&WorkloadId, Option<&WorkloadId>) {
    (&instance.member.id, instance.found_as.as_ref().map(|member| &member.id))
}

/// Workloads of joined hosts that have an address of this one, and may be on the same machine.
fn joined(outside: &Member, joined_at: &impl Fn(&str) -> Vec<Arc<Member>>) -> Vec<Arc<Member>> {
    let mut all: Vec<Arc<Member>> = Vec::new();
    for (network, addresses) in &outside.workload.addresses {
        for address in addresses {
            let canonical = address.parse::<IpAddr>().map(|ip| ip.to_canonical().to_string());
            let address = canonical.as_deref().unwrap_or(address);
            let near = |member: &Arc<Member>| {
                let mut networks = member.workload.addresses.iter();
                let same = |(of, list): (&String, &Vec<String>)| {
                    // Who knows of no networks means any.
                    (network.is_empty() || of == network) && list.iter().any(|other| other == address)
                };
                networks.any(same) && same_machine(outside.workload.node.as_deref(), member.workload.node.as_deref())
            };
            all.extend(joined_at(address).into_iter().filter(near));
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all.dedup_by(|a, b| a.id == b.id);
    all
}

/// Whether two names may be of one machine: one may have a domain that the other lacks.
fn same_machine(a: Option<&str>, b: Option<&str>) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    match (a, b) {
        (Some(a), Some(b)) => short(a) == short(b),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
