//! The registry by its public door: events in, snapshots out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_mesh::{
    Event, Exception, Health, Hostname, Object, ObjectKey, Origin, Protocol, RegistryId, RegistryKind, Service,
    ServicePort, Transport, Workload, WorkloadKey,
};

use super::model::{ConfigOutcome, TlsMode};
use super::{EventSender, MemoryBook, ServiceState, Settings, Snapshot, Snapshots, choice, spawn};

fn id(kind: RegistryKind) -> RegistryId {
    RegistryId::only(kind)
}

fn start(expected: &[RegistryKind]) -> (EventSender, Snapshots) {
    let settings = Settings::new("cluster.local".parse().unwrap());
    spawn(settings, expected.iter().map(|kind| id(*kind)), Box::new(MemoryBook)).unwrap()
}

fn yaml(text: &str) -> Vec<Event> {
    let parsed = hawser_api::istio::parse_documents("t.yaml", text).into_iter().map(Result::unwrap);
    let event = |p: hawser_api::istio::Parsed| {
        Event::Upsert(Object::Config(Arc::new(p.resource), Origin { name: "t.yaml".into(), line: p.line }))
    };
    parsed.map(event).collect()
}

fn group(name: &str, labels: &str) -> Vec<Event> {
    yaml(&format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{metadata: {{labels: {labels}}}, template: {{ports: {{http: 9080}}}}}}"
    ))
}

fn service(host: &str, ports: &[(&str, u16, u16)], selector: Option<(&str, &str)>) -> Event {
    let host: Hostname = host.parse().unwrap();
    let mut parts = host.as_str().split('.');
    let (name, namespace) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
    let port = |(name, port, target): &(&str, u16, u16)| ServicePort {
        name: (*name).to_owned(),
        port: *port,
        protocol: Protocol::from_port_name(name),
        target_port: *target,
    };
    Event::Upsert(Object::Service(Arc::new(Service {
        ports: ports.iter().map(port).collect(),
        selector: selector.map(|(k, v)| BTreeMap::from([(k.to_owned(), v.to_owned())])),
        ..Service::new(host, namespace, name)
    })))
}

fn workload(name: &str, app: &str, health: Health) -> Workload {
    Workload {
        addresses: BTreeMap::from([(String::new(), vec![format!("10.0.0.{}", name.len())])]),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        health,
        transport: Transport::Mtls,
        ..Workload::new(WorkloadKey { namespace: "default".into(), name: name.into() })
    }
}

fn upsert(workload: Workload) -> Event {
    Event::Upsert(Object::Workload(Arc::new(workload)))
}

/// Waits for a snapshot that is as it should be.
async fn until(snapshots: &mut Snapshots, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let found = snapshots.wait_for(|snapshot| wanted(snapshot));
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("in time").expect("running").clone()
}

fn endpoints(snapshot: &Snapshot, host: &str) -> Vec<String> {
    let endpoints =
        snapshot.definitions(&host.parse().unwrap()).iter().flat_map(ServiceState::endpoints).collect::<Vec<_>>();
    endpoints.iter().map(|e| format!("{} {}:{} {:?}", e.port, e.member.id.key.name, e.target_port, e.health)).collect()
}

const REVIEWS: &str = "reviews.default.svc.cluster.local";

/// A pod that its cluster says is one of reviews.
fn backing(mut pod: Workload) -> Workload {
    pod.services = vec![REVIEWS.parse().unwrap()];
    pod
}

#[tokio::test]
async fn one_name_in_two_registries_is_one_service() {
    use RegistryKind::{Consul, Kubernetes};
    let (events, mut snapshots) = start(&[Kubernetes, Consul]);
    let mut named = workload("c1", "other", Health::Healthy);
    named.services = vec![REVIEWS.parse().unwrap()];
    let consul =
        vec![service(REVIEWS, &[("http", 8080, 8081), ("tcp-x", 7000, 7000)], None), upsert(named), Event::Synced];
    events.send((id(Consul), consul)).await.unwrap();
    let kubernetes = vec![
        service(REVIEWS, &[("http", 80, 9080)], Some(("app", "reviews"))),
        upsert(backing(workload("pod1", "reviews", Health::Healthy))),
        Event::Synced,
    ];
    events.send((id(Kubernetes), kubernetes)).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let merged = &snapshot.definitions(&REVIEWS.parse().unwrap())[0].service;
    assert_eq!(merged.ports.iter().map(|p| p.port).collect::<Vec<_>>(), [80, 7000]);
    // Consul's port of that name is port 80 to callers, and nobody is asked for a port that is not theirs.
    assert_eq!(endpoints(&snapshot, REVIEWS), ["80 pod1:9080 Healthy", "80 c1:8081 Healthy", "7000 c1:7000 Healthy"]);
    assert_eq!(merged.conflicts, ["consul: port 8080 of \"http\" is 80"]);
    assert_eq!(merged.virtual_addresses.len(), 2);
}

#[tokio::test]
async fn a_cluster_says_itself_which_of_its_pods_back_a_service_and_selectors_take_whoever_else_fits() {
    use RegistryKind::{Hosts, Kubernetes};
    let (events, mut snapshots) = start(&[Kubernetes, Hosts]);
    let mut early = backing(workload("early", "reviews", Health::Draining));
    let mut exception = Exception { ports: BTreeMap::from([("http".to_owned(), 9999)]), health: Some(Health::Healthy) };
    early.exceptions = BTreeMap::from([(REVIEWS.parse().unwrap(), exception.clone())]);
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: pod, namespace: default}\n\
                 spec: {address: 10.0.0.77, labels: {app: reviews}}";
    let kubernetes = [
        vec![
            service(REVIEWS, &[("http", 80, 9080)], Some(("app", "reviews"))),
            upsert(backing(workload("pod", "reviews", Health::Healthy))),
            upsert(early.clone()),
            // Its labels fit, but the cluster does not count it in.
            upsert(workload("done", "reviews", Health::Healthy)),
            Event::Synced,
        ],
        yaml(entry),
    ];
    events.send((id(Kubernetes), kubernetes.concat())).await.unwrap();
    let host = vec![upsert(workload("vm", "reviews", Health::Healthy)), Event::Synced];
    events.send((id(Hosts), host)).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let all = ["80 early:9999 Healthy", "80 entry/pod:9080 Healthy", "80 pod:9080 Healthy", "80 vm:9080 Healthy"];
    assert_eq!(endpoints(&snapshot, REVIEWS), all);
    exception.health = None;
    early.exceptions = BTreeMap::from([(REVIEWS.parse().unwrap(), exception)]);
    events.send((id(Kubernetes), vec![upsert(early)])).await.unwrap();
    until(&mut snapshots, |s| endpoints(s, REVIEWS)[0] == "80 early:9999 Draining").await;
    events.send((id(Kubernetes), vec![Event::Ended])).await.unwrap();
    let snapshot = until(&mut snapshots, |s| s.registries.len() == 1).await;
    assert_eq!((snapshot.workload_count(), snapshot.configs.len()), (1, 0));
    assert!(snapshot.definitions(&REVIEWS.parse().unwrap()).is_empty(), "nothing of the cluster is left");
}

#[tokio::test]
async fn a_group_does_not_take_over_a_service_whose_selector_does_not_take_it() {
    use RegistryKind::{Api, Hosts, Kubernetes};
    let (events, mut snapshots) = start(&[Kubernetes, Api, Hosts]);
    let mut intruder = workload("vm1", "intruder", Health::Healthy);
    intruder.group = Some("reviews".to_owned());
    events.send((id(Hosts), vec![upsert(intruder), Event::Synced])).await.unwrap();
    let mut said = group("reviews", "{app: intruder}");
    said.push(Event::Synced);
    events.send((id(Api), said)).await.unwrap();
    let kubernetes = vec![service(REVIEWS, &[("http", 9080, 9080)], Some(("app", "reviews"))), Event::Synced];
    events.send((id(Kubernetes), kubernetes)).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    assert!(endpoints(&snapshot, REVIEWS).is_empty());
    let state = &snapshot.configs[0];
    assert_eq!(state.outcome, ConfigOutcome::Partly);
    assert!(state.messages[0].contains("do not match the selector"), "{:?}", state.messages);

    // With the right labels it belongs, and without the other service it stands alone.
    events.send((id(Api), group("reviews", "{app: reviews}"))).await.unwrap();
    let mut welcome = workload("vm1", "reviews", Health::Draining);
    welcome.group = Some("reviews".to_owned());
    events.send((id(Hosts), vec![upsert(welcome)])).await.unwrap();
    until(&mut snapshots, |s| endpoints(s, REVIEWS) == ["9080 vm1:9080 Draining"]).await;
    let gone = Event::Delete(ObjectKey::Service(REVIEWS.parse().unwrap()));
    events.send((id(Kubernetes), vec![gone])).await.unwrap();
    let alone = |s: &Snapshot| s.definitions(&REVIEWS.parse().unwrap())[0].service.sources.len() == 1;
    let snapshot = until(&mut snapshots, alone).await;
    assert_eq!(endpoints(&snapshot, REVIEWS), ["9080 vm1:9080 Draining"]);
}

#[tokio::test]
async fn nobody_defines_names_of_another_namespace() {
    let (events, mut snapshots) = start(&[RegistryKind::Files]);
    let mut said = yaml(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x, namespace: evil}\n\
         spec: {hosts: [reviews.default.svc.cluster.local], ports: [{number: 80, name: http}], resolution: STATIC, \
         endpoints: [{address: 10.6.6.6}]}",
    );
    said.push(Event::Synced);
    events.send((id(RegistryKind::Files), said)).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    assert_eq!(snapshot.service_count(), 0);
    assert!(snapshot.configs[0].messages[0].contains("namespace default can't be defined in namespace evil"));
}

#[tokio::test]
async fn files_win_over_the_api_and_silence_removes_nothing() {
    use RegistryKind::{Api, Files};
    let (events, mut snapshots) = start(&[Files, Api]);
    events.send((id(Api), [group("reviews", "{from: api}"), vec![Event::Synced]].concat())).await.unwrap();
    events.send((id(Files), group("reviews", "{from: files}"))).await.unwrap();
    let snapshot = until(&mut snapshots, |s| s.configs.len() == 2).await;
    assert!(!snapshot.ready());
    assert_eq!(snapshot.missing(), ["files"]);
    events.send((id(Files), vec![Event::Synced, Event::Stale("gone fishing".to_owned())])).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let shown: Vec<_> = snapshot.configs.iter().map(|c| (c.registry.to_string(), c.outcome)).collect();
    assert_eq!(shown, [("files".to_owned(), ConfigOutcome::Honoured), ("api".to_owned(), ConfigOutcome::Shadowed)]);
    assert_eq!(snapshot.registries[0].state(), "stale");
    assert_eq!(snapshot.service_count(), 1);
}

#[tokio::test]
async fn a_port_takes_what_the_narrowest_policy_says() {
    let (events, mut snapshots) = start(&[RegistryKind::Files]);
    let policy = |name: &str, namespace: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
        )
    };
    let text = policy("mesh", "istio-system", "{mtls: {mode: STRICT}}")
        + &policy("ns", "default", "{mtls: {mode: PERMISSIVE}}")
        + &policy("w", "default", "{selector: {matchLabels: {app: db}}, portLevelMtls: {3306: {mode: DISABLE}}}");
    let said = [yaml(&text), vec![upsert(workload("a", "db", Health::Healthy)), Event::Synced]].concat();
    events.send((id(RegistryKind::Files), said)).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let member = snapshot.workloads()[0];
    assert_eq!((member.modes.all, member.modes.of(3306)), (TlsMode::Permissive, TlsMode::Disable));
    let gone = yaml(&text).into_iter().filter_map(|event| match event {
        Event::Upsert(Object::Config(resource, _)) if resource.metadata.namespace == "default" => {
            Some(Event::Delete(ObjectKey::Config(resource.object_ref())))
        }
        _ => None,
    });
    events.send((id(RegistryKind::Files), gone.collect())).await.unwrap();
    until(&mut snapshots, |s| s.workloads()[0].modes.all == TlsMode::Strict).await;
}

#[tokio::test]
async fn a_thousand_events_cost_few_snapshots_and_touch_one_service() {
    let (events, mut snapshots) = start(&[RegistryKind::Kubernetes]);
    let other = service("other.default.svc.cluster.local", &[("http", 80, 80)], Some(("app", "other")));
    let first = vec![service(REVIEWS, &[("http", 80, 80)], Some(("app", "reviews"))), other, Event::Synced];
    events.send((id(RegistryKind::Kubernetes), first)).await.unwrap();
    let before = until(&mut snapshots, Snapshot::ready).await;
    for number in 0..1000 {
        let one = upsert(backing(workload(&format!("pod{number}"), "reviews", Health::Healthy)));
        events.send((id(RegistryKind::Kubernetes), vec![one])).await.unwrap();
    }
    let after = until(&mut snapshots, |s| s.workload_count() == 1000).await;
    assert!(after.revision - before.revision < 50, "{} snapshots", after.revision - before.revision);
    let changes = after.changes_since(before.revision).unwrap();
    assert!(changes.defined.is_empty());
    assert_eq!(changes.populated.into_iter().collect::<Vec<_>>(), [REVIEWS.parse().unwrap()]);
}

#[tokio::test]
async fn what_consul_says_of_a_joined_host_is_the_host_until_it_leaves() {
    use RegistryKind::{Consul, Hosts};
    let (events, mut snapshots) = start(&[Consul, Hosts]);
    let host: Hostname = "reviews.service.dc1.consul".parse().unwrap();
    let mut named = workload("c1", "other", Health::Healthy);
    (named.transport, named.services) = (Transport::Plaintext, vec![host.clone()]);
    let mut joined = workload("vm", "reviews", Health::Healthy);
    joined.addresses = named.addresses.clone();
    joined.ports = BTreeMap::from([("web".to_owned(), 8081)]);
    joined.instance = Some(hawser_mesh::InstanceRef { instance_id: "i".into(), workload_id: "w".into() });
    let said = vec![service(host.as_str(), &[("http", 80, 8081)], None), upsert(named), Event::Synced];
    events.send((id(Consul), said)).await.unwrap();
    events.send((id(Hosts), vec![Event::Synced])).await.unwrap();
    let is = |snapshot: &Snapshot, name: &str| endpoints(snapshot, host.as_str()) == [format!("80 {name}")];
    until(&mut snapshots, |s| is(s, "c1:8081 Healthy")).await;
    events.send((id(Hosts), vec![upsert(joined.clone())])).await.unwrap();
    let snapshot = until(&mut snapshots, |s| is(s, "vm:8081 Healthy")).await;
    assert_eq!(snapshot.definitions(&host)[0].endpoints()[0].transport, Transport::Mtls);
    joined.health = Health::Unhealthy;
    events.send((id(Hosts), vec![upsert(joined.clone())])).await.unwrap();
    until(&mut snapshots, |s| is(s, "vm:8081 Unhealthy")).await;
    events.send((id(Hosts), vec![Event::Delete(ObjectKey::Workload(joined.key))])).await.unwrap();
    until(&mut snapshots, |s| is(s, "c1:8081 Healthy")).await;
}

/// An entry of one name, with an endpoint that tells it apart.
fn entry(namespace: &str, endpoint: &str, more: &str) -> Vec<Event> {
    yaml(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: x, namespace: {namespace}, creationTimestamp: '{more}'}}\n\
         spec: {{hosts: [x.test], ports: [{{number: 80, name: http}}], resolution: STATIC, \
         endpoints: [{{address: {endpoint}}}]}}"
    ))
}

fn said(kind: RegistryKind, namespace: &str, export_to: &[&str]) -> Event {
    let Event::Upsert(Object::Service(made)) = service("x.test", &[("http", 80, 80)], None) else { unreachable!() };
    let mut made = (*made).clone();
    made.namespace = namespace.to_owned();
    made.export_to = export_to.iter().map(|to| (*to).to_owned()).collect();
    made.endpoints = vec![workload(&format!("{kind:?}"), "x", Health::Healthy)];
    Event::Upsert(Object::Service(Arc::new(made)))
}

/// The namespace whose definition of x.test callers of another one have.
fn counts(snapshot: &Snapshot, from: &str) -> Option<String> {
    let states = snapshot.definitions(&"x.test".parse().unwrap());
    choice(states, from, None).map(|state| state.service.namespace.to_string())
}

#[tokio::test]
async fn a_name_that_two_namespaces_define_is_the_callers_own_else_the_oldest() {
    let (events, mut snapshots) = start(&[RegistryKind::Api]);
    let first = [entry("b", "10.0.0.2", "2020-01-01T00:00:00Z"), entry("a", "10.0.0.1", "2021-01-01T00:00:00Z")];
    events.send((id(RegistryKind::Api), [first.concat(), vec![Event::Synced]].concat())).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let shown = |snapshot: &Snapshot, from: &str| {
        let states = snapshot.definitions(&"x.test".parse().unwrap());
        choice(states, from, None).unwrap().endpoints().iter().map(|e| e.address.clone()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&snapshot, "a"), ["10.0.0.1"]);
    assert_eq!(shown(&snapshot, "b"), ["10.0.0.2"]);
    assert_eq!(shown(&snapshot, "c"), ["10.0.0.2"], "the oldest");
    let conflicts: Vec<_> = snapshot.services().iter().flat_map(|s| s.service.conflicts.clone()).collect();
    assert!(conflicts[0].contains("ServiceEntry a/x (api): namespace a defines it too"), "{conflicts:?}");
    // The same age: the first namespace by name.
    events.send((id(RegistryKind::Api), entry("a", "10.0.0.1", "2020-01-01T00:00:00Z"))).await.unwrap();
    let snapshot = until(&mut snapshots, |s| counts(s, "c").as_deref() == Some("a")).await;
    assert_eq!(shown(&snapshot, "b"), ["10.0.0.2"]);
    assert!(snapshot.changes_since(0).unwrap().defined.contains(&"x.test".parse().unwrap()));
    // One that is gone leaves the other to all.
    let gone = yaml(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x, namespace: a}\nspec: {hosts: [x.test]}",
    );
    let Event::Upsert(Object::Config(resource, _)) = &gone[0] else { unreachable!() };
    let gone = Event::Delete(ObjectKey::Config(resource.object_ref()));
    events.send((id(RegistryKind::Api), vec![gone])).await.unwrap();
    let snapshot = until(&mut snapshots, |s| counts(s, "a").as_deref() == Some("b")).await;
    assert_eq!(shown(&snapshot, "a"), ["10.0.0.2"]);
}

#[tokio::test]
async fn kubernetes_goes_before_entries_of_others_and_what_is_hidden_does_not_count() {
    use RegistryKind::{Api, Consul, Kubernetes};
    let (events, mut snapshots) = start(&[Api, Consul, Kubernetes]);
    let first = [entry("a", "10.0.0.1", ""), vec![Event::Synced]].concat();
    events.send((id(Api), first)).await.unwrap();
    events.send((id(Kubernetes), vec![said(Kubernetes, "k", &[]), Event::Synced])).await.unwrap();
    events.send((id(Consul), vec![said(Consul, "z", &["z", "y"]), Event::Synced])).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    for (from, of) in [("a", "a"), ("k", "k"), ("other", "k"), ("z", "z"), ("y", "k")] {
        assert_eq!(counts(&snapshot, from).as_deref(), Some(of), "from {from}");
    }
    events.send((id(Kubernetes), vec![said(Kubernetes, "k", &["."])])).await.unwrap();
    let snapshot = until(&mut snapshots, |s| counts(s, "other").as_deref() == Some("a")).await;
    assert_eq!(counts(&snapshot, "y").as_deref(), Some("z"), "what is exported to it by name, before what all see");
    assert_eq!(counts(&snapshot, "k").as_deref(), Some("k"));
}

#[tokio::test]
async fn registries_of_one_namespace_are_one_definition_and_who_names_it_means_its_own_namespace() {
    use RegistryKind::{Api, Consul};
    let (events, mut snapshots) = start(&[Api, Consul]);
    let mut named = workload("named", "x", Health::Healthy);
    (named.services, named.key.namespace) = (vec!["x.test".parse().unwrap()], "b".into());
    let said = [entry("a", "10.0.0.1", ""), entry("b", "10.0.0.2", ""), vec![Event::Synced]].concat();
    events.send((id(Api), said)).await.unwrap();
    events.send((id(Consul), vec![said_in("b"), upsert(named), Event::Synced])).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let all: Vec<(String, usize)> = snapshot
        .services()
        .iter()
        .map(|state| (state.service.namespace.to_string(), state.endpoints().len()))
        .collect();
    assert_eq!(all, [("a".to_owned(), 1), ("b".to_owned(), 3)]);
}

fn said_in(namespace: &str) -> Event {
    said(RegistryKind::Consul, namespace, &[])
}

#[tokio::test]
async fn registries_outside_say_a_name_of_the_mesh_for_the_namespace_that_it_names() {
    use RegistryKind::{FileSd, Hosts};
    let (events, mut snapshots) = start(&[Hosts, FileSd]);
    let Event::Upsert(Object::Service(made)) = service(REVIEWS, &[("http", 9080, 9080)], None) else { unreachable!() };
    let mut made = (*made).clone();
    made.namespace = "elsewhere".to_owned();
    let made = Event::Upsert(Object::Service(Arc::new(made)));
    events.send((id(Hosts), [group("reviews", "{app: reviews}"), vec![Event::Synced]].concat())).await.unwrap();
    events.send((id(FileSd), vec![made, Event::Synced])).await.unwrap();
    let snapshot = until(&mut snapshots, Snapshot::ready).await;
    let states = snapshot.definitions(&REVIEWS.parse().unwrap());
    let sources: Vec<_> = states.iter().map(|s| (&*s.service.namespace, s.service.sources.len())).collect();
    assert_eq!(sources, [("default", 2)]);
}
