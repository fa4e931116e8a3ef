//! Targets as services and workloads.
//!
//! In: targets with their addresses and their health. Out: parts, one a service: its names, and an instance for each
//! target. Invariant: labels that Prometheus keeps to itself (`__…`) stay out unless they are mapped; nothing a source
//! says makes more labels, or longer ones, than the bounds.

mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_mesh::{
    Health, Hostname, Locality, Location, Object, Protocol, Service, ServicePort, Transport, Workload, WorkloadKey,
};
use hawser_registry_source::{Fingerprint, Heard};
use serde::Deserialize;

pub use self::template::Template;
use crate::settings::Mesh;
use crate::targets::Target;

/// Most labels of a workload.
const MAX_LABELS: usize = 64;
/// Longest name of a label.
const MAX_NAME: usize = 128;
/// Longest value of one.
const MAX_VALUE: usize = 256;
/// Longest part of a locality, and longest name of a machine; what is longer is cut.
const MAX_PLACE: usize = 63;
const MAX_NODE: usize = 253;

/// What targets are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mapping {
    /// Host names that callers use; `{label}` stands for a label of the target. `<registry>.<namespace>.svc.<domain>`,
    /// if there is none.
    #[serde(default)]
    pub hosts: Vec<Template>,
    /// Namespace of the service.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// The port that callers dial.
    pub port: Port,
    /// Service account of the instances: whom callers expect with `transport: mtls`.
    #[serde(default)]
    pub service_account: String,
    /// How instances are spoken to.
    #[serde(default)]
    pub transport: TransportChoice,
    /// They are outside of the mesh.
    #[serde(default)]
    pub external: bool,
    /// Labels that every instance has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Labels of targets by other names: `__meta_dc: datacenter`.
    #[serde(default)]
    pub map_labels: BTreeMap<String, String>,
    /// `region[/zone[/sub-zone]]`, with `{label}`.
    #[serde(default)]
    pub locality: Template,
    /// Name of the machine, with `{label}`: tells a joined host at the same address from another.
    #[serde(default)]
    pub node: Template,
    /// Network of the addresses; the default one, if empty.
    #[serde(default)]
    pub network: String,
}

/// A port that callers dial.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Port {
    /// What callers dial.
    pub number: u16,
    /// What it speaks; found out, if absent.
    #[serde(default)]
    pub protocol: String,
    /// Its name; that of its protocol, or `port`, if absent.
    #[serde(default)]
    pub name: String,
}

/// How instances are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TransportChoice {
    /// Plain bytes.
    #[default]
    Plaintext,
    /// Mesh mTLS: they have sidecars.
    Mtls,
}

fn namespace() -> String {
    "default".to_owned()
}

impl Mapping {
    /// What no type says: field, reason and cure.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.port.number == 0 {
            return Err("port.number: it is 1 to 65535".to_owned());
        }
        self.port.protocol.parse::<Protocol>().map_err(|e| format!("port.protocol: {e}"))?;
        if self.namespace.is_empty() || self.namespace.len() > 63 || self.namespace.contains(['.', '/', ' ']) {
            return Err("namespace: it is a name of 1 to 63 characters".to_owned());
        }
        for host in &self.hosts {
            if let Some(fixed) = host.fixed() {
                fixed.parse::<Hostname>().map_err(|e| format!("hosts: {e}"))?;
            }
        }
        if self.transport == TransportChoice::Mtls && self.service_account.is_empty() {
            return Err("serviceAccount: with transport mtls callers need to know whom they expect".to_owned());
        }
        if let Some(first) = self.labels.keys().find(|name| name.starts_with("__")) {
            return Err(format!("labels: {first}: names that begin with __ are not for workloads"));
        }
        Ok(())
    }
}

/// A target with what was found out of it.
#[derive(Clone, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) target: &'a Target,
    pub(crate) address: IpAddr,
    pub(crate) health: Health,
}

/// Makes parts.
#[derive(Clone, Debug)]
pub(crate) struct Mapper {
    mapping: Mapping,
    mesh: Mesh,
    hosts: Vec<Template>,
    /// No host name depends on a target: there is one service, with targets or without.
    fixed: bool,
    protocol: Protocol,
    port_name: String,
}

/// What became of targets.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// One a service.
    pub(crate) parts: Vec<Heard>,
    /// Targets that make no host name, and why the first does not.
    pub(crate) nameless: Option<(usize, String)>,
}

impl Mapper {
    /// A mapper of the source `registry`. The mapping was checked.
    pub(crate) fn new(registry: &str, mapping: Mapping, mesh: Mesh) -> Self {
        let mut hosts = mapping.hosts.clone();
        if hosts.is_empty() {
            let name = format!("{registry}.{}.svc.{}", mapping.namespace, mesh.domain);
            hosts.push(Template::literal(name));
        }
        let protocol: Protocol = mapping.port.protocol.parse().unwrap_or_default();
        let port_name = match (mapping.port.name.as_str(), protocol) {
            ("", Protocol::Auto) => "port".to_owned(),
            ("", protocol) => protocol.as_str().to_owned(),
            (name, _) => name.to_owned(),
        };
        let fixed = hosts.iter().all(|host| host.fixed().is_some());
        Self { mapping, mesh, hosts, fixed, protocol, port_name }
    }

    /// Port of a target.
    pub(crate) fn port(&self, target: &Target) -> u16 {
        target.port.unwrap_or(self.mapping.port.number)
    }

    /// Makes parts of targets.
    pub(crate) fn map(&self, targets: &[Known<'_>]) -> Mapped {
        let mut mapped = Mapped::default();
        let mut services: BTreeMap<Vec<Hostname>, Vec<&Known<'_>>> = BTreeMap::new();
        if self.fixed
            && let Ok(hosts) = self.hosts_of(&BTreeMap::new())
        {
            services.insert(hosts, targets.iter().collect());
        } else {
            for known in targets {
                match self.hosts_of(&known.target.labels) {
                    Ok(hosts) => services.entry(hosts).or_default().push(known),
                    Err(why) => mapped.nameless.get_or_insert((0, why)).0 += 1,
                }
            }
        }
        for (hosts, targets) in services {
            let Some(first) = hosts.first() else { continue };
            let all_down = !targets.is_empty() && targets.iter().all(|known| known.health == Health::Unhealthy);
            let mut seen = BTreeSet::new();
            let mut objects: Vec<Object> = hosts.iter().map(|host| self.service(host)).collect();
            for known in targets {
                if seen.insert((known.address, self.port(known.target))) {
                    // When all are down, it may be our own sight that failed.
                    let health = if all_down { Health::Degraded } else { known.health };
                    objects.push(self.workload(first, &hosts, known, health));
                }
            }
            let fingerprint: Option<Fingerprint> = None;
            mapped.parts.push(Heard { part: first.as_str().into(), fingerprint, objects });
        }
        mapped
    }

    fn hosts_of(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Hostname>, String> {
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for template in &self.hosts {
            let name = template.fill(labels).map_err(|label| format!("it has no label {label}"))?;
            let host = name.parse::<Hostname>().map_err(|e| e.to_string())?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }

    fn service(&self, host: &Hostname) -> Object {
        let port = ServicePort {
            name: self.port_name.clone(),
            port: self.mapping.port.number,
            protocol: self.protocol,
            target_port: self.mapping.port.number,
        };
        Object::Service(Arc::new(Service {
            ports: vec![port],
            location: if self.mapping.external { Location::External } else { Location::Internal },
            ..Service::new(
                host.clone(),
                self.mapping.namespace.clone(),
                host.as_str().split('.').next().unwrap_or_default().to_owned(),
            )
        }))
    }

    fn workload(&self, first: &Hostname, hosts: &[Hostname], known: &Known<'_>, health: Health) -> Object {
        let Known { target, address, .. } = known;
        let mapping = &self.mapping;
        let port = self.port(target);
        let service = if self.fixed { first.as_str().split('.').next().unwrap_or_default() } else { first.as_str() };
        let name = format!("{service}-{address}-{port}").replace(':', "-");
        let transport = match mapping.transport {
            TransportChoice::Plaintext => Transport::Plaintext,
            TransportChoice::Mtls => Transport::Mtls,
        };
        let account = &mapping.service_account;
        let identity = || self.mesh.trust_domain.workload(&mapping.namespace, account).ok();
        let filled = |template: &Template| template.fill_in(&target.labels);
        let locality = filled(&mapping.locality);
        let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let mut parts = locality.splitn(3, '/').map(|part| cut(part, MAX_PLACE));
        let mut part = || parts.next().unwrap_or_default();
        let node = cut(&filled(&mapping.node), MAX_NODE);
        let ip = address.to_canonical().to_string();
        Object::Workload(Arc::new(Workload {
            addresses: BTreeMap::from([(mapping.network.clone(), vec![ip])]),
            ports: BTreeMap::from([(self.port_name.clone(), port)]),
            labels: self.labels(&target.labels),
            identity: if account.is_empty() { None } else { identity() },
            service_account: account.clone(),
            locality: Locality { region: part(), zone: part(), sub_zone: part() },
            weight: target.weight,
            health: if target.last_choice { health.max(Health::Degraded) } else { health },
            transport,
            node: Some(node).filter(|node| !node.is_empty()).map(Into::into),
            services: hosts.to_vec(),
            ..Workload::new(WorkloadKey { namespace: mapping.namespace.as_str().into(), name: name.into() })
        }))
    }

    fn labels(&self, said: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = self.mapping.labels.clone();
        for (name, value) in said {
            let name = match self.mapping.map_labels.get(name) {
                Some(other) => other,
                None if name.starts_with("__") => continue,
                None => name,
            };
            let fits = name.len() <= MAX_NAME && value.len() <= MAX_VALUE && !name.is_empty();
            if fits && labels.len() < MAX_LABELS {
                labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests;
