//! What others set up on the host is not touched and goes on working at each moment.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::net::{Net, wire};
use crate::{Host, intent};

#[test]
fn foreign_rules_a_published_port_and_ssh_survive_coming_repeating_and_leaving() {
    let host = Host::new();
    let boxed = Net::new("box");
    wire((&host.net, "docker0", &["172.18.0.1/24"]), (&boxed, "eth0", &["172.18.0.2/24"]));
    boxed.sh("ip route add default via 172.18.0.1");
    host.net.sh("sysctl -qw net.ipv4.ip_forward=1");
    host.net.sh("nft -f - <<'E'
table inet filter {
    set allowed { type inet_service; elements = { 22, 8080, 9080 } }
    chain input { type filter hook input priority 0; policy accept; tcp dport @allowed counter accept; }
}
table ip nat {
    chain DOCKER { iifname != \"docker0\" tcp dport 8080 dnat to 172.18.0.2:80; }
    chain PREROUTING { type nat hook prerouting priority -100; fib daddr type local counter jump DOCKER; }
    chain OUTPUT { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local counter jump DOCKER; }
    chain POSTROUTING { type nat hook postrouting priority 100; ip saddr 172.18.0.0/24 oifname != \"docker0\" masquerade; }
}
table ip filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        oifname \"docker0\" ct state established,related accept
        oifname \"docker0\" ip daddr 172.18.0.2 tcp dport 80 accept
        iifname \"docker0\" accept
    }
}
E");
    let _running = (
        boxed.serve("container", "0.0.0.0:80", false),
        host.net.serve("ssh", "0.0.0.0:22", false),
        host.net.serve("ssh", "[::]:22", false),
        host.net.serve("proxy", "0.0.0.0:15006", true),
        host.neighbour.serve("near", "0.0.0.0:7000", false),
    );
    let before = host.foreign_rules();
    let works = |when: &str| {
        let near = &host.neighbour;
        assert!(near.ask("10.9.0.1:8080").is_some_and(|a| a.starts_with("container")), "published port, {when}");
        assert!(host.net.ask("10.9.0.1:8080").is_some_and(|a| a.starts_with("container")), "from the host, {when}");
        assert!(boxed.ask("10.9.0.2:7000").is_some_and(|a| a.starts_with("near")), "container outward, {when}");
        assert_eq!(host.foreign_rules(), before, "{when}");
    };
    works("before");

    let (done, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for to in ["10.9.0.1:22", "[fd09::1]:22"] {
            let (near, done, asked) = (&host.neighbour, &done, &asked);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert!(near.ask(to).is_some_and(|a| a.starts_with("ssh")), "SSH at {to}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = scopeguard(&done);
        host.apply(&intent());
        works("applied");
        assert!(host.neighbour.ask("10.9.0.1:9080").is_some_and(|a| a.starts_with("proxy")));
        for round in 0..5 {
            host.net.block_on(async {
                // A load that is cut anywhere leaves the old table or the new one.
                let mut intent = intent();
                intent.exempt.uids.insert(70_000 + round);
                let mut redirection = host.redirection();
                let cut = Duration::from_micros(u64::from(round) * 1500);
                _ = tokio::time::timeout(cut, redirection.apply(&intent)).await;
            });
            host.apply(&intent());
            assert_eq!(host.check(), Vec::<String>::new());
        }
        works("applied again");
        host.remove(Duration::ZERO);
        works("removed");
    });
    assert!(asked.load(Ordering::Relaxed) > 20);
}

/// Ends the askers also when an assertion fails.
fn scopeguard(done: &AtomicBool) -> impl Drop + '_ {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    End(done)
}
