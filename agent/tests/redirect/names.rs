//! Capture of name resolution, and that a dead agent never takes it along.

use std::time::Duration;

use hawser_agent::redirect::{Dns, Intent};

use crate::net::eventually;
use crate::{Host, PROXY, intent};

fn with_names() -> Intent {
    let servers = ["10.9.0.2", "fd09::2"].map(|a| a.parse().unwrap());
    Intent { dns: Some(Dns { timeout: Duration::from_secs(1), ..Dns::new(servers) }), ..intent() }
}

#[test]
fn questions_go_to_the_agent_while_it_lives_and_to_the_servers_when_it_is_dead() {
    let host = Host::new();
    for at in ["10.9.0.2:53", "[fd09::2]:53"] {
        host.neighbour.serve_names("server", at);
    }
    for at in ["127.0.0.1:15053", "[::1]:15053"] {
        host.net.serve_names("agent", at);
    }
    let _tcp = (host.neighbour.serve("server", "0.0.0.0:53", false), host.net.serve("agent", "127.0.0.1:15053", false));
    let servers = ["10.9.0.2:53", "[fd09::2]:53"];
    for server in servers {
        assert_eq!(host.net.question(server), Some("server".into()), "before");
    }
    let mut redirection = host.redirection();
    host.net.block_on(async { redirection.apply(&with_names()).await.unwrap() });
    // Longer than one life, in which the agent renews it.
    for _ in 0..15 {
        host.net.block_on(async { redirection.renew_dns().await.unwrap() });
        assert_eq!(host.net.question(servers[0]), Some("agent".into()));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    host.net.block_on(async { redirection.renew_dns().await.unwrap() });
    assert_eq!(host.net.question(servers[1]), Some("agent".into()));
    assert!(host.net.ask(servers[0]).is_some_and(|a| a.starts_with("agent")), "TCP");
    assert_eq!(host.net.ask_as(PROXY, "10.9.0.2", 53).map(|a| a.starts_with("server")), Some(true), "exempt");

    drop(redirection);
    for server in servers {
        eventually("the agent is dead and names resolve", Duration::from_secs(3), || {
            host.net.question(server) == Some("server".into())
        });
    }
    assert_eq!(host.check(), Vec::<String>::new());
}

#[test]
fn a_resolver_that_keeps_its_socket_is_let_go_when_capture_is_suspended() {
    let host = Host::new();
    host.neighbour.serve_names("server", "0.0.0.0:53");
    host.net.serve_names("agent", "127.0.0.1:15053");
    let mut redirection = host.redirection();
    host.net.block_on(async { redirection.apply(&with_names()).await.unwrap() });
    let socket = host.net.on(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // Not connected: the answer's source tells whether the translation is still there.
    let ask = || {
        socket.send_to(b"?", "10.9.0.2:53").unwrap();
        let mut buffer = [0; 100];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(ask(), "agent");
    host.net.block_on(async { redirection.suspend_dns().await.unwrap() });
    assert_eq!(ask(), "server");
}
