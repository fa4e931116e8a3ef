//! The adapter and a real Consul server: what people do to services, and what happens to servers.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::Followed;
use hawser_mesh::{Health, Protocol};
use hawser_registry_consul::{Alias, Settings};
use hawser_tests::consul::{Consul, Options};
use serde_json::json;

fn settings(consul: &Consul) -> Settings {
    Settings { sweep: Duration::from_secs(1), ..Settings::new([consul.url()]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_followed_from_registering_to_deregistering() {
    let consul = Consul::start(Options::default()).unwrap();
    consul
        .instance(
            "n1",
            "web",
            "web-1",
            "10.1.0.1",
            8080,
            &json!({"Tags": ["team=shop"], "Meta": {"protocol": "http", "version": "v1"}}),
        )
        .unwrap();
    let alias = Alias {
        service: "web".into(),
        namespace: "shop".into(),
        name: Some("front".into()),
        port: Some(80),
        datacenters: vec![],
    };
    let mut followed = Followed::start(Settings { aliases: vec![alias], ..settings(&consul) });
    followed.until("the first state", |f| f.synced).await;
    let hosts: Vec<&String> = followed.services.keys().collect();
    assert_eq!(hosts, ["front.shop.svc.cluster.local", "web.service.consul", "web.service.dc1.consul"]);
    let port = &followed.services["web.service.consul"].ports[0];
    assert_eq!((port.port, port.target_port, port.protocol), (80, 8080, Protocol::Http));
    let workload = &followed.workloads["n1/web-1"];
    assert_eq!(workload.addresses[""], ["10.1.0.1"]);
    assert_eq!((workload.labels["team"].as_str(), workload.labels["version"].as_str()), ("shop", "v1"));
    assert_eq!(workload.node.as_deref(), Some("n1"));

    consul.instance("n2", "web", "web-2", "10.1.0.2", 8080, &json!({})).unwrap();
    consul.instance("n2", "db", "db-1", "fd00::7", 5432, &json!({})).unwrap();
    followed.until("what is new", |f| f.workloads.len() == 3).await;
    consul.check("n2", "web-2", "warning").unwrap();
    consul.check("n1", "web-1", "critical").unwrap();
    followed.until("its health", |f| f.health("n1/web-1") == Some(Health::Unhealthy)).await;
    assert_eq!(followed.health("n2/web-2"), Some(Health::Healthy));
    consul.deregister("n1", "web-1").unwrap();
    followed.until("an instance less", |f| f.workloads.len() == 2).await;
    consul.deregister("n2", "db-1").unwrap();
    followed.until("a service less", |f| !f.services.contains_key("db.service.consul") && f.workloads.len() == 1).await;
    assert!(followed.rejected.is_empty(), "{:?}", followed.rejected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscribed_service_tells_a_critical_check_at_once() {
    let consul = Consul::start(Options::default()).unwrap();
    let all: Vec<_> = (0..40)
        .map(|n| {
            ("n1".to_owned(), format!("s{}", n / 2), format!("s{}-{}", n / 2, n % 2), "10.1.0.1".to_owned(), 8000 + n)
        })
        .collect();
    consul.many(&all).unwrap();
    // Without a sweep that could tell.
    let mut followed = Followed::start(Settings { sweep: Duration::from_secs(3600), ..settings(&consul) });
    followed.until("the first state", |f| f.synced).await;
    followed.subscribe((0..20).map(|n| format!("s{n}.service.dc1.consul")));
    let mut times = Vec::new();
    for round in 0..3 {
        for n in 0..20 {
            let (id, status) = (format!("s{n}-0"), if round % 2 == 0 { "critical" } else { "passing" });
            let want = if round % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
            consul.check("n1", &id, status).unwrap();
            let changed = Instant::now();
            followed.until("the check", |f| f.health(&format!("n1/{id}")) == Some(want)).await;
            times.push(changed.elapsed());
        }
    }
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    println!("check to event: p50 {:?}, p99 {p99:?}", times[times.len() / 2]);
    assert!(p99 < Duration::from_millis(300), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_flaps_ends_as_it_is_and_costs_few_events() {
    let consul = Consul::start(Options::default()).unwrap();
    consul.instance("n1", "web", "web-1", "10.1.0.1", 8080, &json!({})).unwrap();
    consul.instance("n1", "web", "web-2", "10.1.0.2", 8080, &json!({})).unwrap();
    let mut followed = Followed::start(settings(&consul));
    followed.until("the first state", |f| f.synced).await;
    followed.subscribe(["web.service.consul".to_owned()]);
    let (said, began) = (followed.said, Instant::now());
    for round in 0..200 {
        consul.check("n1", "web-1", if round % 2 == 0 { "critical" } else { "passing" }).unwrap();
    }
    consul.check("n1", "web-1", "critical").unwrap();
    followed.until("the last word", |f| f.health("n1/web-1") == Some(Health::Unhealthy)).await;
    followed.stays("it is the last", Duration::from_secs(2), |f| f.health("n1/web-2") == Some(Health::Healthy)).await;
    assert_eq!(followed.health("n1/web-1"), Some(Health::Unhealthy));
    // Four questions a second, and some at once.
    let most = 12 + 5 * usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(followed.said - said <= most, "{} events in {:?}", followed.said - said, began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_own_services_drain_in_maintenance_and_come_back() {
    let consul = Consul::start(Options::default()).unwrap();
    let check = json!({"TTL": "600s", "Status": "passing"});
    let registered = json!({"Name": "web", "ID": "web-1", "Address": "10.1.0.1", "Port": 8080, "Check": check, "Weights": {"Passing": 10, "Warning": 2}});
    consul.put("/v1/agent/service/register", &registered).unwrap();
    let sidecar = json!({"Name": "web-sidecar-proxy", "Kind": "connect-proxy", "Port": 21000, "Address": "10.1.0.1", "Proxy": {"DestinationServiceName": "web"}});
    consul.put("/v1/agent/service/register", &sidecar).unwrap();
    let mut followed = Followed::start(settings(&consul));
    followed.until("the first state", |f| f.synced && f.workloads.len() == 1).await;
    assert!(!followed.services.contains_key("web-sidecar-proxy.service.consul"));
    let name = followed.workloads.keys().next().unwrap().clone();
    assert_eq!(followed.workloads[&name].weight, 10);
    followed.subscribe(["web.service.consul".to_owned()]);
    consul.put("/v1/agent/service/maintenance/web-1?enable=true&reason=test", &json!(null)).unwrap();
    followed.until("it drains", |f| f.health(&name) == Some(Health::Draining)).await;
    consul.put("/v1/agent/service/maintenance/web-1?enable=false", &json!(null)).unwrap();
    followed.until("it is back", |f| f.health(&name) == Some(Health::Healthy)).await;
    consul.put("/v1/agent/check/warn/service:web-1", &json!(null)).unwrap();
    followed.until("it is warned", |f| f.workloads[&name].weight == 2).await;
    consul.put("/v1/agent/maintenance?enable=true", &json!(null)).unwrap();
    followed.until("its node drains", |f| f.health(&name) == Some(Health::Draining)).await;
    consul.put("/v1/config", &json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http"})).unwrap();
    followed.until("its protocol", |f| f.services["web.service.consul"].ports[0].protocol == Protocol::Http).await;
    consul.put("/v1/agent/service/deregister/web-1", &json!(null)).unwrap();
    followed.until("it is gone", |f| f.workloads.is_empty() && f.services.is_empty()).await;
}

const READ_ALL: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;

fn deny() -> Options {
    Options { master: Some("master-token"), ..Options::default() }
}

/// A server that denies by default and holds four services, and a file for a token.
fn denying() -> (Consul, tempfile::TempDir, std::path::PathBuf) {
    let consul = Consul::start(deny()).unwrap();
    for n in 1..5 {
        consul.instance("n1", &format!("s{n}"), &format!("s{n}-1"), "10.1.0.1", 8000 + n, &json!({})).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    (consul, dir, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_deleted_while_we_follow_freezes_the_last_state_until_another_is_written() {
    let (consul, _dir, file) = denying();
    let (accessor, secret) = consul.token("reader", READ_ALL).unwrap();
    std::fs::write(&file, &secret).unwrap();
    let mut followed =
        Followed::start(Settings { token_file: Some(file.clone()), wait: Duration::from_secs(5), ..settings(&consul) });
    followed.until("the first state", |f| f.synced && f.workloads.len() == 4).await;
    followed.subscribe((1..3).map(|n| format!("s{n}.service.consul")));
    consul.revoke(&accessor).unwrap();
    consul.deregister("n1", "s1-1").unwrap();
    followed.until("the alarm", |f| f.stale.as_ref().is_some_and(|why| why.contains("ACL token"))).await;
    assert!(followed.is_frozen());
    followed.stays("the last state", Duration::from_secs(5), |f| f.workloads.len() >= 3).await;
    let left = followed.workloads.len();
    followed.stays("the last state", Duration::from_secs(2), |f| f.workloads.len() == left).await;
    let (_, secret) = consul.token("reader-2", READ_ALL).unwrap();
    std::fs::write(&file, &secret).unwrap();
    followed.until("it speaks again", |f| f.stale.is_none() && f.workloads.len() == 3).await;
    followed.until("it is no longer frozen", |f| !f.is_frozen()).await;
    assert!(!followed.workloads.contains_key("n1/s1-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weak_token_is_told_and_never_taken_for_an_empty_consul() {
    let (consul, _dir, file) = denying();
    // No token at all: an empty list with status 200.
    let mut followed = Followed::start(settings(&consul));
    followed.until("the alarm", |f| f.stale.as_ref().is_some_and(|why| why.contains("tokenFile"))).await;
    assert!(!followed.synced);
    drop(followed);
    // Services, but no nodes: each service is listed and has no instance.
    let (_, secret) = consul.token("no-nodes", r#"service_prefix "" { policy = "read" }"#).unwrap();
    std::fs::write(&file, &secret).unwrap();
    let with = Settings { token_file: Some(file.clone()), ..settings(&consul) };
    let mut followed = Followed::start(with.clone());
    followed.until("the alarm", |f| f.stale.as_ref().is_some_and(|why| why.contains("hides their instances"))).await;
    assert!(followed.workloads.is_empty());
    // Rights come back without another token.
    let policies = consul.get("/v1/acl/policies").unwrap();
    let id = policies.as_array().unwrap().iter().find(|p| p["Name"] == "no-nodes").unwrap()["ID"].clone();
    consul
        .put(&format!("/v1/acl/policy/{}", id.as_str().unwrap()), &json!({"Name": "no-nodes", "Rules": READ_ALL}))
        .unwrap();
    followed.until("the first state", |f| f.synced && f.stale.is_none() && f.workloads.len() == 4).await;
    drop(followed);
    // Some services only, and that is meant.
    let (_, secret) =
        consul.token("some", r#"service_prefix "s1" { policy = "read" } node_prefix "" { policy = "read" }"#).unwrap();
    std::fs::write(&file, &secret).unwrap();
    let mut followed = Followed::start(Settings { partial_view: true, ..with });
    followed.until("the part", |f| f.synced).await;
    assert_eq!(followed.workloads.keys().collect::<Vec<_>>(), ["n1/s1-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_loses_rights_for_services_freezes_what_was_known() {
    let (consul, _dir, file) = denying();
    let (_, secret) = consul.token("shrinking", READ_ALL).unwrap();
    std::fs::write(&file, &secret).unwrap();
    let mut followed =
        Followed::start(Settings { token_file: Some(file), wait: Duration::from_secs(5), ..settings(&consul) });
    followed.until("the first state", |f| f.synced && f.workloads.len() == 4).await;
    let id =
        consul.get("/v1/acl/policies").unwrap().as_array().unwrap().iter().find(|p| p["Name"] == "shrinking").unwrap()
            ["ID"]
            .clone();
    let rules = r#"service_prefix "s1" { policy = "read" } node_prefix "" { policy = "read" }"#;
    consul
        .put(&format!("/v1/acl/policy/{}", id.as_str().unwrap()), &json!({"Name": "shrinking", "Rules": rules}))
        .unwrap();
    followed.until("the alarm", |f| f.stale.as_ref().is_some_and(|why| why.contains("hides services"))).await;
    followed.stays("the last state", Duration::from_secs(5), |f| f.workloads.len() == 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_forgets_everything_loses_nothing_until_it_knows_again() {
    let mut consul = Consul::start(Options::default()).unwrap();
    let register = |consul: &Consul| {
        for n in 0..10 {
            consul.instance("n1", &format!("s{n}"), &format!("s{n}-1"), "10.1.0.1", 8000 + n, &json!({})).unwrap();
        }
    };
    // The index is to be far ahead of that of a new server.
    register(&consul);
    for n in 0..200 {
        consul.check("n1", "s0-1", if n % 2 == 0 { "warning" } else { "passing" }).unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    let mut followed = Followed::part(settings(&consul), 0, Some(state.path().to_owned()));
    followed.until("the first state", |f| f.synced && f.workloads.len() == 10).await;
    followed.subscribe((0..5).map(|n| format!("s{n}.service.consul")));
    followed.stays("all of it", Duration::from_secs(3), |f| f.workloads.len() == 10).await;
    consul.kill();
    followed.until("silence is told", |f| f.stale.is_some()).await;
    assert_eq!(followed.workloads.len(), 10);
    // So it is with what was stored, when the adapter starts while Consul is away.
    drop(followed);
    let mut followed = Followed::part(settings(&consul), 0, Some(state.path().to_owned()));
    followed.until("the stored state", |f| f.synced && f.stale.is_some() && f.workloads.len() == 10).await;

    consul.run().unwrap();
    followed.subscribe((0..5).map(|n| format!("s{n}.service.consul")));
    followed.stays("an empty server empties nothing", Duration::from_secs(4), |f| f.workloads.len() == 10).await;
    assert!(followed.is_frozen(), "{:?}", followed.handle.status());
    register(&consul);
    followed.until("it is no longer frozen", |f| f.stale.is_none() && !f.is_frozen()).await;
    assert_eq!(followed.workloads.len(), 10);
    consul.check("n1", "s1-1", "critical").unwrap();
    followed.until("it is followed", |f| f.health("n1/s1-1") == Some(Health::Unhealthy)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datacenters_are_registries_of_their_own_and_one_that_hangs_holds_up_none() {
    let near = Consul::start(Options::default()).unwrap();
    let far = Consul::start(Options { datacenter: "dc2", ..Options::default() }).unwrap();
    near.join_wan(&far).unwrap();
    near.instance("n1", "web", "web-1", "10.1.0.1", 8080, &json!({})).unwrap();
    let wan = json!({"TaggedAddresses": {"wan": {"Address": "198.51.100.7", "Port": 80}}});
    far.instance("n2", "web", "web-2", "10.2.0.1", 8080, &wan).unwrap();
    let both = Settings { datacenters: vec!["dc1".into(), "dc2".into()], ..settings(&near) };
    let mut here = Followed::part(both.clone(), 0, None);
    let mut there = Followed::part(both.clone(), 1, None);
    here.until("dc1", |f| f.synced).await;
    there.until("dc2", |f| f.synced).await;
    let hosts = |f: &Followed| f.services.keys().cloned().collect::<Vec<_>>();
    assert_eq!(hosts(&here), ["web.service.consul", "web.service.dc1.consul"]);
    assert_eq!(hosts(&there), ["web.service.dc2.consul"]);
    assert_eq!(there.workloads["n2/web-2"].addresses[""], ["198.51.100.7"]);
    far.instance("n2", "web", "web-3", "10.2.0.2", 8080, &json!({})).unwrap();
    there.until("a change there", |f| f.workloads.len() == 2).await;

    far.pause(true);
    near.instance("n1", "web", "web-4", "10.1.0.4", 8080, &json!({})).unwrap();
    let began = Instant::now();
    here.until("a change here", |f| f.workloads.len() == 2).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(there.workloads.len(), 2);
    far.pause(false);
    far.deregister("n2", "web-3").unwrap();
    there.until("it goes on", |f| f.workloads.len() == 1).await;

    let unknown = Settings { datacenters: vec!["dc9".into()], ..settings(&near) };
    let mut nowhere = Followed::start(unknown);
    nowhere.until("it is told", |f| f.stale.as_ref().is_some_and(|why| why.contains("No path to datacenter"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_fewer_connections_than_ours_is_followed_all_the_same() {
    let consul =
        Consul::start(Options { more: json!({"limits": {"http_max_conns_per_client": 40}}), ..Options::default() })
            .unwrap();
    let all: Vec<_> = (0..100)
        .map(|n| ("n1".to_owned(), format!("s{n}"), format!("s{n}-1"), "10.1.0.1".to_owned(), 8000 + n))
        .collect();
    consul.many(&all).unwrap();
    // A server counts a query that was cancelled until its wait is over.
    let mut followed = Followed::start(Settings { wait: Duration::from_secs(5), ..settings(&consul) });
    followed.until("the first state", |f| f.synced).await;
    followed.subscribe((0..100).map(|n| format!("s{n}.service.consul")));
    followed.stays("nothing is lost", Duration::from_secs(8), |f| f.workloads.len() == 100).await;
    // The test's own connections count too: it waits until there is room.
    let changed = hawser_tests::wait::until("room for one more", Duration::from_secs(60), || {
        consul.check("n1", "s99-1", "critical").ok()
    });
    changed.unwrap();
    let began = Instant::now();
    followed.until("a change", |f| f.health("n1/s99-1") == Some(Health::Unhealthy) && f.stale.is_none()).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_answers_when_the_first_is_gone() {
    let consul = Consul::start(Options::default()).unwrap();
    consul.instance("n1", "web", "web-1", "10.1.0.1", 8080, &json!({})).unwrap();
    let mut followed =
        Followed::start(Settings { servers: vec!["http://127.0.0.1:1".into(), consul.url()], ..settings(&consul) });
    followed.until("the first state", |f| f.synced).await;
    followed.subscribe(["web.service.consul".to_owned()]);
    consul.check("n1", "web-1", "critical").unwrap();
    followed.until("a change", |f| f.health("n1/web-1") == Some(Health::Unhealthy)).await;
}

/// Connections to this port that programs on this machine hold.
fn connections_to(port: u16) -> usize {
    let established = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2).is_some_and(|to| to.ends_with(&format!(":{port:04X}"))) && fields.get(3) == Some(&"01")
    };
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(established).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_however_many_services_are_subscribed_to() {
    let consul = Consul::start(Options::default()).unwrap();
    let all: Vec<_> = (0..400)
        .map(|n| ("n1".to_owned(), format!("s{n:03}"), format!("s{n:03}-1"), "10.1.0.1".to_owned(), 8000 + n))
        .collect();
    consul.many(&all).unwrap();
    let mut followed = Followed::start(Settings { connections: 64, ..settings(&consul) });
    let port = consul.port();
    let most = std::cell::Cell::new(0);
    let counted = || most.set(most.get().max(connections_to(port)));
    let seen = |f: &Followed| {
        counted();
        f.synced
    };
    followed.until("the first state", seen).await;
    followed.subscribe((0..400).map(|n| format!("s{n:03}.service.dc1.consul")));
    followed.until("queries wait", |_| connections_to(port) >= 32).await;
    // Changes of those that have a query and of those that have none, sweeps among them.
    for round in 0..20 {
        let id = format!("s{:03}-1", round * 19);
        consul.check("n1", &id, "critical").unwrap();
        let seen = |f: &Followed| {
            counted();
            f.health(&format!("n1/{id}")) == Some(Health::Unhealthy)
        };
        followed.until("a change", seen).await;
    }
    assert!((33..=64).contains(&most.get()), "{} connections", most.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_keeps_its_state_is_followed_on_without_a_loss_or_an_alarm() {
    let mut consul = Consul::start(Options { keeps: true, ..Options::default() }).unwrap();
    for n in 0..6 {
        consul.instance("n1", &format!("s{n}"), &format!("s{n}-1"), "10.1.0.1", 8000 + n, &json!({})).unwrap();
    }
    let mut followed = Followed::start(settings(&consul));
    followed.until("the first state", |f| f.synced && f.workloads.len() == 6).await;
    followed.subscribe((0..3).map(|n| format!("s{n}.service.consul")));
    consul.kill();
    followed.until("silence is told", |f| f.stale.is_some()).await;
    consul.run().unwrap();
    consul.check("n1", "s1-1", "critical").unwrap();
    consul.deregister("n1", "s5-1").unwrap();
    followed
        .until("it goes on", |f| {
            assert!(f.workloads.len() >= 5 && !f.is_frozen());
            f.stale.is_none() && f.health("n1/s1-1") == Some(Health::Unhealthy) && f.workloads.len() == 5
        })
        .await;
}
