use super::*;

fn mapper(yaml: &str) -> Mapper {
    let mapping: Mapping = serde_saphyr::from_str(yaml).unwrap();
    mapping.check().unwrap();
    let mesh = Mesh { trust_domain: "cluster.local".parse().unwrap(), domain: "cluster.local".to_owned() };
    Mapper::new("legacy", mapping, mesh)
}

fn target(host: &str, port: u16, labels: &[(&str, &str)]) -> Target {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Target { host: host.to_owned(), port: Some(port), labels: Arc::new(labels), weight: 0, last_choice: false }
}

/// Of each part: its services, and its workloads with address, port and health.
fn parts(mapper: &Mapper, targets: &[(Target, Health)]) -> Vec<String> {
    let known: Vec<_> = targets
        .iter()
        .map(|(target, health)| Known { target, address: target.host.parse().unwrap(), health: *health })
        .collect();
    let show = |object: &Object| match object {
        Object::Service(s) => s.host.to_string(),
        Object::Workload(w) => {
            let (address, port) = (&w.addresses[""][0], w.ports.values().next().unwrap());
            format!("{}={address}:{port} {:?}", w.key.name, w.health)
        }
        Object::Config(..) | Object::Gateway(_) => String::new(),
    };
    let mapped = mapper.map(&known);
    mapped.parts.iter().map(|part| part.objects.iter().map(show).collect::<Vec<_>>().join(", ")).collect()
}

fn workload(mapper: &Mapper, target: &Target) -> Arc<Workload> {
    let known = Known { target, address: target.host.parse().unwrap(), health: Health::Healthy };
    let mapped = mapper.map(&[known]);
    let found = mapped.parts[0].objects.iter().find_map(|object| match object {
        Object::Workload(workload) => Some(workload.clone()),
        _ => None,
    });
    found.unwrap()
}

use Health::{Healthy, Unhealthy};

#[test]
fn a_list_is_one_service_of_the_registrys_name_where_nothing_else_is_said() {
    let mapper = mapper("port: {number: 80, protocol: http}");
    let targets = [(target("10.0.0.1", 8080, &[]), Healthy), (target("10.0.0.1", 8080, &[]), Healthy)];
    let host = "legacy.default.svc.cluster.local";
    assert_eq!(parts(&mapper, &targets), [format!("{host}, legacy-10.0.0.1-8080=10.0.0.1:8080 Healthy")]);
    assert_eq!(parts(&mapper, &[]), [host], "a service without instances is still there");
}

#[test]
fn labels_make_a_service_each_and_who_lacks_them_is_left_out_and_counted() {
    let mapper = mapper("{hosts: ['{job}.x.mesh', '{job}.y.mesh'], port: {number: 80}}");
    let targets = [
        (target("10.0.0.1", 1, &[("job", "a")]), Healthy),
        (target("10.0.0.2", 2, &[("job", "b")]), Healthy),
        (target("10.0.0.3", 3, &[("job", "a")]), Healthy),
        (target("10.0.0.4", 4, &[]), Healthy),
        (target("10.0.0.5", 5, &[("job", "not a name")]), Healthy),
    ];
    assert_eq!(
        parts(&mapper, &targets),
        [
            "a.x.mesh, a.y.mesh, a.x.mesh-10.0.0.1-1=10.0.0.1:1 Healthy, a.x.mesh-10.0.0.3-3=10.0.0.3:3 Healthy",
            "b.x.mesh, b.y.mesh, b.x.mesh-10.0.0.2-2=10.0.0.2:2 Healthy"
        ]
    );
    let known =
        targets.each_ref().map(|(target, health)| Known { target, address: [0, 0, 0, 0].into(), health: *health });
    assert_eq!(mapper.map(&known).nameless, Some((2, "it has no label job".to_owned())));
}

#[test]
fn when_all_of_a_service_are_down_it_may_be_our_own_sight() {
    let mapper = mapper("port: {number: 80}");
    let of = |healths: [Health; 2]| {
        let targets = [(target("10.0.0.1", 1, &[]), healths[0]), (target("10.0.0.2", 2, &[]), healths[1])];
        parts(&mapper, &targets).remove(0)
    };
    assert!(of([Unhealthy, Healthy]).contains(":1 Unhealthy"));
    let all = of([Unhealthy, Unhealthy]);
    assert!(all.contains(":1 Degraded") && all.contains(":2 Degraded"), "{all}");
}

#[test]
fn labels_are_carried_over_renamed_and_bounded_and_prometheus_own_are_dropped() {
    let mapper = mapper(
        "{port: {number: 80}, labels: {team: a, env: fixed}, mapLabels: {__meta_dc: dc, rack: shelf}, \
         locality: '{region}/{__meta_zone}', node: 'n-{rack}'}",
    );
    let long = "x".repeat(300);
    let said = target(
        "10.0.0.1",
        1,
        &[("env", "said"), ("__meta_dc", "d1"), ("__meta_zone", "z"), ("rack", "r"), ("region", "eu"), ("l", &long)],
    );
    let made = workload(&mapper, &said);
    let labels: Vec<_> = made.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["dc=d1", "env=fixed", "region=eu", "shelf=r", "team=a"]);
    assert_eq!((made.locality.region.as_str(), made.locality.zone.as_str()), ("eu", "z"));
    assert_eq!(made.node.as_deref(), Some("n-r"));
    let large = "y".repeat(100_000);
    let made = workload(&mapper, &target("10.0.0.1", 1, &[("rack", &large), ("region", &large), ("__meta_zone", "z")]));
    assert_eq!(made.node.as_ref().unwrap().len(), MAX_NODE);
    assert_eq!((made.locality.region.len(), made.locality.zone.as_str()), (MAX_PLACE, "z"));
    let many: Vec<(String, String)> = (0..200).map(|n| (format!("l{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(workload(&mapper, &target("10.0.0.1", 1, &many)).labels.len(), MAX_LABELS);
}

#[test]
fn instances_are_called_in_plaintext_unless_told_otherwise() {
    let plain = workload(&mapper("port: {number: 80}"), &target("10.0.0.1", 1, &[]));
    assert_eq!((plain.transport, plain.identity.clone()), (Transport::Plaintext, None));
    let yaml = "{port: {number: 80}, transport: mtls, serviceAccount: web, namespace: shop}";
    let mtls = workload(&mapper(yaml), &target("10.0.0.1", 1, &[]));
    assert_eq!(mtls.transport, Transport::Mtls);
    assert_eq!(mtls.identity.as_ref().unwrap().as_str(), "spiffe://cluster.local/ns/shop/sa/web");
}

#[test]
fn a_mapping_that_can_not_be_meant_is_refused_with_its_field() {
    for (yaml, why) in [
        ("{port: {number: 0}}", "port.number"),
        ("{port: {number: 80, protocol: htp}}", "port.protocol"),
        ("{port: {number: 80}, namespace: 'a.b'}", "namespace"),
        ("{port: {number: 80}, hosts: ['a b']}", "hosts"),
        ("{port: {number: 80}, transport: mtls}", "serviceAccount"),
        ("{port: {number: 80}, labels: {__x: y}}", "labels"),
    ] {
        let mapping: Mapping = serde_saphyr::from_str(yaml).unwrap();
        let message = mapping.check().unwrap_err();
        assert!(message.starts_with(why), "{yaml}: {message}");
    }
    for yaml in
        ["{}", "{port: {number: 80}, prot: 1}", "{port: {number: 80}, hosts: ['{a']}", "{port: {number: 70000}}"]
    {
        assert!(serde_saphyr::from_str::<Mapping>(yaml).is_err(), "{yaml}");
    }
}
