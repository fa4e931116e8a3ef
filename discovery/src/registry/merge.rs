//! One service from all that define it.
//!
//! In: the definitions of one host name, best first. Out: the service of each namespace that defines it, the best first, and what
//! was kept apart and why. Invariant: nobody takes over a service that is not theirs: a definition joins others only if it may.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_mesh::{Hostname, RegistryId, Service as Defined, ServicePort, Workload};

use super::Settings;
use super::model::{Rank, Service, Source};

/// Sorts definitions of one host: best first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DefinitionKey {
    pub(super) rank: Rank,
    /// Files before the API before Kubernetes, for resources of the configuration.
    pub(super) precedence: u8,
    pub(super) registry: RegistryId,
    /// When it was made, as far as somebody says: the oldest first.
    pub(super) age: String,
    /// `ServiceEntry default/reviews`, or empty for a service that the registry says itself.
    pub(super) origin: String,
}

/// What somebody says of a service.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) service: Arc<Defined>,
    /// Endpoints that it lists itself.
    pub(super) endpoints: Vec<Arc<Workload>>,
    /// It is implied by this group of its namespace, whose hosts have these labels.
    pub(super) group: Option<(String, BTreeMap<String, String>)>,
}

/// A service, and the definitions that it is made of, in the order of its sources.
pub(super) type Merged = (Service, Vec<DefinitionKey>);
/// Definitions that do not count, and why.
pub(super) type Apart = Vec<(DefinitionKey, String)>;

/// A definition with what sorts it.
type Said<'a> = (&'a DefinitionKey, &'a Definition);

/// Merges what each namespace says; no service if no definition counts.
pub(super) fn merge(
    host: &Hostname,
    definitions: &BTreeMap<DefinitionKey, Definition>,
    settings: &Settings,
) -> (Vec<Merged>, Apart) {
    let mut apart = Vec::new();
    let mut used: Vec<Said<'_>> = Vec::new();
    let mut parts: BTreeMap<&str, Vec<Said<'_>>> = BTreeMap::new();
    for (key, definition) in definitions {
        let part = parts.entry(namespace(host, key, definition, settings)).or_default();
        // An instance keeps its sources as bits of a u32.
        let reason = if part.len() == 32 {
            Some("it is the 33rd definition of this host".to_owned())
        } else {
            refusal(host, key, definition, &used, settings)
        };
        match reason {
            Some(reason) => apart.push((key.clone(), reason)),
            None => {
                used.push((key, definition));
                part.push((key, definition));
            }
        }
    }
    let mut parts: Vec<(&str, Vec<Said<'_>>)> = parts.into_iter().filter(|(_, part)| !part.is_empty()).collect();
    // As in Istio: of the rank that knows most, the oldest, the first namespace by name.
    parts.sort_by_key(|(namespace, part)| part.first().map(|(key, _)| (key.rank, key.age.as_str(), *namespace)));
    let merged = parts.iter().filter_map(|part| one(host, part, &parts, &apart)).collect();
    (merged, apart)
}

/// The service that one namespace defines.
fn one(
    host: &Hostname,
    (namespace, used): &(&str, Vec<Said<'_>>),
    parts: &[(&str, Vec<Said<'_>>)],
    apart: &Apart,
) -> Option<Merged> {
    let (_, first) = used.first()?;
    let mut conflicts: Vec<String> =
        apart.iter().map(|(key, why)| format!("{} is kept apart: {why}", name(key))).collect();
    conflicts.extend(parts.iter().filter(|(other, _)| other != namespace).filter_map(|(other, part)| {
        let (key, _) = part.first()?;
        Some(format!("{}: namespace {other} defines it too, and its callers have that definition", name(key)))
    }));
    let ports = merge_ports(used, &mut conflicts);
    for (key, definition) in &used[1..] {
        let (a, b) = (&first.service, &definition.service);
        if a.resolution != b.resolution {
            conflicts.push(format!("{}: resolution {:?} gives way to {:?}", name(key), b.resolution, a.resolution));
        }
        if a.location != b.location {
            conflicts.push(format!("{}: location {:?} gives way to {:?}", name(key), b.location, a.location));
        }
    }
    let mut addresses: Vec<_> = used.iter().flat_map(|(_, d)| d.service.addresses.iter().copied()).collect();
    addresses.sort();
    addresses.dedup();
    let mut names: Vec<_> = used.iter().flat_map(|(_, d)| d.service.subject_alt_names.iter().cloned()).collect();
    names.sort();
    names.dedup();
    let service = Service {
        host: host.clone(),
        namespace: (*namespace).into(),
        name: first.service.name.as_str().into(),
        ports,
        addresses,
        virtual_addresses: Vec::new(),
        resolution: first.service.resolution,
        location: first.service.location,
        export_to: exported(used),
        subject_alt_names: names,
        labels: first.service.labels.clone(),
        nearness: first.service.nearness,
        aliases: Vec::new(),
        sources: used
            .iter()
            .map(|(key, d)| Source {
                registry: key.registry.clone(),
                origin: key.origin.clone(),
                ports: d.service.ports.clone(),
            })
            .collect(),
        conflicts,
    };
    Some((service, used.iter().map(|(key, _)| (*key).clone()).collect()))
}

/// The namespace that a definition is of. Registries outside are of the namespace that a name of the mesh's has in it: they were
/// told one for all they say.
fn namespace<'a>(host: &'a Hostname, key: &DefinitionKey, definition: &'a Definition, settings: &Settings) -> &'a str {
    let outside = key.registry.kind.is_outside();
    owner(host, &settings.domain).filter(|_| outside).unwrap_or(&definition.service.namespace)
}

/// Why a definition may not join those before it.
fn refusal(
    host: &Hostname,
    key: &DefinitionKey,
    definition: &Definition,
    used: &[Said<'_>],
    settings: &Settings,
) -> Option<String> {
    let namespace = &definition.service.namespace;
    if key.rank == Rank::ServiceEntry
        && let Some(owner) = owner(host, &settings.domain)
        && owner != namespace
        && *namespace != settings.root_namespace
    {
        return Some(format!("names of namespace {owner} can't be defined in namespace {namespace}"));
    }
    if let Some((group, labels)) = &definition.group {
        if *namespace == settings.root_namespace || namespace == "kube-system" {
            return Some(format!("groups of namespace {namespace} imply no service"));
        }
        let others: Vec<_> = used.iter().filter(|(key, _)| key.rank < Rank::Group).collect();
        let taken = others.iter().any(|(_, other)| {
            other.service.namespace == *namespace
                && other.service.selector.as_ref().is_some_and(|s| !s.is_empty() && selects(s, labels))
        });
        if !others.is_empty() && !taken {
            return Some(format!(
                "the labels of group {group} do not match the selector of {}; change them, or the group's name",
                name(others[0].0)
            ));
        }
    }
    None
}

/// The namespace that owns a name under the mesh's domain.
fn owner<'a>(host: &'a Hostname, domain: &str) -> Option<&'a str> {
    let rest = host.as_str().strip_suffix(domain)?.strip_suffix(".svc.")?;
    rest.rsplit('.').next().filter(|namespace| namespace.len() < rest.len())
}

fn merge_ports(used: &[Said<'_>], conflicts: &mut Vec<String>) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for (key, definition) in used {
        for port in &definition.service.ports {
            let named = ports.iter().find(|p| !p.name.is_empty() && p.name == port.name);
            match named.or_else(|| ports.iter().find(|p| p.port == port.port)) {
                None => ports.push(port.clone()),
                Some(known) => {
                    if known.port != port.port {
                        conflicts.push(format!(
                            "{}: port {} of {:?} is {}",
                            name(key),
                            port.port,
                            port.name,
                            known.port
                        ));
                    }
                    if known.protocol != port.protocol {
                        let (a, b) = (known.protocol, port.protocol);
                        conflicts.push(format!("{}: protocol {b:?} of port {} is {a:?}", name(key), known.port));
                    }
                }
            }
        }
    }
    ports.sort_by_key(|p| p.port);
    ports
}

/// Namespaces that may see the service, with `.` spelled out; empty is all.
fn exported(used: &[Said<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for (_, definition) in used {
        let service = &definition.service;
        if service.export_to.is_empty() || service.export_to.iter().any(|to| to == "*") {
            return Vec::new();
        }
        all.extend(service.export_to.iter().map(|to| if to == "." { service.namespace.clone() } else { to.clone() }));
    }
    all.sort();
    all.dedup();
    all
}

/// Whether a selector takes labels.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn name(key: &DefinitionKey) -> String {
    if key.origin.is_empty() { key.registry.to_string() } else { format!("{} ({})", key.origin, key.registry) }
}
