//! Istio's YAML in, xDS out, for each class of client. `HAWSER_BLESS=1` writes what is there as what is wanted.

#![allow(clippy::unwrap_used)] // helpers of tests fail by panic

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use hawser_api::istio::mesh_config::AccessLogEncoding;
use hawser_api::proto::core::Node;
use hawser_discovery::compiler::{Compiler, Sight};
use hawser_discovery::debug::text;
use hawser_discovery::explain::{Call, why};
use hawser_discovery::registry::{self, AccessLogging, AuthzProvider, LogFormat, MemoryBook, Settings, Snapshot};
use hawser_discovery::view::{Class, Client};
use hawser_mesh::{
    Event, Health, InstanceRef, Object, Origin, RegistryId, RegistryKind, Transport, TrustDomain, Workload, WorkloadKey,
};
use hawser_xds::{Source, TypeUrl};

const BOOKINFO: &str = include_str!("golden/bookinfo.yaml");
const ACCESS_LOG: &str = include_str!("golden/access-log.yaml");
const CUSTOM: &str = include_str!("golden/custom.yaml");
const ENTRIES: &str = include_str!("golden/entries.yaml");
const POLICIES: &str = include_str!("golden/policies.yaml");
const SIDECARS: &str = include_str!("golden/sidecars.yaml");
const PROTOCOLS: &str = include_str!("golden/protocols.yaml");

fn files() -> RegistryId {
    RegistryId::only(RegistryKind::Files)
}

fn hosts() -> RegistryId {
    RegistryId::only(RegistryKind::Hosts)
}

fn config(text: &str) -> Vec<Event> {
    let origin = |line| Origin { name: "input.yaml".into(), line };
    let parsed = hawser_api::istio::parse_documents("input.yaml", text).into_iter().map(Result::unwrap);
    parsed.map(|p| Event::Upsert(Object::Config(Arc::new(p.resource), origin(p.line)))).collect()
}

fn joined(group: &str, number: u8, version: &str, health: Health) -> Event {
    let domain: TrustDomain = "cluster.local".parse().unwrap();
    let ports: &[(&str, u16)] =
        if group == "ratings" { &[("plain", 9080), ("tcp-db", 3306)] } else { &[("http", 9080)] };
    Event::Upsert(Object::Workload(Arc::new(Workload {
        addresses: BTreeMap::from([(String::new(), vec![format!("10.0.0.{number}")])]),
        ports: ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect(),
        labels: [("app", group), ("version", version)].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        identity: domain.workload("default", group).ok(),
        service_account: group.to_owned(),
        locality: Default::default(),
        health,
        transport: Transport::Mtls,
        hawser: true,
        instance: Some(InstanceRef { instance_id: format!("host-{number}").into(), workload_id: group.into() }),
        group: Some(group.to_owned()),
        ..Workload::new(WorkloadKey { namespace: "default".into(), name: format!("{group}-{number:08x}").into() })
    })))
}

fn members() -> Vec<Event> {
    vec![
        joined("productpage", 1, "v1", Health::Healthy),
        joined("reviews", 11, "v1", Health::Healthy),
        joined("reviews", 12, "v2", Health::Draining),
        joined("reviews", 13, "v2", Health::Unhealthy),
        joined("ratings", 31, "v1", Health::Healthy),
    ]
}

async fn snapshot(batches: Vec<(RegistryId, Vec<Event>)>) -> Arc<Snapshot> {
    snapshot_of(Settings::new("cluster.local".parse().unwrap()), batches).await
}

async fn snapshot_of(settings: Settings, batches: Vec<(RegistryId, Vec<Event>)>) -> Arc<Snapshot> {
    let (events, mut snapshots) = registry::spawn(settings, [files(), hosts()], Box::new(MemoryBook)).unwrap();
    for batch in batches {
        events.send(batch).await.unwrap();
    }
    snapshots.wait_for(|snapshot| snapshot.ready()).await.unwrap().clone()
}

fn client(class: Class, plaintext: bool) -> Client {
    let node = Node { id: "sidecar~10.0.0.31~ratings.default~default.svc.cluster.local".to_owned(), ..Node::default() };
    let mut client = Client::from_node(&node, plaintext);
    client.class = class;
    client
}

/// Everything a client can get, as text.
fn render(client: &Client, snapshot: &Snapshot) -> String {
    let compiler = Compiler::default();
    let sight = Sight::new(&compiler, client, snapshot);
    let mut out = String::new();
    for ty in [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::CLUSTER, TypeUrl::ENDPOINTS, TypeUrl::NAME, TypeUrl::CAPTURE]
    {
        for name in wanted(&sight, &ty, client.class, snapshot) {
            let Some(resource) = sight.get(&ty, &name) else { continue };
            writeln!(out, "=== {} {name}\n{}\n", ty.short(), text(ty.as_str(), &resource.body)).unwrap();
        }
    }
    out
}

/// What a client of that class comes to ask for.
fn wanted(sight: &Sight<'_>, ty: &TypeUrl, class: Class, snapshot: &Snapshot) -> Vec<Arc<str>> {
    let mut roots: Vec<Arc<str>> = match class {
        Class::Envoy => sight.names(&TypeUrl::LISTENER),
        Class::Grpc => snapshot.services().iter().map(|s| format!("{}:9080", s.service.host).into()).collect(),
        Class::Hawser(_) => {
            let services = snapshot.services();
            let of = |a: std::net::IpAddr, port: u16| Arc::from(format!("{a}_{port}"));
            let named = services.iter().flat_map(|s| {
                let ports: Vec<u16> = s.service.ports.iter().map(|p| p.port).collect();
                s.service
                    .dialled()
                    .into_iter()
                    .filter(|a| a.is_ipv4())
                    .flat_map(move |a| ports.clone().into_iter().map(move |p| of(a, p)))
            });
            // As the metadata of the inbound one tells.
            let bound = ["bound_10.0.0.31_9443", "bound_127.0.0.1_9081"].map(Arc::from);
            named.chain(["virtualInbound".into()]).chain(bound).collect()
        }
    };
    if *ty == TypeUrl::LISTENER {
        roots.sort();
        roots.dedup();
        return roots;
    }
    let mut all = sight.names(ty);
    all.extend(
        roots.iter().flat_map(|root| sight.closure(&TypeUrl::LISTENER, root)).filter(|(t, _)| t == ty).map(|n| n.1),
    );
    let clusters = sight.names(&TypeUrl::CLUSTER);
    all.extend(clusters.iter().flat_map(|c| sight.closure(&TypeUrl::CLUSTER, c)).filter(|(t, _)| t == ty).map(|n| n.1));
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn bookinfo_compiles_for_each_class_as_it_should() {
    let mut first = config(BOOKINFO);
    first.push(Event::Synced);
    let mut second = members();
    second.push(Event::Synced);
    let snapshot = snapshot(vec![(files(), first), (hosts(), second)]).await;
    let classes = [
        ("hawser", Class::Hawser(1), false),
        ("envoy", Class::Envoy, false),
        ("envoy-plaintext", Class::Envoy, true),
        ("grpc", Class::Grpc, true),
    ];
    for (name, class, plaintext) in classes {
        compare(&format!("bookinfo.{name}"), &render(&client(class, plaintext), &snapshot));
    }
}

#[tokio::test]
async fn ports_that_are_not_http_compile_as_they_should() {
    let mut events = config(PROTOCOLS);
    events.push(Event::Synced);
    let snapshot = snapshot(vec![(files(), events), (hosts(), vec![Event::Synced])]).await;
    for (name, class) in [("hawser", Class::Hawser(1)), ("envoy", Class::Envoy)] {
        compare(&format!("protocols.{name}"), &render(&client(class, false), &snapshot));
    }
}

#[tokio::test]
async fn services_outside_compile_as_they_should() {
    let mut events = config(ENTRIES);
    events.push(Event::Synced);
    let snapshot = snapshot(vec![(files(), events), (hosts(), vec![Event::Synced])]).await;
    compare("entries.envoy", &render(&client(Class::Envoy, false), &snapshot));
    let ours = client(Class::Hawser(1), false);
    let mut made = render(&ours, &snapshot);
    // Addresses that are nobody's alone are asked for one by one.
    let compiler = Compiler::default();
    let sight = Sight::new(&compiler, &ours, &snapshot);
    for name in ["192.0.2.200_8443", "192.0.2.200_8080", "192.0.2.200_9000", "198.51.100.77_25"] {
        let listener = sight.get(&TypeUrl::LISTENER, name).unwrap();
        writeln!(made, "=== Listener {name}\n{}\n", text(TypeUrl::LISTENER.as_str(), &listener.body)).unwrap();
        for (ty, name) in sight.closure(&TypeUrl::LISTENER, name) {
            let body = sight.get(&ty, &name).unwrap().body;
            writeln!(made, "=== {} {name}\n{}\n", ty.short(), text(ty.as_str(), &body)).unwrap();
        }
    }
    // Nobody has the port, or it is not for this namespace: a call that is captured all the same goes on as it is.
    for name in ["192.0.2.200_7000", "203.0.113.10_80"] {
        let listener = text(TypeUrl::LISTENER.as_str(), &sight.get(&TypeUrl::LISTENER, name).unwrap().body);
        assert!(listener.contains("PassthroughCluster") && !listener.contains("outbound|"), "{name}: {listener}");
    }
    assert!(sight.get(&TypeUrl::LISTENER, "240.240.200.200_80").is_none(), "there is nothing to go on to");
    compare("entries.hawser", &made);
}

#[tokio::test]
async fn a_sidecar_leaves_of_the_mesh_what_it_names() {
    let mut first = config(SIDECARS);
    first.push(Event::Synced);
    let mut second = members();
    second.push(Event::Synced);
    let snapshot = snapshot(vec![(files(), first), (hosts(), second)]).await;
    let compiler = Compiler::default();
    let labelled = |class| Client {
        labels: BTreeMap::from([("app".to_owned(), "ratings".to_owned())]),
        instance: Some(InstanceRef { instance_id: "host-31".into(), workload_id: "ratings".into() }),
        ..client(class, false)
    };
    for (name, class) in [("hawser", Class::Hawser(1)), ("envoy", Class::Envoy)] {
        let client = labelled(class);
        compare(&format!("sidecars.{name}"), &render(&client, &snapshot));
        let sight = Sight::new(&compiler, &client, &snapshot);
        let names = |ty| sight.names(&ty).iter().map(ToString::to_string).collect::<Vec<_>>();
        if class == Class::Envoy {
            let listeners = [
                "0.0.0.0_9080",
                "10.0.0.31_9443",
                "127.0.0.1_9081",
                "203.0.113.3_9081",
                "virtualInbound",
                "virtualOutbound",
            ];
            assert_eq!(names(TypeUrl::LISTENER), listeners);
            assert!(names(TypeUrl::CLUSTER).contains(&"outbound|9080||four.test".to_owned()), "a route leads to it");
            assert!(!names(TypeUrl::CLUSTER).contains(&"outbound|9080||two.example".to_owned()));
        } else {
            assert_eq!(names(TypeUrl::NAME), ["one.example", "three.example"]);
            assert!(sight.get(&TypeUrl::LISTENER, "203.0.113.3_9080").is_some(), "as one that no service has");
            assert!(sight.get(&TypeUrl::ROUTE, "three.example:9080").is_none());
        }
        let all = Client { labels: BTreeMap::new(), ..labelled(class) };
        let sight = Sight::new(&compiler, &all, &snapshot);
        assert!(sight.get(&TypeUrl::CLUSTER, "outbound|9080||two.example").is_some(), "it is for others");
    }
}

/// One name, defined by two namespaces: neither is that of all callers.
const TWICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: default}
spec: {hosts: [x.test], addresses: [203.0.113.1], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.4.0.1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x, namespace: another}
spec: {hosts: [x.test], addresses: [203.0.113.2], ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.4.0.2}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all, namespace: narrow}
spec: {egress: [{hosts: ['default/*']}]}
";

#[tokio::test]
async fn a_caller_has_one_definition_of_a_name_with_its_addresses_ports_and_endpoints() {
    let mut first = config(TWICE);
    first.push(Event::Synced);
    let mut second = members();
    second.push(Event::Synced);
    let snapshot = snapshot(vec![(files(), first), (hosts(), second)]).await;
    let compiler = Compiler::default();
    for (namespace, own, other) in [("default", 1, 2), ("another", 2, 1), ("third", 2, 1), ("narrow", 1, 2)] {
        let id = format!("sidecar~10.9.9.9~w.{namespace}~{namespace}.svc.cluster.local");
        let client = Client { class: Class::Hawser(1), ..Client::from_node(&Node { id, ..Node::default() }, false) };
        let sight = Sight::new(&compiler, &client, &snapshot);
        let shown = |ty: TypeUrl, name: &str| sight.get(&ty, name).map(|found| text(ty.as_str(), &found.body));
        let endpoints = shown(TypeUrl::ENDPOINTS, "outbound|80||x.test").unwrap();
        assert!(endpoints.contains(&format!("10.4.0.{own}")), "{namespace}: {endpoints}");
        assert!(!endpoints.contains(&format!("10.4.0.{other}")), "{namespace}: {endpoints}");
        assert!(shown(TypeUrl::NAME, "x.test").unwrap().contains(&format!("203.0.113.{own}")), "{namespace}");
        assert!(shown(TypeUrl::LISTENER, &format!("203.0.113.{own}_80")).is_some(), "{namespace}");
        let nobody_s = shown(TypeUrl::LISTENER, &format!("203.0.113.{other}_80")).unwrap();
        assert!(nobody_s.contains("PassthroughCluster") && !nobody_s.contains("outbound|"), "{namespace}: {nobody_s}");
        assert_eq!(shown(TypeUrl::CLUSTER, "outbound|81||x.test").is_some(), own == 2, "{namespace}");
    }
    let call = Call { from: "default/ratings-0000001f".to_owned(), to: "x.test:80".to_owned(), ..Call::default() };
    let told = why(&compiler, &snapshot, &call).unwrap();
    let says = &told.steps.iter().find(|step| step.what == "service").unwrap().says;
    assert!(
        says.contains("the definition of namespace default counts (ServiceEntry default/x), not that of another"),
        "{says}"
    );
    assert_eq!(told.endpoints.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["10.4.0.1:80"]);
}

#[tokio::test]
async fn policies_compile_as_they_should_and_what_cannot_be_enforced_denies() {
    let mut first = config(POLICIES);
    first.push(Event::Synced);
    let mut second = members();
    second.push(Event::Synced);
    let snapshot = snapshot(vec![(files(), first), (hosts(), second)]).await;
    let compiler = Compiler::default();
    for (name, class) in [("hawser", Class::Hawser(1)), ("envoy", Class::Envoy)] {
        let client = client(class, false);
        let listener = Sight::new(&compiler, &client, &snapshot).get(&TypeUrl::LISTENER, "virtualInbound").unwrap();
        compare(&format!("policies.{name}"), &text(TypeUrl::LISTENER.as_str(), &listener.body));
    }
    let node = Node { id: "sidecar~10.0.0.11~reviews.default~default.svc.cluster.local".to_owned(), ..Node::default() };
    let reviews = Client { class: Class::Hawser(1), ..Client::from_node(&node, false) };
    let listener = Sight::new(&compiler, &reviews, &snapshot).get(&TypeUrl::LISTENER, "virtualInbound").unwrap();
    let made = text(TypeUrl::LISTENER.as_str(), &listener.body);
    assert!(made.contains("ns[default]-policy[unenforceable]-rule[0]"), "{made}");
}

/// The mesh configuration of [`CUSTOM`].
const PROVIDERS: &str = r#"[
    {"name": "opa", "envoyExtAuthzGrpc": {"service": "default/opa.example", "port": 9191, "timeout": "1s",
        "statusOnError": "503", "includeRequestBodyInCheck": {"maxRequestBytes": 4096, "allowPartialMessage": true}}},
    {"name": "oauth", "envoyExtAuthzHttp": {"service": "opa.example", "port": 80, "failOpen": true, "pathPrefix": "/check",
        "includeRequestHeadersInCheck": ["cookie", "x-*"], "includeAdditionalHeadersInCheck": {"x-a": "b"},
        "headersToUpstreamOnAllow": ["*-user"], "headersToDownstreamOnDeny": ["set-cookie"]}}
]"#;

#[tokio::test]
async fn services_are_asked_as_istio_asks_them_and_what_nobody_can_be_asked_is_denied() {
    let written: Vec<hawser_api::istio::mesh_config::ExtensionProvider> = serde_json::from_str(PROVIDERS).unwrap();
    let mut settings = Settings::new("cluster.local".parse().unwrap());
    settings.authorization = written.iter().map(|w| (w.name.clone(), AuthzProvider::new(w).unwrap())).collect();
    let mut first = config(CUSTOM);
    first.push(Event::Synced);
    let mut second = members();
    second.push(Event::Synced);
    let snapshot = snapshot_of(settings, vec![(files(), first), (hosts(), second)]).await;
    let compiler = Compiler::default();
    let sight = |id: &str, class| {
        let node = Node { id: format!("sidecar~{id}~a.default~default.svc.cluster.local"), ..Node::default() };
        let client = Client { class, ..Client::from_node(&node, false) };
        let sight = Sight::new(&compiler, &client, &snapshot);
        let listener = sight.get(&TypeUrl::LISTENER, "virtualInbound").unwrap();
        let closure = sight.closure(&TypeUrl::LISTENER, "virtualInbound");
        (text(TypeUrl::LISTENER.as_str(), &listener.body), closure)
    };
    for (name, class) in [("hawser", Class::Hawser(1)), ("envoy", Class::Envoy)] {
        compare(&format!("custom.{name}"), &sight("10.0.0.31", class).0);
    }
    let (_, closure) = sight("10.0.0.31", Class::Hawser(1));
    let names: Vec<&str> = closure.iter().map(|(_, name)| &**name).collect();
    assert_eq!(names, ["outbound|9191||opa.example", "outbound|9191||opa.example"], "the cluster and its endpoints");
    let (over_http, _) = sight("10.0.0.1", Class::Hawser(1));
    assert!(
        over_http.contains("failure_mode_allow: true") && over_http.contains("path_prefix: \"/check\""),
        "{over_http}"
    );
}

#[tokio::test]
async fn access_logs_of_the_mesh_are_in_all_listeners_as_istio_has_them() {
    let cases = [
        ("text", AccessLogEncoding::Text, ""),
        ("json", AccessLogEncoding::Json, r#"{"path": "%REQ_WITHOUT_QUERY(:PATH)%", "ms": "%DURATION%"}"#),
    ];
    for (format_name, encoding, format) in cases {
        let mut settings = Settings::new("cluster.local".parse().unwrap());
        let format = LogFormat::new(encoding, format).unwrap();
        settings.access_logging = Some(AccessLogging { file: "/dev/stdout".into(), format, of_listeners: true });
        let mut first = config(ACCESS_LOG);
        first.push(Event::Synced);
        let second = vec![joined("ratings", 31, "v1", Health::Healthy), Event::Synced];
        let snapshot = snapshot_of(settings, vec![(files(), first), (hosts(), second)]).await;
        for (class_name, class) in [("hawser", Class::Hawser(1)), ("envoy", Class::Envoy)] {
            let client = client(class, false);
            let made = render(&client, &snapshot);
            let listeners = made.split("=== ").filter(|r| r.starts_with("Listener ")).collect::<Vec<_>>().join("=== ");
            if format_name == "text" || class == Class::Envoy {
                compare(&format!("access-log-{format_name}.{class_name}"), &listeners);
            }
        }
    }
}

fn compare(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("HAWSER_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (a, b))) = wanted.lines().zip(made.lines()).enumerate().find(|(_, (a, b))| a != b) {
        panic!("{}:{}: {b:?} in place of {a:?}", path.display(), number + 1);
    }
    assert_eq!(wanted.len(), made.len(), "{}", path.display());
}

#[tokio::test]
async fn the_order_in_which_things_are_said_makes_no_difference() {
    let mut forward = config(BOOKINFO);
    forward.push(Event::Synced);
    let mut others = members();
    others.push(Event::Synced);
    let one = snapshot(vec![(files(), forward), (hosts(), others)]).await;

    let mut backward = config(BOOKINFO);
    backward.reverse();
    let mut events = vec![(hosts(), members().into_iter().rev().collect())];
    events.extend(backward.into_iter().map(|event| (files(), vec![event])));
    events.extend([(hosts(), vec![Event::Synced]), (files(), vec![Event::Synced])]);
    let other = snapshot(events).await;

    for (class, plaintext) in [(Class::Hawser(1), false), (Class::Envoy, false), (Class::Grpc, true)] {
        let client = client(class, plaintext);
        assert_eq!(render(&client, &one), render(&client, &other));
    }
}
