use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::config::{ClusterSpec, EndpointSet, EndpointSpec, Health, Workload};

fn endpoint(port: u16, health: Health, weight: u32) -> EndpointSpec {
    EndpointSpec {
        address: SocketAddr::from(([10, 0, 0, 1], port)),
        health,
        weight,
        locality_weight: 0,
        locality: "".into(),
        priority: 0,
        identity: None,
        hawser: false,
        hbone: false,
        host: None,
        transport: Vec::new(),
        workload: Arc::new(Workload::default()),
    }
}

fn cluster(endpoints: Vec<EndpointSpec>, outlier: Option<Outlier>, before: Option<&Cluster>) -> Cluster {
    let mut spec = ClusterSpec::original("PassthroughCluster").unwrap();
    spec.balance = Balance::LeastRequest(2);
    spec.outlier = outlier;
    Cluster::new(Arc::new(spec), &EndpointSet { endpoints }, before)
}

/// A fixed walk over all numbers.
fn chances() -> impl FnMut() -> u32 {
    let mut state = 7u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state ^ state >> 16
    }
}

fn shares(cluster: &Cluster) -> std::collections::BTreeMap<u16, u32> {
    let mut chance = chances();
    let mut shares = std::collections::BTreeMap::new();
    for _ in 0..10_000 {
        let chosen = choose(cluster, 1, &Tried::new(), &mut chance).unwrap();
        *shares.entry(chosen.spec.address.port()).or_default() += 1;
    }
    shares
}

#[test]
fn weights_are_kept_and_the_less_loaded_wins() {
    let weighted = cluster(vec![endpoint(1, Health::Healthy, 9), endpoint(2, Health::Healthy, 1)], None, None);
    let seen = shares(&weighted);
    assert!((600..1500).contains(&seen[&2]), "{seen:?}");
    let equal = cluster(vec![endpoint(1, Health::Healthy, 1), endpoint(2, Health::Healthy, 1)], None, None);
    equal.endpoints[0].state.active.store(10, Ordering::Relaxed);
    let seen = shares(&equal);
    assert!(seen[&2] > 2 * seen[&1], "{seen:?}");
}

#[test]
fn degraded_is_the_last_choice_and_draining_none() {
    let all = |healthy| {
        vec![
            endpoint(1, healthy, 1),
            endpoint(2, Health::Degraded, 1),
            endpoint(3, Health::Draining, 1),
            endpoint(4, Health::Lost, 1),
        ]
    };
    let before = cluster(all(Health::Healthy), None, None);
    assert_eq!(shares(&before).into_keys().collect::<Vec<_>>(), [1]);
    let state = before.endpoints[0].state.clone();
    let after = cluster(all(Health::Lost), None, Some(&before));
    assert_eq!(shares(&after).into_keys().collect::<Vec<_>>(), [2]);
    assert!(state.lost.is_cancelled(), "whoever holds a connection to it is told");
    assert!(
        choose(&before, 1, &Tried::new(), chances()).is_none_or(|e| e.spec.address.port() != 1),
        "also by old ones"
    );
    let back = cluster(all(Health::Healthy), None, Some(&after));
    assert!(!back.endpoints[0].state.lost.is_cancelled(), "it may come back");
}

#[test]
fn failures_in_a_row_eject_for_a_while_but_never_all() {
    let outlier = Outlier {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        base: std::time::Duration::from_secs(30),
        most_percent: 50,
    };
    let all = vec![endpoint(1, Health::Healthy, 1), endpoint(2, Health::Healthy, 1)];
    let cluster = cluster(all, Some(outlier), None);
    let [first, second] = [&cluster.endpoints[0], &cluster.endpoints[1]];
    assert!(!report(&cluster, first, Outcome::Status(500), 1));
    assert!(!report(&cluster, first, Outcome::NoAnswer, 1));
    assert!(!report(&cluster, first, Outcome::Status(200), 1), "the row is broken");
    let ejected = (0..3).filter(|_| report(&cluster, first, Outcome::Status(503), 1)).count();
    assert_eq!(ejected, 1);
    assert_eq!(shares(&cluster).into_keys().collect::<Vec<_>>(), [2]);
    assert!(!(0..9).any(|_| report(&cluster, second, Outcome::NoAnswer, 1)), "half of them at most");
    let later = choose(&cluster, 30_002, &Tried::from_slice(&[second.state.id]), chances()).unwrap();
    assert_eq!(later.spec.address.port(), 1);
}
