use hawser_mesh::{Locality, WorkloadKey};

use super::*;

fn service(more: Value) -> Target {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 90, "targetPort": "adm"}]},
    });
    for (key, value) in more.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    Target::of(&serde_json::from_value(object).unwrap()).unwrap()
}

fn host(number: u32) -> Workload {
    let name = format!("web-{number:04}");
    let address = format!("10.0.{}.{}", number / 256, number % 256);
    Workload {
        addresses: [(String::new(), vec![address, format!("fd00::{number:x}")])].into(),
        ports: [("adm".to_owned(), 9001)].into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        locality: Locality { region: "eu".to_owned(), zone: "a".to_owned(), sub_zone: String::new() },
        ..Workload::new(WorkloadKey { namespace: "shop".into(), name: name.as_str().into() })
    }
}

const WITH: With<'_> = With { network: "", mesh: "m", entries: None };

fn slices(target: &Target, hosts: Vec<Workload>, before: &Before, with: With<'_>) -> BTreeMap<Arc<str>, Value> {
    let hosts: Vec<Arc<Workload>> = hosts.into_iter().map(Arc::new).collect();
    target.slices(&Name::new("shop", "web"), &hosts.iter().collect::<Vec<_>>(), before, with)
}

fn before(slices: &BTreeMap<Arc<str>, Value>) -> Before {
    let of = |value: &Value| addresses(&serde_json::from_value(value.clone()).unwrap());
    slices.iter().map(|(name, value)| (name.clone(), of(value))).collect()
}

fn one(slices: &BTreeMap<Arc<str>, Value>, family: &str) -> Value {
    let mut of = slices.values().filter(|slice| slice["addressType"] == family);
    let slice = of.next().unwrap_or_else(|| panic!("no {family} in {slices:#?}")).clone();
    assert!(of.next().is_none(), "{slices:#?}");
    slice
}

#[test]
fn a_host_is_an_endpoint_in_one_slice_a_family_with_named_ports_resolved() {
    let all = slices(&service(json!({})), vec![host(5)], &Before::new(), WITH);
    assert_eq!(all.len(), 2);
    let slice = one(&all, "IPv4");
    assert_eq!(
        slice["endpoints"],
        json!([{"addresses": ["10.0.0.5"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "zone": "a"}])
    );
    assert_eq!(
        slice["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9001, "protocol": "TCP"}])
    );
    let labels = json!({"endpointslice.kubernetes.io/managed-by": "hawser.io", "kubernetes.io/service-name": "web"});
    assert_eq!(slice["metadata"]["labels"], labels);
    let owner = json!([{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u-1"}]);
    assert_eq!(slice["metadata"]["ownerReferences"], owner);
    assert_eq!(one(&all, "IPv6")["endpoints"][0]["addresses"], json!(["fd00::5"]));
    let single = slices(&service(json!({"ipFamilies": ["IPv6"]})), vec![host(5)], &Before::new(), WITH);
    assert!(single.len() == 1 && one(&single, "IPv6")["ports"][0]["port"] == 8080);
}

#[test]
fn a_port_that_the_host_names_itself_goes_before_and_one_that_nobody_knows_is_left_out() {
    let of = |ports: &[(&str, u16)]| {
        let ports = ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect();
        let only = service(json!({"ipFamilies": ["IPv4"]}));
        let all = slices(&only, vec![Workload { ports, ..host(1) }], &Before::new(), WITH);
        all.values().next().map(|slice| {
            let ports = slice["ports"].as_array().unwrap().iter();
            ports.map(|p| (p["name"].as_str().unwrap().to_owned(), p["port"].as_u64().unwrap())).collect::<Vec<_>>()
        })
    };
    let pair = |name: &str, port: u64| (name.to_owned(), port);
    assert_eq!(of(&[("http", 3000)]), Some(vec![pair("http", 3000)]));
    assert_eq!(of(&[("admin", 5)]), Some(vec![pair("http", 8080), pair("admin", 5)]));
    assert_eq!(of(&[("http", 0)]), None, "it serves none of them");
}

#[test]
fn health_is_said_port_by_port_and_the_last_choice_is_one_for_kube_proxy() {
    let only = service(json!({"ipFamilies": ["IPv4"]}));
    let conditions = |host: Workload, target: &Target| {
        let all = slices(target, vec![host], &Before::new(), WITH);
        let said = |slice: &Value| {
            let of = &slice["endpoints"][0]["conditions"];
            let ports = slice["ports"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned());
            let part = |name: &str| of[name].as_bool().unwrap();
            (ports.collect::<Vec<_>>().join(" "), (part("ready"), part("serving"), part("terminating")))
        };
        all.values().map(said).collect::<BTreeMap<_, _>>()
    };
    let both = |c: Conditions| BTreeMap::from([("http admin".to_owned(), c)]);
    for (health, wanted) in [
        (Health::Healthy, (true, true, false)),
        (Health::Degraded, (false, true, true)),
        (Health::Draining, (false, true, true)),
    ] {
        assert_eq!(conditions(Workload { health, ..host(1) }, &only), both(wanted), "{health:?}");
    }
    let one_port = Workload { port_health: [(9001, Health::Unhealthy)].into(), ..host(1) };
    let apart = [("http".to_owned(), (true, true, false)), ("admin".to_owned(), (false, false, false))];
    assert_eq!(conditions(one_port.clone(), &only), apart.into());
    let published = service(json!({"ipFamilies": ["IPv4"], "publishNotReadyAddresses": true}));
    let apart = [("http".to_owned(), (true, true, false)), ("admin".to_owned(), (true, false, false))];
    assert_eq!(conditions(one_port, &published), apart.into());
}

#[test]
fn slices_hold_a_hundred_and_who_comes_or_goes_changes_one() {
    let only = service(json!({"ipFamilies": ["IPv4"]}));
    let all: Vec<Workload> = (1..=250).map(host).collect();
    let first = slices(&only, all.clone(), &Before::new(), WITH);
    let sizes = |slices: &BTreeMap<Arc<str>, Value>| {
        slices.values().map(|s| s["endpoints"].as_array().unwrap().len()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&first), [100, 100, 50]);
    let changed = |now: &BTreeMap<Arc<str>, Value>, then: &BTreeMap<Arc<str>, Value>| {
        now.iter().filter(|(name, value)| then.get(*name) != Some(value)).count()
    };
    let less = slices(&only, all[1..].to_vec(), &before(&first), WITH);
    assert_eq!((changed(&less, &first), sizes(&less)), (1, vec![99, 100, 50]));
    let more = slices(&only, all.iter().cloned().chain([host(300)]).skip(1).collect(), &before(&less), WITH);
    assert_eq!((changed(&more, &less), sizes(&more)), (1, vec![100, 100, 50]));
    let few = slices(&only, vec![host(250)], &before(&more), WITH);
    assert_eq!(few.keys().collect::<Vec<_>>(), more.keys().skip(1).take(1).collect::<Vec<_>>(), "its slice stays");
}

#[test]
fn only_addresses_that_pods_reach_are_endpoints() {
    let only = service(json!({"ipFamilies": ["IPv4"]}));
    let with = |network| With { network, ..WITH };
    let of = |addresses: &[(&str, &str)], network| {
        let addresses = addresses.iter().map(|(n, a)| ((*n).to_owned(), vec![(*a).to_owned()])).collect();
        let all = slices(&only, vec![Workload { addresses, ..host(1) }], &Before::new(), with(network));
        all.values().next().map(|slice| slice["endpoints"][0]["addresses"][0].as_str().unwrap().to_owned())
    };
    let both = [("", "10.0.0.1"), ("pods", "10.244.0.1")];
    assert_eq!(of(&both, "pods").as_deref(), Some("10.244.0.1"));
    assert_eq!(of(&both, "").as_deref(), Some("10.0.0.1"));
    assert_eq!(of(&both[1..], ""), None, "another network's");
    assert_eq!(of(&[("", "vm.example")], ""), None, "a name");
}

#[test]
fn hosts_that_are_entries_are_named_and_an_istiod_looks_there() {
    let only = service(
        json!({"ipFamilies": ["IPv4"], "clusterIP": "None", "trafficDistribution": "PreferClose", "ports": []}),
    );
    let with = With { entries: Some("networking.istio.io/v1"), ..WITH };
    let slice = one(&slices(&only, vec![host(1)], &Before::new(), with), "IPv4");
    assert_eq!(slice["endpoints"][0]["targetRef"]["kind"], "WorkloadEntry");
    assert_eq!(slice["endpoints"][0]["hints"], json!({"forZones": [{"name": "a"}]}));
    assert_eq!(slice["metadata"]["labels"]["multicluster.kubernetes.io/service-name"], "web");
    assert_eq!(slice["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(slice["ports"], json!([]), "a headless service need not have ports");
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let all = slices(&service(json!({})), vec![host(1)], &Before::new(), WITH);
    let read = |value: &Value| serde_json::from_value::<Slice>(value.clone()).unwrap();
    for slice in all.values() {
        assert!(read(slice).is_ours() && is_numbered(&read(slice)));
        let mut edited = slice.clone();
        edited["metadata"]["labels"]["of"] = "others".into();
        assert_eq!(print(&read(&edited)), print(&read(slice)));
        edited["endpoints"][0]["conditions"]["ready"] = false.into();
        assert_ne!(print(&read(&edited)), print(&read(slice)));
    }
    let none = json!({"metadata": {"name": "x"}, "spec": {"externalName": "a.b", "type": "ExternalName", "selector": {"a": "b"}}});
    assert_eq!(Target::of(&serde_json::from_value(none).unwrap()), None);
}
