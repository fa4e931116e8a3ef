//! Other people's firewalls as real programs: packages of this system's own release, taken apart beside it and laid over a
//! host's directories. The machine itself is not touched.
//!
//! In: a host. Out: that host with ufw, firewalld, iptables and netavark (Podman's) in their usual places.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{Host, Process, host, programs};

/// The packages; what they need comes along.
const PACKAGES: [&str; 6] = ["ufw", "firewalld", "iptables", "netavark", "dbus", "nftables"];
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
    host.ok(&["sh", "-ec", "mkdir -p /run/dbus; id messagebus >/dev/null 2>&1 || sed -i s/messagebus/root/ /usr/share/dbus-1/system.conf"])?;
    let bus = host.spawn("dbus", &["dbus-daemon", "--system", "--nofork", "--nopidfile"])?;
    let firewalld = host.spawn("firewalld", &["firewalld", "--nofork", "--nopid"])?;
    let mut both = [bus, firewalld];
    crate::wait::for_true("firewalld runs", Duration::from_secs(20), || {
        host.run(&["firewall-cmd", "--state"]).is_ok_and(|seen| seen.ok()) || !both[1].is_running()
    })?;
    ensure!(both[1].is_running(), "firewalld ended: {}", both[1].log());
    Ok(both)
}
