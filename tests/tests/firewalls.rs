//! Hawser beside real firewalls: loaded before it, after it, reloaded while it serves, and flushed under its feet.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hawser_tests::isolation::isolated_with_users;
use hawser_tests::mesh::{Load, Member, Mesh};
use hawser_tests::{Host, Lab, Process, firewalls, wait};

const DETAILS: &str = "http://details.default.svc.cluster.local:9080/";
/// What needs no other service.
const PAGE: &str = "http://productpage.default.svc.cluster.local:9080/health";
const NO_NAME: &str = "has no address";
const CONTAINER: &str = "container outward";
const SOON: Duration = Duration::from_secs(10);

/// A member with everything that a host in production has: SSH, a declared port, another that its operator closes, and a
/// container whose port is published (the namespace `box`); a caller in the mesh, and a stranger outside.
struct Scene {
    vm: Member,
    caller: Member,
    stranger: Host,
    programs: Vec<Process>,
    mesh: Mesh,
    _lab: Lab,
}

impl Scene {
    /// `before` is done to the host before Hawser comes: at least the container.
    fn new(before: impl FnOnce(&Host) -> Result<Vec<Process>>) -> Result<Self> {
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
        for program in &mut programs {
            program.says("ready", SOON)?;
        }
        programs.extend(before(&vm.host)?);
        vm.join(&mesh.token("default/details", &["http=9080", "http-admin=9090"], 1, &[])?)?;
        let scene = Self { vm, caller, stranger, programs, mesh, _lab: lab };
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
            .with_context(|| {
                format!("{last:?}\n{}", self.vm.host.ok(&["nft", "list", "ruleset"]).unwrap_or_default())
            })?;
        }
        Ok(())
    }

    fn outside(&self) -> String {
        format!("http://{}:8000/", self.stranger.v4())
    }

    /// Requests on every way at once.
    fn loads(&self) -> Result<Loads> {
        let container = [in_box(), load(&self.outside(), &["--fresh"])].concat();
        let mut loads = self.loads_of_the_host()?;
        let published = format!("http://{}:8088/", self.vm.host.v4());
        loads.0.push(("published port", self.caller.load(&published, 20, &["--fresh"])?));
        loads.0.push((CONTAINER, Load::of(self.vm.host.spawn("load-box", &container)?)));
        Ok(loads)
    }

    /// The same without what goes to a container and comes from one.
    fn loads_of_the_host(&self) -> Result<Loads> {
        let vm = self.vm.host.v4();
        Ok(Loads(vec![
            ("mesh inward", self.caller.load(DETAILS, 50, &[])?),
            ("mesh inward, new connections", self.caller.load(DETAILS, 20, &["--fresh"])?),
            ("mesh outward", self.vm.load(PAGE, 50, &[])?),
            ("mesh outward, new connections", self.vm.load(PAGE, 20, &["--fresh"])?),
            ("SSH", self.caller.load(&format!("tcp://{vm}:22"), 20, &[])?),
        ]))
    }

    /// Whether a stranger, in plaintext, gets an answer from the port that its operator closes.
    fn admin_answers(&self) -> Result<bool> {
        self.answers(9090)
    }

    /// Whether a stranger, in plaintext, gets an answer from the port that is served.
    fn plaintext_answers(&self) -> Result<bool> {
        self.answers(9080)
    }

    fn answers(&self, port: u16) -> Result<bool> {
        let url = format!("http://{}:{port}/", self.vm.host.v4());
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
        self.vm.json(&["status"])?["host"]["redirection"]["restored"]
            .as_u64()
            .context("status counts what was restored")
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

    /// Nothing failed but so many requests of the mesh, for reasons of which each has one of these words.
    fn all_ok_but(self, most: u64, excused: &[&str]) -> Result<()> {
        for (what, load) in self.0 {
            let mut seen = load.stop()?;
            let all = seen.first_failures.iter().all(|failure| excused.iter().any(|word| failure.contains(word)));
            if all && seen.failures <= most && what.starts_with("mesh") {
                seen.failures = 0;
            }
            seen.all_ok().context(what)?;
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

/// A namespace behind a bridge of the host, which is made if it is not there.
fn container(host: &Host, bridge: &str) -> Result<()> {
    let script = format!(
        "ip netns add box\n\
         ip link show {bridge} >/dev/null 2>&1 || {{ ip link add {bridge} type bridge; ip addr add 172.18.0.1/24 dev {bridge}; }}\n\
         ip link set {bridge} up\n\
         ip link add veth0 type veth peer name eth0 netns box\nip link set veth0 master {bridge} up\n\
         ip -n box link set lo up\nip -n box addr add 172.18.0.2/24 dev eth0\nip -n box link set eth0 up\n\
         ip -n box route add default via 172.18.0.1\nsysctl -qw net.ipv4.ip_forward=1"
    );
    host.ok(&["sh", "-ec", &script]).map(drop)
}

/// A server in it.
fn server(host: &Host) -> Result<Process> {
    let mut server = host.spawn("box", &[in_box(), words(&["hawser-bookinfo", "reviews", "--port", "80"])].concat())?;
    server.says("ready", SOON)?;
    Ok(server)
}

#[test]
fn ufw_and_docker_come_before_it_and_are_reloaded_while_it_serves() {
    isolated_with_users(|| {
        let mut scene = Scene::new(|host| {
            let docker = firewalls::docker(host)?;
            firewalls::docker_container(host)?;
            host.ok(&["sh", "-ec", "ufw allow 22/tcp\nufw allow 9080/tcp\nufw --force enable"])?;
            Ok(vec![docker])
        })?;
        ensure!(!scene.admin_answers()?, "ufw closes the port, declared or not");
        let loads = scene.loads()?;
        scene.sh("ufw reload")?;
        scene.sh("ufw allow 9090/tcp")?;
        wait::for_true("an opened port is open", SOON, || scene.admin_answers().unwrap_or_default())?;
        scene.sh("ufw delete allow 9090/tcp")?;
        ensure!(!scene.admin_answers()?, "and closed again");
        let docker = scene.programs.pop().context("Docker runs")?;
        docker.terminate(SOON)?;
        let docker = firewalls::docker(&scene.vm.host)?;
        scene.programs.push(docker);
        scene.agrees(Duration::from_secs(1))?;
        loads.all_ok()?;
        ensure!(scene.restored()? == 0, "nobody touched what is ours");
        // Gone and back: ours does not depend on theirs, nor theirs on ours.
        scene.sh("ufw disable")?;
        scene.settles()?;
        scene.sh("ufw --force enable")?;
        scene.settles()?;
        ensure!(scene.vm.hawser(&["leave"])?.ok());
        ensure!(scene.sh("ufw status")?.contains("Status: active"));
        ensure!(!scene.admin_answers()?, "ufw goes on");
        Ok(())
    });
}

/// A zone as firewalld keeps it, with what the host serves.
const ZONE: &str = "<zone><short>Public</short><service name=\"ssh\"/><port port=\"9080\" protocol=\"tcp\"/></zone>";
/// Podman's containers are trusted, as Podman asks for where it finds firewalld; here for longer than until a reload.
const TRUSTED: &str = "<zone target=\"ACCEPT\"><short>Trusted</short><source address=\"172.18.0.0/24\"/></zone>";

#[test]
fn firewalld_and_podman_come_before_it_and_are_reloaded_while_it_serves() {
    isolated_with_users(|| {
        let scene = Scene::new(|host| {
            let zones = "/etc/firewalld/zones";
            let write =
                format!("mkdir -p {zones}\necho '{ZONE}' > {zones}/public.xml\necho '{TRUSTED}' > {zones}/trusted.xml");
            host.ok(&["sh", "-ec", &write])?;
            let mut programs: Vec<Process> = firewalls::firewalld(host)?.into();
            firewalls::podman_container(host)?;
            programs.push(server(host)?);
            Ok(programs)
        })?;
        ensure!(!scene.admin_answers()?, "firewalld closes the port, declared or not");
        // What is forwarded firewalld drops and refuses while it reloads, and it takes Podman's rules away.
        let loads = scene.loads_of_the_host()?;
        scene.sh("firewall-cmd --reload")?;
        scene.sh("firewall-cmd --add-port=9090/tcp")?;
        wait::for_true("an opened port is open", SOON, || scene.admin_answers().unwrap_or_default())?;
        // What was not said to be permanent goes with it.
        scene.sh("firewall-cmd --complete-reload")?;
        ensure!(!scene.admin_answers()?, "and closed again");
        scene.agrees(Duration::from_secs(1))?;
        // It drops, meanwhile, what the host itself begins to send too: TCP tries again, but not who asks for names.
        loads.all_ok_but(200, &[NO_NAME])?;
        firewalls::podman_reload(&scene.vm.host)?;
        ensure!(scene.restored()? == 0, "nobody touched what is ours");
        scene.settles()
    });
}

/// What `netfilter-persistent` loads: a default-deny input chain, and a published port of a guest as libvirt's hooks make it.
const PERSISTENT: &str = "*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -p tcp -m multiport --dports 22,9080 -j ACCEPT
-A FORWARD -d 172.18.0.2 -p tcp --dport 80 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 8088 -j DNAT --to-destination 172.18.0.2:80
COMMIT
";

#[test]
fn iptables_and_libvirt_come_after_it_and_are_reloaded_while_it_serves() {
    isolated_with_users(|| {
        let mut scene = Scene::new(|host| {
            container(host, "virbr0")?;
            let publish = "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 8088 -j DNAT \
                           --to-destination 172.18.0.2:80\niptables -t nat -A POSTROUTING -s 172.18.0.2 -j MASQUERADE";
            host.ok(&["sh", "-ec", publish])?;
            Ok(vec![server(host)?])
        })?;
        ensure!(scene.admin_answers()?, "nobody closes the port yet");
        // libvirt wants to make its bridge itself.
        scene.sh("ip link set veth0 nomaster\nip link del virbr0")?;
        let load = |scene: &Scene| {
            let seen = scene.vm.host.run_with_input(&["iptables-restore"], Some(PERSISTENT))?;
            ensure!(seen.ok(), "{}", seen.err);
            Ok(())
        };
        load(&scene)?;
        let libvirt = firewalls::libvirt(&scene.vm.host)?;
        firewalls::libvirt_network(&scene.vm.host)?;
        scene.sh("ip link set veth0 master virbr0 up")?;
        scene.sh("iptables -I FORWARD -d 172.18.0.2 -p tcp --dport 80 -j ACCEPT")?;
        scene.settles()?;
        ensure!(!scene.admin_answers()?, "iptables closes the port, declared or not");
        // A guest's are libvirt's own business, which refuses them for a moment while it starts.
        let loads = scene.loads_of_the_host()?;
        libvirt.terminate(SOON)?;
        let libvirt = firewalls::libvirt(&scene.vm.host)?;
        scene.programs.push(libvirt);
        scene.sh("iptables -I FORWARD -d 172.18.0.2 -p tcp --dport 80 -j ACCEPT")?;
        loads.all_ok()?;
        scene.settles()?;
        let loads = scene.loads()?;
        // As it is, saved and loaded again, which replaces all of it.
        for _ in 0..3 {
            scene.sh("iptables-save > /run/rules\niptables-restore < /run/rules")?;
        }
        scene.agrees(Duration::from_secs(1))?;
        loads.all_ok()?;
        ensure!(scene.restored()? == 0, "nobody touched what is ours");
        ensure!(!scene.admin_answers()?, "and closed it stays");
        Ok(())
    });
}

/// What `nftables.service` loads at boot and at each reload: it begins with a flush of everything.
const NFTABLES: &str = "flush ruleset
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport { 22, 9080 } accept
    }
}
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        fib daddr type local tcp dport 8088 dnat to 172.18.0.2:80
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 172.18.0.0/24 oifname != \"br1\" masquerade
    }
}
";

#[test]
fn a_flushed_ruleset_is_healed_within_a_second_and_nobody_is_fought() {
    isolated_with_users(|| {
        let load = |host: &Host| {
            let seen = host.run_with_input(&["nft", "-f", "-"], Some(NFTABLES))?;
            ensure!(seen.ok(), "{}", seen.err);
            Ok(())
        };
        let scene = Scene::new(|host| {
            container(host, "br1")?;
            load(host)?;
            Ok(vec![server(host)?])
        })?;
        scene.mesh.apply(STRICT)?;
        wait::for_true("plaintext is refused", SOON, || !scene.plaintext_answers().unwrap_or(true))?;
        ensure!(!scene.admin_answers()?, "nftables closes the port, declared or not");

        let loads = scene.loads()?;
        for round in 1..=2 {
            load(&scene.vm.host)?;
            healed(&scene, round)?;
        }
        // Names are asked of the host's own servers, and new connections are taken by the application itself, which does not
        // know what a proxy says, until the table is there again: for less than a second, twice.
        loads.all_ok_but(50, &[NO_NAME, "status 503"])?;
        let status = scene.vm.hawser(&["status"])?;
        ensure!((status.out.clone() + &status.err).contains("by `nft`"), "{status:?}");
        ensure!(scene.vm.agent_log().contains("redirection was changed by others, and put back"));

        scene.sh("ip route flush proto 157\nip -6 route flush proto 157")?;
        healed(&scene, 3)?;
        scene.sh("ip link set lo down\nip link set lo up")?;
        scene.agrees(SOON)?;
        scene.settles()?;

        // Whoever does not stop is not fought, and told so.
        wait::for_true("it is put off", 2 * SOON, || {
            let _ = scene.vm.host.run(&["nft", "flush", "ruleset"]);
            scene.vm.hawser(&["status"]).is_ok_and(|seen| (seen.out + &seen.err).contains("again and again"))
        })?;
        ensure!(scene.vm.agent_log().contains("again and again"));
        scene.agrees(2 * SOON)?;
        Ok(())
    });
}

/// A group whose annotations leave a port alone, and capture another one wherever it is.
const GROUP: &str = "
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: details, namespace: default}
spec:
  metadata:
    annotations:
      traffic.sidecar.istio.io/excludeInboundPorts: \"9090\"
      traffic.sidecar.istio.io/includeOutboundPorts: \"8000\"
  template: {ports: {http: 9080, http-admin: 9090}}
";

#[test]
fn a_group_s_annotations_say_what_is_captured_while_it_serves() {
    isolated_with_users(|| {
        let mut lab = Lab::new()?;
        let mesh = Mesh::start(&mut lab)?;
        let stranger = lab.host("stranger")?;
        let mut outside = stranger.spawn("outside", &["hawser-bookinfo", "ratings", "--port", "8000"])?;
        outside.says("ready", SOON)?;
        let host = lab.host("vm")?;
        let mut vm = Member::configured(host, "exempt: {inboundPorts: [9070], cidrs: [192.0.2.0/24]}\n")?;
        vm.bookinfo("details", "v1", "")?;
        let ports = ["http=9080", "http-admin=9090"];
        vm.join(&mesh.token("default/details", &ports, 1, &[])?)?;
        let captured = |port: u16| {
            let status = vm.json(&["status"]).unwrap_or_default();
            let inbound = status["host"]["redirection"]["inbound"].as_array().cloned().unwrap_or_default();
            inbound.iter().any(|text| text.as_str().is_some_and(|text| text.starts_with(&format!("*:{port} "))))
        };
        ensure!(captured(9080) && captured(9090));
        let taken = || vm.metric("hawser_agent_redirected_total{counter=\"outbound\"}").unwrap_or_default();
        let call = || -> Result<f64> {
            let before = taken();
            let seen = vm.host.curl(&["--fail", &format!("http://{}:8000/", stranger.v4())])?;
            ensure!(seen.ok(), "{}", seen.err);
            Ok(taken() - before)
        };
        ensure!(call()? == 0.0, "it is none of the mesh's business");
        let wrong = GROUP.replace("\"9090\"", "\"http\"");
        let refused = mesh.hawser_with_input(&["apply", "-f", "-"], &wrong)?;
        ensure!(!refused.ok() && refused.err.contains("excludeInboundPorts"), "{refused:?}");
        ensure!(refused.err.contains("1 to 65535"), "{refused:?}");

        mesh.apply(GROUP)?;
        wait::for_true("the port is left alone", SOON, || !captured(9090) && captured(9080))?;
        ensure!(call()? == 1.0, "its port is captured wherever it is, and goes on");
        ensure!(vm.hawser(&["redirect", "check"])?.ok());
        Ok(())
    });
}

/// Seen and healed within a second.
fn healed(scene: &Scene, times: u64) -> Result<()> {
    let took = scene.agrees(Duration::from_secs(1))?;
    ensure!(scene.restored()? >= times, "{} times restored", scene.restored()?);
    eprintln!("healed {took:?} after it was flushed, as seen from outside");
    Ok(())
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
";
