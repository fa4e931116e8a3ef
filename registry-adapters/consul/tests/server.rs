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
