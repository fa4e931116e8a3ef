//! A large cluster, from its API server to snapshots: how long the first one takes, what it costs, and how soon a change of
//! a pod is in the next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../../registry-adapters/kubernetes/tests/common/mod.rs"]
mod common;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::proto::core::{Node, address, socket_address::PortSpecifier};
use hawser_api::proto::endpoint::{ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier};
use hawser_discovery::compiler::{Compiler, Sight};
use hawser_discovery::registry::{MemoryBook, Settings as MeshSettings, Snapshot, spawn};
use hawser_discovery::view::{Class, Client};
use hawser_mesh::{
    Event, Gateway, Health, Hostname, Object, ObjectKey, Protocol, Publisher, RegistryAdapter as _, RegistryId,
    RegistryKind, Service, ServicePort, Transport, Workload, WorkloadKey,
};
use hawser_registry_kubernetes::{Entry, KubernetesAdapter, Mesh, Registrar, Remote, Settings, Tokens};
use hawser_registry_source::Context;
use hawser_xds::{Source as _, TypeUrl};
use prost::Message as _;
use serde_json::{Value, json};

use common::{NAMESPACES, NODES, PODS, SERVICES, SLICES, Server, namespace};

const ALL_PODS: usize = 10_000;
const ALL_SERVICES: usize = 2_000;
const EACH: usize = ALL_PODS / ALL_SERVICES;
const CHANGES: usize = 100;
/// A build for debugging takes several times as long.
const SLOW: u32 = if cfg!(debug_assertions) { 4 } else { 1 };
/// Says that this process is the server.
const SERVES: &str = "HAWSER_TEST_SERVES";

/// A pod as large as pods are: the API server sends much that nobody uses.
fn pod(number: usize, ready: bool) -> Value {
    let (service, name) = (number / EACH, format!("web-{number:05}-7d9c8b6f5-abcde"));
    let status = if ready { "True" } else { "False" };
    let fields: Value = (0..60)
        .map(|n| (format!("f:field-{n}"), json!({".": {}, "f:value": {}})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let volume =
        json!({"name": "kube-api-access", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    let container = json!({"name": "app", "image": "registry.example.com/team/app:1.2.3",
        "env": (0..10).map(|n| json!({"name": format!("KEY_{n}"), "value": "some value"})).collect::<Vec<_>>()});
    json!({"metadata": {"name": name, "namespace": format!("team-{}", service % 50), "uid": "6728082d-169f-4a8f-9395-d0163e4a3566",
            "labels": {"app": format!("svc-{service}"), "version": "v1", "pod-template-hash": "7d9c8b6f5",
                "app.kubernetes.io/name": format!("svc-{service}"), "security.istio.io/tlsMode": "istio"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(600)},
            "managedFields": [{"manager": "kubelet", "fieldsV1": fields}]},
        "spec": {"nodeName": format!("node-{}", number % 200), "serviceAccountName": format!("svc-{service}"),
            "volumes": [volume], "containers": [container, {"name": "istio-proxy"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address(number)}],
            "conditions": [{"type": "Ready", "status": status}, {"type": "ContainersReady", "status": status}]}})
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", 1 + number / 62_500, number / 250 % 250, 1 + number % 250)
}

fn slice(service: usize, not_ready: Option<usize>) -> Value {
    let namespace = format!("team-{}", service % 50);
    let endpoint = |number: usize| {
        json!({"addresses": [address(number)], "conditions": {"ready": not_ready != Some(number), "serving": not_ready != Some(number)},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("web-{number:05}-7d9c8b6f5-abcde")},
            "nodeName": format!("node-{}", number % 200), "zone": "eu-1-a"})
    };
    let endpoints: Vec<Value> = (service * EACH..(service + 1) * EACH).map(endpoint).collect();
    json!({"metadata": {"name": format!("svc-{service}-x"), "namespace": namespace,
        "labels": {"kubernetes.io/service-name": format!("svc-{service}")}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]})
}

fn fill(server: &Server) {
    for number in 0..50 {
        server.state.set(NAMESPACES, namespace(&format!("team-{number}")));
    }
    for number in 0..200 {
        let labels = json!({"topology.kubernetes.io/region": "eu-1", "topology.kubernetes.io/zone": "eu-1-a"});
        server.state.set(NODES, json!({"metadata": {"name": format!("node-{number}"), "labels": labels}}));
    }
    for number in 0..ALL_SERVICES {
        let name = format!("svc-{number}");
        server.state.set(
            SERVICES,
            json!({"metadata": {"name": name, "namespace": format!("team-{}", number % 50)},
            "spec": {"clusterIP": format!("10.96.{}.{}", number / 250, number % 250 + 1), "selector": {"app": name},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        );
        server.state.set(SLICES, slice(number, None));
    }
    for number in 0..ALL_PODS {
        server.state.set(PODS, pod(number, true));
    }
}

/// Serves in a process of its own, so that what it holds is not counted. Does nothing in any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let server = Server::start().await;
    fill(&server);
    println!("\nserving {}", serde_json::to_string(&server.kubeconfig()).unwrap());
    std::io::stdout().flush().unwrap();
    // A line is the number of a pod that turns, and how.
    let (sender, mut lines) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.map_or(true, |line| sender.blocking_send(line).is_err()) {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let (number, ready) = line.split_once(' ').unwrap();
        let (number, ready): (usize, bool) = (number.parse().unwrap(), ready.parse().unwrap());
        server.state.set(PODS, pod(number, ready));
        server.state.set(SLICES, slice(number / EACH, (!ready).then_some(number)));
    }
}

/// The process, and what it still says: after a minute the harness says that a test runs long, and ends if nobody is there.
struct Serving {
    child: Child,
    _said: Lines<BufReader<ChildStdout>>,
}

impl Serving {
    fn start() -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves", "--nocapture"])
            .env(SERVES, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let serving = |line: std::io::Result<String>| line.unwrap().strip_prefix("serving ").map(str::to_owned);
        let line = lines.find_map(serving).unwrap();
        (Self { child, _said: lines }, serde_json::from_str(&line).unwrap())
    }

    fn turn(&mut self, pod: usize, ready: bool) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{pod} {ready}").unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Endpoints of a port as a client is given them: address, port, weight, and whether they are called with mTLS.
fn given(client: &Client, snapshot: &Snapshot, cluster: &str) -> Vec<String> {
    let compiler = Compiler::default();
    let resource = Sight::new(&compiler, client, snapshot).get(&TypeUrl::ENDPOINTS, cluster).unwrap();
    let assignment = ClusterLoadAssignment::decode(resource.body).unwrap();
    let endpoints = assignment.endpoints.into_iter().flat_map(|locality| locality.lb_endpoints);
    let show = |endpoint: LbEndpoint| {
        let Some(HostIdentifier::Endpoint(at)) = endpoint.host_identifier else { panic!() };
        let Some(address::Address::SocketAddress(at)) = at.address.unwrap().address else { panic!() };
        let mtls = endpoint.metadata.is_some_and(|m| m.filter_metadata.contains_key("envoy.transport_socket_match"));
        let port = match at.port_specifier {
            Some(PortSpecifier::PortValue(port)) => port,
            _ => panic!(),
        };
        format!("{}:{port} {} {mtls}", at.address, endpoint.load_balancing_weight.unwrap())
    };
    endpoints.map(show).collect()
}

#[tokio::test]
async fn pods_of_another_network_are_called_through_its_gateway_if_that_can_lead_them_on() {
    let id = RegistryId { kind: RegistryKind::Kubernetes, name: "main".into() };
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    let (events, mut snapshots) = spawn(settings, [id.clone()], Box::new(MemoryBook)).unwrap();
    let host: Hostname = "web.shop.svc.cluster.local".parse().unwrap();
    let service = Service {
        ports: vec![ServicePort { name: "http".to_owned(), port: 80, protocol: Protocol::Http, target_port: 8080 }],
        ..Service::new(host.clone(), "shop".to_owned(), "web".to_owned())
    };
    let pod = |name: &str, address: &str, transport| {
        Event::Upsert(Object::Workload(Arc::new(Workload {
            addresses: [("net-1".to_owned(), vec![address.to_owned()])].into(),
            identity: Some("spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()),
            service_account: "web".to_owned(),
            transport,
            services: vec![host.clone()],
            ..Workload::new(WorkloadKey { namespace: "shop".into(), name: name.into() })
        })))
    };
    let key = WorkloadKey { namespace: "istio-system".into(), name: "eastwest".into() };
    let said = vec![
        Event::Upsert(Object::Service(Arc::new(service))),
        pod("a", "10.1.0.1", Transport::Mtls),
        pod("b", "10.1.0.2", Transport::Mtls),
        pod("c", "10.1.0.3", Transport::Plaintext),
        Event::Synced,
    ];
    events.send((id.clone(), said)).await.unwrap();
    let node = Node { id: "sidecar~10.9.0.1~vm.default~default.svc.cluster.local".to_owned(), ..Node::default() };
    let mut outside = Client::from_node(&node, false);
    outside.class = Class::Hawser(1);
    let inside = Client { network: "net-1".to_owned(), ..outside.clone() };
    let snapshot = snapshots.wait_for(|snapshot| snapshot.ready()).await.unwrap().clone();
    let cluster = "outbound|80||web.shop.svc.cluster.local";
    let direct = ["10.1.0.1:8080 1 true", "10.1.0.2:8080 1 true", "10.1.0.3:8080 1 false"];
    assert_eq!(given(&outside, &snapshot, cluster), direct, "nobody says that there is another way");
    let gateway = Gateway {
        key: key.clone(),
        network: "net-1".to_owned(),
        addresses: vec!["203.0.113.9".parse().unwrap()],
        port: 15443,
    };
    events.send((id.clone(), vec![Event::Upsert(Object::Gateway(Arc::new(gateway)))])).await.unwrap();
    let snapshot = snapshots.wait_for(|snapshot| snapshot.gateways("net-1").count() == 1).await.unwrap().clone();
    assert_eq!(given(&outside, &snapshot, cluster), ["203.0.113.9:15443 2 true"]);
    assert_eq!(given(&inside, &snapshot, cluster), direct);
    events.send((id, vec![Event::Delete(ObjectKey::Gateway(key))])).await.unwrap();
    let snapshot = snapshots.wait_for(|snapshot| snapshot.gateways("net-1").count() == 0).await.unwrap().clone();
    assert_eq!(given(&outside, &snapshot, cluster), direct);
}

#[derive(Debug)]
struct Nobody;

impl Registrar for Nobody {
    fn register(&self, id: &RegistryId) -> (Publisher, Context) {
        unreachable!("{id} is not wanted")
    }

    fn remove(&self, _: &RegistryId) {}

    fn vouch(&self, _: &str, _: Option<Tokens>) {}
}

/// Memory of this process, in MiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pods_are_known_soon_at_little_cost_and_a_pods_readiness_at_once() {
    if std::env::var_os(SERVES).is_some() {
        return;
    }
    let (mut server, kubeconfig) = Serving::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let remote_clusters = Remote { disabled: true, ..Remote::default() };
    let settings = Settings { kubeconfig: Some(file), remote_clusters, ..Settings::default() };
    let entry = Entry { name: "main".to_owned(), settings };
    let id = entry.id();
    let before = memory();
    let mesh_settings = MeshSettings::new("cluster.local".parse().unwrap());
    let (events, mut snapshots) = spawn(mesh_settings, [id.clone()], Box::new(MemoryBook)).unwrap();
    let mesh = Mesh {
        trust_domain: "cluster.local".parse().unwrap(),
        domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        discovery_selectors: Vec::new(),
    };
    let (context, handle) = Context::alone(&id, Some(dir.path()));
    let adapter = KubernetesAdapter::new(entry, mesh, context, Some(dir.path()), Arc::new(Nobody));
    let began = Instant::now();
    tokio::spawn(adapter.run(Publisher::new(id, events)));
    let ready = snapshots.wait_for(|snapshot| snapshot.ready() && snapshot.workload_count() == ALL_PODS);
    tokio::time::timeout(Duration::from_secs(120), ready).await.expect("in time").unwrap();
    let first = began.elapsed();
    println!("first snapshot in {first:?}, {} MiB more; {:?}", memory() - before, handle.status());
    assert!(first < Duration::from_secs(10) * SLOW, "{first:?}");

    // Whatever the first snapshot cost, the next one waits as long, a second at most.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let of = number * (ALL_PODS / CHANGES);
        let host: Hostname = format!("svc-{}.team-{}.svc.cluster.local", of / EACH, of / EACH % 50).parse().unwrap();
        let began = Instant::now();
        server.turn(of, false);
        let turned = |endpoints: Vec<hawser_discovery::registry::model::Endpoint>| {
            endpoints.len() == EACH && endpoints.iter().filter(|e| e.health != Health::Healthy).count() == 1
        };
        let seen = snapshots.wait_for(|snapshot| {
            turned(snapshot.definitions(&host).iter().flat_map(|state| state.endpoints()).collect())
        });
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("in time").unwrap();
        times.push(began.elapsed());
        // Not in step with the pause between snapshots.
        tokio::time::sleep(Duration::from_millis(7 * (number as u64 % 11))).await;
    }
    times.sort();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let after = memory() - before;
    println!("a pod's readiness in a snapshot: median {half:?}, 99 of 100 within {most:?}; {after} MiB");
    assert!(most < Duration::from_millis(250) * SLOW, "{most:?}");
    assert!(after < 150, "{after} MiB");
}
