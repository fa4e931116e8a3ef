use serde_json::Value;

use super::*;

/// What a real API server listed.
const LISTS: &str = include_str!("../../tests/data/lists.json");

fn list<T: Item>(path: &str) -> Vec<T> {
    let all: BTreeMapOf = serde_json::from_str(LISTS).unwrap();
    let page: Page<T> = serde_json::from_slice(all[path].to_string().as_bytes()).unwrap();
    assert!(page.metadata.token.is_empty() && !page.metadata.resource_version.is_empty());
    page.items
}

type BTreeMapOf = std::collections::BTreeMap<String, Value>;

fn named<T: Item>(all: &[T], name: &str) -> usize {
    all.iter().position(|item| item.name().to_string() == name).unwrap()
}

#[test]
fn pods_are_read_without_what_nobody_uses() {
    let pods: Vec<Pod> = list("/api/v1/pods");
    let web = &pods[named(&pods, "shop/web-1")];
    assert_eq!(web.addresses(), ["10.244.11.5", "fd00:10:244:11::5"]);
    assert!(web.has_container("istio-proxy"), "sidecars may be containers that are started first");
    assert!(web.metadata.annotation("sidecar.istio.io/status").unwrap().len() <= 512);
    assert_eq!(web.metadata.annotation("prometheus.io/port"), None);
    let of = |name: &str| pods[named(&pods, name)].readiness();
    assert_eq!([of("shop/web-1"), of("shop/web-3")], [Readiness::Ready, Readiness::NotReady]);
    assert!(pods[named(&pods, "shop/web-4")].metadata.deleting);
    let over: Vec<String> = pods.iter().filter(|pod| pod.is_over()).map(|pod| pod.name().to_string()).collect();
    assert_eq!(over, ["pay/evicted", "pay/job-done"]);
    let pending = &pods[named(&pods, "shop/web-pending")];
    assert!(pending.addresses().is_empty() && pending.readiness() == Readiness::NotReady);
}

#[test]
fn a_pod_whose_node_fell_silent_is_lost_and_one_that_says_no_is_not() {
    let pod = |ready: &str, containers: &str| {
        let json = format!(
            r#"{{"metadata":{{"name":"a"}},"status":{{"phase":"Running","conditions":[
                {{"type":"Ready",{ready}}},{{"type":"ContainersReady","status":"{containers}"}}]}}}}"#
        );
        serde_json::from_str::<Pod>(&json).unwrap().readiness()
    };
    assert_eq!(pod(r#""status":"True""#, "True"), Readiness::Ready);
    assert_eq!(pod(r#""status":"False","reason":"ContainersNotReady""#, "False"), Readiness::NotReady);
    assert_eq!(pod(r#""status":"False","reason":"ReadinessGatesNotReady""#, "True"), Readiness::NotReady);
    assert_eq!(pod(r#""status":"False""#, "True"), Readiness::Lost);
    let unknown: Pod = serde_json::from_str(r#"{"metadata":{"name":"a"},"status":{"phase":"Unknown"}}"#).unwrap();
    assert_eq!(unknown.readiness(), Readiness::Lost);
}

#[test]
fn slices_without_endpoints_and_without_ports_are_read() {
    let slices: Vec<Slice> = list("/apis/discovery.k8s.io/v1/endpointslices");
    let without = &slices[named(&slices, "shop/no-service-label")];
    assert!(without.endpoints.is_empty() && without.ports.is_empty() && without.service().is_none());
    let by_hand = &slices[named(&slices, "shop/manual-v4")];
    assert_eq!(by_hand.endpoints[2].conditions, Default::default(), "conditions may say nothing");
    assert_eq!(by_hand.endpoints[0].hints.as_ref().unwrap().for_zones.len(), 2);
    assert_eq!(slices[named(&slices, "shop/manual-fqdn")].address_type, AddressType::Fqdn);
    let later: Slice = serde_json::from_str(r#"{"metadata":{"name":"x"},"addressType":"DID"}"#).unwrap();
    assert_eq!(later.address_type, AddressType::Other);
}

#[test]
fn services_of_every_type_are_read() {
    let services: Vec<Service> = list("/api/v1/services");
    let of = |name: &str| &services[named(&services, name)];
    assert_eq!(of("shop/db").cluster_ips().count(), 0, "headless");
    assert_eq!(of("shop/web-dual").cluster_ips().collect::<Vec<_>>(), ["10.96.143.162", "fd00:10:96::a8b0"]);
    assert_eq!(of("shop/legacy").spec.kind, ServiceType::ExternalName);
    assert_eq!(of("shop/np").spec.kind, ServiceType::NodePort);
    assert_eq!(
        of("shop/gw").external_ips().collect::<Vec<_>>(),
        ["203.0.113.7"],
        "what has only a name has no address"
    );
    assert_eq!(of("shop/web").spec.ports[0].target_port, Some(TargetPort::Name("http".to_owned())));
}

#[test]
fn a_bookmark_of_a_pod_is_no_pod_and_is_read_all_the_same() {
    let line = br#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7"},
        "spec":{"containers":null},"status":{}}}"#;
    assert!(matches!(Line::<Pod>::parse(line).unwrap(), Line::Bookmark(version, false) if version == "7"));
    let end = br#"{"object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"},"resourceVersion":"8"}},
        "type":"BOOKMARK"}"#;
    assert!(matches!(Line::<Pod>::parse(end).unwrap(), Line::Bookmark(version, true) if version == "8"));
    assert!(Line::<Pod>::parse(br#"{"type":"NOVELTY","object":{}}"#).is_err());
    assert!(Line::<Pod>::parse(b"404 page not found").is_err());
}

#[test]
fn resources_are_read_in_every_version_and_those_that_are_ours_are_known() {
    let entries: Vec<Config> = list("/apis/networking.istio.io/v1/serviceentries");
    let old: Vec<Config> = list("/apis/networking.istio.io/v1alpha3/serviceentries");
    assert_eq!(entries.len(), old.len());
    for (new, old) in entries.iter().zip(&old) {
        let (new, old) = (new.resource().unwrap(), old.resource().unwrap());
        assert_eq!((new.spec, new.metadata.name), (old.spec, old.metadata.name));
        assert!(new.metadata.annotations.keys().all(|key| !key.contains("last-applied")));
    }
    let entry = |metadata: &str| {
        let json = format!(
            r#"{{"apiVersion":"networking.istio.io/v1","kind":"WorkloadEntry","metadata":{{"name":"a",{metadata}}},
                "spec":{{"address":"10.0.0.1"}}}}"#
        );
        serde_json::from_str::<Config>(&json).unwrap().is_ours()
    };
    assert!(entry(r#""annotations":{"hawser.io/instance":"1"}"#));
    assert!(entry(r#""managedFields":[{"manager":"hawser-discovery","operation":"Apply","fieldsV1":{"f:spec":{}}}]"#));
    assert!(!entry(r#""managedFields":[{"manager":"hawser-discovery","subresource":"status"}]"#));
    assert!(!entry(r#""managedFields":[{"manager":"kubectl"}],"annotations":{"istio.io/x":"y"}"#));
    assert!(!entry(r#""managedFields":null,"annotations":null,"labels":null"#));
}
