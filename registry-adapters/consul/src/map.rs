//! What Consul says of one service, in the mesh's words.
//!
//! In: instances as `/v1/health/service/:name` tells them, the names that the service has here, its protocol by
//! `service-defaults`. Out: services and workloads, and what could not be used and why. Pure. Invariant: a bad instance
//! is told and left out, and takes nothing else with it; equal answers give equal objects.

mod addresses;
mod health;
mod labels;
mod names;
mod ports;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hawser_mesh::{Locality, Location, Object, Origin, Resolution, Service, Workload, WorkloadKey};

pub(crate) use self::names::{Claims, Names, Scope};
use self::ports::Ports;
use crate::wire::{Entries, Entry, Node};

/// Label: the service's name in Consul, for Istio's metrics and for selectors; metadata may say another.
const APP: &str = "app";
/// Label of instances that expect callers of Consul's own mesh.
const NATIVE_LABEL: &str = "consul.hawser.io/connect-native";
/// Metadata of instances that a syncer made.
const EXTERNAL_SOURCE: &str = "external-source";
/// Metadata of what is registered by us.
const MANAGED_BY: &str = "managed-by";
const OURSELVES: &str = "hawser";
/// Most problems of one service that are told one by one.
const MAX_PROBLEMS: usize = 20;

/// What became of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapped {
    /// Services and workloads.
    pub(crate) objects: Vec<Object>,
    /// What could not be used, by where.
    pub(crate) problems: BTreeMap<Origin, String>,
}

/// Maps the instances of one service.
pub(crate) fn map(scope: &Scope, names: &Names, protocol: Option<&str>, entries: &Entries) -> Mapped {
    let service = format!("{}/{}", scope.place(), shown(&names.service));
    let mut problems = Problems { service, ..Problems::default() };
    let (used, all) = (entries.list.len(), entries.all);
    if all > used {
        problems.tell("", format!("it has {all} instances; the first {used} are used"));
    }
    let meant = entries.list.iter().filter(|entry| is_meant(scope, entry));
    let mut instances: Vec<(&Entry, addresses::Addresses)> = Vec::new();
    for entry in meant {
        let at = instance_name(entry);
        let checked = if entry.node.node.is_empty() || entry.service.id.is_empty() {
            Err("it has no node or no id".to_owned())
        } else {
            addresses::addresses(scope, entry)
        };
        match checked {
            Ok(addresses) => instances.push((entry, addresses)),
            Err(why) => problems.tell(&at, why),
        }
    }
    let resolution = keep_one_kind(&mut instances, &mut problems);
    if instances.is_empty() {
        return Mapped { objects: Vec::new(), problems: problems.all };
    }
    let listening = instances.iter().map(|(entry, addresses)| (*entry, addresses.port));
    let ports = Ports::of(names.port, protocol, listening, &mut problems);
    let workloads = workloads(scope, names, &ports, &instances, &mut problems);
    let location =
        if instances.iter().all(|(entry, _)| is_external(entry)) { Location::External } else { Location::Internal };
    let services = names.hosts.iter().map(|(host, name)| {
        Object::Service(Arc::new(Service {
            ports: ports.list().to_vec(),
            resolution,
            location,
            ..Service::new(host.clone(), names.namespace.to_string(), name.to_string())
        }))
    });
    let objects = services.chain(workloads.into_iter().map(|w| Object::Workload(Arc::new(w)))).collect();
    Mapped { objects, problems: problems.all }
}

fn workloads(
    scope: &Scope,
    names: &Names,
    ports: &Ports,
    instances: &[(&Entry, addresses::Addresses)],
    problems: &mut Problems,
) -> Vec<Workload> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut made = Vec::with_capacity(instances.len());
    for (entry, addresses) in instances {
        let name = instance_name(entry);
        if !taken.insert(name.clone()) {
            problems.tell(&name, "another instance of this service has the same node and id".to_owned());
            continue;
        }
        let (mut labels, left_out) = labels::labels(&entry.service.tags, &entry.service.meta);
        if left_out > 0 {
            problems.tell(
                &name,
                format!(
                    "{left_out} of its tags and metadata found no room: {} labels are the most",
                    labels::MAX_LABELS
                ),
            );
        }
        labels.entry(APP.to_owned()).or_insert_with(|| labels::value(&names.service));
        if entry.service.connect.native {
            labels.insert(NATIVE_LABEL.to_owned(), "true".to_owned());
        }
        let (health, weight) = health::standing(&entry.checks, entry.service.weights);
        made.push(Workload {
            addresses: addresses.by_network.clone(),
            ports: ports.of_instance(entry, addresses.port),
            labels,
            locality: locality(scope, entry),
            weight,
            health,
            node: Some(entry.node.node.chars().take(253).collect::<String>().into()),
            services: names.hosts.iter().map(|(host, _)| host.clone()).collect(),
            ..Workload::new(WorkloadKey { namespace: names.namespace.clone(), name: name.into() })
        });
    }
    made
}

/// Whether an instance is one that applications call, and not known from elsewhere.
fn is_meant(scope: &Scope, entry: &Entry) -> bool {
    let service = &entry.service;
    // Whatever has a kind is part of Consul's own mesh: sidecars and gateways.
    let proxy = !matches!(service.kind.as_str(), "" | "typical");
    let ours = service.meta.get(MANAGED_BY).is_some_and(|m| m == OURSELVES);
    let source = service.meta.get(EXTERNAL_SOURCE).or_else(|| entry.node.meta.get(EXTERNAL_SOURCE));
    let elsewhere = source.is_some_and(|s| s == OURSELVES || scope.skip_sources.iter().any(|skip| skip == s));
    !proxy && !ours && !elsewhere
}

fn is_external(entry: &Entry) -> bool {
    let yes = |value: Option<&String>| value.is_some_and(|v| v == "true");
    yes(entry.service.meta.get("external")) || yes(entry.node.meta.get("external-node"))
}

/// A service's instances are found by address or by host name, not by both: addresses win.
fn keep_one_kind(instances: &mut Vec<(&Entry, addresses::Addresses)>, problems: &mut Problems) -> Resolution {
    if !instances.is_empty() && instances.iter().all(|(_, a)| a.by_name) {
        return Resolution::Dns;
    }
    instances.retain(|(entry, addresses)| {
        if addresses.by_name {
            let why = "its address is a host name and those of other instances are not; register its IP address";
            problems.tell(&instance_name(entry), why.to_owned());
        }
        !addresses.by_name
    });
    Resolution::Static
}

fn locality(scope: &Scope, entry: &Entry) -> Locality {
    let Node { meta, locality: of_node, .. } = &entry.node;
    let said = |key: &str| meta.get(key).map(String::as_str).unwrap_or_default();
    let first =
        |all: [&str; 4]| all.into_iter().find(|text| !text.is_empty()).unwrap_or_default().chars().take(63).collect();
    Locality {
        region: first([&entry.service.locality.region, &of_node.region, said("region"), scope.place()]),
        zone: first([&entry.service.locality.zone, &of_node.zone, said("zone"), said("availability-zone")]),
        sub_zone: first([said("sub_zone"), said("rack"), "", ""]),
    }
}

/// `<node>/<id>`.
fn instance_name(entry: &Entry) -> String {
    format!("{}/{}", shown(&entry.node.node), shown(&entry.service.id))
}

/// A name of any form with only characters that listings, metrics and terminals can show, and not too many.
pub(crate) fn shown(name: &str) -> String {
    let ok = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, ';' | '~' | ',');
    if name.len() <= 200 && name.chars().all(ok) {
        return name.to_owned();
    }
    // Different ones must stay different.
    let mut short: String = name.chars().map(|c| if ok(c) { c } else { '_' }).take(100).collect();
    short.push_str(&format!("-{:016x}", fnv(name)));
    short
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What is wrong with a service, a bounded number of times.
#[derive(Debug, Default)]
struct Problems {
    /// `<datacenter>/<service>`.
    service: String,
    all: BTreeMap<Origin, String>,
}

impl Problems {
    /// `at` is an instance, or empty for the service as a whole.
    fn tell(&mut self, at: &str, why: String) {
        let name = match at {
            "" => self.service.clone(),
            at => format!("{} {at}", self.service),
        };
        if self.all.len() >= MAX_PROBLEMS {
            return;
        }
        let text = self.all.entry(Origin { name: name.as_str().into(), line: 0 }).or_default();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{name}: {why}"));
    }
}

#[cfg(test)]
mod tests;
