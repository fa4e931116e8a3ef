//! Life of a member on a machine with systemd: crashes, power that goes, full disks, and ways to come back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::packaged::{APPLICATION, World, calls, joined, left, serve, status, token};
use hawser_tests::{Machine, isolation, wait};

/// How long a member may take until its traffic works again, on a busy machine.
const AGAIN: Duration = Duration::from_secs(60);

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: default, namespace: default}\nspec: {mtls: {mode: STRICT}}\n";

#[test]
fn a_member_that_is_killed_at_any_moment_serves_again_and_is_never_open_nor_closed_to_others() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let (control, a, b) = pair(&world)?;
        let probe = Probe::start(&control, &a)?;
        // The agent, the proxy, both; as they serve, as they start, in the middle of whatever they do.
        a.ok(&[
            "bash",
            "-c",
            "for i in $(seq 100); do \
                case $((RANDOM % 3)) in 0) pkill -9 -x hawser-agent;; 1) pkill -9 -x hawser-proxy;; \
                *) pkill -9 -x 'hawser-(agent|proxy)';; esac; sleep 0.$(printf %03d $((RANDOM % 700))); done; true",
        ])?;
        let killed = Instant::now();
        again(&a)?;
        calls(&b)?;
        eprintln!("traffic works {:.1} s after the last of 100 kills", killed.elapsed().as_secs_f64());
        let tables = a.sh("nft list tables")?;
        ensure!(tables.trim() == "table inet hawser", "there are {tables}");
        probe.end(50)?;
        a.ok(&["hawser", "leave", "--drain", "1s"])?;
        left(&control, "a")
    });
}

#[test]
fn no_plaintext_reaches_a_strict_port_at_any_moment_of_a_boot() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let (control, mut a, b) = pair(&world)?;
        // It listens before there is a network, and so before anything of ours but the guard.
        a.ok(&["systemctl", "stop", "app"])?;
        a.put("/var/tmp/app.pl", APPLICATION, "0644")?;
        a.put(
            "/etc/systemd/system/early.service",
            "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target\nBefore=sysinit.target\n\n\
             [Service]\nExecStart=/usr/bin/perl -MIO::Socket::INET /var/tmp/app.pl\n\n[Install]\nWantedBy=sysinit.target\n",
            "0644",
        )?;
        a.ok(&["systemctl", "enable", "--now", "early"])?;
        let probe = Probe::start(&control, &a)?;
        for (discovery, power) in [(true, false), (true, true), (false, false), (false, true)] {
            if !discovery {
                control.ok(&["systemctl", "stop", "hawser-discovery"])?;
            }
            if power {
                a.power_cycle()?;
            } else {
                a.reboot()?;
            }
            again(&a)?;
            calls(&b)?;
            let state = if discovery { "up" } else { "down" };
            eprintln!("ready {} s after the start of the boot, discovery {state}", ready(&a)?);
        }
        ensure!(status(&a)?.contains("the last configuration stays in force"), "it says so: {}", status(&a)?);
        probe.never("plaintext", 20)
    });
}

#[test]
fn power_that_goes_while_a_host_joins_or_leaves_costs_nothing() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let mut a = world.host("a", 2)?;
        let many = ["hawser", "token", "create", "--group", "default/details", "--port", "http=9080", "--uses", "20"];
        a.put("/var/tmp/token", &control.ok(&many)?, "0600")?;
        let join = ["hawser", "join", "--token-file", "/var/tmp/token"];
        let begin = |machine: &Machine, args: &[&str], moment: u64| {
            machine.ok(&[&["systemd-run", "--quiet", "--collect"], args].concat())?;
            wait::between_looks(Duration::from_millis(moment));
            Ok::<_, anyhow::Error>(())
        };
        for (joining, leaving) in [(20, 50), (200, 700), (600, 1500), (1200, 3000)] {
            begin(&a, &join, joining)?;
            a.power_cycle()?;
            if !is_joined(&a)? {
                a.ok(&join)?;
            }
            again(&a).with_context(|| format!("after the power went {joining} ms after the start of a join"))?;
            begin(&a, &["hawser", "leave", "--drain", "1s"], leaving)?;
            a.power_cycle()?;
            if is_joined(&a)? {
                again(&a).with_context(|| format!("after the power went {leaving} ms after the start of a leave"))?;
                a.ok(&["hawser", "leave", "--drain", "1s"])?;
            }
            wait::for_true("it says that it left", AGAIN, || is_joined(&a).is_ok_and(|joined| !joined))?;
            left(&control, "a")?;
        }
        Ok(())
    });
}

#[test]
fn a_member_bears_a_full_disk_an_etc_that_is_read_only_and_few_descriptors() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let (a, b) = (world.host("a", 2)?, world.host("b", 3)?);
        a.sh("systemctl stop hawser-agent
              mount -t tmpfs -o size=64m,mode=0700,uid=hawser,gid=hawser state /var/lib/hawser
              mount --bind /etc /etc; mount -o remount,bind,ro /etc
              systemctl start hawser-agent")?;
        let fill = "dd if=/dev/zero of=/var/lib/hawser/fill bs=64k 2>/dev/null || true";
        a.sh(fill)?;
        a.put("/var/tmp/token", &token(&control, "details")?, "0600")?;
        let seen = a.run(&["hawser", "join", "--token-file", "/var/tmp/token"])?;
        ensure!(seen.code != 0 && seen.err.contains("make room"), "{seen:?}");
        ensure!(!is_joined(&a)?, "what failed is undone");
        a.sh("rm /var/lib/hawser/fill")?;
        a.ok(&["hawser", "join", "--token-file", "/var/tmp/token"])?;
        again(&a)?;
        serve(&a)?;
        b.fed(&["hawser", "join", "-"], Some(&token(&control, "caller")?))?;
        calls(&b)?;

        // Full again: what comes is used though it can't be kept, and a new agent begins with what was kept.
        a.sh(fill)?;
        control.fed(&["hawser", "apply", "-f", "-"], Some(STRICT))?;
        wait::for_true("the policy is in force", AGAIN, || {
            control.run(&["curl", "--silent", "--max-time", "2", "http://10.99.0.2:9080/"]).is_ok_and(|s| !s.ok())
        })?;
        a.ok(&["systemctl", "restart", "hawser-agent"])?;
        again(&a)?;
        calls(&b)?;
        a.sh("rm /var/lib/hawser/fill")?;

        // More connections than descriptors: some wait or fail, none of it lasts, and nobody dies of it.
        b.sh("mkdir -p /etc/systemd/system/hawser-proxy.service.d
              printf '[Service]\\nLimitNOFILE=96\\n' >/etc/systemd/system/hawser-proxy.service.d/few.conf
              systemctl daemon-reload; systemctl restart hawser-proxy")?;
        calls(&b)?;
        let proxy = |machine: &Machine| machine.ok(&["systemctl", "show", "--value", "-p", "MainPID", "hawser-proxy"]);
        let before = proxy(&b)?;
        b.ok(&["perl", "-MIO::Socket::INET", "-e", MANY])?;
        calls(&b)?;
        ensure!(proxy(&b)? == before, "it is the same proxy");
        a.ok(&["hawser", "leave", "--drain", "1s"])?;
        left(&control, "a")
    });
}

#[test]
fn a_member_comes_back_from_days_off_a_wiped_run_directory_a_pause_and_says_what_a_copy_needs() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        // The shortest life there is.
        control
            .sh("echo HAWSER_CERTIFICATE_LIFE=60s >>/etc/hawser/discovery.env; systemctl restart hawser-discovery")?;
        let (mut a, b) = (world.host("a", 2)?, world.host("b", 3)?);
        a.fed(&["hawser", "join", "-"], Some(&token(&control, "details")?))?;
        b.fed(&["hawser", "join", "-"], Some(&token(&control, "caller")?))?;
        serve(&a)?;
        calls(&b)?;

        // Off until everything that it has has expired, and the root is another one.
        a.power_off();
        let off = Instant::now();
        control.ok(&["hawser", "ca", "rotate"])?;
        wait::for_true("its certificates expire", Duration::from_secs(90), || off.elapsed() > Duration::from_secs(65))?;
        a.power_on()?;
        again(&a)?;
        serve(&a)?;
        calls(&b)?;

        a.sh("rm -rf /run/hawser; systemctl restart hawser-agent; systemctl try-restart hawser-proxy")?;
        again(&a)?;
        calls(&b)?;

        // Longer than its lease, shorter than systemd's patience.
        a.sh("pkill -STOP -x 'hawser-(agent|proxy)'; sleep 20; pkill -CONT -x 'hawser-(agent|proxy)'")?;
        again(&a)?;
        calls(&b)?;

        // A disk of some time ago, and a copy of a machine: one sentence, with the cure in it.
        a.sh("cp -a /var/lib/hawser /var/tmp/earlier")?;
        for _ in 0..3 {
            a.ok(&["systemctl", "restart", "hawser-agent"])?;
            again(&a)?;
        }
        a.sh("systemctl stop hawser-agent
              find /var/lib/hawser -mindepth 1 -delete; cp -a /var/tmp/earlier/. /var/lib/hawser/
              systemctl start --no-block hawser-agent")?;
        told(&a, "hawser leave --force")?;
        a.ok(&["hawser", "leave", "--force"])?;
        a.fed(&["hawser", "join", "-"], Some(&token(&control, "details")?))?;
        again(&a)?;
        calls(&b)?;
        let copy = world.host("copy", 4)?;
        let state = a.sh("tar -C /var/lib/hawser -czf - . | base64 -w0")?;
        copy.sh("systemctl stop hawser-agent")?;
        copy.fed(&["sh", "-ec", "base64 -d | tar -C /var/lib/hawser -xzf -"], Some(&state))?;
        copy.ok(&["systemctl", "start", "--no-block", "hawser-agent"])?;
        told(&copy, "hawser leave --force")?;
        joined(&a)?;
        calls(&b)
    });
}

/// A control host, a member that serves under STRICT, and one that calls it.
fn pair(world: &World) -> Result<(Machine, Machine, Machine)> {
    let control = world.control()?;
    let (a, b) = (world.host("a", 2)?, world.host("b", 3)?);
    for (machine, group) in [(&a, "details"), (&b, "caller")] {
        machine.fed(&["hawser", "join", "-"], Some(&token(&control, group)?))?;
    }
    serve(&a)?;
    control.fed(&["hawser", "apply", "-f", "-"], Some(STRICT))?;
    calls(&b)?;
    Ok((control, a, b))
}

/// Somebody outside of the mesh who tries a member's ports all the while.
struct Probe<'a>(&'a Machine);

impl<'a> Probe<'a> {
    /// Begins when the member is STRICT.
    fn start(control: &'a Machine, member: &Machine) -> Result<Self> {
        let address = member.address();
        let plain = ["curl", "--silent", "--max-time", "2", &format!("http://{address}:9080/")];
        wait::for_true("the policy is in force", AGAIN, || control.run(&plain).is_ok_and(|seen| !seen.ok()))?;
        member.ok(&["systemd-run", "--quiet", "--unit=undeclared", "perl", "-MIO::Socket::INET", "-e", UNDECLARED])?;
        control.put("/var/tmp/probe.sh", &PROBE.replace("ADDRESS", &address), "0644")?;
        control.ok(&["systemd-run", "--quiet", "--unit=probe", "bash", "/var/tmp/probe.sh"])?;
        Ok(Self(control))
    }

    /// That was never so, in at least so many turns.
    fn never(&self, what: &str, turns: usize) -> Result<()> {
        let seen = self.0.sh("cat /var/tmp/seen")?;
        let count = |what: &str| seen.lines().filter(|line| line.starts_with(what)).count();
        ensure!(count("turn") >= turns, "it tried {} times only", count("turn"));
        ensure!(count(what) == 0, "{what} {} times in {} turns", count(what), count("turn"));
        Ok(())
    }

    /// The declared port was never open, the other one never closed.
    fn end(self, turns: usize) -> Result<()> {
        self.0.ok(&["systemctl", "stop", "probe"])?;
        self.never("plaintext", turns)?;
        self.never("undeclared", turns)
    }
}

/// A server on a port that nobody declared.
const UNDECLARED: &str = "my $s = IO::Socket::INET->new(LocalPort => 2222, Listen => 99, ReuseAddr => 1) or die; \
    while (my $c = $s->accept) { print $c \"open\\n\"; close $c }";

/// Tries both ports of a member for ever.
const PROBE: &str = r#"
while :; do
    curl --silent --max-time 1 http://ADDRESS:9080/ 2>/dev/null | grep -q hello && echo plaintext
    said=$(timeout 3 bash -c 'exec 3<>/dev/tcp/ADDRESS/2222 && read -r -u 3 line && echo "$line"' 2>/dev/null)
    [ "$said" = open ] || echo undeclared
    echo turn
    sleep 0.05
done >/var/tmp/seen
"#;

/// Two hundred connections at once, held for a moment.
const MANY: &str = "my @all; for (1..200) { my $c = IO::Socket::INET->new(PeerAddr => \
    'details.default.svc.cluster.local', PeerPort => 9080, Timeout => 1); push @all, $c if $c; \
    print $c \"GET / HTTP/1.1\\r\\n\" if $c } sleep 3; print scalar @all";

/// Its traffic works again.
fn again(machine: &Machine) -> Result<()> {
    let mut last = None;
    wait::for_true("its traffic works again", AGAIN, || match joined(machine) {
        Ok(()) => true,
        Err(error) => {
            last = Some(error);
            false
        }
    })
    .with_context(|| format!("{:#}; {}", last.unwrap_or_else(|| anyhow::anyhow!("not seen")), said(machine)))
}

/// Whether it is a member, once it knows.
fn is_joined(machine: &Machine) -> Result<bool> {
    let state = wait::until("it knows whether it is a member", AGAIN, || {
        let status = status(machine).ok()?;
        match () {
            () if status.starts_with("joined as ") => Some(true),
            () if status.starts_with("not joined") => Some(false),
            () => None,
        }
    });
    let state = state.with_context(|| said(machine))?;
    if !state {
        let tables = machine.sh("nft list tables")?;
        ensure!(!tables.contains("hawser"), "a host that is no member has no table: {tables}");
    }
    Ok(state)
}

/// Its agent says what is to be done.
fn told(machine: &Machine, cure: &str) -> Result<()> {
    wait::for_true("it says what to do", AGAIN, || {
        machine.run(&["hawser", "status"]).is_ok_and(|seen| format!("{}{}", seen.out, seen.err).contains(cure))
    })
    .with_context(|| format!("{:?}; {}", machine.run(&["hawser", "status"]), said(machine)))
}

/// The last lines of our logs.
fn said(machine: &Machine) -> String {
    machine.sh("journalctl --no-pager -n 60 -u 'hawser-*'").unwrap_or_default()
}

/// Seconds from the start of the boot until traffic worked.
fn ready(machine: &Machine) -> Result<f64> {
    let show = |unit: &str, property: &str| -> Result<f64> {
        let mut args = vec!["systemctl", "show", "--value", "-p", property];
        args.extend((!unit.is_empty()).then_some(unit));
        Ok(machine.ok(&args)?.trim().parse::<f64>()? / 1e6)
    };
    let ready = show("hawser-ready.target", "ActiveEnterTimestampMonotonic")?;
    Ok((ready - show("", "UserspaceTimestampMonotonic")?).max(0.0))
}
