use hawser_mesh::{Health, Protocol, Service};
use serde_json::{Value, json};

use super::*;
use crate::settings::{Alias, Settings};

fn scope_of(settings: Settings, local: bool) -> Scope {
    Scope {
        datacenter: "dc1".into(),
        local,
        partition: None,
        namespace: None,
        peer: None,
        ours: "default".into(),
        mesh_domain: "cluster.local".into(),
        skip_sources: settings.skip_external_sources.clone(),
        settings: Arc::new(settings),
    }
}

fn scope() -> Scope {
    scope_of(Settings::new(["http://c:8500"]), true)
}

fn names_of(scope: &Scope, service: &str) -> Arc<Names> {
    Claims::of(scope, [&Arc::from(service)]).names[service].clone()
}

/// An instance `web-1` on node `n1`, with these fields of its service changed.
fn instance(more: &Value) -> Value {
    let mut entry = json!({
        "Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"ID": "web-1", "Service": "web", "Address": "10.1.0.1", "Port": 8080},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}],
    });
    merge(&mut entry, more);
    entry
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn mapped_in(scope: &Scope, entries: &[Value]) -> Mapped {
    let entries: Entries = serde_json::from_value(json!(entries)).unwrap();
    map(scope, &names_of(scope, "web"), None, &entries)
}

fn mapped(entries: &[Value]) -> Mapped {
    mapped_in(&scope(), entries)
}

impl Mapped {
    fn services(&self) -> Vec<&Service> {
        self.objects.iter().filter_map(|o| if let Object::Service(s) = o { Some(&**s) } else { None }).collect()
    }

    fn workloads(&self) -> Vec<&Workload> {
        self.objects.iter().filter_map(|o| if let Object::Workload(w) = o { Some(&**w) } else { None }).collect()
    }

    fn problem(&self) -> &str {
        self.problems.values().next().map(String::as_str).unwrap_or_default()
    }

    /// Ports by number: the protocol, and where `web-1` serves it.
    fn ports(&self) -> Vec<(u16, Protocol, u16)> {
        let workload = self.workloads()[0];
        let ports = self.services()[0].ports.iter();
        ports.map(|p| (p.port, p.protocol, workload.ports.get(&p.name).copied().unwrap_or(p.target_port))).collect()
    }
}

#[test]
fn what_is_not_for_applications_to_call_is_left_out_without_a_word() {
    for more in [
        json!({"Service": {"Kind": "connect-proxy"}}),
        json!({"Service": {"Kind": "mesh-gateway"}}),
        json!({"Service": {"Kind": "terminating-gateway"}}),
        json!({"Service": {"Kind": "ingress-gateway"}}),
        json!({"Service": {"Kind": "api-gateway"}}),
        json!({"Service": {"Meta": {"managed-by": "hawser"}}}),
        json!({"Service": {"Meta": {"external-source": "hawser"}}}),
        json!({"Service": {"Meta": {"external-source": "kubernetes"}}}),
        json!({"Node": {"Meta": {"external-source": "kubernetes"}}}),
    ] {
        let mapped = mapped(&[instance(&more)]);
        assert!(mapped.objects.is_empty() && mapped.problems.is_empty(), "{more}: {mapped:?}");
    }
    assert_eq!(mapped(&[instance(&json!({"Service": {"Meta": {"external-source": "nomad"}}}))]).workloads().len(), 1);
    let scope =
        scope_of(Settings { skip_external_sources: vec!["nomad".to_owned()], ..Settings::new(["http://c:1"]) }, true);
    assert!(
        mapped_in(&scope, &[instance(&json!({"Service": {"Meta": {"external-source": "nomad"}}}))]).objects.is_empty()
    );
}

#[test]
fn an_address_is_the_services_own_then_a_tagged_one_then_the_nodes() {
    let table = [
        (json!({}), "10.1.0.1"),
        (json!({"Service": {"Address": "fd00::1"}}), "fd00::1"),
        (json!({"Service": {"Address": "::ffff:10.1.0.9"}}), "10.1.0.9"),
        (
            json!({"Service": {"Address": "", "TaggedAddresses": {"lan": {"Address": "10.2.0.1", "Port": 8080}}}}),
            "10.2.0.1",
        ),
        (json!({"Service": {"Address": ""}, "Node": {"TaggedAddresses": {"lan": "10.3.0.1"}}}), "10.3.0.1"),
        (json!({"Service": {"Address": ""}}), "10.0.0.1"),
        (json!({"Service": {"TaggedAddresses": {"wan": {"Address": "198.51.100.1", "Port": 80}}}}), "10.1.0.1"),
    ];
    for (more, want) in table {
        let mapped = mapped(&[instance(&more)]);
        assert_eq!(mapped.workloads()[0].addresses[""], [want], "{more}");
    }
}

#[test]
fn both_families_are_said_where_both_are_tagged() {
    let tagged = json!({"Service": {"TaggedAddresses": {"lan_ipv4": {"Address": "10.1.0.1", "Port": 8080}, "lan_ipv6": {"Address": "fd00::1", "Port": 8080}}}});
    assert_eq!(mapped(&[instance(&tagged)]).workloads()[0].addresses[""], ["10.1.0.1", "fd00::1"]);
}

#[test]
fn another_datacenter_is_reached_through_the_address_for_the_wan() {
    let wan = json!({"Service": {"TaggedAddresses": {"wan": {"Address": "198.51.100.1", "Port": 80}}}});
    let scope = scope_of(Settings::new(["http://c:8500"]), false);
    let mapped = mapped_in(&scope, &[instance(&wan)]);
    assert_eq!(mapped.workloads()[0].addresses[""], ["198.51.100.1"]);
    assert_eq!(mapped.ports(), [(80, Protocol::Auto, 80)]);
    // Only the servers' own datacenter has short names.
    let hosts: Vec<_> = mapped.services().iter().map(|s| s.host.to_string()).collect();
    assert_eq!(hosts, ["web.service.dc1.consul"]);
}

#[test]
fn tagged_addresses_are_those_of_networks_by_setting() {
    let settings =
        Settings { networks: [("dmz".to_owned(), "edge".to_owned())].into(), ..Settings::new(["http://c:1"]) };
    let tagged = json!({"Service": {"TaggedAddresses": {"dmz": {"Address": "192.0.2.1", "Port": 8080}}}});
    let mapped = mapped_in(&scope_of(settings, true), &[instance(&tagged)]);
    let addresses = &mapped.workloads()[0].addresses;
    assert_eq!((&addresses[""][0][..], &addresses["edge"][0][..]), ("10.1.0.1", "192.0.2.1"));
}

#[test]
fn an_instance_that_can_not_be_reached_is_told_and_takes_nothing_with_it() {
    let good = instance(&json!({"Service": {"ID": "web-2"}}));
    for (more, want) in [
        (json!({"Service": {"Port": 0}}), "0 is not a port"),
        (json!({"Service": {"Port": 70000}}), "70000 is not a port"),
        (json!({"Service": {"Port": -1}}), "-1 is not a port"),
        (json!({"Service": {"SocketPath": "/run/web.sock"}}), "Unix socket"),
        (json!({"Service": {"Address": "0.0.0.0"}}), "no other host reaches 0.0.0.0"),
        (json!({"Service": {"Address": "127.0.0.1"}}), "no other host reaches 127.0.0.1"),
        (json!({"Service": {"Address": "224.0.0.1"}}), "no other host reaches"),
        (json!({"Service": {"Address": "fe80::1"}}), "no other host reaches"),
        (json!({"Service": {"Address": "not an address"}}), "neither an IP address nor a host name"),
        (json!({"Service": {"Address": "web.example.com"}}), "host name and those of other instances are not"),
        (json!({"Service": {"Address": ""}, "Node": {"Address": ""}}), "it has no address"),
        (json!({"Service": {"ID": ""}}), "no node or no id"),
    ] {
        let mapped = mapped(&[instance(&more), good.clone()]);
        assert_eq!(mapped.workloads().len(), 1, "{more}");
        assert!(
            mapped.problem().contains(want) && mapped.problem().starts_with("dc1/web"),
            "{more}: {}",
            mapped.problem()
        );
    }
}

#[test]
fn instances_with_host_names_are_looked_up() {
    let mapped = mapped(&[instance(&json!({"Service": {"Address": "Web.Example.com", "Meta": {"external": "true"}}}))]);
    let service = mapped.services()[0];
    assert_eq!((service.resolution, service.location), (Resolution::Dns, Location::External));
    assert_eq!(mapped.workloads()[0].addresses[""], ["web.example.com"]);
}

#[test]
fn a_service_has_the_ports_of_its_instances_and_each_serves_its_own() {
    let other = instance(&json!({"Service": {"ID": "web-2", "Port": 9090, "Meta": {"protocol": "grpc"}}}));
    let mapped = mapped(&[instance(&json!({"Service": {"Meta": {"protocol": "http"}}})), other]);
    assert_eq!(mapped.ports(), [(8080, Protocol::Http, 8080), (9090, Protocol::Grpc, 0)]);
    let names: Vec<_> = mapped.services()[0].ports.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["http-8080", "grpc-9090"]);
}

#[test]
fn a_port_that_is_declared_is_served_wherever_instances_listen() {
    let port =
        |id: &str, port: u16| instance(&json!({"Service": {"ID": id, "Port": port, "Meta": {"mesh-port": "80"}}}));
    let mapped = mapped(&[port("web-1", 23456), port("web-2", 31000)]);
    assert_eq!(mapped.ports(), [(80, Protocol::Auto, 23456)]);
    let alias =
        Alias { service: "web".into(), namespace: "shop".into(), name: None, port: Some(443), datacenters: vec![] };
    let scope = scope_of(Settings { aliases: vec![alias], ..Settings::new(["http://c:1"]) }, true);
    let mapped = mapped_in(&scope, &[port("web-1", 23456)]);
    assert_eq!(mapped.ports(), [(443, Protocol::Auto, 23456)]);
    assert_eq!(&*mapped.workloads()[0].key.namespace, "shop");
}

#[test]
fn instances_that_name_several_ports_serve_them_all() {
    let ports = json!({"Service": {"Port": 0, "Ports": [{"Name": "http", "Port": 8080, "Default": true}, {"Name": "grpc-admin", "Port": 9000}]}});
    assert_eq!(mapped(&[instance(&ports)]).ports(), [(8080, Protocol::Auto, 8080), (9000, Protocol::Grpc, 9000)]);
}

#[test]
fn ports_are_bounded_and_the_most_used_stay() {
    let many: Vec<Value> = (0..40)
        .map(|n| instance(&json!({"Service": {"ID": format!("web-{n}"), "Port": if n < 5 { 80 } else { 1000 + n }}})))
        .collect();
    let mapped = mapped(&many);
    assert_eq!(mapped.services()[0].ports.len(), 16);
    assert_eq!(mapped.services()[0].ports[0].port, 80);
    assert!(mapped.problem().contains("36 ports"), "{}", mapped.problem());
}

#[test]
fn a_protocol_is_the_instances_word_then_that_of_service_defaults() {
    let said = |meta: &str, default: Option<&str>| {
        let entries = [instance(&json!({"Service": {"Meta": {"protocol": meta}}}))];
        let entries: Entries = serde_json::from_value(json!(entries)).unwrap();
        let mapped = map(&scope(), &names_of(&scope(), "web"), default, &entries);
        (mapped.services()[0].ports[0].protocol, mapped.problems.len())
    };
    assert_eq!(said("http2", Some("http")), (Protocol::Http2, 0));
    assert_eq!(said("https", None), (Protocol::Https, 0));
    assert_eq!(said("nonsense", Some("grpc")), (Protocol::Grpc, 1));
    let silent = |default| {
        map(
            &scope(),
            &names_of(&scope(), "web"),
            default,
            &serde_json::from_value::<Entries>(json!([instance(&json!({}))])).unwrap(),
        )
    };
    assert_eq!(silent(Some("tcp")).services()[0].ports[0].protocol, Protocol::Tcp);
    assert_eq!(silent(Some("new thing")).services()[0].ports[0].protocol, Protocol::Auto);
    assert_eq!(silent(None).services()[0].ports[0].protocol, Protocol::Auto);
}

#[test]
fn maintenance_drains_and_warnings_weigh() {
    let with = |check: Value| {
        let mapped =
            mapped(&[instance(&json!({"Service": {"Weights": {"Passing": 10, "Warning": 3}}, "Checks": [check]}))]);
        (mapped.workloads()[0].health, mapped.workloads()[0].weight)
    };
    assert_eq!(with(json!({"CheckID": "_node_maintenance", "Status": "critical"})), (Health::Draining, 10));
    assert_eq!(with(json!({"CheckID": "x", "Status": "warning"})), (Health::Healthy, 3));
    assert_eq!(with(json!({"CheckID": "x", "Status": "critical"})), (Health::Unhealthy, 10));
}

#[test]
fn locality_is_the_services_then_the_nodes_then_the_datacenter() {
    let of = |more: &Value| mapped(&[instance(more)]).workloads()[0].locality.clone();
    let is = |region: &str, zone: &str, sub_zone: &str| Locality {
        region: region.into(),
        zone: zone.into(),
        sub_zone: sub_zone.into(),
    };
    assert_eq!(of(&json!({})), is("dc1", "", ""));
    assert_eq!(of(&json!({"Node": {"Meta": {"region": "eu", "zone": "a", "rack": "7"}}})), is("eu", "a", "7"));
    assert_eq!(
        of(&json!({"Node": {"Meta": {"zone": "a"}}, "Service": {"Locality": {"Region": "us", "Zone": "b"}}})),
        is("us", "b", "")
    );
}

#[test]
fn an_instance_is_plaintext_without_an_identity_and_keeps_its_node() {
    let mapped = mapped(&[instance(&json!({"Service": {"Connect": {"Native": true}}}))]);
    let workload = mapped.workloads()[0];
    assert_eq!(
        (workload.transport, workload.identity.is_none(), workload.node.as_deref()),
        (hawser_mesh::Transport::Plaintext, true, Some("n1"))
    );
    assert_eq!(&*workload.key.name, "n1/web-1");
    assert_eq!(
        (workload.labels["app"].as_str(), workload.labels["consul.hawser.io/connect-native"].as_str()),
        ("web", "true")
    );
}

#[test]
fn names_that_are_no_host_names_are_told() {
    let scope = scope();
    let all: Vec<Arc<str>> =
        ["WEB", "web", "with space", "under_score", "a.b", "-x", &"l".repeat(64)].map(Arc::from).into();
    let claims = Claims::of(&scope, &all);
    assert_eq!(claims.problems.len(), 4);
    assert!(claims.problems["web"].contains("web.service.dc1.consul is service \"WEB\" already"));
    assert!(claims.problems["with space"].contains("can't be part of a host name"));
    assert_eq!(claims.owners[&"under_score.service.consul".parse().unwrap()], "under_score".into());
    assert!(claims.names["web"].hosts.is_empty());
}

#[test]
fn an_alias_is_one_services_and_never_takes_anothers_name() {
    let alias = |service: &str, name: Option<&str>| Alias {
        service: service.into(),
        namespace: "default".into(),
        name: name.map(Into::into),
        port: None,
        datacenters: vec![],
    };
    let settings =
        Settings { aliases: vec![alias("web2", Some("web")), alias("*", None)], ..Settings::new(["http://c:1"]) };
    let services: Vec<Arc<str>> = ["web", "web2"].map(Arc::from).into();
    let claims = Claims::of(&scope_of(settings, true), &services);
    assert_eq!(claims.owners[&"web.default.svc.cluster.local".parse().unwrap()], "web".into());
    assert!(claims.problems["web2"].contains("web.default.svc.cluster.local"), "{:?}", claims.problems);
}

#[test]
fn partitions_and_namespaces_are_named_as_consuls_own_dns_does() {
    let named = |partition: Option<&str>, namespace: Option<&str>| {
        let scope = Scope { partition: partition.map(Arc::from), namespace: namespace.map(Arc::from), ..scope() };
        names_of(&scope, "web").hosts.iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(named(None, Some("team")), ["web.service.team.ns.dc1.dc.consul"]);
    assert_eq!(named(Some("east"), Some("team")), ["web.service.team.ns.east.ap.dc1.dc.consul"]);
    assert_eq!(named(Some("default"), Some("default")), ["web.service.dc1.consul", "web.service.consul"]);
}

#[test]
fn ids_of_any_form_name_workloads_apart() {
    let ids = ["a b", "a_b", "a;b", &"x".repeat(500), &"x".repeat(501)];
    let entries: Vec<Value> = ids.iter().map(|id| instance(&json!({"Service": {"ID": id}}))).collect();
    let mapped = mapped(&entries);
    let names: std::collections::BTreeSet<_> = mapped.workloads().iter().map(|w| w.key.name.clone()).collect();
    assert_eq!(names.len(), ids.len());
    assert!(names.iter().all(|n| n.len() < 260 && !n.contains([' ', ';'])), "{names:?}");
}

#[test]
fn problems_are_bounded() {
    let many: Vec<Value> =
        (0..100).map(|n| instance(&json!({"Service": {"ID": format!("w{n}"), "Port": 0}}))).collect();
    assert_eq!(mapped(&many).problems.len(), MAX_PROBLEMS);
}

#[test]
fn names_of_any_form_can_be_shown_on_a_terminal() {
    for name in ["\u{1b}[2Jgone", "a\nb", &"x".repeat(100_000)] {
        let (one, other) = (shown(name), shown(&format!("{name}!")));
        assert!(one.len() < 200 && !one.chars().any(char::is_control) && one != other, "{one:?}");
    }
    assert_eq!(shown("web-1"), "web-1");
}
