//! The adapter and a real Consul server that holds much: what it costs, and what it takes. `CONNECTIONS` raises the limit of
//! both from the default.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use common::Followed;
use hawser_mesh::Health;
use hawser_registry_consul::Settings;
use hawser_tests::consul::{Consul, Options};

const SERVICES: usize = 5000;
/// Instances of each: 50,000 in all in a build that is to be measured.
const EACH: usize = if cfg!(debug_assertions) { 4 } else { 10 };
const SUBSCRIBED: usize = 500;
/// A build for debugging costs several times as much, and shares its machine.
const PATIENCE: u32 = if cfg!(debug_assertions) { 5 } else { 1 };
/// Changes of subscribed services whose time is taken.
const CHANGES: usize = 300;

fn service(n: usize) -> String {
    format!("service-{n:04}")
}

/// CPU time that this process has used.
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_services_are_followed_at_little_cost() {
    let connections: usize = std::env::var("CONNECTIONS").map_or(150, |text| text.parse().unwrap());
    let more = match connections {
        150 => serde_json::json!({}),
        raised => serde_json::json!({"limits": {"http_max_conns_per_client": raised + 50}}),
    };
    let consul = Consul::start(Options { more, ..Options::default() }).unwrap();
    let filled = Instant::now();
    let node = |n: usize| format!("node-{:03}", n % 1000);
    let all: Vec<_> = (0..SERVICES * EACH)
        .map(|n| {
            let (s, i) = (n / EACH, n % EACH);
            (node(n), service(s), format!("{}-{i}", service(s)), format!("10.{}.{}.{i}", s / 250, s % 250), 8080)
        })
        .collect();
    consul.many(&all).unwrap();
    println!("filled in {:?}", filled.elapsed());
    let settings = Settings { connections, ..Settings::new([consul.url()]) };

    let (began, cpu) = (Instant::now(), used());
    let mut followed = Followed::start(settings);
    followed.until("the first state", |f| f.synced).await;
    let first = began.elapsed();
    println!("first state in {first:?}, CPU {:?}", used() - cpu);
    assert_eq!((followed.workloads.len(), followed.services.len()), (SERVICES * EACH, SERVICES * 2));
    assert!(first < Duration::from_secs(20) * PATIENCE, "{first:?}");

    followed.subscribe((0..SUBSCRIBED).map(|n| format!("{}.service.dc1.consul", service(n))));
    followed.stays("what was read before the subscription", Duration::from_secs(7), |_| true).await;
    let (said, cpu) = (followed.said, used());
    followed.stays("nothing changes", Duration::from_secs(5), |_| true).await;
    let idle = used() - cpu;
    println!("idle CPU {:.2} % of a core", idle.as_secs_f64() / 5.0 * 100.0);
    assert_eq!(followed.said, said);
    assert!(idle < Duration::from_millis(100) * PATIENCE, "{idle:?} in five seconds");

    // A check that turns critical, of services with a query of their own and of others, while 100 others change a second.
    let queries = (connections - 32).min(SUBSCRIBED);
    let mut times = (Vec::new(), Vec::new());
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let (cpu, began) = (used(), Instant::now());
    for n in 0..CHANGES {
        ticks.tick().await;
        let s = if n % 10 == 9 { SUBSCRIBED + n } else { n % queries };
        let at = s * EACH + n / queries;
        let (node, id) = (&all[at].0, &all[at].2);
        consul.check(node, id, "critical").unwrap();
        if n % 5 == 4 {
            let changed = Instant::now();
            let name = format!("{node}/{id}");
            followed.until("the check", |f| f.health(&name) == Some(Health::Unhealthy)).await;
            if s < SUBSCRIBED { times.0.push(changed.elapsed()) } else { times.1.push(changed.elapsed()) }
        }
    }
    println!("{CHANGES} changes in {:?}, CPU {:?}", began.elapsed(), used() - cpu);
    for (what, times) in [("subscribed", &mut times.0), ("others", &mut times.1)] {
        times.sort();
        println!(
            "{what}: p50 {:?}, p99 {:?} of {}",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times.len()
        );
    }
    followed
        .until("every change", |f| f.workloads.values().filter(|w| w.health == Health::Unhealthy).count() == CHANGES)
        .await;
    assert!(times.0[times.0.len() * 99 / 100] < Duration::from_millis(300) * PATIENCE, "{:?}", times.0);

    // Something is registered that only a sweep finds: the port of an instance of a service that nobody is subscribed to.
    let (cpu, began) = (used(), Instant::now());
    let (node, service, id, address, _) = &all[SERVICES * EACH - 1];
    consul.instance(node, service, id, address, 9090, &serde_json::json!({})).unwrap();
    let host = format!("{service}.service.dc1.consul");
    followed.until("the port", |f| f.services[&host].ports.iter().any(|port| port.port == 9090)).await;
    println!("found by a sweep in {:?}, CPU {:?}", began.elapsed(), used() - cpu);
    assert!(began.elapsed() < Duration::from_secs(15) * PATIENCE);
}
