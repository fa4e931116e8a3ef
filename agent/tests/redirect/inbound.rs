//! What arrives for a declared port.

use std::time::Duration;

use hawser_agent::redirect::{InboundMode, Intent, OnProxyFailure};

use crate::net::{Net, SOON};
use crate::{Host, intent};

const OWN: [&str; 2] = ["10.9.0.1", "[fd09::1]"];

/// The proxy's transparent listeners.
fn proxy(net: &Net) -> [crate::net::Server; 2] {
    [net.serve("proxy", "0.0.0.0:15006", true), net.serve("proxy", "[::]:15006", true)]
}

fn application(net: &Net, port: u16) -> [crate::net::Server; 2] {
    [net.serve("app", &format!("0.0.0.0:{port}"), false), net.serve("app", &format!("[::]:{port}"), false)]
}

#[test]
fn a_declared_port_reaches_the_proxy_with_its_own_destination_and_others_do_not() {
    let host = Host::new();
    let _running = (proxy(&host.net), application(&host.net, 9080), application(&host.net, 9081));
    host.apply(&intent());
    for own in OWN {
        let peer = if own.starts_with('[') { "fd09::2" } else { "10.9.0.2" };
        assert_eq!(host.neighbour.ask(&format!("{own}:9080")), Some(format!("proxy {own}:9080 from {peer}")));
        assert_eq!(host.neighbour.ask(&format!("{own}:9081")), Some(format!("app {own}:9081 from {peer}")));
    }
    assert_eq!(
        host.net.ask("127.0.0.1:9080"),
        Some("app 127.0.0.1:9080 from 127.0.0.1".into()),
        "the host's own calls"
    );
    assert_eq!(host.counter("inbound"), 2);
}

#[test]
fn a_default_deny_firewall_that_allows_the_port_keeps_working() {
    let host = Host::new();
    host.net.sh("nft -f - <<'E'
table inet theirs {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established accept
        meta l4proto ipv6-icmp accept
        tcp dport { 22, 9080 } accept
    }
}
E");
    let _running = (proxy(&host.net), application(&host.net, 9081), application(&host.net, 22));
    host.apply(&intent());
    for own in OWN {
        assert!(host.neighbour.ask(&format!("{own}:9080")).is_some_and(|a| a.starts_with("proxy")));
        assert!(host.neighbour.ask(&format!("{own}:22")).is_some_and(|a| a.starts_with("app")));
        assert_eq!(host.neighbour.ask(&format!("{own}:9081")), None);
    }
}

#[test]
fn without_a_proxy_closed_drops_and_open_passes() {
    let host = Host::new();
    let _running = application(&host.net, 9080);
    host.apply(&intent());
    for own in OWN {
        assert_eq!(host.neighbour.ask(&format!("{own}:9080")), None, "closed");
    }
    assert!(host.counter("closed") >= 2);

    host.apply(&Intent { on_proxy_failure: OnProxyFailure::Open, ..intent() });
    for own in OWN {
        assert!(host.neighbour.ask(&format!("{own}:9080")).is_some_and(|a| a.starts_with("app")), "open");
    }
}

#[test]
fn closed_is_closed_for_who_calls_again_from_the_same_port() {
    let host = Host::new();
    let _application = application(&host.net, 9080);
    host.apply(&intent());
    for (own, port) in OWN.into_iter().zip([40_404, 40_406]) {
        let to = format!("{own}:9080");
        let listeners = proxy(&host.net);
        let call = || host.neighbour.connect_from(port, &to);
        let mut first = call().unwrap();
        assert!(first.line().unwrap().starts_with("proxy"));
        // The host ends it first, and remembers it for a minute.
        assert_eq!(first.echo("bye"), None);
        drop(first);
        let remembers = || host.net.sh("ss -Htan state time-wait").contains(&format!(":{port}"));
        crate::net::eventually("the connection is in TIME-WAIT", SOON, remembers);
        drop(listeners);
        assert!(call().is_none(), "{to}: nobody is there to take it");
        let _listeners = proxy(&host.net);
        let mut again = call().unwrap();
        assert!(again.line().unwrap().starts_with("proxy"));
    }
}

#[test]
fn open_works_too_while_a_listener_outlives_its_proxy() {
    let host = Host::new();
    let _running = (proxy(&host.net), application(&host.net, 9080));
    let open = Intent { on_proxy_failure: OnProxyFailure::Open, ..intent() };
    host.apply(&open);
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let ask = || host.neighbour.ask("10.9.0.1:9080").unwrap_or_default();
        assert!(ask().starts_with("proxy"));
        redirection.take_inbound(false).await.unwrap();
        assert!(ask().starts_with("app"));
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
        redirection.take_inbound(true).await.unwrap();
        assert!(ask().starts_with("proxy"));
        redirection.apply(&intent()).await.unwrap();
        assert!(redirection.take_inbound(false).await.is_err(), "closed is closed");
    });
}

#[test]
fn connections_outlive_the_coming_and_going_of_capture() {
    let host = Host::new();
    let _running = (proxy(&host.net), application(&host.net, 9080));
    for own in OWN {
        let to = format!("{own}:9080");
        let mut before = host.neighbour.connect(&to).unwrap();
        assert!(before.line().unwrap().starts_with("app"));
        host.apply(&intent());
        assert_eq!(before.echo("still there"), Some("still there".into()), "made before capture");
        let mut captured = host.neighbour.connect(&to).unwrap();
        assert!(captured.line().unwrap().starts_with("proxy"));
        host.remove(Duration::ZERO);
        assert_eq!(captured.echo("still there"), Some("still there".into()), "captured");
        assert_eq!(before.echo("and there"), Some("and there".into()));
        assert!(host.neighbour.ask(&to).unwrap().starts_with("app"));
    }
}

#[test]
fn a_published_container_port_does_not_take_a_declared_one() {
    let host = Host::new();
    host.net.sh("nft -f - <<'E'
table ip nat {
    chain PREROUTING {
        type nat hook prerouting priority -100;
        fib daddr type local tcp dport 9080 dnat to 10.9.0.2:9999
    }
}
E");
    host.net.sh("sysctl -qw net.ipv4.ip_forward=1");
    let _running = proxy(&host.net);
    host.apply(&intent());
    assert_eq!(host.neighbour.ask("10.9.0.1:9080"), Some("proxy 10.9.0.1:9080 from 10.9.0.2".into()));
}

#[test]
fn a_proxy_that_can_not_be_transparent_gets_rewritten_connections() {
    let host = Host::new();
    let _running = [host.net.serve("envoy", "0.0.0.0:15006", false), host.net.serve("envoy", "[::]:15006", false)];
    host.apply(&Intent { inbound_mode: InboundMode::Redirect, envoy_uid: Some(crate::PROXY), ..intent() });
    for own in OWN {
        assert!(
            host.neighbour.ask(&format!("{own}:9080")).is_some_and(|a| a.starts_with(&format!("envoy {own}:9080")))
        );
        assert_eq!(host.neighbour.ask(&format!("{own}:15006")), None, "directly");
    }
    // The proxy calls an endpoint on its own host.
    assert!(host.net.ask_as(crate::PROXY, "10.9.0.1", 9080).is_some_and(|a| a.starts_with("envoy 10.9.0.1:9080")));
}
