//! Other people's firewalls as real programs: packages of this system's own release, taken apart beside it and laid over a
//! host's directories. The machine itself is not touched.
//!
//! In: a host. Out: that host with ufw, firewalld, iptables, Docker, netavark (Podman's) and libvirt in their usual places,
//! and the daemons among them started as a service manager would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{Host, Process, host, programs, wait};

/// The packages; what they need comes along.
const PACKAGES: [&str; 11] = [
    "ufw",
    "firewalld",
    "iptables",
    "netavark",
    "dbus",
    "nftables",
    "docker.io",
    "busybox-static",
    "libvirt-daemon",
    "libvirt-clients",
    "dnsmasq-base",
];
/// Of libvirt's drivers, the one that makes rules.
const LIBVIRT_DRIVER: &str = "libvirt_driver_network.so";
/// Programs of the package iptables that other packages call by these names.
const IPTABLES: [&str; 6] =
    ["iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"];

/// The unpacked packages, in `target/testbeds`; fetched if they are missing.
///
/// # Errors
/// If they can't be had; says what is missing.
fn provide() -> Result<PathBuf> {
    let dir = programs::source_root().join("target/testbeds/firewalls");
    std::fs::create_dir_all(&dir)?;
    let root = dir.join("root");
    let lock = std::fs::File::create(dir.join("lock"))?;
    lock.lock().context("waiting for the test bed's lock")?;
    if !root.is_dir() {
        fetch(&dir).with_context(|| {
            format!("the firewalls of other people come from packages of Debian or Ubuntu: {}", PACKAGES.join(", "))
        })?;
    }
    Ok(root)
}

fn fetch(dir: &Path) -> Result<()> {
    let unpacked = dir.join("unpacked");
    let _ = std::fs::remove_dir_all(&unpacked);
    for folder in ["lists/partial", "cache/archives/partial", "unpacked/usr/sbin"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    let here = dir.display();
    let config = format!(
        "Dir::State::lists \"{here}/lists\";\nDir::Cache \"{here}/cache\";\nAPT::Sandbox::User \"root\";\n\
         Debug::NoLocking \"true\";\n"
    );
    let file = dir.join("apt.conf");
    std::fs::write(&file, config)?;
    run("apt-get", &["update"], &file).context("apt-get is missing, or knows no archive that answers")?;
    let args = ["install", "--download-only", "--reinstall", "--no-install-recommends", "--yes"];
    run("apt-get", &[&args[..], &PACKAGES[..]].concat(), &file)?;
    for package in std::fs::read_dir(dir.join("cache/archives"))?.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|x| x == "deb") {
            run("dpkg-deb", &["-x".as_ref(), package.as_os_str(), unpacked.as_os_str()], &file)?;
        }
    }
    // Where / has links into /usr, packages may still bring directories.
    for folder in ["bin", "sbin", "lib"] {
        let (from, to) = (unpacked.join(folder), unpacked.join("usr").join(folder));
        if from.is_dir() {
            std::fs::create_dir_all(&to)?;
            run("cp", &["-a".as_ref(), from.join(".").as_os_str(), to.as_os_str()], &file)?;
        }
    }
    for name in IPTABLES {
        std::os::unix::fs::symlink("xtables-nft-multi", unpacked.join("usr/sbin").join(name))?;
    }
    for library in std::fs::read_dir(unpacked.join("usr/lib"))?.flatten() {
        let drivers = std::fs::read_dir(library.path().join("libvirt/connection-driver"));
        for driver in drivers.into_iter().flatten().flatten().filter(|driver| driver.file_name() != LIBVIRT_DRIVER) {
            std::fs::remove_file(driver.path())?;
        }
    }
    // What ufw's package does when it is installed.
    let templates = unpacked.join("usr/share/ufw");
    std::fs::create_dir_all(unpacked.join("etc/default"))?;
    run("cp", &["-a".as_ref(), templates.join("iptables/.").as_os_str(), unpacked.join("etc/ufw").as_os_str()], &file)?;
    std::fs::copy(templates.join("ufw.conf"), unpacked.join("etc/ufw/ufw.conf"))?;
    std::fs::rename(unpacked, dir.join("root"))?;
    Ok(())
}

fn run<S: AsRef<OsStr>>(program: &str, args: &[S], config: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).env("APT_CONFIG", config).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let title = format!("{command:?}");
    let seen = host::finish(command, None, Duration::from_secs(300)).with_context(|| title.clone())?;
    ensure!(seen.ok(), "{title} ended with {}:\n{}{}", seen.code, seen.out, seen.err);
    Ok(())
}

/// Lays them over a host's own directories. Before its agent is started: /etc is another directory from then on.
///
/// # Errors
/// If they can't be had or mounted.
pub fn lay_over(host: &Host) -> Result<()> {
    let root = provide()?.display().to_string();
    let script = format!(
        "mkdir -p /run/over/up /run/over/work\n\
         [ -L /etc/resolv.conf ] || cp /etc/resolv.conf /run/over/up/\n\
         mount -t overlay over -o lowerdir={root}/usr:/usr /usr\n\
         mount -t overlay over -o lowerdir={root}/etc:/etc,upperdir=/run/over/up,workdir=/run/over/work /etc\n\
         mount -t tmpfs tmpfs /var/log\nmount -t tmpfs tmpfs /var/lib"
    );
    host.ok(&["sh", "-ec", &script]).map(drop)
}

/// A message bus and firewalld on it, running.
///
/// # Errors
/// If they don't start.
pub fn firewalld(host: &Host) -> Result<[Process; 2]> {
    let user = "id messagebus >/dev/null 2>&1 || echo messagebus:x:64101:64101::/:/bin/false >> /etc/passwd";
    host.ok(&["sh", "-ec", &format!("mkdir -p /run/dbus\n{user}")])?;
    let bus = host.spawn("dbus", &["dbus-daemon", "--system", "--nofork", "--nopidfile"])?;
    wait::for_true("the message bus is there", SOON, || {
        host.run(&["test", "-S", "/run/dbus/system_bus_socket"]).is_ok_and(|seen| seen.ok())
    })?;
    let firewalld = started(host, "firewalld", &["firewalld", "--nofork", "--nopid"], &["firewall-cmd", "--state"])?;
    Ok([bus, firewalld])
}

/// Docker, running; containers outlive it.
///
/// # Errors
/// If it does not start.
pub fn docker(host: &Host) -> Result<Process> {
    let daemon = ["dockerd", "--data-root", "/run/docker-data", "--storage-driver", "vfs", "--live-restore"];
    started(host, "dockerd", &daemon, &["docker", "info"])
}

/// A container of Docker's that serves HTTP at its port 80, published at 8088; its network is the namespace `box`.
///
/// # Errors
/// If it does not run.
pub fn docker_container(host: &Host) -> Result<()> {
    let script = "mkdir -p /run/image/bin\ncp $(command -v busybox) /run/image/bin/\necho hello > /run/image/index.html\n\
                  tar -C /run/image -c . | docker import - web\n\
                  docker run -d --name web -p 8088:80 web /bin/busybox httpd -f -p 80\n\
                  ip netns attach box $(docker inspect -f '{{.State.Pid}}' web)";
    host.ok(&["sh", "-ec", script]).map(drop)
}

/// The network of a container as Podman makes it: bridge `podman0`, the namespace `box` on it, its port 80 published at 8088.
///
/// # Errors
/// If netavark refuses.
pub fn podman_container(host: &Host) -> Result<()> {
    host.ok(&["ip", "netns", "add", "box"])?;
    netavark(host, "setup")
}

/// Makes what Podman needs of the firewall again, as `podman network reload` does, where a reload of firewalld took it away.
///
/// # Errors
/// If netavark refuses.
pub fn podman_reload(host: &Host) -> Result<()> {
    // It can't take away what is gone already, and stops there.
    let _ = netavark(host, "teardown");
    host.ok(&["sh", "-ec", "ip -n box link show eth0 >/dev/null 2>&1 && ip -n box link del eth0 || true"])?;
    netavark(host, "setup")
}

fn netavark(host: &Host, what: &str) -> Result<()> {
    let container = serde_json::json!({
        "container_id": "c0ffee", "container_name": "web",
        "port_mappings": [{
            "container_ip": "", "container_port": 80, "host_ip": "", "host_port": 8088, "protocol": "tcp", "range": 1,
        }],
        "networks": {"podman": {"static_ips": ["172.18.0.2"], "interface_name": "eth0"}},
        "network_info": {"podman": {
            "name": "podman", "id": "b0".repeat(32), "driver": "bridge", "network_interface": "podman0",
            "subnets": [{"subnet": "172.18.0.0/24", "gateway": "172.18.0.1"}],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"},
        }},
    });
    let command = ["/usr/lib/podman/netavark", what, "/run/netns/box"];
    let seen = host.run_with_input(&command, Some(&container.to_string()))?;
    ensure!(seen.ok(), "netavark {what} ended with {}: {}{}", seen.code, seen.out, seen.err);
    Ok(())
}

/// libvirt, running.
///
/// # Errors
/// If it does not start.
pub fn libvirt(host: &Host) -> Result<Process> {
    let open = "auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nunix_sock_group = \"root\"\n";
    let script = format!(
        "mkdir -p /etc/libvirt\nprintf '{open}' > /etc/libvirt/libvirtd.conf\n\
         id libvirt-dnsmasq >/dev/null 2>&1 || echo libvirt-dnsmasq:x:64100:64100::/:/bin/false >> /etc/passwd"
    );
    host.ok(&["sh", "-ec", &script])?;
    started(host, "libvirtd", &["libvirtd"], &["virsh", "-c", "network:///system", "net-list"])
}

/// A network of libvirt's, with address translation and bridge `virbr0`.
///
/// # Errors
/// If libvirt refuses.
pub fn libvirt_network(host: &Host) -> Result<()> {
    let network = "<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='off' delay='0'/>\
                   <ip address='172.18.0.1' netmask='255.255.255.0'/></network>";
    let create = ["virsh", "-c", "network:///system", "net-create", "/dev/stdin"];
    let seen = host.run_with_input(&create, Some(network))?;
    ensure!(seen.ok(), "libvirt makes no network: {}", seen.err);
    Ok(())
}

const SOON: Duration = Duration::from_secs(30);

/// A daemon that runs as soon as somebody can ask it.
fn started(host: &Host, name: &str, command: &[&str], question: &[&str]) -> Result<Process> {
    let mut daemon = host.spawn(name, command)?;
    wait::for_true(&format!("{name} answers"), SOON, || {
        host.run(question).is_ok_and(|seen| seen.ok()) || !daemon.is_running()
    })?;
    ensure!(daemon.is_running(), "{name} ended: {}", daemon.log());
    Ok(daemon)
}
