//! Neighbours and containers: what they get, and what they don't.

use std::time::Duration;

use crate::net::{Net, wire};
use crate::{Host, intent};

#[test]
fn a_neighbour_that_knocks_at_our_listeners_or_routes_through_us_gets_nothing() {
    let host = Host::new();
    let ports = [15001, 15006, 15053, 15100];
    let _listeners: Vec<_> = ports
        .iter()
        .flat_map(|port| ["0.0.0.0", "[::]"].map(|at| host.net.serve("proxy", &format!("{at}:{port}"), *port == 15006)))
        .collect();
    host.net.serve_names("agent", "0.0.0.0:15053");
    assert!(host.neighbour.ask("10.9.0.1:15001").is_some(), "the test can tell");
    host.apply(&intent());
    host.net.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.neighbour.sh("ip route add 240.240.0.0/16 via 10.9.0.1; ip -6 route add 2001:2::/48 via fd09::1");

    let mut knocks: Vec<String> =
        ports.iter().flat_map(|port| [format!("10.9.0.1:{port}"), format!("[fd09::1]:{port}")]).collect();
    knocks.extend(["240.240.1.2:9080", "[2001:2::9]:9080", "240.240.1.2:15001"].map(str::to_owned));
    std::thread::scope(|scope| {
        for knock in &knocks {
            let near = &host.neighbour;
            scope.spawn(move || assert_eq!(near.ask(knock), None, "{knock}"));
        }
    });
    assert_eq!(host.neighbour.question("10.9.0.1:15053"), None);
    assert!(host.counter("dropped") >= 12);
    assert_eq!(host.counter("outbound") + host.counter("forwarded"), 0);
}

#[test]
fn answers_to_the_hosts_own_come_in_whatever_port_it_asks_from() {
    let host = Host::new();
    host.neighbour.serve_names("server", "10.9.0.2:5353");
    host.neighbour.serve_names("server", "[fd09::2]:5353");
    host.apply(&intent());
    for (from, to) in [("10.9.0.1:15053", "10.9.0.2:5353"), ("[fd09::1]:15053", "[fd09::2]:5353")] {
        let socket = host.net.on(|| std::net::UdpSocket::bind(from).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(b"?", to).unwrap();
        let mut buffer = [0; 100];
        let answer = socket.recv_from(&mut buffer).map(|(n, _)| buffer[..n].to_vec());
        assert_eq!(answer.ok().as_deref(), Some(&b"server"[..]), "{from}");
    }
    assert_eq!(host.counter("dropped"), 0);
    assert_eq!(host.neighbour.question("10.9.0.1:15053"), None, "who speaks first is turned away");
    assert_ne!(host.counter("dropped"), 0);
}

#[test]
fn containers_are_captured_only_from_interfaces_that_are_named() {
    let host = Host::new();
    let boxed = Net::new("box");
    wire((&host.net, "docker0", &["172.18.0.1/24"]), (&boxed, "eth0", &["172.18.0.2/24"]));
    boxed.sh("ip route add default via 172.18.0.1");
    host.net.sh("sysctl -qw net.ipv4.ip_forward=1");
    let _proxy = host.net.serve("proxy", "0.0.0.0:15001", false);
    host.apply(&intent());
    assert_eq!(boxed.ask("240.240.1.2:9080"), None);

    let mut named = intent();
    named.capture_interfaces.insert("docker0".into(), 15001);
    host.apply(&named);
    assert_eq!(boxed.ask("240.240.1.2:9080"), Some("proxy 240.240.1.2:9080 from 172.18.0.2".into()));
    assert_eq!(boxed.ask("172.18.0.1:15001"), None, "but not directly");
    host.neighbour.sh("ip route add 240.240.0.0/16 via 10.9.0.1");
    assert_eq!(host.neighbour.ask("240.240.1.2:9080"), None, "and only from there");
    assert_eq!(host.remove(Duration::ZERO), 0);
}
