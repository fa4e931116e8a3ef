use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_mesh::{
    Exception, Gateway, Health, Locality, Location, Nearness, Object, Origin, Protocol, Resolution, Service,
    ServicePort, Transport, Workload, WorkloadKey,
};

use super::*;

fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// With every field different from its default.
fn stored() -> Stored {
    let workload = Workload {
        key: WorkloadKey { namespace: "default".into(), name: "w".into() },
        addresses: BTreeMap::from([("net".to_owned(), vec!["10.0.0.1".to_owned(), "2001:db8::1".to_owned()])]),
        ports: BTreeMap::from([("http".to_owned(), 8080)]),
        labels: text(&[("app", "reviews")]),
        identity: Some("spiffe://cluster.local/ns/default/sa/reviews".parse().unwrap()),
        service_account: "reviews".to_owned(),
        locality: Locality { region: "r".to_owned(), zone: "z".to_owned(), sub_zone: "s".to_owned() },
        weight: 7,
        health: Health::Degraded,
        port_health: BTreeMap::from([(8080, Health::Draining), (8081, Health::Unhealthy)]),
        transport: Transport::Hbone,
        hawser: true,
        instance: None,
        node: Some("web-1".into()),
        group: Some("g".to_owned()),
        services: vec!["reviews.service.dc1.consul".parse().unwrap()],
        exceptions: BTreeMap::from([(
            "reviews.service.dc1.consul".parse().unwrap(),
            Exception { ports: BTreeMap::from([("http".to_owned(), 0)]), health: Some(Health::Healthy) },
        )]),
    };
    let service = Service {
        host: "reviews.service.dc1.consul".parse().unwrap(),
        namespace: "default".to_owned(),
        name: "reviews".to_owned(),
        ports: vec![ServicePort { name: "g".to_owned(), port: 80, protocol: Protocol::GrpcWeb, target_port: 81 }],
        addresses: vec!["10.1.0.0/16".parse().unwrap()],
        resolution: Resolution::DnsRoundRobin,
        location: Location::External,
        selector: Some(BTreeMap::new()),
        export_to: vec![".".to_owned()],
        subject_alt_names: vec!["spiffe://x/y".to_owned()],
        endpoints: vec![workload.clone()],
        labels: text(&[("a", "b")]),
        nearness: Nearness::Zone,
        alias_of: Some("b.example.com".parse().unwrap()),
    };
    let config = serde_json::json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {
        "name": "default", "namespace": "shop", "labels": {"a": "b"}}, "spec": {"egress": [{"hosts": ["./*"]}]}});
    let config = Arc::new(hawser_api::istio::Resource::from_json(&config).unwrap());
    let gateway = Gateway {
        key: WorkloadKey { namespace: "istio-system".into(), name: "eastwest".into() },
        network: "net".to_owned(),
        addresses: vec!["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        port: 15443,
    };
    let origin = Origin { name: "Sidecar shop/default".into(), line: 7 };
    let objects = vec![
        Object::Service(Arc::new(service)),
        Object::Workload(Arc::new(workload)),
        Object::Config(config, origin),
        Object::Gateway(Arc::new(gateway)),
    ];
    let written = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let parts = vec![("reviews".into(), objects), ("empty".into(), Vec::new())];
    Stored { registry: "consul/dc1".to_owned(), settings: u64::MAX, written, parts }
}

#[test]
fn what_is_read_is_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("registries").join("a.state");
    assert!(read(&file, "consul/dc1").unwrap().is_none());
    write(&file, &stored()).unwrap();
    assert_eq!(read(&file, "consul/dc1").unwrap(), Some(stored()));
    let mut other = stored();
    other.parts.pop();
    write(&file, &other).unwrap();
    assert_eq!(read(&file, "consul/dc1").unwrap(), Some(other));
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_that_is_damaged_anywhere_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.state");
    write(&file, &stored()).unwrap();
    let good = fs::read(&file).unwrap();
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(&file, &bad).unwrap();
        assert!(read(&file, "consul/dc1").is_err(), "byte {place}");
        fs::write(&file, &good[..place]).unwrap();
        assert!(read(&file, "consul/dc1").is_err(), "{place} bytes");
    }
}

#[test]
fn a_file_of_another_registry_or_of_a_later_version_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.state");
    write(&file, &stored()).unwrap();
    assert!(matches!(read(&file, "consul/dc2"), Err(StoredError::Other(whose)) if whose == "consul/dc1"));
    let mut later = fs::read(&file).unwrap();
    later[MAGIC.len()] = VERSION + 1;
    fs::write(&file, &later).unwrap();
    assert!(matches!(read(&file, "consul/dc1"), Err(StoredError::Foreign)));
}
