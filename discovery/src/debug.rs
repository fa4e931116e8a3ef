//! Pages for those who look for an error: what the registry holds, what a client gets.
//!
//! In: a snapshot, a connected client. Out: JSON. Invariant: no secret is here to be shown.

mod resources;
mod text;

use serde_json::{Value, json};

pub use self::resources::resources;
pub use self::text::text;
use crate::registry::Snapshot;
use crate::registry::model::{Service, WorkloadId};

/// Everything the registry holds.
pub fn registry(snapshot: &Snapshot) -> Value {
    let services: Vec<Value> = snapshot
        .services()
        .into_iter()
        .map(|state| {
            let mut shown = service(&state.service);
            shown["subsets"] = state.rules.subsets().into_iter().collect();
            shown["endpoints"] = state
                .endpoints()
                .into_iter()
                .map(|endpoint| {
                    json!({
                        "port": endpoint.port,
                        "address": endpoint.address,
                        "targetPort": endpoint.target_port,
                        "health": format!("{:?}", endpoint.health).to_lowercase(),
                        "transport": format!("{:?}", endpoint.transport).to_lowercase(),
                        "workload": endpoint.member.id.to_string(),
                    })
                })
                .collect();
            shown
        })
        .collect();
    let workloads: Vec<Value> = snapshot
        .workloads()
        .into_iter()
        .map(|member| {
            let workload = &member.workload;
            json!({
                "name": member.id.to_string(),
                "addresses": workload.addresses,
                "ports": workload.ports,
                "labels": workload.labels,
                "identity": workload.identity.as_ref().map(|id| id.as_str()),
                "weight": workload.weight.max(1),
                "health": format!("{:?}", workload.health).to_lowercase(),
                "services": services_of(snapshot, &member.id),
                "tlsMode": format!("{:?}", member.modes.all).to_lowercase(),
            })
        })
        .collect();
    let registries: Vec<Value> = snapshot
        .registries
        .iter()
        .map(|r| {
            let why = r.stale.as_ref().map(|(_, why)| why);
            json!({ "name": r.id.to_string(), "state": r.state(), "why": why, "workloads": r.objects })
        })
        .collect();
    json!({
        "revision": snapshot.revision,
        "ready": snapshot.ready(),
        "missing": snapshot.missing(),
        "registries": registries,
        "services": services,
        "workloads": workloads,
    })
}

fn service(service: &Service) -> Value {
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(
            |p| json!({ "name": p.name, "port": p.port, "protocol": p.protocol.as_str(), "targetPort": p.target_port }),
        )
        .collect();
    json!({
        "host": service.host.as_str(),
        "namespace": &*service.namespace,
        "ports": ports,
        "addresses": service.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "virtualAddresses": service.virtual_addresses,
        "resolution": format!("{:?}", service.resolution),
        "location": format!("{:?}", service.location),
        "exportTo": service.export_to,
        "sources": service.sources.iter().map(|s| format!("{} {}", s.registry, s.origin)).collect::<Vec<_>>(),
        "conflicts": service.conflicts,
    })
}

fn services_of(snapshot: &Snapshot, id: &WorkloadId) -> Vec<String> {
    snapshot.services_of(id).map(|state| state.service.host.to_string()).collect()
}
