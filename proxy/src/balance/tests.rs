use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::config::{ClusterSpec, EndpointSet, EndpointSpec, Health, Workload};

fn endpoint(port: u16, health: Health, weight: u32) -> EndpointSpec {
    EndpointSpec {
        address: SocketAddr::from(([10, 0, 0, 1], port)),
        socket: None,
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
    Cluster::new(Arc::new(spec), &EndpointSet { endpoints, named: Vec::new() }, before)
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
        let chosen = choose(cluster, 1, &Tried::new(), None, &mut chance).unwrap();
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
        choose(&before, 1, &Tried::new(), None, chances()).is_none_or(|e| e.spec.address.port() != 1),
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
        consecutive_local: 0,
        split: false,
        codes: Vec::new(),
        base: std::time::Duration::from_secs(30),
        interval: std::time::Duration::from_secs(10),
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
    let later = choose(&cluster, 30_002, &Tried::from_slice(&[second.state.id]), None, chances()).unwrap();
    assert_eq!(later.spec.address.port(), 1);
}

/// All that may be said of outliers, with numbers that are met by nothing.
fn patient() -> Outlier {
    Outlier {
        consecutive_5xx: 0,
        consecutive_gateway: 0,
        consecutive_local: 0,
        split: false,
        codes: Vec::new(),
        base: std::time::Duration::from_secs(30),
        interval: std::time::Duration::from_secs(10),
        most_percent: 100,
    }
}

fn ejects(outlier: Outlier, outcomes: &[Outcome]) -> bool {
    let all = vec![endpoint(1, Health::Healthy, 1), endpoint(2, Health::Healthy, 1)];
    let cluster = cluster(all, Some(outlier), None);
    let results: Vec<bool> =
        outcomes.iter().map(|outcome| report(&cluster, &cluster.endpoints[0], *outcome, 1)).collect();
    results.into_iter().any(|ejected| ejected)
}

#[test]
fn each_kind_of_error_is_counted_for_itself() {
    use Outcome::{NoAnswer, Status};
    let both = Outlier { consecutive_5xx: 5, consecutive_gateway: 2, ..patient() };
    assert!(ejects(both.clone(), &[Status(502), Status(503)]), "errors of gateways are fewer");
    assert!(!ejects(both, &[Status(502), Status(500), Status(503), Status(500)]), "these are not in a row");
    let split = Outlier { split: true, consecutive_5xx: 2, consecutive_local: 3, ..patient() };
    assert!(ejects(split.clone(), &[NoAnswer, NoAnswer, NoAnswer]));
    assert!(!ejects(split.clone(), &[NoAnswer, Status(200), NoAnswer, NoAnswer]), "an answer shows that it lives");
    assert!(ejects(split, &[Status(500), NoAnswer, Status(500)]), "what is counted apart breaks no row");
    let listed = Outlier { codes: vec![418, 429], consecutive_5xx: 2, ..patient() };
    assert!(ejects(listed.clone(), &[Status(429), Status(418)]));
    assert!(!ejects(listed, &[Status(500), Status(503)]), "they are not on the list");
}

#[test]
fn good_behaviour_takes_times_out_back() {
    let outlier = Outlier { consecutive_5xx: 1, ..patient() };
    let all = vec![endpoint(1, Health::Healthy, 1), endpoint(2, Health::Healthy, 1)];
    let cluster = cluster(all, Some(outlier), None);
    let first = &cluster.endpoints[0];
    let until = |now| {
        assert!(report(&cluster, first, Outcome::Status(500), now));
        first.state.ejected_until.load(Ordering::Relaxed) - now
    };
    assert_eq!(until(1), 30_000);
    assert_eq!(until(31_000), 60_000, "the second time it is longer");
    assert_eq!(until(92_000 + 20_000), 30_000, "two intervals take both back");
}

#[test]
fn where_too_few_are_left_all_are_used() {
    let outlier = Outlier { consecutive_5xx: 1, ..patient() };
    let mut spec = ClusterSpec::original("PassthroughCluster").unwrap();
    (spec.balance, spec.outlier, spec.least_healthy) = (Balance::Random, Some(outlier), 60.0);
    let set =
        EndpointSet { endpoints: (1..=2).map(|port| endpoint(port, Health::Healthy, 1)).collect(), named: Vec::new() };
    let cluster = Cluster::new(Arc::new(spec), &set, None);
    assert!(report(&cluster, &cluster.endpoints[0], Outcome::Status(500), 1));
    let seen = (0..100).map(|n| choose(&cluster, 2, &Tried::new(), None, || n).unwrap().spec.address.port());
    assert!(seen.into_iter().any(|port| port == 1), "half of them is less than is wanted");
}

#[test]
fn a_hash_leads_to_one_endpoint_and_past_it_where_it_was_tried() {
    let mut spec = ClusterSpec::original("PassthroughCluster").unwrap();
    spec.balance = Balance::Hashed(Table::Ring(1024));
    let set =
        EndpointSet { endpoints: (1..=5).map(|port| endpoint(port, Health::Healthy, 1)).collect(), named: Vec::new() };
    let cluster = Cluster::new(Arc::new(spec), &set, None);
    let mut chance = chances();
    let mut find = |hash, tried: &Tried| choose(&cluster, 1, tried, hash, &mut chance).unwrap().state.id;
    let first = find(Some(7), &Tried::new());
    assert!((0..20).all(|_| find(Some(7), &Tried::new()) == first));
    assert_ne!(find(Some(7), &Tried::from_slice(&[first])), first);
    let others: std::collections::BTreeSet<u64> = (0..100).map(|_| find(None, &Tried::new())).collect();
    assert!(others.len() > 1, "without a hash chance decides");
}

#[test]
fn a_new_endpoint_gets_a_part_of_its_share() {
    let warm = hawser_api::proto::cluster::cluster::SlowStartConfig {
        slow_start_window: Some(prost_types::Duration { seconds: 100, nanos: 0 }),
        ..Default::default()
    };
    for balance in [Balance::RoundRobin, Balance::LeastRequest(2)] {
        let mut spec = ClusterSpec::original("PassthroughCluster").unwrap();
        spec.balance = balance;
        spec.warm_up = crate::config::WarmUp::new(&warm).unwrap();
        let set = EndpointSet {
            endpoints: (1..=2).map(|port| endpoint(port, Health::Healthy, 1)).collect(),
            named: Vec::new(),
        };
        let mut cluster = Cluster::new(Arc::new(spec), &set, None);
        let now = cluster.endpoints[0].state.since + 200_000;
        let new = Arc::new(crate::config::EndpointState { since: now - 20_000, ..Default::default() });
        let Endpoint { spec, weight, transport, .. } = &*cluster.endpoints[1];
        let new = Endpoint { spec: spec.clone(), weight: *weight, transport: *transport, state: new };
        cluster.tiers[0].endpoints[1] = Arc::new(new);
        let mut chance = chances();
        let second = (0..10_000)
            .filter(|_| choose(&cluster, now, &Tried::new(), None, &mut chance).unwrap().spec.address.port() == 2)
            .count();
        // Of equal shares a fifth, where both are drawn alike.
        assert!((1000..2600).contains(&second), "{balance:?}: {second}");
    }
}

#[test]
fn what_fails_is_tried_again_where_calls_go_and_not_farther_away() {
    let farther = EndpointSpec { priority: 1, ..endpoint(9, Health::Healthy, 1) };
    let all = vec![endpoint(1, Health::Healthy, 1), endpoint(2, Health::Healthy, 1), farther];
    let cluster = cluster(all, Some(patient()), None);
    let id = |port: u16| cluster.endpoints.iter().find(|e| e.spec.address.port() == port).unwrap().state.id;
    let mut chance = chances();
    let mut port = |tried: &[u64]| {
        let found = choose(&cluster, 1, &tried.iter().copied().collect(), None, &mut chance);
        found.unwrap().spec.address.port()
    };
    assert_eq!(port(&[id(1)]), 2, "one that was not tried");
    assert!(port(&[id(1), id(2)]) < 9, "else one that was");
    let mut other = chances();
    let tried = [id(1), id(2)].into_iter().collect();
    assert_eq!(choose_other(&cluster, 1, &tried, None, &mut other).unwrap().spec.address.port(), 9);
    cluster.endpoints.iter().filter(|e| e.spec.address.port() < 9).for_each(|e| {
        e.state.ejected_until.store(100, Ordering::Relaxed);
    });
    assert_eq!(port(&[id(1), id(2)]), 9, "those are ejected");
}
