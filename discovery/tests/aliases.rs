//! Other names for services: an ExternalName of a cluster that leads to a service of the mesh, to every kind of client.

#![allow(clippy::unwrap_used)] // helpers of tests fail by panic

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_api::proto::core::Node;
use hawser_discovery::compiler::{Compiler, Sight};
use hawser_discovery::debug::text;
use hawser_discovery::registry::model::ConfigOutcome;
use hawser_discovery::registry::{self, EventSender, MemoryBook, Settings, Snapshot, Snapshots};
use hawser_discovery::view::{Class, Client};
use hawser_mesh::{
    Event, Health, Hostname, Location, Object, ObjectKey, Origin, Protocol, RegistryId, RegistryKind, Resolution,
    Service, ServicePort, Transport, Workload, WorkloadKey,
};
use hawser_xds::{Changes, Source as _, TypeUrl};

const WEB: &str = "web.shop.svc.cluster.local";
const FRONT: &str = "front.shop.svc.cluster.local";

fn cluster() -> RegistryId {
    RegistryId { kind: RegistryKind::Kubernetes, name: "main".into() }
}

fn host(name: &str) -> Hostname {
    name.parse().unwrap()
}

fn port(number: u16) -> ServicePort {
    ServicePort { name: "http".to_owned(), port: number, protocol: Protocol::Http, target_port: 8080 }
}

fn web() -> Event {
    Event::Upsert(Object::Service(Arc::new(Service {
        ports: vec![port(80)],
        addresses: vec!["10.96.0.7/32".parse().unwrap()],
        ..Service::new(host(WEB), "shop".into(), "web".into())
    })))
}

fn pod() -> Event {
    let domain = "cluster.local".parse::<hawser_mesh::TrustDomain>().unwrap();
    Event::Upsert(Object::Workload(Arc::new(Workload {
        addresses: BTreeMap::from([(String::new(), vec!["10.0.0.1".to_owned()])]),
        services: vec![host(WEB)],
        health: Health::Healthy,
        transport: Transport::Mtls,
        identity: domain.workload("shop", "web").ok(),
        ..Workload::new(WorkloadKey { namespace: "shop".into(), name: "web-1".into() })
    })))
}

/// A name for another one, as its cluster says it.
fn name(short: &str, to: &str, ports: Vec<ServicePort>) -> Service {
    let elsewhere = Workload {
        addresses: BTreeMap::from([(String::new(), vec![to.to_owned()])]),
        ..Workload::new(WorkloadKey { namespace: "shop".into(), name: short.into() })
    };
    Service {
        ports,
        resolution: Resolution::Dns,
        location: Location::External,
        endpoints: vec![elsewhere],
        alias_of: Some(host(to)),
        ..Service::new(host(&format!("{short}.shop.svc.cluster.local")), "shop".into(), short.into())
    }
}

fn front(to: &str) -> Event {
    said(name("front", to, Vec::new()))
}

fn said(service: Service) -> Event {
    Event::Upsert(Object::Service(Arc::new(service)))
}

fn gone(name: &str) -> Event {
    Event::Delete(ObjectKey::Service(host(name)))
}

fn config(text: &str) -> Event {
    let mut parsed = hawser_api::istio::parse_documents("t.yaml", text).into_iter().map(Result::unwrap);
    let resource = parsed.next().unwrap().resource;
    Event::Upsert(Object::Config(Arc::new(resource), Origin { name: "t.yaml".into(), line: 1 }))
}

/// A registry, and what clients make of it.
struct World {
    events: EventSender,
    snapshots: Snapshots,
    compiler: Compiler,
    last: Arc<Snapshot>,
}

impl World {
    async fn of(events: Vec<Event>) -> Self {
        let settings = Settings::new("cluster.local".parse().unwrap());
        let (sender, mut snapshots) = registry::spawn(settings, [cluster()], Box::new(MemoryBook)).unwrap();
        sender.send((cluster(), [events, vec![Event::Synced]].concat())).await.unwrap();
        let last = snapshots.wait_for(|snapshot| snapshot.ready()).await.unwrap().clone();
        Self { events: sender, snapshots, compiler: Compiler::default(), last }
    }

    /// Says something, and checks that everybody is sent what is other than before.
    async fn say(&mut self, event: Event) {
        let before = self.last.clone();
        self.events.send((cluster(), vec![event])).await.unwrap();
        let next = self.snapshots.wait_for(|snapshot| snapshot.revision > before.revision);
        self.last = tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap().clone();
        for class in [Class::Hawser(1), Class::Envoy, Class::Grpc] {
            let client = client(class, "default");
            let (old, new) =
                (Sight::new(&self.compiler, &client, &before), Sight::new(&self.compiler, &client, &self.last));
            let touched = new.touched(&before);
            for (ty, name) in interesting() {
                let body = |sight: &Sight<'_>| sight.get(&ty, &name).map(|resource| resource.body);
                let told = body(&old) == body(&new) || tells(&touched, &ty, &name);
                assert!(told, "{class:?} is not told that {} {name} changed", ty.short());
            }
        }
    }

    fn get(&self, class: Class, ty: TypeUrl, name: &str) -> Option<String> {
        self.from("default", class, ty, name)
    }

    fn from(&self, namespace: &str, class: Class, ty: TypeUrl, name: &str) -> Option<String> {
        let client = client(class, namespace);
        let sight = Sight::new(&self.compiler, &client, &self.last);
        sight.get(&ty, name).map(|resource| text(ty.as_str(), &resource.body))
    }

    /// Whether callers of a namespace mean the service by its other name.
    fn is_known(&self, namespace: &str) -> bool {
        let known = self.from(namespace, Class::Hawser(1), TypeUrl::NAME, WEB).is_some_and(|text| text.contains(FRONT));
        let domains = self.from(namespace, Class::Envoy, TypeUrl::ROUTE, "80");
        let own = !self.last.definitions(&host(FRONT)).is_empty();
        assert_eq!(domains.is_some_and(|text| text.contains(FRONT)), known || own);
        let dialled = self.from(namespace, Class::Grpc, TypeUrl::LISTENER, "front.shop:80");
        assert_eq!(dialled.is_some_and(|text| text.contains(&format!("{WEB}:80"))), known);
        known
    }
}

fn tells(changes: &Changes, ty: &TypeUrl, name: &str) -> bool {
    let everything = !changes.is_empty() && changes.iter().next().is_none();
    everything || changes.iter().any(|(of, changed)| of == ty && **changed == *name)
}

/// What changes with names.
fn interesting() -> Vec<(TypeUrl, String)> {
    let names: &[(TypeUrl, &[&str])] = &[
        (TypeUrl::NAME, &[WEB, FRONT]),
        (TypeUrl::ROUTE, &["80", "web.shop.svc.cluster.local:80", "front.shop.svc.cluster.local:80"]),
        (TypeUrl::LISTENER, &["front.shop.svc.cluster.local:80", "front.shop:80", "web.shop:80", "0.0.0.0_80"]),
        (TypeUrl::CLUSTER, &["outbound|80||web.shop.svc.cluster.local", "outbound|80||front.shop.svc.cluster.local"]),
    ];
    names.iter().flat_map(|(ty, all)| all.iter().map(|name| (ty.clone(), (*name).to_owned()))).collect()
}

fn client(class: Class, namespace: &str) -> Client {
    let id = format!("sidecar~10.0.0.31~me.{namespace}~{namespace}.svc.cluster.local");
    Client { class, ..Client::from_node(&Node { id, ..Node::default() }, false) }
}

#[tokio::test]
async fn callers_of_another_name_are_callers_of_the_service_whichever_was_said_first() {
    let mut world = World::of(vec![web(), pod(), front(WEB)]).await;
    assert!(world.is_known("default"));
    assert!(world.last.definitions(&host(FRONT)).is_empty(), "it is no service of its own");
    let aliases = |world: &World| world.last.definitions(&host(WEB))[0].service.aliases.len();
    assert_eq!(aliases(&world), 1);
    let name = world.get(Class::Hawser(1), TypeUrl::NAME, WEB).unwrap();
    assert!(name.contains("10.96.0.7") && name.contains("front.shop.svc") && name.contains("front.shop\""), "{name}");
    assert_eq!(world.get(Class::Envoy, TypeUrl::CLUSTER, "outbound|80||front.shop.svc.cluster.local"), None);

    // The service goes and comes back.
    world.say(gone(WEB)).await;
    assert!(!world.is_known("default") && world.last.definitions(&host(FRONT)).is_empty(), "a name without ports");
    world.say(web()).await;
    assert!(world.is_known("default"));
    // And so does the name.
    world.say(gone(FRONT)).await;
    assert!(!world.is_known("default") && aliases(&world) == 0);
    world.say(front(WEB)).await;
    assert!(world.is_known("default"));
}

#[tokio::test]
async fn a_name_for_something_outside_is_a_service_of_its_own_until_the_mesh_has_one_of_that_name() {
    let mut world = World::of(vec![said(name("front", WEB, vec![port(80)]))]).await;
    let outside = |world: &World| world.last.definitions(&host(FRONT)).len();
    assert_eq!((outside(&world), world.is_known("default")), (1, false));
    let cluster = world.get(Class::Envoy, TypeUrl::CLUSTER, "outbound|80||front.shop.svc.cluster.local").unwrap();
    assert!(cluster.contains("StrictDns") && cluster.contains(WEB), "{cluster}");
    world.say(web()).await;
    assert_eq!((outside(&world), world.is_known("default")), (0, true));
    world.say(gone(WEB)).await;
    assert_eq!((outside(&world), world.is_known("default")), (1, false));
}

#[tokio::test]
async fn names_lead_to_names_and_a_circle_of_them_leads_nowhere() {
    const SIDE: &str = "side.shop.svc.cluster.local";
    let ported = |short: &str, to: &str| said(name(short, to, vec![port(80)]));
    let mut world = World::of(vec![
        ported("front", SIDE),
        ported("side", FRONT),
        ported("self", "self.shop.svc.cluster.local"),
        web(),
    ])
    .await;
    let count = |world: &World| world.last.service_count();
    assert_eq!((count(&world), world.is_known("default")), (1, false));
    world.say(ported("side", WEB)).await;
    assert!(world.is_known("default"));
    let aliases: Vec<String> =
        world.last.definitions(&host(WEB))[0].service.aliases.iter().map(|alias| alias.host.to_string()).collect();
    assert_eq!((aliases, count(&world)), (vec![FRONT.to_owned(), SIDE.to_owned()], 1));
    world.say(gone(SIDE)).await;
    assert!(!world.is_known("default") && count(&world) == 2, "what it leads to is nothing of the mesh any more");
}

#[tokio::test]
async fn a_name_is_known_where_it_and_its_service_are_and_routes_may_lead_to_it() {
    let hidden = Service { export_to: vec![".".to_owned()], ..name("front", WEB, Vec::new()) };
    let mut world = World::of(vec![web(), pod(), said(hidden)]).await;
    assert_eq!((world.is_known("shop"), world.is_known("default")), (true, false));
    world.say(front(WEB)).await;
    assert!(world.is_known("default"));
    let routes = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\n\
                  spec: {hosts: [HOST], http: [{route: [{destination: {host: DESTINATION}}]}]}";
    let other = said(Service {
        ports: vec![port(80)],
        ..Service::new(host("other.shop.svc.cluster.local"), "shop".into(), "other".into())
    });
    world.say(other).await;
    world.say(config(&routes.replace("HOST", "other").replace("DESTINATION", "front"))).await;
    let route = world.get(Class::Hawser(1), TypeUrl::ROUTE, "other.shop.svc.cluster.local:80").unwrap();
    assert!(route.contains("outbound|80||web.shop.svc.cluster.local"), "{route}");
    assert!(world.last.configs.iter().all(|config| config.outcome == ConfigOutcome::Honoured));

    // A rule for the name itself has no effect, and says so.
    world.say(config(&routes.replace("HOST", "front").replace("DESTINATION", "other"))).await;
    let config = &world.last.configs[0];
    assert_eq!(config.outcome, ConfigOutcome::Partly);
    assert_eq!(
        config.messages,
        ["spec.hosts[0]: front is another name for web.shop.svc.cluster.local, whose rules count for it; write \
          web.shop.svc.cluster.local"]
    );
}

#[tokio::test]
async fn what_others_say_of_a_name_that_stands_for_another_is_told() {
    let group = "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: front, namespace: shop}\n\
                 spec: {metadata: {labels: {app: front}}, template: {ports: {http: 9080}}}";
    let world = World::of(vec![web(), front(WEB), config(group)]).await;
    assert!(world.is_known("default"));
    let told = &world.last.configs[0];
    assert_eq!(told.outcome, ConfigOutcome::Partly, "{told:?}");
    assert!(told.messages[0].contains("the name stands for web.shop.svc.cluster.local"), "{told:?}");
}
