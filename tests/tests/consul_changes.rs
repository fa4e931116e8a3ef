//! From a check in a real Consul that holds much to the endpoints that proxies hold: how long it takes.
//!
//! In: Consul, discovery, and xDS clients that ask as hawser-proxy does. Out: times from telling Consul of a change to its
//! arrival in each client: of services that have a query of their own, and of more than there are connections for.
//! `CONNECTIONS` raises the limit of both from the default, `EACH` says how many instances a service has.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hawser_api::names::{HAWSER_XDS, metadata, types};
use hawser_api::proto::core::{HealthStatus, Node};
use hawser_api::proto::discovery::DeltaDiscoveryRequest;
use hawser_api::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hawser_api::proto::endpoint::ClusterLoadAssignment;
use hawser_tests::consul::{Consul, Options};
use hawser_tests::{Process, programs, wait};
use prost::Message as _;
use prost_types::value::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

const SERVICES: usize = 5000;
/// Services that clients subscribe to, each to all of them.
const SUBSCRIBED: usize = 100;
const CLIENTS: usize = 10;
/// Services that one more client subscribes to: with those above more than the default limit has connections for.
const BEYOND: usize = 400;
/// The limit of connections unless it is set, and how many of any limit are not for services.
const CONNECTIONS: usize = 150;
const RESERVE: usize = 32;
/// The time in which all services are read again if something changed, unless it is set.
const SWEEP: Duration = Duration::from_secs(5);
/// Changes whose time is taken, at a hundred a second together with others that are not.
const CHANGES: usize = 600;
/// A build for debugging costs several times as much, and shares its machine: there the bound tells a sweep from what
/// is followed, no more.
const PATIENCE: u32 = if cfg!(debug_assertions) { 5 } else { 1 };
const LIMIT: Duration = Duration::from_secs(240);

/// After the last change, until all is quiet.
const AFTER: Duration = Duration::from_secs(10);
/// How long nothing changes then.
const IDLE: Duration = Duration::from_secs(15);

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn service(n: usize) -> String {
    format!("service-{n:04}")
}

/// Address of an instance: it says which one it is.
fn address(s: usize, i: usize) -> String {
    format!("10.{}.{}.{}", s / 250, s % 250, i + 1)
}

fn cluster(s: usize) -> String {
    format!("outbound|8080||{}.service.dc1.consul", service(s))
}

/// Discovery on ports of its own, with its files in a directory.
struct Discovery {
    process: Process,
    xds: u16,
    http: u16,
    _dir: tempfile::TempDir,
}

impl Discovery {
    fn start(consul: &Consul, connections: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("hawser-changes-").tempdir().unwrap();
        let file = dir.path().join("registries.yaml");
        let text = format!(
            "registries:\n- name: main\n  consul:\n    servers: [\"{}\"]\n    connections: {connections}\n",
            consul.url()
        );
        std::fs::write(&file, text).unwrap();
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [tls, xds, http] = ports.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(ports);
        let mut command = Command::new(programs::find("hawser-discovery").unwrap());
        command.arg("--registries").arg(&file).arg("--data-dir").arg(dir.path().join("data"));
        command.arg("--admin-socket").arg(dir.path().join("admin.sock"));
        command.args(["--advertise", &format!("127.0.0.1:{tls}")]);
        command.args(["--listen-tls", &format!("127.0.0.1:{tls}")]);
        command.args(["--listen-plaintext", &format!("127.0.0.1:{xds}")]);
        command.args(["--listen-http", &format!("127.0.0.1:{http}")]);
        let process = Process::spawn("discovery", command, dir.path().join("log"), false).unwrap();
        Self { process, xds, http, _dir: dir }
    }

    fn is_ready(&self) -> bool {
        let url = format!("http://127.0.0.1:{}/readyz", self.http);
        let seen = Command::new("curl").args(["-s", "-f", "-o", "/dev/null", &url]).status();
        seen.is_ok_and(|status| status.success())
    }

    /// CPU time that it has used.
    fn used(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid().unwrap())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

/// What a client was sent: of which cluster, which addresses take requests, and when.
struct Told {
    client: usize,
    cluster: String,
    healthy: Vec<String>,
    at: Instant,
}

/// Subscribes to endpoints by name, as hawser-proxy does, and tells what comes.
async fn client(number: usize, port: u16, names: Vec<String>, told: mpsc::UnboundedSender<Told>) {
    let channel = tonic::transport::Endpoint::new(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let mut ads = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let (requests, outgoing) = mpsc::unbounded_channel();
    let class = prost_types::Value { kind: Some(Kind::StringValue(HAWSER_XDS.to_string())) };
    let node = Node {
        id: format!("sidecar~127.0.0.1~client-{number}.default~default.svc.cluster.local"),
        metadata: Some(prost_types::Struct { fields: [(metadata::HAWSER_XDS.to_owned(), class)].into() }),
        ..Node::default()
    };
    let first = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: types::ENDPOINTS.to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(first).unwrap();
    let mut stream = ads.delta_aggregated_resources(UnboundedReceiverStream::new(outgoing)).await.unwrap().into_inner();
    while let Ok(Some(response)) = stream.message().await {
        let at = Instant::now();
        for resource in response.resources {
            let body = resource.resource.unwrap_or_default().value;
            let assignment = ClusterLoadAssignment::decode(body.as_slice()).unwrap();
            let of = Told { client: number, cluster: resource.name, healthy: healthy(&assignment), at };
            let _ = told.send(of);
        }
        let acknowledged = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(acknowledged).unwrap();
    }
}

fn healthy(assignment: &ClusterLoadAssignment) -> Vec<String> {
    use hawser_api::proto::core::address::Address;
    use hawser_api::proto::endpoint::lb_endpoint::HostIdentifier;
    let all = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    let up = all.filter(|e| matches!(e.health_status(), HealthStatus::Unknown | HealthStatus::Healthy));
    up.filter_map(|endpoint| {
        let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return None };
        match endpoint.address.as_ref()?.address.as_ref()? {
            Address::SocketAddress(socket) => Some(socket.address.clone()),
            _ => None,
        }
    })
    .collect()
}

/// A change on its way: since when, whether the address will take requests, and who has not seen it.
struct Awaited {
    since: Instant,
    up: bool,
    missing: Vec<bool>,
}

/// What all clients hold.
struct Clients {
    told: mpsc::UnboundedReceiver<Told>,
    held: Vec<HashMap<String, Vec<String>>>,
    /// Changes that are on their way, by cluster and address.
    awaited: BTreeMap<(String, String), Awaited>,
    times: Vec<Duration>,
}

impl Clients {
    fn take(&mut self, told: Told) {
        let Told { client, cluster, healthy, at } = told;
        for ((of, address), change) in &mut self.awaited {
            if *of == cluster && change.missing[client] && healthy.contains(address) == change.up {
                change.missing[client] = false;
                self.times.push(at.saturating_duration_since(change.since));
            }
        }
        self.awaited.retain(|_, change| change.missing.contains(&true));
        self.held[client].insert(cluster, healthy);
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !done(self) {
            match tokio::time::timeout_at(deadline, self.told.recv()).await {
                Ok(Some(told)) => self.take(told),
                Ok(None) => panic!("{what}: every client ended"),
                Err(_) => panic!("{what}: not within {LIMIT:?}; {} are on their way", self.awaited.len()),
            }
        }
    }

    /// Prints the times taken, and forgets them: the 99th percentile, and the longest.
    fn print(&mut self, what: &str) -> (Duration, Duration) {
        self.times.sort();
        let (p50, p99) = (self.times[self.times.len() / 2], self.times[self.times.len() * 99 / 100]);
        let longest = *self.times.last().unwrap();
        println!("{what}: p50 {p50:?}, p99 {p99:?}, longest {longest:?} of {}", self.times.len());
        self.times.clear();
        (p99, longest)
    }

    /// Takes changes as they are made, and what clients are told, until there are no more changes and all were seen.
    async fn follow(&mut self, mut changes: mpsc::UnboundedReceiver<((String, String), Awaited)>) {
        loop {
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Some(((cluster, address), change)) => {
                        let mut unlike = self.held.iter().zip(&change.missing).filter(|(_, missing)| **missing);
                        let known = unlike.all(|(held, _)| held[&cluster].contains(&address) != change.up);
                        assert!(known, "{cluster}: what came before was not seen");
                        self.awaited.insert((cluster, address), change);
                    }
                    None => break,
                },
                told = self.told.recv() => self.take(told.unwrap()),
            }
        }
        self.until("every change", |c| c.awaited.is_empty()).await;
    }
}

/// Does something so many times, so often in a second, on a thread of its own; how long it took.
fn at_a_rate(
    times: usize,
    a_second: u32,
    mut each: impl FnMut(usize) + Send + 'static,
) -> std::thread::JoinHandle<Duration> {
    std::thread::spawn(move || {
        let start = Instant::now();
        for n in 0..times {
            let due = start + Duration::from_secs(1) * u32::try_from(n).unwrap() / a_second;
            wait::between_looks(due.saturating_duration_since(Instant::now()));
            each(n);
        }
        start.elapsed()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_turns_critical_is_in_every_subscribed_proxy_at_once_while_a_hundred_others_change_a_second() {
    let connections = number("CONNECTIONS", CONNECTIONS);
    let each = number("EACH", if cfg!(debug_assertions) { 4 } else { 10 });
    let more = match connections {
        CONNECTIONS => serde_json::json!({}),
        raised => serde_json::json!({"limits": {"http_max_conns_per_client": raised + 50}}),
    };
    let consul = Arc::new(Consul::start(Options { more, ..Options::default() }).unwrap());
    let node = |n: usize| format!("node-{:03}", n % 1000);
    let all: Vec<_> = (0..SERVICES * each)
        .map(|n| {
            (
                node(n),
                service(n / each),
                format!("{}-{}", service(n / each), n % each),
                address(n / each, n % each),
                8080,
            )
        })
        .collect();
    consul.many(&all).unwrap();

    let began = Instant::now();
    let discovery = Discovery::start(&consul, connections);
    wait::for_true("discovery is ready", LIMIT, || discovery.is_ready())
        .map_err(|error| format!("{error:?}\n{}", discovery.process.log()))
        .unwrap();
    println!("ready with {} instances in {:?}, CPU {:?}", all.len(), began.elapsed(), discovery.used());

    let (sender, told) = mpsc::unbounded_channel();
    let names: Vec<String> = (0..SUBSCRIBED).map(cluster).collect();
    for number in 0..CLIENTS {
        tokio::spawn(client(number, discovery.xds, names.clone(), sender.clone()));
    }
    let held = vec![HashMap::new(); CLIENTS + 1];
    let mut clients = Clients { told, held, awaited: BTreeMap::new(), times: Vec::new() };
    let all_have = |c: &Clients, n: usize| c.held[..CLIENTS].iter().all(|held| held.len() == n);
    clients.until("the first state", |c| all_have(c, SUBSCRIBED)).await;
    assert!(clients.held.iter().all(|held| held.values().all(|healthy| healthy.len() == each)));

    // Every other change is of a service that nobody is subscribed to. A thread of its own tells Consul.
    let (changed, changes) = mpsc::unbounded_channel();
    let mut missing = vec![true; CLIENTS];
    missing.push(false);
    let changer = {
        let (consul, all) = (consul.clone(), all.clone());
        at_a_rate(CHANGES * 2, 100, move |n| {
            let (turn, s) = (n / 2, n / 2 % SUBSCRIBED);
            let (s, i) = if n % 2 == 0 { (s, turn / SUBSCRIBED % 2) } else { (SUBSCRIBED + BEYOND + turn, 0) };
            let round = turn / SUBSCRIBED / 2;
            let status = if n % 2 == 0 && round % 2 == 1 { "passing" } else { "critical" };
            let (node, id) = (&all[s * each + i].0, &all[s * each + i].2);
            if n % 2 == 0 && status == "critical" {
                let change = Awaited { since: Instant::now(), up: false, missing: missing.clone() };
                let _ = changed.send(((cluster(s), address(s, i)), change));
            }
            consul.check(node, id, status).unwrap();
        })
    };
    let cpu = discovery.used();
    clients.follow(changes).await;
    let took = changer.join().unwrap();
    println!("{} changes in {took:?}, CPU {:?}", CHANGES * 2, discovery.used() - cpu);
    let (p99, _) = clients.print("a critical check, from Consul to endpoints");
    assert!(p99 < Duration::from_millis(300) * PATIENCE, "{p99:?}");

    // More services than there are connections for: each changes once, by a check or by one instance more.
    let beyond: Vec<String> = (SUBSCRIBED..SUBSCRIBED + BEYOND).map(cluster).collect();
    tokio::spawn(client(CLIENTS, discovery.xds, beyond, sender.clone()));
    clients.until("the first state beyond", |c| c.held[CLIENTS].len() == BEYOND).await;
    wait::between_looks(SWEEP);
    for (what, kind) in [("a critical check", 0), ("an instance more", 1)] {
        let (changed, changes) = mpsc::unbounded_channel();
        let mut missing = vec![false; CLIENTS];
        missing.push(true);
        let (consul, all) = (consul.clone(), all.clone());
        let changer = at_a_rate(BEYOND / 2, 20, move |n| {
            let s = SUBSCRIBED + n * 2 + kind;
            let (node, name, id, _, port) = all[s * each].clone();
            let i = if kind == 0 { 0 } else { each };
            let change = Awaited { since: Instant::now(), up: kind == 1, missing: missing.clone() };
            let _ = changed.send(((cluster(s), address(s, i)), change));
            if kind == 0 {
                consul.check(&node, &id, "critical").unwrap();
            } else {
                consul.many(&[(node, name, format!("{id}-more"), address(s, i), port)]).unwrap();
            }
        });
        clients.follow(changes).await;
        changer.join().unwrap();
        let of = format!("{what}, {} services subscribed, {connections} connections", SUBSCRIBED + BEYOND);
        let (p99, longest) = clients.print(&of);
        assert!(longest < (SWEEP + Duration::from_secs(1)) * PATIENCE, "{longest:?}");
        let room = connections >= SUBSCRIBED + BEYOND + RESERVE;
        assert!(!room || p99 < Duration::from_millis(300) * PATIENCE, "{p99:?}");
    }

    // What was changed is stored, and swept for once more.
    let cpu = discovery.used();
    wait::between_looks(AFTER);
    println!("in the {AFTER:?} after that: CPU {:?}", discovery.used() - cpu);
    let cpu = discovery.used();
    wait::between_looks(IDLE);
    let idle = (discovery.used() - cpu).as_secs_f64() / IDLE.as_secs_f64();
    println!("then idle: {:.2} % of a core", idle * 100.0);
    assert!(idle < 0.02 * f64::from(PATIENCE), "{idle}");
}
