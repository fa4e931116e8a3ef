//! The ruleset that an intent asks for, as files that people can read; and that both ways of loading it agree.

use std::path::Path;
use std::time::Duration;

use hawser_agent::redirect::{
    Dns, Exclusion, InboundMode, Intent, OWN_MARK, OnProxyFailure, Outbound, Redirection, Scope, Target,
};

use crate::net::Net;
use crate::{Host, intent};

/// Everything at once that can be said in JSON.
fn everything() -> Intent {
    let mut intent = intent();
    intent.inbound.insert(hawser_agent::redirect::Inbound {
        address: Some("fd09::1".parse().unwrap()),
        port: 9443,
        workload: "ratings".into(),
    });
    intent.inbound.insert(hawser_agent::redirect::Inbound {
        address: Some("10.9.0.1".parse().unwrap()),
        port: 9443,
        workload: "ratings".into(),
    });
    intent.outbound.insert(Outbound { scope: Scope::User(1000), port: 15100, workload: "ratings".into() });
    intent.capture.wide_ranges.insert("10.0.0.0/8".parse().unwrap());
    intent.capture.targets.insert(Target { net: "192.0.2.0/28".parse().unwrap(), port: 443 });
    intent.exempt.uids.insert(990);
    intent.exempt.marks.insert(OWN_MARK);
    intent.dns = Some(Dns::new(["10.9.0.2", "fd09::2"].map(|a| a.parse().unwrap())));
    intent.capture_interfaces = [("docker0".to_owned(), 15001), ("eth7".to_owned(), 15100)].into();
    intent.on_proxy_failure = OnProxyFailure::Open;
    intent.exempt.gids.insert(50);
    intent.exempt.interfaces.insert("eth8".into());
    intent.exempt.to = left_alone(&["172.16.0.0/12", "fd00::/8"], (8000, 8100));
    intent.exclusions.insert("reviews".into(), left_alone(&["192.0.2.7/32"], (25, 25)));
    intent
}

fn left_alone(nets: &[&str], ports: (u16, u16)) -> Exclusion {
    Exclusion { nets: nets.iter().map(|net| net.parse().unwrap()).collect(), ports: [ports].into() }
}

/// For an Envoy that can't be transparent.
fn envoy() -> Intent {
    Intent { inbound_mode: InboundMode::Redirect, envoy_uid: Some(64_001), ..intent() }
}

#[test]
fn rulesets_are_as_written() {
    for (name, intent) in
        [("host", intent()), ("everything", everything()), ("envoy", envoy()), ("draining", intent().draining())]
    {
        let plan = Redirection::new(Path::new("/nonexistent")).plan(&intent);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redirect/golden").join(format!("{name}.nft"));
        if std::env::var_os("HAWSER_BLESS").is_some() {
            std::fs::write(&file, &plan).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(plan == expected, "{} is not what is planned (HAWSER_BLESS=1 writes it):\n{plan}", file.display());
    }
}

#[test]
fn what_is_loaded_is_what_is_shown() {
    for intent in [intent(), everything(), envoy(), intent().draining()] {
        let host = Host::new();
        host.apply(&intent);
        let as_json = host.net.sh("nft -s list table inet hawser");
        let by_hand = Net::new("hand");
        let plan = host.state.path().join("plan.nft");
        std::fs::write(&plan, host.redirection().plan(&intent)).unwrap();
        by_hand.sh(&format!("nft -f {}", plan.display()));
        assert_eq!(without_lives(&as_json), without_lives(&by_hand.sh("nft -s list table inet hawser")));
        assert_eq!(host.check(), Vec::<String>::new());
    }
}

#[test]
fn applying_twice_changes_nothing_and_a_stranger_in_our_table_is_noticed() {
    let host = Host::new();
    host.apply(&intent());
    let first = host.net.sh("nft -a list table inet hawser");
    host.apply(&intent());
    // The same handles: not even loaded again.
    assert_eq!(first, host.net.sh("nft -a list table inet hawser"));
    assert_eq!(host.check(), Vec::<String>::new());

    host.net.sh("nft insert rule inet hawser inbound accept");
    host.net.sh("nft delete element inet hawser targets4 '{ 10.9.0.2 . 5432 }'");
    host.net.sh("nft add element inet hawser targets4 '{ 10.9.0.3 . 99 }'");
    host.net.sh("ip route del 240.240.0.0/16 dev lo");
    assert_eq!(
        host.check(),
        [
            "chain inbound has besides: accept",
            "set targets4 lacks 10.9.0.2 . 5432",
            "set targets4 has besides 10.9.0.3 . 99",
            "route to 240.240.0.0/16 is missing",
        ]
    );
    host.apply(&intent());
    assert_eq!(host.check(), Vec::<String>::new());
    host.net.sh("nft delete table inet hawser");
    assert_eq!(host.check(), ["table inet hawser is missing"]);
}

#[test]
fn thousands_of_targets_change_by_their_difference() {
    let host = Host::new();
    let mut intent = intent();
    let many = |from: u32, to: u32| {
        (from..to).map(|i| Target { net: std::net::IpAddr::from(((11 << 24) + i).to_be_bytes()).into(), port: 80 })
    };
    intent.capture.targets = many(0, 20_000).collect();
    host.apply(&intent);
    let table = host.net.sh("nft -a -t list table inet hawser");
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let mut capture = intent.capture.clone();
        capture.targets = many(100, 20_100).collect();
        let before = std::time::Instant::now();
        assert_eq!(redirection.update_capture(&capture).await.unwrap(), Vec::<String>::new());
        assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
        assert_eq!(redirection.status().await.unwrap().targets, 20_000);
    });
    assert_eq!(table, host.net.sh("nft -a -t list table inet hawser"));
}

/// Elements that expire show how much of their life is left.
fn without_lives(listing: &str) -> String {
    listing
        .split(" expires ")
        .enumerate()
        .map(|(i, part)| {
            if i == 0 {
                part
            } else {
                part.split_once('s')
                    .map_or("", |p| p.1.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'm' || c == 's'))
            }
        })
        .collect()
}
