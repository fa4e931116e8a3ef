//! Programs of the system that demo and tests use: found, or installed where that needs no question, or named.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program and the Debian package that brings it.
type Tool = (&'static str, &'static str);

/// What the demo uses.
pub(crate) const DEMO: &[Tool] = &[
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("getent", "libc-bin"),
];

/// What the tests use besides.
pub(crate) const TEST: &[Tool] = &[
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("getent", "libc-bin"),
    ("ping", "iputils-ping"),
    ("openssl", "openssl"),
    ("dig", "bind9-dnsutils"),
    ("pgrep", "procps"),
    ("python3", "python3"),
];

/// What the benchmarks use.
pub(crate) const BENCH: &[Tool] = &[
    ("haproxy", "haproxy"),
    ("strip", "binutils"),
    ("python3", "python3"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("taskset", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("sysctl", "procps"),
];

/// What the soak uses.
pub(crate) const SOAK: &[Tool] = &[
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("sysctl", "procps"),
];

/// What packages are made with.
pub(crate) const DIST: &[Tool] = &[
    ("dpkg-deb", "dpkg"),
    ("apt-ftparchive", "apt-utils"),
    ("rpmbuild", "rpm"),
    ("rpmsign", "rpm"),
    ("createrepo_c", "createrepo-c"),
    ("gpg", "gnupg"),
    ("strip", "binutils"),
    ("gzip", "gzip"),
    ("tar", "tar"),
];

/// What the tests of packages use besides: machines with systemd.
pub(crate) const MACHINES: &[Tool] = &[
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("lintian", "lintian"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("man", "man-db"),
];

/// An error that names what is missing.
pub(crate) fn check(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    bail!("missing programs; install these packages: {}", missing.join(" "));
}

/// Installs what is missing, as root or through a sudo that asks nothing; else names it.
pub(crate) fn install(tools: &[Tool]) -> Result<()> {
    let mut missing = missing(tools);
    if tools.iter().any(|(program, _)| *program == "python3") && !has_venv() {
        missing.push("python3-venv");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
    if !found("apt-get") || !(is_root() || quiet("sudo", &["-n", "true"])) {
        bail!("missing programs; install these packages: {list}");
    }
    println!("installing {list}");
    let apt = |args: &[&str]| {
        let all: Vec<&str> = sudo.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).collect();
        Command::new(all[0]).args(&all[1..]).args(args).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(&missing);
    // Package lists may be old or not there at all.
    let installed = apt(&args) || (apt(&["update"]) && apt(&args));
    if !installed {
        bail!("these packages could not be installed: {list}");
    }
    Ok(())
}

fn missing(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        tools.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    dirs.into_iter().any(|dir| Path::new(&dir).join(program).is_file())
}

fn has_venv() -> bool {
    quiet("python3", &["-c", "import venv, ensurepip"])
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

fn quiet(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}
