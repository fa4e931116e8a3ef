use std::collections::BTreeMap;

use hawser_mesh::{
    Hostname, InstanceRef, Location, Nearness, Protocol, RegistryId, RegistryKind, Resolution, ServicePort, Transport,
    Workload, WorkloadKey,
};

use super::*;
use crate::registry::model::Source;

const PORTS: [(&str, u16); 2] = [("http", 80), ("tcp-db", 3306)];

fn service() -> Service {
    let port = |(name, port): (&str, u16)| ServicePort {
        name: name.to_owned(),
        port,
        protocol: Protocol::from_port_name(name),
        target_port: port,
    };
    let ports: Vec<_> = PORTS.into_iter().map(port).collect();
    let source = |kind| Source { registry: RegistryId::only(kind), origin: String::new(), ports: ports.clone() };
    Service {
        host: "reviews.service.dc1.consul".parse::<Hostname>().unwrap(),
        namespace: "default".into(),
        name: "reviews".into(),
        sources: vec![source(RegistryKind::Hosts), source(RegistryKind::Consul)],
        ports,
        addresses: Vec::new(),
        virtual_addresses: Vec::new(),
        resolution: Resolution::Static,
        location: Location::Internal,
        export_to: Vec::new(),
        subject_alt_names: Vec::new(),
        labels: BTreeMap::new(),
        nearness: Nearness::default(),
        aliases: Vec::new(),
        conflicts: Vec::new(),
    }
}

fn member(kind: RegistryKind, name: &str, address: &str, ports: &[(&str, u16)]) -> Member {
    let joined = kind == RegistryKind::Hosts;
    let workload = Workload {
        addresses: BTreeMap::from([(String::new(), vec![address.to_owned()])]),
        ports: ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect(),
        locality: Default::default(),
        transport: if joined { Transport::Mtls } else { Transport::Plaintext },
        hawser: joined,
        instance: joined.then(|| InstanceRef { instance_id: name.into(), workload_id: "w".into() }),
        ..Workload::new(WorkloadKey { namespace: "default".into(), name: name.into() })
    };
    let id = WorkloadId { registry: RegistryId::only(kind), key: workload.key.clone() };
    Member { id, workload: Arc::new(workload), modes: Arc::default(), security: Arc::default() }
}

fn vm(name: &str, address: &str, ports: &[(&str, u16)]) -> Member {
    member(RegistryKind::Hosts, name, address, ports)
}

fn consul(name: &str, address: &str, ports: &[(&str, u16)]) -> Member {
    member(RegistryKind::Consul, name, address, ports)
}

fn on(node: &str, mut member: Member) -> Member {
    Arc::make_mut(&mut member.workload).node = Some(node.into());
    member
}

/// Endpoints of the service, of which `found` are instances and `hosts` are all joined hosts: `port workload:target`.
fn endpoints(found: &[&Member], hosts: &[&Member]) -> Vec<String> {
    let service = service();
    let instance = |member: &&Member| {
        let via = if member.workload.instance.is_some() { 1 } else { 2 };
        let member = Arc::new(Member {
            id: member.id.clone(),
            workload: member.workload.clone(),
            modes: Arc::default(),
            security: Arc::default(),
        });
        (member.id.clone(), Instance { via, ..Instance::new(member) })
    };
    let joined_at = |address: &str| {
        let at = |m: &&&Member| m.workload.addresses.values().flatten().any(|a| a == address);
        let copy = |m: &&Member| {
            Arc::new(Member {
                id: m.id.clone(),
                workload: m.workload.clone(),
                modes: Arc::default(),
                security: Arc::default(),
            })
        };
        hosts.iter().filter(at).map(copy).collect()
    };
    let united = unite(&service, found.iter().map(instance).collect(), joined_at);
    let mut all = Vec::new();
    for port in &service.ports {
        for instance in &united {
            if let Some(target) = service.target(port, instance) {
                all.push(format!("{} {}:{target}", port.port, instance.member.id.key.name));
            }
        }
    }
    all
}

const BOTH: &[(&str, u16)] = &[("http", 8080), ("tcp-db", 3306)];

#[test]
fn a_host_that_is_an_instance_itself_is_one_endpoint() {
    let (vm, consul) = (vm("vm", "10.0.0.1", BOTH), consul("c", "10.0.0.1", BOTH));
    assert_eq!(endpoints(&[&vm, &consul], &[&vm]), ["80 vm:8080", "3306 vm:3306"]);
}

#[test]
fn a_host_that_only_the_other_registry_puts_into_the_service_takes_its_place_there() {
    let (vm, consul) = (vm("vm", "10.0.0.1", &[("x", 8080), ("y", 3306)]), consul("c", "10.0.0.1", BOTH));
    assert_eq!(endpoints(&[&consul], &[&vm]), ["80 vm:8080", "3306 vm:3306"]);
}

#[test]
fn without_the_host_the_other_registrys_word_counts() {
    let consul = consul("c", "10.0.0.1", BOTH);
    assert_eq!(endpoints(&[&consul], &[]), ["80 c:8080", "3306 c:3306"]);
}

#[test]
fn a_port_that_the_host_does_not_declare_stays_the_other_registrys() {
    let (vm, consul) = (vm("vm", "10.0.0.1", &[("http", 8080)]), consul("c", "10.0.0.1", BOTH));
    assert_eq!(endpoints(&[&consul], &[&vm]), ["80 vm:8080", "3306 c:3306"]);
}

#[test]
fn another_address_or_port_is_another_endpoint() {
    let host = vm("vm", "10.0.0.1", &[("http", 8080)]);
    let there = consul("c", "10.0.0.2", &[("http", 8080), ("tcp-db", 3306)]);
    assert_eq!(endpoints(&[&host, &there], &[&host]), ["80 vm:8080", "80 c:8080", "3306 vm:3306", "3306 c:3306"]);
    let twice = consul("c", "10.0.0.1", &[("http", 8081), ("tcp-db", 3307)]);
    assert_eq!(endpoints(&[&host, &twice], &[&host]), ["80 vm:8080", "80 c:8081", "3306 vm:3306", "3306 c:3307"]);
}

#[test]
fn a_node_of_another_name_is_another_machine_and_a_domain_makes_no_difference() {
    let plain = consul("c", "10.0.0.1", BOTH);
    let of = |host: &str, node: &str| {
        let (host, other) = (on(host, vm("vm", "10.0.0.1", BOTH)), on(node, self::consul("c", "10.0.0.1", BOTH)));
        endpoints(&[&other], &[&host]).remove(0)
    };
    assert_eq!(of("web-1", "web-1.example.com"), "80 vm:8080");
    assert_eq!(of("WEB-1.local", "web-1"), "80 vm:8080");
    assert_eq!(of("web-1", "web-9"), "80 c:8080");
    let host = on("web-1", vm("vm", "10.0.0.1", BOTH));
    assert_eq!(endpoints(&[&plain], &[&host])[0], "80 vm:8080");
}

#[test]
fn two_registries_that_know_one_host_make_one_endpoint() {
    let host = vm("vm", "10.0.0.1", &[("x", 8080), ("y", 3306)]);
    let (first, second) = (consul("c", "10.0.0.1", BOTH), member(RegistryKind::DnsSrv, "d", "10.0.0.1", BOTH));
    assert_eq!(endpoints(&[&first, &second], &[&host]), ["80 vm:8080", "3306 vm:3306"]);
}

#[test]
fn addresses_are_compared_as_addresses_and_networks_where_both_are_said() {
    let host = vm("vm", "2001:db8::1", BOTH);
    let mut there = consul("c", "2001:DB8:0::1", BOTH);
    assert_eq!(endpoints(&[&there], &[&host])[0], "80 vm:8080");
    let list = there.workload.addresses[""].clone();
    Arc::make_mut(&mut there.workload).addresses = BTreeMap::from([("dc2".to_owned(), list)]);
    assert_eq!(endpoints(&[&there], &[&host])[0], "80 c:8080");
}

#[test]
fn what_was_applied_by_hand_is_left_as_it_is() {
    let (host, api) = (vm("vm", "10.0.0.1", BOTH), member(RegistryKind::Api, "a", "10.0.0.1", BOTH));
    assert_eq!(endpoints(&[&host, &api], &[&host]).len(), 4);
}
