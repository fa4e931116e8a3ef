//! Packages on machines with systemd: what a host is before, with, and after them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hawser_tests::dist::Dist;
use hawser_tests::host::finish;
use hawser_tests::packaged::{World, calls, install, joined, left, serve, status, token, use_apt};
use hawser_tests::testbeds::Root;
use hawser_tests::{Machine, isolation, programs, wait};

/// How long what takes a moment may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(30);

#[test]
fn a_host_installs_joins_upgrades_leaves_and_is_as_it_was() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let mut a = world.boot("a", 2, Root::Bookworm)?;
        let b = world.boot("b", 3, Root::Bookworm)?;
        for machine in [&a, &b] {
            use_apt(machine, world.dist.next())?;
        }
        let before = Host::look(&a)?;
        install(&a, "0.1.0-1")?;
        install(&b, "0.1.0-1")?;
        idle(&a)?;
        Host::look(&a)?.is_on_the_network_as(&before).context("an idle agent changes nothing of the network")?;
        harmless(&a, &[("hawser-agent", 40), ("hawser-proxy", 20), ("hawser-guard", 40)])?;

        let token = token(&control, "details")?;
        a.put("/var/tmp/token", &token, "0600")?;
        told_of_a_taken_port(&a)?;
        Host::look(&a)?.is_on_the_network_as(&before).context("a join that is refused changes nothing")?;
        // Machines have a name server that does not answer.
        well(&a, &["--token-file", "/var/tmp/token"], &["names", "inbound"])?;
        a.ok(&["hawser", "join", "--token-file", "/var/tmp/token"])?;
        joined(&a)?;
        serve(&a)?;
        well(&a, &[], &["names"])?;
        let token = self::token(&control, "caller")?;
        b.fed(&["hawser", "join", "-"], Some(&token))?;
        calls(&b)?;
        fields(&a)?;

        // A boot of its own: the guard first, then the agent from its disk, then the proxy.
        a.reboot()?;
        joined(&a)?;
        ensure!(
            a.ok(&["systemctl", "is-active", "hawser-guard"])?.trim() == "active",
            "the guard loaded what was saved"
        );
        serve(&a)?;
        calls(&b)?;

        // Forth and back; what people edited stays.
        a.sh("echo 'onProxyFailure: closed' >/etc/hawser/agent.yaml")?;
        install(&a, "0.1.0-2")?;
        joined(&a)?;
        calls(&b)?;
        ensure!(a.sh("cat /etc/hawser/agent.yaml")?.trim() == "onProxyFailure: closed", "the file stays as it is");
        install(&a, "0.1.0-1")?;
        joined(&a)?;
        calls(&b)?;

        // Gone while it is joined: it leaves first.
        a.ok(&["apt-get", "remove", "-qq", "-y", "hawser-agent"])?;
        left(&control, "a")?;
        a.ok(&["systemctl", "stop", "app"])?;
        let after = Host::look(&a)?;
        after.is_on_the_network_as(&before)?;
        ensure!(a.sh("cat /etc/hawser/agent.yaml")?.trim() == "onProxyFailure: closed", "settings stay until a purge");

        // Again, and gone for good.
        install(&a, "0.1.0-2")?;
        idle(&a)?;
        let token = self::token(&control, "details")?;
        a.sh(&format!("HAWSER_TOKEN={token} hawser join"))?;
        joined(&a)?;
        serve(&a)?;
        calls(&b)?;
        a.ok(&["apt-get", "purge", "-qq", "-y", "hawser-agent", "hawser"])?;
        left(&control, "a")?;
        a.ok(&["systemctl", "stop", "app"])?;
        let after = Host::look(&a)?;
        after.is_on_the_network_as(&before)?;
        let new: Vec<&String> = after.files.difference(&before.files).collect();
        ensure!(new.is_empty(), "files that were not there before: {new:?}");
        let gone: Vec<&String> = before.files.difference(&after.files).collect();
        ensure!(gone.is_empty(), "files that are not there any more: {gone:?}");
        let users: Vec<&String> = after.users.difference(&before.users).collect();
        ensure!(users == ["hawser", "hawser-proxy"], "its users stay, and nobody else is new: {users:?}");
        Ok(())
    });
}

#[test]
fn an_upgrade_fails_no_request_and_cuts_no_connection() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let a = world.boot("a", 2, Root::Bullseye)?;
        let b = world.boot("b", 3, Root::Bookworm)?;
        let ports = ["--port", "http=9080", "--port", "tcp=9000"];
        for (machine, group) in [(&a, "default/details"), (&b, "default/caller")] {
            use_apt(machine, world.dist.next())?;
            install(machine, "0.1.0-1")?;
            let token = control.ok(&[&["hawser", "token", "create", "--group", group][..], &ports].concat())?;
            machine.fed(&["hawser", "join", "-"], Some(token.trim()))?;
            joined(machine)?;
        }
        serve(&a)?;
        a.ok(&["systemd-run", "--quiet", "--unit=echo", "perl", "-MIO::Socket::INET", "-e", ECHO])?;
        calls(&b)?;
        b.ok(&["systemd-run", "--quiet", "--unit=talk", "perl", "-MIO::Socket::INET", "-e", TALK])?;
        b.ok(&["systemd-run", "--quiet", "--unit=load", "sh", "-c", LOAD])?;
        wait::for_true("both run", MOMENT, || {
            b.sh("test $(wc -l </var/tmp/talk) -gt 3 && test $(wc -l </var/tmp/load) -gt 3").is_ok()
        })?;

        for machine in [&b, &a] {
            let main = main_process(machine)?;
            install(machine, "0.1.0-2")?;
            ensure!(main_process(machine)? != main, "another proxy serves on {}", machine.name());
            ensure!(formers(machine)? == 1, "the former one is there still on {}", machine.name());
        }
        // Longer than a proxy that ends for good gives its connections, and than it may go without a sign of life.
        let (mains, old) = ([main_process(&a)?, main_process(&b)?], b.sh("wc -l </var/tmp/talk")?);
        wait::stays_true("the units are as they should be", Duration::from_secs(40), || {
            [&a, &b]
                .iter()
                .all(|m| m.run(&["systemctl", "is-active", "hawser-proxy"]).is_ok_and(|s| s.out.trim() == "active"))
        })?;
        ensure!([main_process(&a)?, main_process(&b)?] == mains, "nothing was started again");
        for machine in [&a, &b] {
            let said = machine.ok(&["systemctl", "show", "-p", "StatusText,NRestarts", "hawser-proxy"])?;
            ensure!(said.contains("StatusText=serving") && said.contains("NRestarts=0"), "{said}");
        }
        b.sh("touch /var/tmp/stop")?;
        wait::for_true("both have ended", MOMENT, || {
            b.sh("! systemctl --quiet is-active talk && ! systemctl --quiet is-active load").is_ok()
        })?;
        let talked = b.sh("wc -l </var/tmp/talk; tail -1 /var/tmp/talk")?;
        ensure!(talked.contains("whole"), "the connection did not last: {talked}");
        let lines = |text: &str| text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
        ensure!(lines(&talked) > lines(&old) + 100, "it was used all the while: {old} {talked}");
        let failed = b.sh("grep -v '^ok$' /var/tmp/load || true")?;
        ensure!(failed.is_empty(), "of {} requests failed: {failed}", b.sh("wc -l </var/tmp/load")?);
        wait::for_true("former ones end with their connections", MOMENT, || {
            [&a, &b].iter().all(|machine| formers(machine).is_ok_and(|count| count == 0))
        })?;

        // A crash beside a former one that has something to carry is no longer than any.
        b.sh("rm /var/tmp/stop /var/tmp/talk")?;
        b.ok(&["systemd-run", "--quiet", "--unit=talk2", "perl", "-MIO::Socket::INET", "-e", TALK])?;
        wait::for_true("it talks", MOMENT, || b.sh("test $(wc -l </var/tmp/talk) -gt 3").is_ok())?;
        b.ok(&["systemctl", "reload", "hawser-proxy"])?;
        ensure!(formers(&b)? == 1, "the former one is there still");
        let main = main_process(&b)?;
        b.ok(&["systemctl", "kill", "--kill-who=main", "-s", "KILL", "hawser-proxy"])?;
        wait::for_true("it is started again", Duration::from_secs(10), || {
            main_process(&b).is_ok_and(|now| now != main && now != "0")
        })?;
        calls(&b)?;

        // Without an agent it can't be, and nothing changes.
        let main = main_process(&b)?;
        b.ok(&["systemctl", "stop", "hawser-agent"])?;
        ensure!(!b.run(&["systemctl", "reload", "hawser-proxy"])?.ok(), "nobody hands it sockets");
        ensure!(main_process(&b)? == main, "the proxy that runs goes on");
        b.ok(&["systemctl", "start", "hawser-agent"])?;
        joined(&b)?;
        ensure!(main_process(&b)? == main, "it was not started again");
        calls(&b)
    });
}

#[test]
fn a_host_with_a_token_among_its_credentials_joins_by_itself_and_stays_out_once_it_has_left() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let mut a = world.boot("a", 2, Root::Bookworm)?;
        use_apt(&a, world.dist.first())?;
        let token = control.ok(&[
            "hawser",
            "token",
            "create",
            "--group",
            "default/details",
            "--port",
            "http=9080",
            "--uses",
            "2",
        ])?;
        a.put("/etc/credstore/hawser.token", &token, "0600")?;
        install(&a, "0.1.0-1")?;
        joined(&a)?;
        a.ok(&["hawser", "leave", "--drain", "1s"])?;
        a.reboot()?;
        wait::stays_true("it stays out", Duration::from_secs(3), || {
            status(&a).is_ok_and(|s| s.starts_with("not joined"))
        })?;
        a.ok(&["hawser", "join", "--token-file", "/etc/credstore/hawser.token"])?;
        joined(&a)
    });
}

#[test]
fn the_programs_run_on_an_old_host_and_find_discovery_by_name() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let old = world.boot("old", 2, Root::Bullseye)?;
        // Modules that are made for another C library must not be loaded.
        old.sh("sed -i 's/^hosts:.*/hosts: files myhostname resolve [!UNAVAIL=return] dns/' /etc/nsswitch.conf")?;
        use_apt(&old, world.dist.first())?;
        old.ok(&["apt-get", "install", "-qq", "-y", "hawser-agent", "hawser-discovery"])?;
        for program in ["hawser", "hawser-agent", "hawser-proxy", "hawser-discovery"] {
            let version = old.ok(&[program, "--version"])?;
            ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{program}: {version}");
        }
        ensure!(
            old.ok(&["systemctl", "is-active", "hawser-discovery"])?.trim() == "active",
            "discovery runs there too"
        );
        old.ok(&["hawser", "token", "create", "--group", "default/x", "--port", "http=80"])?;
        control.sh(
            "echo HAWSER_ADVERTISE=control.test:15012 >>/etc/hawser/discovery.env; systemctl restart hawser-discovery",
        )?;
        old.put("/var/tmp/token", &token(&control, "details")?, "0600")?;
        old.ok(&["hawser", "join", "--token-file", "/var/tmp/token"])?;
        joined(&old)?;
        ensure!(old.ok(&["hawser", "status"])?.contains("control.test:15012"), "it knows discovery by its name");
        serve(&old)?;
        calls(&old)?;
        old.ok(&["apt-get", "purge", "-qq", "-y", "hawser-agent"])?;
        left(&control, "old")
    });
}

#[test]
fn dnf_installs_upgrades_and_erases_a_member_as_apt_does() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.control()?;
        let a = world.boot("a", 2, Root::Rpm)?;
        let b = world.boot("b", 3, Root::Bookworm)?;
        use_dnf(&a, world.dist.next())?;
        let before = Host::look(&a)?;
        a.ok(&["dnf", "install", "-q", "-y", "hawser-agent-0.1.0-1"])?;
        idle(&a)?;
        a.put("/var/tmp/token", &token(&control, "details")?, "0600")?;
        a.ok(&["hawser", "join", "--token-file", "/var/tmp/token"])?;
        joined(&a)?;
        serve(&a)?;
        use_apt(&b, world.dist.first())?;
        install(&b, "0.1.0-1")?;
        b.fed(&["hawser", "join", "-"], Some(&token(&control, "caller")?))?;
        calls(&b)?;
        a.ok(&["dnf", "upgrade", "-q", "-y", "hawser-agent"])?;
        ensure!(
            a.ok(&["rpm", "-q", "hawser-agent"])?.starts_with("hawser-agent-0.1.0-2"),
            "the next build is installed"
        );
        joined(&a)?;
        calls(&b)?;
        a.ok(&["dnf", "downgrade", "-q", "-y", "hawser-agent-0.1.0-1", "hawser-0.1.0-1"])?;
        ensure!(
            a.ok(&["rpm", "-q", "hawser-agent"])?.starts_with("hawser-agent-0.1.0-1"),
            "the first build is installed"
        );
        joined(&a)?;
        calls(&b)?;
        a.ok(&["rpm", "-V", "hawser-agent", "hawser"])?;
        a.ok(&["dnf", "remove", "-q", "-y", "hawser-agent", "hawser"])?;
        left(&control, "a")?;
        a.ok(&["systemctl", "stop", "app"])?;
        let after = Host::look(&a)?;
        after.is_on_the_network_as(&before)?;
        let ours: Vec<&String> = after.files.difference(&before.files).filter(|path| path.contains("hawser")).collect();
        ensure!(ours.is_empty(), "files that were not there before: {ours:?}");
        Ok(())
    });
}

#[test]
fn the_archive_installs_and_uninstalls_itself() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let (control, b) = (world.boot("control", 1, Root::Bookworm)?, world.boot("b", 3, Root::Bookworm)?);
        let archive = archive(world.dist.first())?;
        let before = Host::look(&b)?;
        for machine in [&control, &b] {
            machine.sh(&format!("mkdir /var/tmp/x; tar -xzf {archive} -C /var/tmp/x --strip-components=1"))?;
        }
        control.ok(&["/var/tmp/x/install.sh", "--discovery"])?;
        control.sh(
            "echo HAWSER_ADVERTISE=10.99.0.1:15012 >>/etc/hawser/discovery.env; systemctl restart hawser-discovery",
        )?;
        b.ok(&["/var/tmp/x/install.sh"])?;
        idle(&b)?;
        b.fed(&["hawser", "join", "-"], Some(&token(&control, "details")?))?;
        joined(&b)?;
        serve(&b)?;
        calls(&b)?;
        b.ok(&["systemctl", "stop", "app"])?;
        b.ok(&["/var/tmp/x/install.sh", "--uninstall"])?;
        left(&control, "b")?;
        let after = Host::look(&b)?;
        after.is_on_the_network_as(&before)?;
        let new: Vec<&String> = after.files.difference(&before.files).filter(|path| path.contains("hawser")).collect();
        let kept =
            ["/etc/hawser", "/etc/hawser/agent.yaml", "/var/lib/hawser", "/var/lib/hawser/lock", "/var/log/hawser"];
        ensure!(new.iter().all(|path| kept.contains(&path.as_str())), "it left {new:?}");
        Ok(())
    });
}

#[test]
fn the_examples_for_cloud_init_and_ansible_make_members() {
    isolation::isolated_with_users(|| {
        let world = World::new()?;
        let control = world.boot("control", 1, Root::Automation)?;
        use_apt(&control, world.dist.first())?;
        control.ok(&["apt-get", "install", "-qq", "-y", "hawser-discovery"])?;
        control.sh(
            "echo HAWSER_ADVERTISE=10.99.0.1:15012 >>/etc/hawser/discovery.env; systemctl restart hawser-discovery",
        )?;
        let examples = programs::source_root().join("docs/examples");
        let repository = format!("file:{}/apt", world.dist.first().display());

        // Both at once on one host: it hands out the token, and takes it.
        control.put("/var/tmp/ansible.yaml", &std::fs::read_to_string(examples.join("ansible.yaml"))?, "0600")?;
        control.put("/var/tmp/hosts", "[members]\ncontrol ansible_connection=local\n", "0600")?;
        let play = format!(
            "cd /var/tmp; ansible-playbook -i hosts ansible.yaml -e hawser_repository={} -e hawser_group=default/caller \
             -e hawser_port=http=9081",
            repository.replace("file:", "file://")
        );
        control.sh(&play)?;
        joined(&control)?;
        let again = control.sh(&play)?;
        ensure!(again.contains("changed=0"), "a second run changes nothing: {again}");

        let mut a = world.boot("a", 2, Root::Automation)?;
        let key = std::fs::read_to_string(world.dist.first().join("apt/hawser.asc"))?;
        let key =
            key.lines().map(|line| format!("        {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n");
        let example = std::fs::read_to_string(examples.join("cloud-init.yaml"))?;
        let from = example.find("        -----BEGIN").context("where the key begins")?;
        let to = example.find("KEY BLOCK-----\nwrite_files").context("where the key ends")? + "KEY BLOCK-----".len();
        let said = format!("{}{key}{}", &example[..from], &example[to..])
            .replace("https://packages.example.com/apt", &repository)
            .replace("hwj1.replace-me", &token(&control, "details")?);
        a.put("/var/lib/cloud/seed/nocloud/user-data", &said, "0600")?;
        a.put("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: a\nlocal-hostname: a\n", "0600")?;
        // What is not of the example: this network is not its to make, and there is no other archive.
        a.put(
            "/etc/cloud/cloud.cfg.d/99-here.cfg",
            "network: {config: disabled}\napt: {preserve_sources_list: true}\ndatasource_list: [NoCloud]\nlocale: false\n",
            "0644",
        )?;
        a.sh("rm -f /etc/apt/sources.list")?;
        a.reboot()?;
        let done = a.run(&["cloud-init", "status", "--wait", "--long"])?;
        ensure!(
            done.out.contains("status: done"),
            "{}\n{}",
            done.out,
            a.sh("tail -50 /var/log/cloud-init-output.log")?
        );
        joined(&a)?;
        serve(&a)?;
        calls(&control)
    });
}

#[test]
fn equal_input_gives_equal_packages() -> Result<()> {
    let dist = Dist::find()?;
    let again = tempfile::tempdir()?;
    let mut xtask = std::process::Command::new(programs::find("xtask")?);
    xtask.args(["dist", "--debug", "--no-build", "--out"]).arg(again.path().join("out"));
    xtask.current_dir(programs::source_root());
    let seen = finish(xtask, None, Duration::from_secs(300))?;
    ensure!(seen.ok(), "{}{}", seen.out, seen.err);
    for listed in ["SHA256SUMS", "apt/dists/stable/Release"] {
        let (first, second) = (dist.first().join(listed), again.path().join("out").join(listed));
        let (first, second) = (std::fs::read_to_string(first)?, std::fs::read_to_string(second)?);
        ensure!(first == second, "{listed}:\n{first}\n{second}");
    }
    Ok(())
}

#[test]
fn the_list_of_parts_names_what_is_linked() -> Result<()> {
    let dist = Dist::find()?;
    let text = std::fs::read_to_string(dist.first().join("hawser-0.1.0.cdx.json"))?;
    let list: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(list["bomFormat"] == "CycloneDX" && list["specVersion"] == "1.5", "its form: {}", list["bomFormat"]);
    let parts = list["components"].as_array().context("components")?;
    let part = |name: &str| parts.iter().find(|part| part["name"] == name);
    for linked in ["rustls", "tokio", "hawser-proxy", "redb"] {
        ensure!(part(linked).is_some(), "{linked} is missing");
    }
    ensure!(part("rustls").is_some_and(|part| part["hashes"][0]["content"].is_string()), "rustls has a checksum");
    for other in ["tempfile", "protox", "hawser-tests"] {
        ensure!(part(other).is_none(), "{other} is in no program");
    }
    Ok(())
}

#[test]
fn lintian_finds_nothing() {
    isolation::isolated_with_users(|| {
        let dist = Dist::find()?;
        let mut lintian = std::process::Command::new("lintian");
        lintian.args(["--fail-on", "error,warning", "--allow-root"]);
        for entry in std::fs::read_dir(dist.first())? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "deb") {
                lintian.arg(path);
            }
        }
        let seen = finish(lintian, None, Duration::from_secs(300)).context("lintian is missing: install it")?;
        ensure!(seen.ok(), "{}{}", seen.out, seen.err);
        Ok(())
    });
}

/// What a host is, as far as packages could change it.
struct Host {
    files: BTreeSet<String>,
    users: BTreeSet<String>,
    /// Rules, routes, who listens, how names are resolved.
    network: String,
}

impl Host {
    fn look(machine: &Machine) -> Result<Self> {
        // What the package manager and the journal write of their own accord is no trace of ours.
        let files = machine.sh(
            "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /dev -o -path /root \
             -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/cache \
             -o -path /var/tmp -o -path /var/lib/systemd \\) -prune -o ! -path '/etc/*-' ! -path /etc/.pwd.lock -print; \
             find /run /var/log /etc -name '*hawser*' ! -path '/run/systemd/*'; ls -d /var/lib/systemd/deb-systemd-helper-*/*hawser* 2>/dev/null || true",
        )?;
        let network = machine.sh("nft list ruleset; ip route show table all | grep -v fe80; ip rule; cat /etc/resolv.conf; ss -Hlntup | awk '{print $1,$5}' | sort")?;
        let users = machine.sh("cut -d: -f1 /etc/passwd")?;
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Ok(Self { files: lines(&files), users: lines(&users), network })
    }

    /// Its network is as it was.
    fn is_on_the_network_as(&self, before: &Self) -> Result<()> {
        let without =
            |a: &str, b: &str| a.lines().filter(|l| !b.lines().any(|m| m == *l)).collect::<Vec<_>>().join("\n");
        let (new, gone) = (without(&self.network, &before.network), without(&before.network, &self.network));
        ensure!(new.is_empty() && gone.is_empty(), "of the network is new:\n{new}\nis gone:\n{gone}");
        Ok(())
    }
}

/// The archive of a build.
fn archive(dist: &Path) -> Result<String> {
    let files = std::fs::read_dir(dist)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut archives = files.filter(|path| path.to_string_lossy().ends_with(".tar.gz"));
    Ok(archives.next().context("there is no archive")?.display().to_string())
}

/// The machine takes packages from a repository of ours. What they need is there, though rpm does not know it.
fn use_dnf(machine: &Machine, dist: &Path) -> Result<()> {
    let yum = dist.join("yum").display().to_string();
    machine.put("/var/tmp/stub.spec", STUB, "0600")?;
    machine.sh(&format!(
        "rpmbuild -bb --quiet --define '_rpmdir /var/tmp' --define '_build_name_fmt stub.rpm' /var/tmp/stub.spec
         rpm -i /var/tmp/stub.rpm
         mkdir -p /etc/yum.repos.d
         printf '[hawser]\\nname=Hawser\\nbaseurl=file://{yum}\\ngpgkey=file://{yum}/hawser.asc\\ngpgcheck=1\\nrepo_gpgcheck=1\\n' \
             >/etc/yum.repos.d/hawser.repo
         dnf makecache -q -y --releasever=1"
    ))?;
    Ok(())
}

/// What Debian's packages have brought, for rpm.
const STUB: &str = "Name: stub\nVersion: 1\nRelease: 1\nSummary: What is there\nLicense: none\nBuildArch: noarch\n\
    Provides: nftables, systemd, /bin/sh\n%description\nWhat is there.\n%files\n";

/// Enabled, and without anything to do.
fn idle(machine: &Machine) -> Result<()> {
    for unit in ["hawser-agent.service", "hawser-guard.service", "hawser-proxy.path"] {
        ensure!(machine.ok(&["systemctl", "is-enabled", unit])?.trim() == "enabled", "{unit} is not enabled");
    }
    ensure!(machine.ok(&["systemctl", "is-active", "hawser-agent"])?.trim() == "active", "the agent does not run");
    ensure!(status(machine)?.starts_with("not joined"), "{}", status(machine)?);
    let proxy = machine.run(&["systemctl", "is-active", "hawser-proxy"])?.out;
    ensure!(proxy.trim() == "inactive", "the proxy is {proxy}");
    let listens = machine.sh("ss -Hlntup")?;
    ensure!(!listens.contains("hawser"), "something listens: {listens}");
    machine.ok(&["systemctl", "start", "hawser-ready.target"])?;
    Ok(())
}

/// What the doctor says, and its exit code.
fn doctor(machine: &Machine, more: &[&str]) -> Result<(i32, Vec<serde_json::Value>)> {
    let seen = machine.run(&[&["hawser", "doctor", "--json"], more].concat())?;
    Ok((seen.code, serde_json::from_str(&seen.out).with_context(|| format!("{seen:?}"))?))
}

/// Nothing is to be mended, and from within its unit the agent finds all well but this.
fn well(machine: &Machine, more: &[&str], but: &[&str]) -> Result<()> {
    let mut last = (0, Vec::new());
    wait::for_true("the doctor finds nothing", MOMENT, || {
        last = doctor(machine, more).unwrap_or_default();
        let others = last.1.iter().filter(|finding| finding["verdict"] != "ok");
        last.0 == 0 && others.map(|finding| &finding["check"]).eq(but)
    })
    .with_context(|| format!("{last:#?}"))
}

/// Somebody has a port of ours. Within its unit the agent sees no other user's processes: it says so, and whose it is.
fn told_of_a_taken_port(machine: &Machine) -> Result<()> {
    let other = "my $s = IO::Socket::INET->new(LocalPort => 15001, Listen => 1) or die; sleep 600";
    machine.ok(&["systemd-run", "--quiet", "--unit=other", "perl", "-MIO::Socket::INET", "-e", other])?;
    wait::for_true("the port is taken", MOMENT, || machine.sh("ss -Hlnt sport = :15001").is_ok_and(|s| !s.is_empty()))?;
    let (code, findings) = doctor(machine, &[])?;
    let told = findings.iter().any(|finding| {
        let says = |field: &str, what: &str| finding[field].as_str().is_some_and(|text| text.contains(what));
        finding["check"] == "ports"
            && finding["verdict"] == "failure"
            && says("sentence", "TCP port 15001")
            && says("sentence", "a program of user root, whose name can't be seen from here")
            && says("cure", "ss -Hlntp")
    });
    ensure!(code == 8 && told, "{code}: {findings:#?}");
    let seen = machine.run(&["hawser", "join", "--token-file", "/var/tmp/token"])?;
    ensure!(seen.code == 32 && seen.err.contains("TCP port 15001"), "{seen:?}");
    machine.ok(&["systemctl", "stop", "other"])?;
    Ok(())
}

/// Gives back each line.
const ECHO: &str = "my $s = IO::Socket::INET->new(LocalPort => 9000, Listen => 9, ReuseAddr => 1) or die; $SIG{CHLD} = 'IGNORE'; \
    while (my $c = $s->accept) { next if fork; $c->autoflush(1); while (<$c>) { print $c $_ } exit }";

/// One connection on which each line comes back, until the test ends it.
const TALK: &str = "open my $o, '>', '/var/tmp/talk'; $o->autoflush(1); \
    my $c = IO::Socket::INET->new(PeerAddr => 'details.default.svc.cluster.local:9000') or die; $c->autoflush(1); my $n = 0; \
    until (-e '/var/tmp/stop') { print $c ++$n, qq(\n); my $l = <$c>; die 'cut' unless defined $l && $l == $n; \
    print $o $l; select undef, undef, undef, 0.2 } print $o qq(whole\n)";

/// Requests, one after the other, each on a connection of its own. The name is asked for once: while an agent starts anew, nobody
/// answers names of the mesh.
const LOAD: &str = "a=$(getent ahostsv4 details.default.svc.cluster.local | head -1 | cut -d' ' -f1); until [ -e /var/tmp/stop ]; do \
    if curl --silent --show-error --fail --max-time 20 --resolve details.default.svc.cluster.local:9080:$a http://details.default.svc.cluster.local:9080/ >/var/tmp/body 2>&1; \
    then echo ok; else cat /var/tmp/body; echo failed; fi >>/var/tmp/load; done";

/// The main process of the proxy's unit.
fn main_process(machine: &Machine) -> Result<String> {
    Ok(machine.ok(&["systemctl", "show", "--value", "-p", "MainPID", "hawser-proxy"])?.trim().to_owned())
}

/// How many former proxies a member has.
fn formers(machine: &Machine) -> Result<u64> {
    let status: serde_json::Value = serde_json::from_str(&machine.ok(&["hawser", "status", "-o", "json"])?)?;
    status["host"]["proxy"]["former"].as_u64().with_context(|| status.to_string())
}

/// Logs are in the journal with their fields.
fn fields(machine: &Machine) -> Result<()> {
    let lines = machine.ok(&["journalctl", "-u", "hawser-agent", "-o", "json", "HAWSER_STEP=identity"])?;
    ensure!(lines.contains("spiffe://"), "{lines}");
    Ok(())
}

/// What units could do to the host, in tenths of systemd's measure.
fn harmless(machine: &Machine, most: &[(&str, u32)]) -> Result<()> {
    for (unit, most) in most {
        let said = machine.ok(&["systemd-analyze", "security", "--no-pager", &format!("{unit}.service")])?;
        let line = said.lines().find(|line| line.contains("Overall exposure level")).context("no exposure level")?;
        let number = line.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).context("no number")?;
        let tenths: f64 = number.parse::<f64>()? * 10.0;
        ensure!(tenths < f64::from(*most), "{unit}: {line}\n{said}");
    }
    Ok(())
}
