//! A wire with hosts on it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::host::{Host, Seen, finish};
use crate::process::tail;
use crate::wire::Capture;
use crate::{Process, programs};

/// The wire's own address: gateway, and the name server of the world outside.
pub const GATEWAY: &str = "10.77.0.254";
/// The wire's address on the network of pods.
const PODS_GATEWAY: &str = "10.244.0.254";
/// A name that only the name server of the world outside knows.
pub const OUTSIDE: &str = "www.example.test";

/// A bridge in a namespace of its own, hosts that are plugged into it, and a name server that knows the world
/// outside ([`OUTSIDE`] is the wire's own address).
#[derive(Debug)]
pub struct Lab {
    // Dropped first: hosts and tools before the directory that they write to.
    dns: Option<Process>,
    wire: Host,
    hosts: BTreeMap<u8, String>,
    work: Option<TempDir>,
    keep: bool,
}

impl Lab {
    /// An empty wire.
    ///
    /// # Errors
    /// If namespaces can't be made.
    pub fn new() -> Result<Self> {
        let work = tempfile::Builder::new().prefix("hawser-lab-").tempdir()?;
        // Programs that run as other users read and write below it.
        set_mode(work.path(), 0o755)?;
        let wire = Host::new("wire", 254, work.path().join("wire"))?;
        let mut lab = Self { dns: None, wire, hosts: BTreeMap::new(), work: Some(work), keep: false };
        lab.on_wire(&["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])?;
        lab.on_wire(&["ip", "addr", "add", &format!("{GATEWAY}/24"), "dev", "br0"])?;
        lab.on_wire(&["ip", "addr", "add", "fd77::fe/64", "dev", "br0", "nodad"])?;
        lab.on_wire(&["ip", "link", "set", "br0", "up"])?;
        let listen = format!("{GATEWAY}:53");
        let answer = ["hawser-lab", "dns", "--listen", &listen, "--name", OUTSIDE, "--answer", GATEWAY];
        let mut dns = lab.wire.spawn("dns", &answer)?;
        dns.says("ready", Duration::from_secs(5))?;
        lab.dns = Some(dns);
        Ok(lab)
    }

    /// The directory of everything that this lab writes.
    pub fn work(&self) -> &Path {
        self.work.as_ref().map_or(Path::new("/nonexistent"), TempDir::path)
    }

    /// Leaves the directory there when the lab goes.
    pub fn keep_files(&mut self) {
        self.keep = true;
    }

    /// Where the bridge is: the network that all hosts can reach but none is.
    pub fn wire(&self) -> &Host {
        &self.wire
    }

    /// A new host with default routes and the outside name server.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        let host = self.host_without_route(name)?;
        host.ok(&["ip", "route", "add", "default", "via", GATEWAY])?;
        host.ok(&["ip", "-6", "route", "add", "default", "via", "fd77::fe"])?;
        Ok(host)
    }

    /// A new host that knows the wire's own network only.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn host_without_route(&mut self, name: &str) -> Result<Host> {
        let number = (1..=250).find(|n| !self.hosts.contains_key(n)).context("a wire has room for 250 hosts")?;
        let host = Host::new(name, number, self.work().join(name))?;
        self.hosts.insert(number, name.to_owned());
        self.plug(&host)?;
        Ok(host)
    }

    /// A new host with an address of a cluster's pods instead of one of the wire: the wire routes between both.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn pod(&mut self, name: &str) -> Result<(Host, Ipv4Addr)> {
        let host = self.host_without_route(name)?;
        let address = Ipv4Addr::new(10, 244, 0, host.number());
        self.on_wire(&["ip", "addr", "replace", &format!("{PODS_GATEWAY}/24"), "dev", "br0"])?;
        self.on_wire(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        host.ok(&["ip", "addr", "flush", "dev", "eth0"])?;
        host.ok(&["ip", "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        host.ok(&["ip", "route", "add", "default", "via", PODS_GATEWAY])?;
        Ok((host, address))
    }

    /// Cuts the host's cable; its processes go on and notice nothing but silence.
    ///
    /// # Errors
    /// If it has none.
    pub fn cut(&self, host: &Host) -> Result<()> {
        self.on_wire(&["ip", "link", "set", &port(host), "nomaster"])?;
        Ok(())
    }

    /// Mends it.
    ///
    /// # Errors
    /// If it has none.
    pub fn mend(&self, host: &Host) -> Result<()> {
        self.on_wire(&["ip", "link", "set", &port(host), "master", "br0"])?;
        Ok(())
    }

    /// Takes the host's power away. Its disk stays.
    pub fn power_off(&self, host: &mut Host) {
        host.power_off();
    }

    /// Boots it again: new namespaces, same address, same disk.
    ///
    /// # Errors
    /// If the namespaces can't be made.
    pub fn power_on(&self, host: &mut Host) -> Result<()> {
        host.power_on()?;
        // The old cable went with the old namespace, sooner or later.
        let _ = self.try_on_wire(&["ip", "link", "del", &port(host)]);
        self.plug(host)?;
        host.ok(&["ip", "route", "add", "default", "via", GATEWAY])?;
        host.ok(&["ip", "-6", "route", "add", "default", "via", "fd77::fe"])?;
        Ok(())
    }

    /// Records every packet on the wire until the capture is read.
    ///
    /// # Errors
    /// If packets can't be read.
    pub fn capture(&self, name: &str) -> Result<Capture> {
        Capture::start(&self.wire, name)
    }

    fn plug(&self, host: &Host) -> Result<()> {
        let (port, init) = (port(host), host.init().to_string());
        self.on_wire(&["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &init])?;
        self.on_wire(&["ip", "link", "set", &port, "master", "br0", "up"])?;
        host.ok(&["ip", "link", "set", "lo", "up"])?;
        host.ok(&["ip", "addr", "add", &format!("{}/24", host.v4()), "dev", "eth0"])?;
        host.ok(&["ip", "addr", "add", &format!("{}/64", host.v6()), "dev", "eth0", "nodad"])?;
        // No host waits a second to learn that nobody else has its address.
        host.ok(&["sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad"])?;
        host.ok(&["ip", "link", "set", "eth0", "up"])?;
        Ok(())
    }

    /// In the wire's network, but with the test's own process ids: cables are handed over by those.
    fn on_wire(&self, args: &[&str]) -> Result<String> {
        let seen = self.try_on_wire(args)?;
        if !seen.ok() {
            bail!("{}: {}", args.join(" "), seen.err.trim());
        }
        Ok(seen.out)
    }

    fn try_on_wire<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Seen> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.wire.init().to_string(), "--net", "--"]).args(args);
        finish(command, None, Duration::from_secs(20))
    }
}

fn port(host: &Host) -> String {
    format!("h{}", host.number())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("HAWSER_LAB_LOGS").is_some() {
            show_logs(self.work());
        }
        if self.keep
            && let Some(work) = self.work.take()
        {
            let _ = work.keep();
        }
    }
}

/// The end of every log, on stderr.
pub fn show_logs(work: &Path) {
    let Ok(hosts) = std::fs::read_dir(work) else { return };
    for file in hosts.flatten().filter_map(|h| std::fs::read_dir(h.path()).ok()).flatten().flatten() {
        let path = file.path();
        if path.extension().is_some_and(|x| x == "log") {
            let text = std::fs::read(&path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
            if !text.is_empty() {
                eprintln!("--- {}\n{}", path.strip_prefix(work).unwrap_or(&path).display(), tail(&text));
            }
        }
    }
}

/// Whether the programs that the lab is made of are there; names the first that is not.
///
/// # Errors
/// If one is missing.
pub fn check_tools() -> Result<()> {
    for tool in ["unshare", "nsenter", "ip", "nft", "curl"] {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            let more = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
            std::env::split_paths(&path).chain(more).any(|dir| dir.join(tool).is_file())
        });
        if !found {
            bail!("`{tool}` is missing; install it (util-linux, iproute2, nftables, curl)");
        }
    }
    programs::find("hawser-lab").map(drop)
}
