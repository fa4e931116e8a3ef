//! What others take away: seen at once, and put back as it was; what came past the proxy meanwhile is ended.

use std::time::{Duration, Instant};

use hawser_agent::redirect::{Event, Exclusion, Exempt, Intent, OnProxyFailure, Outbound, Scope, Watch};

use crate::net::SOON;
use crate::{Host, PROXY, SOMEBODY, intent, target};

/// Somebody's doing, and what is told of it.
fn told(host: &Host, doing: &str) -> Option<Event> {
    host.net.block_on(async {
        let mut watch = Watch::start().unwrap();
        host.net.sh(doing);
        tokio::time::timeout(Duration::from_secs(1), watch.next()).await.ok().map(Result::unwrap)
    })
}

#[test]
fn the_kernel_tells_who_took_the_table_away_and_of_nothing_else() {
    let host = Host::new();
    host.net.sh("nft add table inet theirs; nft add chain inet theirs c");
    host.apply(&intent());
    let gone = told(&host, "nft flush ruleset").unwrap();
    assert!(gone.gone && gone.by.as_deref() == Some("nft"), "{gone:?}");
    host.apply(&intent());
    let hand = told(&host, "nft insert rule inet hawser inbound accept").unwrap();
    assert!(hand.rules && !hand.gone, "{hand:?}");
    assert!(told(&host, "nft delete element inet hawser inbound_ports '{ 9080 }'").unwrap().elements);
    assert!(told(&host, "ip route flush proto 157").unwrap().routes);
    assert!(told(&host, "ip link set lo down; ip link set lo up").unwrap().routes);
    let theirs = "nft add table ip x; nft add rule inet theirs c accept; nft delete table ip x; \
                  ip route add 192.0.2.0/24 dev eth0; ip route del 192.0.2.0/24";
    assert_eq!(told(&host, theirs), None);
    // A replacement of ours is no loss.
    let replaced = host.net.block_on(async {
        let mut watch = Watch::start().unwrap();
        host.redirection().restore_now().await.unwrap();
        watch.next().await.unwrap()
    });
    assert!(replaced.rules && !replaced.gone, "{replaced:?}");
    assert_eq!(host.check(), Vec::<String>::new());
}

#[test]
fn what_is_put_back_is_what_was_there_and_the_way_past_the_proxy_is_cut() {
    let host = Host::new();
    let _application = host.net.serve("app", "[::]:9080", false);
    let _four = host.net.serve("app", "0.0.0.0:9080", false);
    let _proxy = [host.net.serve("proxy", "0.0.0.0:15006", true), host.net.serve("proxy", "[::]:15006", true)];
    let ends = ["10.9.0.1:9080", "[fd09::1]:9080"];
    for to in ends {
        let call = || {
            let mut talk = host.neighbour.connect(to).unwrap();
            (talk.line().unwrap(), talk)
        };
        let (who, mut before) = call();
        assert!(who.starts_with("app"), "{who}");
        let mut redirection = host.redirection();
        host.net.block_on(async { redirection.apply(&intent()).await.unwrap() });
        let (who, mut captured) = call();
        assert!(who.starts_with("proxy"), "{who}");
        host.net.sh("nft flush ruleset");
        let (who, mut stray) = call();
        assert!(who.starts_with("app"), "nothing is in the way: {who}");
        assert_eq!(stray.echo("hello"), Some("hello".into()));
        let began = Instant::now();
        host.net.block_on(async { redirection.restore_now().await.unwrap() });
        assert!(began.elapsed() < SOON);
        assert_eq!(stray.echo("hello"), None, "it came past the proxy");
        assert_eq!(captured.echo("hello"), Some("hello".into()), "the proxy's go on");
        assert_eq!(before.echo("hello"), Some("hello".into()), "and those that are older than capture");
        assert!(call().0.starts_with("proxy"));
        assert_eq!(host.check(), Vec::<String>::new());
        host.remove(Duration::ZERO);
    }
}

#[test]
fn a_call_that_began_while_the_table_was_away_arrives_when_it_is_back() {
    let host = Host::new();
    let _proxy = [host.net.serve("proxy", "127.0.0.1:15001", false), host.net.serve("proxy", "[::1]:15001", false)];
    let mut redirection = host.redirection();
    host.net.block_on(async { redirection.apply(&intent()).await.unwrap() });
    // A host that somebody else's nat chain is on, and one that has none left.
    for doing in [
        "nft delete table inet hawser; nft add table ip x; \
                   nft add chain ip x y '{ type nat hook output priority -100; }'",
        "nft flush ruleset",
    ] {
        host.net.sh(doing);
        std::thread::scope(|scope| {
            let net = &host.net;
            let calls = ["240.240.1.1:80", "[2001:2::1]:80"].map(|to| scope.spawn(move || (to, net.connect(to))));
            let begun = || host.net.sh("ss -Htn state syn-sent").lines().count() >= 2;
            crate::net::eventually("both have begun", SOON, begun);
            host.net.block_on(async { redirection.restore_now().await.unwrap() });
            for call in calls {
                let (to, talk) = call.join().unwrap();
                let said = talk.and_then(|mut talk| talk.line()).unwrap_or_default();
                assert!(said.starts_with("proxy"), "{to} after {doing}: {said:?}");
            }
        });
    }
}

#[test]
fn an_open_host_that_was_released_is_put_back_released() {
    let host = Host::new();
    let _running = (host.net.serve("app", "0.0.0.0:9080", false), host.net.serve("proxy", "0.0.0.0:15006", true));
    host.net.block_on(async {
        let mut redirection = host.redirection();
        let open = Intent { on_proxy_failure: OnProxyFailure::Open, ..intent() };
        redirection.apply(&open).await.unwrap();
        redirection.take_inbound(false).await.unwrap();
        host.net.sh("nft flush ruleset; ip route flush proto 157; ip -6 route flush proto 157");
        redirection.restore_now().await.unwrap();
        assert_eq!(redirection.check().await.unwrap(), Vec::<String>::new());
    });
    assert!(host.neighbour.ask("10.9.0.1:9080").unwrap().starts_with("app"));
    assert!(host.net.sh("ip route show proto 157").contains("240.240.0.0/16"));
}

#[test]
fn nothing_is_put_back_that_is_not_wanted() {
    let host = Host::new();
    host.net.block_on(async {
        let mut redirection = host.redirection();
        assert!(!redirection.is_wanted());
        redirection.restore_now().await.unwrap();
    });
    assert_eq!(host.net.sh("nft list tables"), "");
}

#[test]
fn what_is_exempt_by_port_range_group_and_interface_is_left_alone() {
    let host = Host::new();
    let _running = (
        host.net.serve("proxy", "127.0.0.1:15001", false),
        host.net.serve("proxy", "0.0.0.0:15006", true),
        host.net.serve("app", "0.0.0.0:9080", false),
        host.neighbour.serve("near", "0.0.0.0:5432", false),
        host.neighbour.serve("near", "0.0.0.0:5433", false),
    );
    let mut base = intent();
    base.capture.targets.insert(target("10.9.0.2", 5433));
    let asks = |port: u16| host.net.ask_as(SOMEBODY, "10.9.0.2", port).unwrap_or_default();
    host.apply(&base);
    assert!(asks(5432).starts_with("proxy") && asks(5433).starts_with("proxy"));

    let to = |ports: &[(u16, u16)], nets: &[&str]| Exclusion {
        ports: ports.iter().copied().collect(),
        nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
    };
    let exempt = |to: Exclusion| Exempt { to, ..base.exempt.clone() };
    host.apply(&Intent { exempt: exempt(to(&[(5433, 5440)], &[])), ..base.clone() });
    assert!(asks(5432).starts_with("proxy") && asks(5433).starts_with("near"), "by port");
    host.apply(&Intent { exempt: exempt(to(&[], &["10.9.0.0/16", "10.9.0.0/24", "fd00::/8"])), ..base.clone() });
    assert!(asks(5432).starts_with("near"), "by range");
    host.apply(&Intent { exempt: Exempt { gids: [64_777].into(), ..base.exempt.clone() }, ..base.clone() });
    assert!(asks(5432).starts_with("proxy"));
    let command =
        "timeout 3 setpriv --regid=64777 --clear-groups bash -c 'exec 3<>/dev/tcp/10.9.0.2/5432; head -1 <&3'";
    assert!(host.net.sh(command).starts_with("near"), "by group");

    // A workload's own, and nobody else's.
    let mut two = base.clone();
    two.outbound.insert(Outbound { scope: Scope::User(SOMEBODY), port: 15001, workload: "ratings".into() });
    two.exclusions.insert("ratings".into(), to(&[(5432, 5432)], &[]));
    host.apply(&two);
    assert!(asks(5432).starts_with("near") && asks(5433).starts_with("proxy"), "by workload");
    assert!(host.net.ask_as(SOMEBODY + 1, "10.9.0.2", 5432).unwrap().starts_with("proxy"), "another's");
    assert!(host.net.ask_as(PROXY, "10.9.0.2", 5433).unwrap().starts_with("near"));

    assert!(host.neighbour.ask("10.9.0.1:9080").unwrap().starts_with("proxy"));
    host.apply(&Intent { exempt: Exempt { interfaces: ["eth0".to_owned()].into(), ..base.exempt.clone() }, ..base });
    assert!(host.neighbour.ask("10.9.0.1:9080").unwrap().starts_with("app"), "in over an interface");
    assert!(asks(5432).starts_with("near"), "out over it");
    assert_eq!(host.check(), Vec::<String>::new());
}
