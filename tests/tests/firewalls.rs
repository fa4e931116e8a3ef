//! Hawser beside real firewalls: loaded before it, after it, reloaded while it serves, and flushed under its feet.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::isolation::isolated_with_users;
use hawser_tests::mesh::{APP_USER, Load, Member, Mesh, as_user};
use hawser_tests::{Host, Lab, Process, firewalls, wait};

const DETAILS: &str = "http://details.default.svc.cluster.local:9080/";
const PAGE: &str = "http://productpage.default.svc.cluster.local:9080/";
const SOON: Duration = Duration::from_secs(10);

/// A member with everything that a host in production has: SSH, a declared port, another that its operator closes, and a
/// container behind a bridge whose port is published; a caller in the mesh, and a stranger outside.
struct Scene {
    vm: Member,
    caller: Member,
    stranger: Host,
    _programs: Vec<Process>,
    _mesh: Mesh,
    _lab: Lab,
}

impl Scene {
    /// `before` is done to the host before Hawser comes. The container's bridge is `bridge`.
    fn new(bridge: &str, before: impl FnOnce(&Host) -> Result<Vec<Process>>) -> Result<Self> {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let caller = Member::joined(&mut lab, &mesh, "caller", "productpage", "v1")?;
        let stranger = lab.host("stranger")?;
        let mut programs = vec![stranger.spawn("outside", &["hawser-bookinfo", "ratings", "--port", "8000"])?];
        let host = lab.host("vm")?;
        firewalls::lay_over(&host)?;
        let mut vm = Member::on(host)?;
        vm.bookinfo("details", "v1", "")?;
        vm.app("admin", &["hawser-bookinfo", "ratings", "--port", "9090"])?;
        programs.push(vm.host.spawn("ssh", &["hawser-lab", "echo", "--port", "22", "--banner", "SSH-2.0-lab\n"])?);
        programs.push(container(&vm.host, bridge)?);
        for program in &mut programs {
            program.says("ready", SOON)?;
        }
        programs.extend(before(&vm.host)?);
        vm.join(&mesh.token("default/details", &["http=9080", "http-admin=9090"], 1, &[])?)?;
        let scene = Self { vm, caller, stranger, _programs: programs, _mesh: mesh, _lab: lab };
        scene.settles()?;
        Ok(scene)
    }

    /// Waits until the mesh carries both ways, and SSH, the published port and the container's calls work.
    fn settles(&self) -> Result<()> {
        let vm = self.vm.host.v4();
        let ways: [(&str, &Host, Vec<String>); 4] = [
            ("mesh inward", &self.caller.host, fetch(DETAILS)),
            ("mesh outward", &self.vm.host, fetch(PAGE)),
            ("published port", &self.stranger, fetch(&format!("http://{vm}:8088/"))),
            ("container outward", &self.vm.host, [in_box(), fetch(&self.outside())].concat()),
        ];
        for (what, from, command) in ways {
            let mut last = None;
            wait::for_true(what, SOON, || {
                last = from.run(&command).ok();
                last.as_ref().is_some_and(|seen| seen.ok())
            })
            .with_context(|| format!("{last:?}\n{}", self.vm.host.ok(&["nft", "list", "ruleset"]).unwrap_or_default()))?;
        }
        Ok(())
    }

    fn outside(&self) -> String {
        format!("http://{}:8000/", self.stranger.v4())
    }

    /// Requests on every way at once.
    fn loads(&self) -> Result<Loads> {
        let vm = self.vm.host.v4();
        let container = [in_box(), load(&self.outside(), &["--fresh"])].concat();
        Ok(Loads(vec![
            ("mesh inward", self.caller.load(DETAILS, 50, &[])?),
            ("mesh inward, new connections", self.caller.load(DETAILS, 20, &["--fresh"])?),
            ("mesh outward", self.vm.load(PAGE, 50, &[])?),
            ("mesh outward, new connections", self.vm.load(PAGE, 20, &["--fresh"])?),
            ("SSH", self.caller.load(&format!("tcp://{vm}:22"), 20, &[])?),
            ("published port", self.caller.load(&format!("http://{vm}:8088/"), 20, &["--fresh"])?),
            ("container outward", Load::of(self.vm.host.spawn("load-box", &container)?)),
        ]))
    }

    /// Whether a stranger, in plaintext, gets an answer from the port that its operator closes.
    fn admin_answers(&self) -> Result<bool> {
        let url = format!("http://{}:9090/", self.vm.host.v4());
        Ok(self.stranger.curl(&["--max-time", "1", "--fail", &url])?.ok())
    }

    /// What is loaded is what should be.
    fn agrees(&self, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        let mut last = None;
        wait::for_true("redirection is whole", within, || {
            last = self.vm.hawser(&["redirect", "check"]).ok();
            last.as_ref().is_some_and(|seen| seen.ok())
        })
        .with_context(|| format!("{last:?}"))?;
        Ok(began.elapsed())
    }

    fn restored(&self) -> Result<u64> {
        self.vm.json(&["status"])?["redirection"]["restored"].as_u64().context("status counts what was restored")
    }

    fn sh(&self, script: &str) -> Result<String> {
        self.vm.host.ok(&["sh", "-ec", script])
    }
}

struct Loads(Vec<(&'static str, Load)>);

impl Loads {
    /// Nothing failed.
    fn all_ok(self) -> Result<()> {
        for (what, load) in self.0 {
            load.stop()?.all_ok().context(what)?;
        }
        Ok(())
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn in_box() -> Vec<String> {
    words(&["ip", "netns", "exec", "box"])
}

fn fetch(url: &str) -> Vec<String> {
    words(&["curl", "--silent", "--show-error", "--fail", "--max-time", "2", url])
}

fn load(url: &str, more: &[&str]) -> Vec<String> {
    [words(&["hawser-lab", "load", "--url", url, "--rate", "20"]), words(more)].concat()
}

/// A namespace behind a bridge of the host, with a server on its port 80.
fn container(host: &Host, bridge: &str) -> Result<Process> {
    let script = format!(
        "ip netns add box\n\
         ip link add {bridge} type bridge\nip addr add 172.18.0.1/24 dev {bridge}\nip link set {bridge} up\n\
         ip link add veth0 type veth peer name eth0 netns box\nip link set veth0 master {bridge} up\n\
         ip -n box link set lo up\nip -n box addr add 172.18.0.2/24 dev eth0\nip -n box link set eth0 up\n\
         ip -n box route add default via 172.18.0.1\nsysctl -qw net.ipv4.ip_forward=1"
    );
    host.ok(&["sh", "-ec", &script])?;
    host.spawn("box", &[in_box(), words(&["hawser-bookinfo", "reviews", "--port", "80"])].concat())
}

/// Docker's rules for a bridge `docker0` with a published port, in the order in which it makes them.
const DOCKER: &str = "
iptables -t nat -N DOCKER
iptables -N DOCKER
iptables -N DOCKER-ISOLATION-STAGE-1
iptables -N DOCKER-ISOLATION-STAGE-2
iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
iptables -t nat -I POSTROUTING -s 172.18.0.0/24 ! -o docker0 -j MASQUERADE
iptables -t nat -I DOCKER -i docker0 -j RETURN
iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT
iptables -I FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -I FORWARD -o docker0 -j DOCKER
iptables -I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -I FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -I DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
iptables -I DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
iptables -P FORWARD DROP
iptables -N DOCKER-USER
iptables -A DOCKER-USER -j RETURN
iptables -I FORWARD -j DOCKER-USER
iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8088 -j DNAT --to-destination 172.18.0.2:80
iptables -A DOCKER ! -i docker0 -o docker0 -p tcp -d 172.18.0.2 --dport 80 -j ACCEPT
iptables -t nat -A POSTROUTING -p tcp -s 172.18.0.2 -d 172.18.0.2 --dport 80 -j MASQUERADE
";

/// What Docker does when it is stopped and started again: it takes away its chains and makes them anew.
const DOCKER_AWAY: &str = "
iptables -D FORWARD -j DOCKER-USER
iptables -D FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -F DOCKER-USER
iptables -X DOCKER-USER
";

#[test]
fn ufw_and_docker_come_before_it_and_are_reloaded_while_it_serves() {
    isolated_with_users(|| {
        let scene = Scene::new("docker0", |host| {
            let allow = "ufw allow 22/tcp\nufw allow 9080/tcp\nufw --force enable";
            host.ok(&["sh", "-ec", &format!("{DOCKER}\n{allow}")])?;
            Ok(Vec::new())
        })?;
        ensure!(!scene.admin_answers()?, "ufw closes the port, declared or not");
        let loads = scene.loads()?;
        for _ in 0..2 {
            scene.sh("ufw reload")?;
        }
        scene.sh("ufw allow 9090/tcp")?;
        wait::for_true("an opened port is open", SOON, || scene.admin_answers().unwrap_or_default())?;
        scene.sh("ufw delete allow 9090/tcp")?;
        ensure!(!scene.admin_answers()?, "and closed again");
        scene.agrees(Duration::from_secs(1))?;
        loads.all_ok()?;
        ensure!(scene.restored()? == 0, "nobody touched what is ours");
        // Gone and back: ours does not depend on theirs.
        scene.sh("ufw disable")?;
        scene.settles()?;
        scene.sh("ufw --force enable")?;
        scene.settles()?;
        ensure!(scene.vm.hawser(&["leave"])?.ok());
        ensure!(scene.sh("ufw status")?.contains("Status: active"));
        Ok(())
    });
}
