//! Redirection beside other people's rules, with real users.

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_tests::isolation::isolated_with_users;
use hawser_tests::mesh::{Member, Mesh};
use hawser_tests::{Host, Lab, lab, wait};

const DETAILS: &str = "details.default.svc.cluster.local";

/// Rules of the kinds that hosts have: a foreign table, Docker's forward policy and published port, a default-deny
/// input chain that lets in 22, 9080, established connections, loopback and neighbour discovery.
const FOREIGN: &str = r#"
table ip foreign {
  chain mangle {
    type filter hook output priority -150; policy accept;
    meta skuid 0 counter
  }
}
table ip docker {
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "docker0" accept
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local tcp dport 8088 dnat to 10.77.0.254:8080
  }
}
table inet firewall {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport { 22, 9080 } accept
  }
}
"#;

#[test]
fn other_peoples_rules_survive_join_kills_and_leave() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let mut vm = Member::new(&mut lab, "vm")?;
        vm.bookinfo("details", "v1", "")?;
        vm.app("ssh", &["hawser-lab", "echo", "--port", "2222"])?;
        let seen = vm.host.run_with_input(&["nft", "-f", "-"], Some(FOREIGN))?;
        ensure!(seen.ok(), "{}", seen.err);
        let before = outside_ours(&vm.host)?;
        ensure!(before.contains("table ip docker"), "{before}");
        // sshd's place: a listener on port 22 that needs root, as sshd does.
        let mut ssh = vm.host.spawn("port-22", &["hawser-lab", "echo", "--port", "22", "--banner", "SSH-2.0-lab\n"])?;
        ssh.says("ready", Duration::from_secs(5))?;
        let knocks = caller.load(&format!("tcp://{}:22", vm.host.v4()), 50, &["--workers", "4", "--limit", "1000"])?;

        let token = mesh.token("default/details", &["http=9080"], 1, &[])?;
        vm.join(&token)?;
        wait::for_true("details answers over the mesh", Duration::from_secs(10), || {
            caller.host.curl(&["--fail", &format!("http://{DETAILS}:9080/")]).is_ok_and(|s| s.ok())
        })?;
        ensure!(outside_ours(&vm.host)? == before, "after the join:\n{}", outside_ours(&vm.host)?);

        let load = caller.load(&format!("http://{DETAILS}:9080/"), 50, &[])?;
        for _ in 0..10 {
            vm.kill_agent();
            vm.start_agent()?;
        }
        load.stop()?.all_ok()?;
        ensure!(outside_ours(&vm.host)? == before, "after ten kills:\n{}", outside_ours(&vm.host)?);

        ensure!(vm.hawser(&["leave"])?.ok());
        ensure!(outside_ours(&vm.host)? == before, "after leave:\n{}", outside_ours(&vm.host)?);
        ensure!(!vm.host.ok(&["nft", "list", "tables"])?.contains("hawser"), "our table is gone");
        let ssh = knocks.stop()?;
        ssh.all_ok()?;
        Ok(())
    });
}

#[test]
fn what_is_not_of_the_mesh_never_touches_the_proxy() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "details", "v1")?;
        let stranger = lab.host("stranger")?;
        let mut server = stranger.spawn("server", &["hawser-bookinfo", "ratings", "--port", "8000"])?;
        server.says("ready", Duration::from_secs(5))?;
        let before = redirected(&vm.host)?;
        for address in [stranger.v4().to_string(), format!("[{}]", stranger.v6())] {
            ensure!(vm.host.curl(&["--fail", &format!("http://{address}:8000/")])?.ok(), "{address}");
        }
        ensure!(redirected(&vm.host)? == before, "the proxy got connections that are none of its business");
        ensure!(vm.host.ok(&["getent", "ahostsv4", lab::OUTSIDE])?.starts_with(lab::GATEWAY));
        Ok(())
    });
}

#[test]
fn neighbours_get_nothing_from_the_proxys_own_ports() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let vm = Member::joined(&mut lab, &mesh, "vm", "details", "v1")?;
        let _other = Member::joined(&mut lab, &mesh, "other", "ratings", "v1")?;
        let vip = vm.host.ok(&["getent", "ahostsv4", "ratings.default.svc.cluster.local"])?;
        let vip = vip.split_whitespace().next().unwrap_or_default().to_owned();
        ensure!(vip.starts_with("240.240."), "{vip}");
        let neighbour = lab.host("neighbour")?;
        for port in [15001, 15006, 15053] {
            let seen = neighbour.curl(&["--max-time", "1", &format!("http://{}:{port}/", vm.host.v4())])?;
            ensure!(!seen.ok(), "port {port} answered: {}", seen.out);
        }
        // A neighbour that uses the host as its router does not get the host's identity.
        vm.host.ok(&["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
        neighbour.ok(&["ip", "route", "add", &format!("{vip}/32"), "via", &vm.host.v4().to_string()])?;
        let seen = neighbour.curl(&["--max-time", "1", &format!("http://{vip}:9080/")])?;
        ensure!(!seen.ok(), "the neighbour was served: {}", seen.out);
        Ok(())
    });
}

#[test]
fn a_service_calls_itself_over_both_families_and_without_a_default_route() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let host = lab.host_without_route("lonely")?;
        let mut vm = Member::on(host)?;
        vm.bookinfo("details", "v1", "")?;
        let token = mesh.token("default/details", &["http=9080"], 2, &[])?;
        vm.join(&token)?;
        let mut last = None;
        wait::for_true("it reaches itself", Duration::from_secs(10), || {
            last = vm.host.curl(&["--fail", &format!("http://{DETAILS}:9080/")]).ok();
            last.as_ref().is_some_and(|s| s.ok())
        })
        .map_err(|e| e.context(format!("{last:?}")))?;

        let mut six = Member::new(&mut lab, "six")?;
        six.bookinfo("details", "v1", "")?;
        let address = six.host.v6().to_string();
        let seen = six.hawser(&["join", &token, "--address", &address])?;
        ensure!(seen.ok(), "{seen:?}");
        wait::for_true("both families answer", Duration::from_secs(10), || {
            let args =
                ["hawser-lab", "load", "--url", &format!("http://{DETAILS}:9080/"), "--rate", "0", "--count", "20"];
            vm.host.ok(&args).is_ok_and(|out| out.contains("lonely/") && out.contains("six/"))
        })?;
        Ok(())
    });
}

/// Every table but ours, without counters.
fn outside_ours(host: &Host) -> Result<String> {
    let tables = host.ok(&["nft", "list", "tables"])?;
    let mut text = String::new();
    for table in tables.lines().filter(|t| !t.contains("inet hawser")) {
        let words: Vec<&str> = table.split_whitespace().skip(1).collect();
        let mut args = vec!["nft", "-s", "list", "table"];
        args.extend(words);
        text.push_str(&host.ok(&args)?);
    }
    Ok(text)
}

/// Connections that the proxy has taken, by its own count.
fn redirected(host: &Host) -> Result<String> {
    let seen = host.curl(&["--fail", "http://127.0.0.1:15020/metrics"])?;
    ensure!(seen.ok(), "{}", seen.err);
    let lines =
        seen.out.lines().filter(|l| l.contains("_total") && (l.contains("connections") || l.contains("istio_")));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
