use std::collections::BTreeMap;

use hawser_mesh::{Health, Location, Nearness, Protocol, Resolution, Transport, Workload};
use serde_json::{Value, json};

use super::*;
use crate::wire::Page;

/// What a real API server listed, and how the slices, pods and a service of a namespace changed.
const LISTS: &str = include_str!("../../tests/data/lists.json");
const CHANGES: &str = include_str!("../../tests/data/endpoints.jsonl");

fn mesh() -> Mesh {
    Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        discovery_selectors: Vec::new(),
    }
}

fn empty() -> World {
    World::new(mesh(), String::new(), true, Selectors::default())
}

fn page<T: wire::Item>(lists: &BTreeMap<String, Value>, path: &str) -> Change<T> {
    let page: Page<T> = serde_json::from_slice(lists[path].to_string().as_bytes()).unwrap();
    Change::Whole(page.items)
}

fn seen(mut world: World) -> World {
    let lists: BTreeMap<String, Value> = serde_json::from_str(LISTS).unwrap();
    world.pods(page(&lists, "/api/v1/pods"));
    world.slices(page(&lists, "/apis/discovery.k8s.io/v1/endpointslices"));
    world.services(page(&lists, "/api/v1/services"));
    world.nodes(page(&lists, "/api/v1/nodes"));
    assert!(!world.is_whole() && world.take().0.is_empty(), "nothing before all was heard");
    world.namespaces(page(&lists, "/api/v1/namespaces"));
    world
}

/// Everything that is told, by part.
fn told(world: &mut World) -> BTreeMap<String, Told> {
    world.take().0.into_iter().map(|(part, told)| (part.to_string(), told)).collect()
}

fn service(told: &BTreeMap<String, Told>, name: &str) -> hawser_mesh::Service {
    let Told::Is(objects) = &told[&format!("service/{name}")] else { panic!("{name}") };
    let Object::Service(service) = &objects[0] else { panic!("{name}") };
    (**service).clone()
}

fn workloads(told: &BTreeMap<String, Told>, part: &str) -> Vec<Workload> {
    let Told::Is(objects) = &told[part] else { panic!("{part}") };
    let of = |object: &Object| match object {
        Object::Workload(workload) => Some((**workload).clone()),
        _ => None,
    };
    objects.iter().filter_map(of).collect()
}

fn pod(told: &BTreeMap<String, Told>, name: &str) -> Workload {
    workloads(told, &format!("pod/{name}")).remove(0)
}

#[test]
fn services_of_a_real_cluster_are_told_as_callers_see_them() {
    let told = told(&mut seen(empty()));
    let web = service(&told, "shop/web");
    assert_eq!(web.host.as_str(), "web.shop.svc.cluster.local");
    let ports: Vec<_> = web.ports.iter().map(|p| (p.name.as_str(), p.port, p.protocol, p.target_port)).collect();
    assert_eq!(ports, [("http", 80, Protocol::Http, 8080), ("grpc", 9090, Protocol::Grpc, 9090)]);
    assert_eq!(web.addresses, ["10.96.43.93/32".parse().unwrap()]);
    assert_eq!(web.selector, Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])));
    let dual = service(&told, "shop/web-dual");
    assert_eq!((dual.addresses.len(), dual.ports[0].protocol), (2, Protocol::Http2));
    assert!(service(&told, "shop/db").addresses.is_empty(), "headless: the mesh gives it an address");
    let elsewhere = service(&told, "shop/legacy");
    assert_eq!((elsewhere.resolution, elsewhere.location), (Resolution::Dns, Location::External));
    assert_eq!(elsewhere.endpoints[0].addresses[""], ["legacy.example.org"]);
    assert_eq!(elsewhere.alias_of, Some("legacy.example.org".parse().unwrap()), "if the mesh has such a service");
    assert_eq!(web.alias_of, None);
    assert_eq!(service(&told, "shop/gw").export_to, ["*"]);
    let near = |name: &str| service(&told, name).nearness;
    assert_eq!(
        [near("shop/near"), near("shop/nearest"), near("shop/web")],
        [Nearness::Zone, Nearness::Zone, Nearness::Any]
    );
    let both: Vec<_> = service(&told, "shop/udp").ports.iter().map(|p| (p.port, p.protocol)).collect();
    assert_eq!(both, [(53, Protocol::Auto)], "where TCP and UDP share a number, TCP is meant");
}

#[test]
fn pods_are_told_with_what_stands_before_them_and_how_each_service_sees_them() {
    let told = told(&mut seen(empty()));
    let web = pod(&told, "shop/web-1");
    assert_eq!(web.transport, Transport::Mtls);
    assert_eq!(
        web.identity.as_ref().unwrap().as_str(),
        format!("spiffe://cluster.local/ns/shop/sa/{}", web.service_account)
    );
    assert_eq!(web.addresses["net-1"], ["10.244.11.5", "fd00:10:244:11::5"], "the network of the root namespace");
    assert_eq!((web.locality.region.as_str(), web.locality.zone.as_str()), ("eu-1", "eu-1-a"));
    assert_eq!(web.health, Health::Healthy);
    let hosts: Vec<&str> = web.services.iter().map(|host| host.as_str()).collect();
    assert!(hosts.contains(&"web.shop.svc.cluster.local") && hosts.contains(&"gw.shop.svc.cluster.local"), "{hosts:?}");
    assert!(web.exceptions.is_empty(), "it listens where all do: {:?}", web.exceptions);
    assert_eq!([pod(&told, "shop/web-3").health, pod(&told, "shop/web-4").health], [Health::Draining; 2]);
    let early: Hostname = "db-early.shop.svc.cluster.local".parse().unwrap();
    let usual: Hostname = "db.shop.svc.cluster.local".parse().unwrap();
    let db = pod(&told, "shop/db-1");
    assert_eq!(db.health_for(&early, 5432), Health::Healthy, "published although it is not ready");
    assert_eq!(db.health_for(&usual, 5432), Health::Draining);
    let host = pod(&told, "pay/pay-host");
    assert_eq!(
        (host.transport, host.identity),
        (Transport::Plaintext, None),
        "a pod on its machine's network has no tunnel"
    );
    for gone in ["pod/pay/evicted", "pod/pay/job-done", "pod/shop/web-pending"] {
        assert!(!matches!(told.get(gone), Some(Told::Is(_))), "{gone}");
    }
}

use hawser_mesh::Hostname;

#[test]
fn endpoints_that_are_no_pods_are_told_with_their_service() {
    let told = told(&mut seen(empty()));
    let all = workloads(&told, "service/shop/manual");
    let shown: Vec<_> = all.iter().map(|w| (&*w.key.name, w.addresses[""][0].as_str(), w.health)).collect();
    assert_eq!(
        shown,
        [
            ("manual@10.9.0.1", "10.9.0.1", Health::Healthy),
            ("manual@10.9.0.2", "10.9.0.2", Health::Healthy),
            ("manual@10.9.0.3", "10.9.0.3", Health::Draining),
            ("manual@10.9.0.4", "10.9.0.4", Health::Healthy),
            ("manual@10.9.0.5", "10.9.0.5", Health::Healthy),
            ("manual@fd00:9::1", "fd00:9::1", Health::Healthy),
            ("manual@vm-1.example.org", "vm-1.example.org", Health::Healthy),
        ]
    );
    assert!(all.iter().all(|w| w.ports == BTreeMap::from([("http".to_owned(), 8080)])));
    assert_eq!(service(&told, "shop/manual").resolution, Resolution::Dns, "one of its endpoints is a name");
    assert!(
        !told.contains_key("service/shop/no-such-service") || told["service/shop/no-such-service"] == Told::Missing
    );
}

#[test]
fn a_namespace_is_ambient_or_a_pod_is() {
    let mut world = seen(empty());
    told(&mut world);
    let label = |labels: Value| {
        let item = json!({"metadata": {"name": "shop", "labels": labels}});
        Change::Set(serde_json::from_value(item).unwrap())
    };
    world.namespaces(label(json!({"istio.io/dataplane-mode": "ambient"})));
    let now = told(&mut world);
    assert_eq!(pod(&now, "shop/db-0").transport, Transport::Hbone);
    assert_eq!(pod(&now, "shop/web-1").transport, Transport::Mtls, "its sidecar goes before");
    assert!(now.keys().all(|part| part.contains("shop")), "nothing else is made anew");
    world.namespaces(label(json!({})));
    assert_eq!(pod(&told(&mut world), "shop/db-0").transport, Transport::Plaintext);
}

#[test]
fn namespaces_that_are_not_selected_are_not_in_the_mesh() {
    let selector = serde_json::from_value(json!({"matchLabels": {"mesh": "yes"}}));
    let selectors = Selectors::new(&[selector.unwrap()], "istio-system");
    let mut world = seen(World::new(mesh(), String::new(), true, selectors));
    assert!(told(&mut world).values().all(|told| !matches!(told, Told::Is(_))));
    assert_eq!(world.parts().count(), 0);
    let shop = json!({"metadata": {"name": "shop", "labels": {"mesh": "yes"}}});
    world.namespaces(Change::Set(serde_json::from_value(shop.clone()).unwrap()));
    let now = told(&mut world);
    assert_eq!(service(&now, "shop/web").ports.len(), 2);
    assert!(now.keys().all(|part| part.contains("/shop/")));
    let without = json!({"metadata": {"name": "shop"}});
    world.namespaces(Change::Set(serde_json::from_value(without).unwrap()));
    assert!(told(&mut world).values().all(|told| *told == Told::Gone), "whoever takes it out means it");
}

#[test]
fn the_cluster_or_a_pod_says_which_network_pods_are_in() {
    let mut world = seen(World::new(mesh(), "said".to_owned(), true, Selectors::default()));
    let network = |world: &mut World| pod(&told(world), "shop/db-0").addresses.into_keys().collect::<Vec<_>>();
    assert_eq!(network(&mut world), ["net-1"], "the root namespace says it");
    let root = json!({"metadata": {"name": "istio-system"}});
    world.namespaces(Change::Set(serde_json::from_value(root).unwrap()));
    assert_eq!(network(&mut world), ["said"]);
    let own = json!({"metadata": {"name": "db-0", "namespace": "shop", "labels": {"topology.istio.io/network": "net-2"}},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    world.pods(Change::Set(serde_json::from_value(own).unwrap()));
    assert_eq!(network(&mut world), ["net-2"]);
}

/// What callers of service x have after each thing that was done to a real cluster, as its watches told it.
#[test]
fn callers_see_the_life_of_a_service_in_step_with_the_cluster() {
    let mut world = empty();
    world.namespaces(Change::Whole(Vec::new()));
    world.nodes(Change::Whole(Vec::new()));
    world.pods(Change::Whole(Vec::new()));
    world.services(Change::Whole(Vec::new()));
    world.slices(Change::Whole(Vec::new()));
    let host: Hostname = "x.w4.svc.cluster.local".parse().unwrap();
    let mut held: BTreeMap<String, Workload> = BTreeMap::new();
    let mut ports: Vec<(String, u16)> = Vec::new();
    let mut history = Vec::new();
    let mut done = String::new();
    for line in CHANGES.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = event["line"].to_string();
        match event["of"].as_str().unwrap() {
            "did" => {
                history.push((
                    std::mem::replace(&mut done, event["line"].as_str().unwrap().to_owned()),
                    state(&held, &host, &ports),
                ));
                continue;
            }
            "pods" => world.pods(change(&text)),
            "services" => world.services(change(&text)),
            _ => world.slices(change(&text)),
        }
        for (part, told) in told(&mut world) {
            match told {
                Told::Is(objects) => {
                    for object in objects {
                        match object {
                            Object::Workload(workload) => drop(held.insert(part.clone(), (*workload).clone())),
                            Object::Service(service) => {
                                ports = service.ports.iter().map(|p| (p.name.clone(), p.target_port)).collect();
                            }
                            Object::Config(..) | Object::Gateway(_) => {}
                        }
                    }
                }
                Told::Gone | Told::Missing => {
                    held.remove(&part);
                    if part.starts_with("service/") {
                        ports.clear();
                    }
                }
            }
        }
    }
    history.push((done, state(&held, &host, &ports)));
    let shown: Vec<String> = history.into_iter().skip(1).map(|(done, state)| format!("{done}: {state}")).collect();
    assert_eq!(
        shown,
        [
            "service x created: ",
            "pod a created (pending): ",
            "pod a bound to node-a: ",
            "pod a running with IP, not ready: a:Draining",
            "pod a ready: a:Healthy",
            "pod b created, bound, ready: a:Healthy b:Healthy",
            "pod a not ready: a:Draining b:Healthy",
            "pod a ready again: a:Healthy b:Healthy",
            "pod a deleted gracefully (still ready): a:Draining b:Healthy",
            "pod a not ready while terminating: a:Unhealthy b:Healthy",
            "pod a removed (grace 0): b:Healthy",
            "pod b label changed: leaves the service: ",
            "service port added: ",
            "pod b back: b:Healthy",
            "service x deleted: ",
        ]
    );
}

/// Pods of a service with their health.
fn state(held: &BTreeMap<String, Workload>, host: &Hostname, ports: &[(String, u16)]) -> String {
    let named = held.values().filter(|w| !ports.is_empty() && w.services.contains(host));
    let all: Vec<String> = named.map(|w| format!("{}:{:?}", w.key.name, w.health_for(host, 0))).collect();
    all.join(" ")
}

fn change<T: wire::Item>(line: &str) -> Change<T> {
    match wire::Line::parse(line.as_bytes()).unwrap() {
        wire::Line::New(item) | wire::Line::Set(item) => Change::Set(item),
        wire::Line::Gone(item) => Change::Gone(item.name()),
        other => panic!("{other:?}", other = matches!(other, wire::Line::Bookmark(..))),
    }
}

#[test]
fn a_pod_that_listens_elsewhere_than_the_others_is_told_so_for_that_service_only() {
    let mut world = empty();
    world.namespaces(Change::Whole(Vec::new()));
    world.nodes(Change::Whole(Vec::new()));
    let pod_json = |name: &str, ip: &str| {
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    let slice = |name: &str, port: u16, pods: &[&str]| {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|pod| json!({"addresses": ["10.0.0.9"], "targetRef": {"kind": "Pod", "namespace": "a", "name": pod}}))
            .collect();
        json!({"metadata": {"name": name, "namespace": "a", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": port}]})
    };
    let pods = [pod_json("one", "10.0.0.1"), pod_json("two", "10.0.0.2"), pod_json("odd", "10.0.0.3")];
    world.pods(Change::Whole(pods.into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect()));
    let slices = [slice("s-1", 8080, &["one", "two"]), slice("s-2", 9999, &["odd"])];
    world.slices(Change::Whole(slices.into_iter().map(|slice| serde_json::from_value(slice).unwrap()).collect()));
    let of = json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
    world.services(Change::Whole(vec![serde_json::from_value(of).unwrap()]));
    let now = told(&mut world);
    assert_eq!(service(&now, "a/s").ports[0].target_port, 8080);
    assert!(pod(&now, "a/one").exceptions.is_empty());
    let odd = pod(&now, "a/odd");
    assert_eq!(odd.exceptions.values().next().unwrap().ports, BTreeMap::from([("http".to_owned(), 9999)]));
}

#[test]
fn what_a_new_list_lacks_is_missing_and_what_was_deleted_is_gone() {
    let mut world = seen(empty());
    told(&mut world);
    world.pods(Change::Gone(Name::new("shop", "db-0")));
    assert_eq!(told(&mut world)["pod/shop/db-0"], Told::Gone);
    world.pods(Change::Whole(Vec::new()));
    let (changed, listed) = world.take();
    assert!(
        listed && changed.iter().any(|(part, told)| part.to_string() == "pod/shop/web-1" && *told == Told::Missing)
    );
    assert!(world.parts().all(|part| !part.to_string().starts_with("pod/")));
}

#[test]
fn a_service_that_is_labelled_with_a_network_is_the_way_into_it() {
    let mut world = seen(empty());
    told(&mut world);
    let gateway = |port: u16, labels: Value| {
        let of = json!({"metadata": {"name": "eastwest", "namespace": "istio-system", "labels": labels},
            "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": port}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb.example.org"}]}}});
        Change::Set(serde_json::from_value(of).unwrap())
    };
    let mut of = |port, labels| {
        world.services(gateway(port, labels));
        let told = told(&mut world);
        let Told::Is(objects) = &told["service/istio-system/eastwest"] else { panic!() };
        objects.iter().find_map(|object| match object {
            Object::Gateway(gateway) => Some((gateway.network.clone(), gateway.addresses[0].to_string(), gateway.port)),
            _ => None,
        })
    };
    let is = |port| Some(("net-1".to_owned(), "203.0.113.9".to_owned(), port));
    assert_eq!(of(15443, json!({"topology.istio.io/network": "net-1"})), is(15443));
    let said = json!({"topology.istio.io/network": "net-1", "networking.istio.io/gatewayPort": "443"});
    assert_eq!(of(443, said), is(443));
    assert_eq!(of(443, json!({"topology.istio.io/network": "net-1"})), None, "it has no such port");
    assert_eq!(of(15443, json!({})), None);
}

#[test]
fn hints_of_slices_neither_leave_an_endpoint_out_nor_say_where_it_is() {
    let mut world = seen(empty());
    told(&mut world);
    let mut slice = json!({"metadata": {"name": "web-hinted", "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}]});
    // For a zone that it is not in, for a node, for nobody, and without one.
    let hints = [
        json!({"forZones": [{"name": "eu-1-z"}]}),
        json!({"forZones": [{"name": "eu-1-a"}, {"name": "eu-1-z"}], "forNodes": [{"name": "node-z"}]}),
        json!({"forZones": null, "forNodes": null}),
        Value::Null,
    ];
    let endpoint = |(number, hints): (usize, &Value)| json!({"addresses": [format!("10.9.0.{number}")], "conditions": {"ready": true}, "zone": "eu-1-b", "hints": hints});
    slice["endpoints"] = hints.iter().enumerate().map(endpoint).collect();
    world.slices(Change::Set(serde_json::from_value(slice).unwrap()));
    let told = told(&mut world);
    let all = workloads(&told, "service/shop/web");
    let seen: Vec<_> = all.iter().map(|w| (w.addresses[""][0].as_str(), w.locality.zone.as_str(), w.health)).collect();
    let as_it_is = |address| (address, "eu-1-b", Health::Healthy);
    assert_eq!(seen, ["10.9.0.0", "10.9.0.1", "10.9.0.2", "10.9.0.3"].map(as_it_is));
    assert_eq!(service(&told, "shop/web").nearness, Nearness::Any, "that is what the service itself says");
}

#[test]
fn a_name_for_another_needs_no_ports_where_the_mesh_may_have_a_service_of_that_name() {
    let mut world = seen(empty());
    told(&mut world);
    let mut name = |to: &str, ports: Value| {
        let spec = json!({"type": "ExternalName", "externalName": to, "ports": ports});
        let said = json!({"metadata": {"name": "name", "namespace": "shop"}, "spec": spec});
        world.services(Change::Set(serde_json::from_value(said).unwrap()));
        let told = told(&mut world);
        let full = Name { namespace: "shop".into(), name: "name".into() };
        let is =
            matches!(told.get("service/shop/name"), Some(Told::Is(_))).then(|| service(&told, "shop/name").alias_of);
        (is.flatten().map(|host| host.to_string()), world.warnings(&full))
    };
    let web = "web.shop.svc.cluster.local";
    assert_eq!(name("web.shop.svc.cluster.local.", Value::Null), (Some(web.to_owned()), None));
    let (to, why) = name("api.example.com", Value::Null);
    assert!(
        to.is_some() && why.as_ref().unwrap().contains("only if the mesh has a service api.example.com"),
        "{why:?}"
    );
    assert_eq!(name("api.example.com", json!([{"port": 443}])), (Some("api.example.com".to_owned()), None));
    let (to, why) = name("192.0.2.7", Value::Null);
    assert!(to.is_none() && why.unwrap().contains("write spec.ports"), "an address is no name");
}
