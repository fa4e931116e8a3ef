//! The ports that callers of a service dial, and where each instance serves them.
//!
//! A service has each port that one of its instances listens on, and an instance serves its own only. Where an alias or
//! metadata `mesh-port` says a port, the service has that one, and instances serve it wherever they listen: so
//! instances on ports that a scheduler chose are one service with one port. Invariant: the ports are sorted, each has
//! a name of its own, and there are few.

use std::collections::BTreeMap;

use hawser_mesh::{Protocol, ServicePort};

use super::Problems;
use crate::wire::Entry;

/// Metadata: the port that callers dial.
const MESH_PORT: &str = "mesh-port";
/// Metadata: what the port speaks.
const PROTOCOL: &str = "protocol";
/// Most ports of a service.
const MAX_PORTS: usize = 16;

/// Ports of a service.
#[derive(Debug)]
pub(crate) struct Ports {
    list: Vec<ServicePort>,
    /// The port that an alias says.
    declared: Option<u16>,
}

impl Ports {
    /// The ports of a service whose instances listen on these. `default` is its protocol by `service-defaults`.
    pub(crate) fn of<'a>(
        declared: Option<u16>,
        default: Option<&str>,
        instances: impl Iterator<Item = (&'a Entry, u16)>,
        problems: &mut Problems,
    ) -> Self {
        let mut votes: BTreeMap<u16, Votes> = BTreeMap::new();
        let mut vote = |dialled: u16, port: u16, protocol: Option<Protocol>| {
            let votes = votes.entry(dialled).or_default();
            votes.instances += 1;
            *votes.targets.entry(port).or_default() += 1;
            if let Some(protocol) = protocol {
                *votes.protocols.entry(protocol).or_default() += 1;
            }
        };
        let mut unknown = None;
        for (entry, port) in instances {
            let said = entry.service.meta.get(PROTOCOL).map(|text| text.trim().parse::<Protocol>());
            if let Some(Err(error)) = &said {
                unknown.get_or_insert_with(|| error.to_string());
            }
            vote(dialled(declared, entry, port), port, said.and_then(Result::ok));
            for (name, number) in named(entry) {
                vote(number, number, Some(Protocol::from_port_name(name)));
            }
        }
        if let Some(why) = unknown {
            problems.tell("", format!("metadata {PROTOCOL}: {why}"));
        }
        if votes.len() > MAX_PORTS {
            let cure = "say metadata mesh-port, or a port in its alias, so that callers have one port to dial";
            problems.tell(
                "",
                format!("its instances listen on {} ports; the {MAX_PORTS} most used count; {cure}", votes.len()),
            );
            let mut used: Vec<(usize, u16)> = votes.iter().map(|(port, votes)| (votes.instances, *port)).collect();
            used.sort_by_key(|(instances, port)| (std::cmp::Reverse(*instances), *port));
            used.into_iter().skip(MAX_PORTS).for_each(|(_, port)| {
                votes.remove(&port);
            });
        }
        let default = default.and_then(|text| text.parse::<Protocol>().ok());
        let list = votes.into_iter().map(|(port, votes)| {
            if votes.protocols.len() > 1 {
                let said: Vec<&str> = votes.protocols.keys().map(|p| p.as_str()).collect();
                problems
                    .tell("", format!("its instances say {} of port {port}; most of them count", said.join(" and ")));
            }
            let protocol = most(&votes.protocols).or(default).unwrap_or_default();
            let kind = if protocol == Protocol::Auto { "port" } else { protocol.as_str() };
            let target_port = most(&votes.targets).unwrap_or(port);
            ServicePort { name: format!("{kind}-{port}"), port, protocol, target_port }
        });
        Self { list: list.collect(), declared }
    }

    /// Sorted by number.
    pub(crate) fn list(&self) -> &[ServicePort] {
        &self.list
    }

    /// Where an instance serves them, as far as that is not the service's own word. Port 0: it does not.
    pub(crate) fn of_instance(&self, entry: &Entry, port: u16) -> BTreeMap<String, u16> {
        let dialled = dialled(self.declared, entry, port);
        let mut own = BTreeMap::new();
        for service in &self.list {
            let served = if service.port == dialled {
                port
            } else if named(entry).any(|(_, number)| number == service.port) {
                service.port
            } else {
                0
            };
            if served != service.target_port {
                own.insert(service.name.clone(), served);
            }
        }
        own
    }
}

#[derive(Debug, Default)]
struct Votes {
    instances: usize,
    targets: BTreeMap<u16, usize>,
    protocols: BTreeMap<Protocol, usize>,
}

/// What most say; the first of those that as many say.
fn most<T: Ord + Copy>(votes: &BTreeMap<T, usize>) -> Option<T> {
    votes.iter().max_by_key(|(what, count)| (**count, std::cmp::Reverse(**what))).map(|(what, _)| *what)
}

fn dialled(declared: Option<u16>, entry: &Entry, port: u16) -> u16 {
    let said = entry.service.meta.get(MESH_PORT).and_then(|text| text.trim().parse::<u16>().ok());
    declared.or(said.filter(|port| *port > 0)).unwrap_or(port)
}

/// Ports besides the first, of instances that name several.
fn named(entry: &Entry) -> impl Iterator<Item = (&str, u16)> {
    let ports = entry.service.ports.iter().filter(|named| named.port != entry.port());
    ports.filter_map(|named| Some((named.name.as_str(), u16::try_from(named.port).ok().filter(|p| *p > 0)?)))
}
