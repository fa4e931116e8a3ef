//! What the host sends.

use std::time::Duration;

use hawser_agent::redirect::{Intent, Outbound, Scope};

use crate::net::Net;
use crate::{Host, PROXY, SOMEBODY, intent, target};

fn proxy(net: &Net, port: u16) -> [crate::net::Server; 2] {
    ["127.0.0.1", "[::1]"].map(|at| net.serve(&format!("proxy{port}"), &format!("{at}:{port}"), false))
}

#[test]
fn what_is_the_meshs_reaches_the_proxy_and_nothing_else_does() {
    let host = Host::new();
    let near = [("0.0.0.0:5432", "near"), ("[::]:5432", "near"), ("0.0.0.0:5433", "near"), ("0.0.0.0:22", "near")];
    let _near = near.map(|(at, name)| host.neighbour.serve(name, at, false));
    let _proxy = proxy(&host.net, 15001);
    let mut intent = intent();
    intent.capture.targets.insert(target("10.9.0.2", 22));
    let notes = host.apply(&intent);
    assert_eq!(notes, ["10.9.0.2/32 port 22 is not captured: its port is never captured"]);

    for to in ["240.240.1.2:9080", "[2001:2::9]:9080", "10.9.0.2:5432", "[fd09::2]:5432"] {
        let answer = host.net.ask(to).unwrap_or_else(|| panic!("nothing at {to}"));
        assert!(answer.starts_with(&format!("proxy15001 {to} ")), "{answer}");
    }
    assert_eq!(host.counter("outbound"), 4);
    for to in ["10.9.0.2:5433", "10.9.0.2:22"] {
        assert!(host.net.ask(to).is_some_and(|a| a.starts_with("near")), "{to}");
    }
    assert_eq!(host.counter("outbound"), 4, "traffic that is not the mesh's never touches the proxy");
}

#[test]
fn real_users_are_told_apart() {
    let host = Host::new();
    let _near = host.neighbour.serve("near", "0.0.0.0:5432", false);
    let _proxies = (proxy(&host.net, 15001), proxy(&host.net, 15100));
    let mut intent = intent();
    intent.outbound.insert(Outbound { scope: Scope::User(64_003), port: 15100, workload: "ratings".into() });
    host.apply(&intent);
    let ask = |uid| host.net.ask_as(uid, "10.9.0.2", 5432).unwrap_or_default();
    assert!(ask(SOMEBODY).starts_with("proxy15001"), "the host's workload");
    assert!(ask(64_003).starts_with("proxy15100"), "a workload of its own");
    assert!(ask(PROXY).starts_with("near"), "the proxy itself");
}

#[test]
fn a_host_without_a_default_route_and_without_a_neighbour_reaches_the_mesh() {
    let host = Net::new("alone");
    let state = tempfile::tempdir().unwrap();
    let _proxy = proxy(&host, 15001);
    assert_eq!(host.sh("ip route; ip -6 route show default"), "", "nothing but loopback");
    host.block_on(async { hawser_agent::redirect::Redirection::new(state.path()).apply(&intent()).await.unwrap() });
    for to in ["240.240.1.2:9080", "[2001:2::9]:9080"] {
        assert!(host.ask(to).is_some_and(|a| a.starts_with("proxy15001")), "{to}");
    }
}

#[test]
fn a_call_to_a_virtual_address_that_nothing_takes_fails_at_once() {
    let host = Host::new();
    host.apply(&intent());
    host.net.sh("sysctl -qw net.ipv4.ip_forward=1");
    let before = std::time::Instant::now();
    assert_eq!(host.net.ask("240.240.1.2:9080"), None, "no proxy");
    assert_eq!(host.net.ask_as(PROXY, "240.240.1.2", 9080), None, "exempt");
    assert_eq!(host.net.question("240.240.1.2:99"), None, "UDP");
    assert!(before.elapsed() < Duration::from_millis(1500), "{:?}", before.elapsed());
}

#[test]
fn a_captured_connection_is_waited_for_when_capture_ends() {
    let host = Host::new();
    let _proxy = proxy(&host.net, 15001);
    host.apply(&intent());
    let mut talks = ["240.240.1.2:9080", "[2001:2::9]:9080"].map(|to| host.net.connect(to).unwrap());
    talks.iter_mut().for_each(|talk| assert!(talk.line().unwrap().starts_with("proxy")));

    std::thread::scope(|scope| {
        let leave = scope.spawn(|| host.remove(Duration::from_secs(20)));
        let empty = || host.net.sh("nft list set inet hawser ranges4");
        crate::net::eventually("the sets are emptied", Duration::from_secs(5), || !empty().contains("elements"));
        assert_eq!(host.net.ask("240.240.1.2:9080"), None, "nothing new is taken");
        for talk in &mut talks {
            assert_eq!(talk.echo("going on"), Some("going on".into()));
        }
        assert!(!leave.is_finished());
        drop(talks);
        assert_eq!(leave.join().unwrap(), 0);
    });
    assert_eq!(host.net.sh("nft list tables"), "");
    assert_eq!(host.net.sh("ip route show proto 157; ip -6 route show proto 157"), "");
    assert_eq!(host.remove(Duration::ZERO), 0, "twice is harmless");
}

#[test]
fn grace_ends() {
    let host = Host::new();
    let _proxy = proxy(&host.net, 15001);
    host.apply(&intent());
    let _talk = host.net.connect("240.240.1.2:9080").unwrap();
    assert_eq!(host.remove(Duration::from_millis(300)), 1);
    assert_eq!(host.net.sh("nft list tables"), "");
}

#[test]
fn ranges_that_would_cut_the_host_off_are_left_out() {
    let host = Host::new();
    let mut intent = intent();
    intent.capture.virtual_ranges.insert("10.9.0.0/16".parse().unwrap());
    assert_eq!(host.apply(&intent), ["virtual range 10.9.0.0/16 is not captured: it contains an address of this host"]);
    let refused = host.net.block_on(async {
        let mut ssh = Intent::default();
        ssh.inbound.insert(hawser_agent::redirect::Inbound { address: None, port: 22, workload: "w".into() });
        host.redirection().apply(&ssh).await.unwrap_err().to_string()
    });
    assert!(refused.contains("SSH must stay reachable"), "{refused}");
    assert_eq!(host.check(), Vec::<String>::new(), "what was there stays");
}
