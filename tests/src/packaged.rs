//! Hosts with systemd that have our packages: what tests of them begin with.
//!
//! In: packages that were made. Out: a control host, members, and looks at what they are. Needs root, as [`Machine`]s do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::dist::Dist;
use crate::testbeds::Root;
use crate::{Machine, Yard, programs, wait};

/// How long what takes a moment may take on a busy machine.
const MOMENT: Duration = Duration::from_secs(30);
/// The service that the first member offers.
const DETAILS: &str = "http://details.default.svc.cluster.local:9080/";

/// A wire, and packages for its machines.
#[derive(Debug)]
pub struct World {
    yard: Yard,
    /// The packages.
    pub dist: Dist,
}

impl World {
    /// A wire with nothing on it.
    ///
    /// # Errors
    /// If nothing was packaged, or this is not root.
    pub fn new() -> Result<Self> {
        Ok(Self { dist: Dist::find()?, yard: Yard::new()? })
    }

    /// A machine that has booted, and sees the packages.
    ///
    /// # Errors
    /// If it does not boot.
    pub fn boot(&self, name: &str, number: u8, root: Root) -> Result<Machine> {
        let programs = programs::directory()?;
        self.yard.boot(name, number, root, &[self.dist.first(), self.dist.next(), &programs])
    }

    /// The same with the agent's first package.
    ///
    /// # Errors
    /// If it does not boot, or the package does not install.
    pub fn host(&self, name: &str, number: u8) -> Result<Machine> {
        let machine = self.boot(name, number, Root::Bookworm)?;
        use_apt(&machine, self.dist.first())?;
        install(&machine, "0.1.0-1")?;
        Ok(machine)
    }

    /// A control host, ready for tokens.
    ///
    /// # Errors
    /// If it does not boot, or the package does not install.
    pub fn control(&self) -> Result<Machine> {
        let control = self.boot("control", 1, Root::Bookworm)?;
        use_apt(&control, self.dist.first())?;
        control.ok(&["apt-get", "install", "-qq", "-y", "hawser-discovery"])?;
        control.sh(
            "echo HAWSER_ADVERTISE=10.99.0.1:15012 >>/etc/hawser/discovery.env; systemctl restart hawser-discovery",
        )?;
        Ok(control)
    }
}

/// The machine takes packages from a repository of ours, and from nowhere else.
///
/// # Errors
/// If it does not.
pub fn use_apt(machine: &Machine, dist: &Path) -> Result<()> {
    let apt = dist.join("apt").display().to_string();
    machine.sh(&format!(
        "cp {apt}/hawser.asc /usr/share/keyrings/hawser.asc
         rm -f /etc/apt/sources.list
         echo 'deb [signed-by=/usr/share/keyrings/hawser.asc] file:{apt} stable main' >/etc/apt/sources.list.d/hawser.list
         apt-get update -qq"
    ))?;
    Ok(())
}

/// Installs a version of the agent, whatever is there.
///
/// # Errors
/// If another one is there afterwards.
pub fn install(machine: &Machine, version: &str) -> Result<()> {
    let (agent, command) = (format!("hawser-agent={version}"), format!("hawser={version}"));
    machine.ok(&["apt-get", "install", "-qq", "-y", "--allow-downgrades", &agent, &command])?;
    let installed = machine.ok(&["dpkg-query", "-W", "-f", "${Version}", "hawser-agent"])?;
    ensure!(installed == version, "{installed} is installed, not {version}");
    Ok(())
}

/// STATUS of the agent.
///
/// # Errors
/// If systemd does not say.
pub fn status(machine: &Machine) -> Result<String> {
    Ok(machine.ok(&["systemctl", "show", "--value", "-p", "StatusText", "hawser-agent"])?.trim().to_owned())
}

/// A member whose traffic works, as systemd and as people see it.
///
/// # Errors
/// If it is none, and what it says of itself.
pub fn joined(machine: &Machine) -> Result<()> {
    machine.ok(&["systemctl", "start", "hawser-ready.target"])?;
    let mut sentence = String::new();
    wait::for_true("it says that it is joined", MOMENT, || {
        sentence = status(machine).unwrap_or_default();
        sentence.starts_with("joined as spiffe://cluster.local/ns/default/sa/")
    })
    .with_context(|| format!("it says: {sentence}"))?;
    for unit in ["hawser-agent.service", "hawser-proxy.service", "hawser-ready.target"] {
        let state = machine.run(&["systemctl", "is-active", unit])?.out;
        ensure!(state.trim() == "active", "{unit} is {state}");
    }
    machine.ok(&["hawser", "redirect", "check"])?;
    let mut users = String::new();
    wait::for_true("one of each runs, as who it is to be", MOMENT, || {
        users = machine.sh("ps -o user:20= -C hawser-agent; ps -o user:20= -C hawser-proxy").unwrap_or_default();
        users.split_whitespace().eq(["hawser", "hawser-proxy"])
    })
    .with_context(|| format!("they run as {users}"))
}

/// A token for a group, from the control host.
///
/// # Errors
/// If there is none.
pub fn token(control: &Machine, group: &str) -> Result<String> {
    let group = format!("default/{group}");
    Ok(control.ok(&["hawser", "token", "create", "--group", &group, "--port", "http=9080"])?.trim().to_owned())
}

/// Starts the application of the first member.
///
/// # Errors
/// If it does not start.
pub fn serve(machine: &Machine) -> Result<()> {
    machine.ok(&["systemd-run", "--quiet", "--unit=app", "perl", "-MIO::Socket::INET", "-e", APPLICATION])?;
    Ok(())
}

/// An application, in what every Debian has.
pub const APPLICATION: &str = "my $s = IO::Socket::INET->new(LocalPort => 9080, Listen => 9, ReuseAddr => 1) or die; \
    while (my $c = $s->accept) { while (<$c>) { last if /^\\r?$/ } \
    print $c \"HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\nconnection: close\\r\\n\\r\\nhello\"; close $c }";

/// The first member's application answers by its name in the mesh.
///
/// # Errors
/// If it does not, and what was seen last.
pub fn calls(machine: &Machine) -> Result<()> {
    let mut last = None;
    wait::for_true("it calls", MOMENT, || {
        let seen = machine.run(&["curl", "--silent", "--show-error", "--fail", "--max-time", "5", DETAILS]);
        let answered = seen.as_ref().is_ok_and(|seen| seen.out == "hello");
        last = seen.ok();
        answered
    })
    .with_context(|| format!("{last:?}"))
}

/// Nobody knows the host any more.
///
/// # Errors
/// If somebody does.
pub fn left(control: &Machine, name: &str) -> Result<()> {
    let hosts = control.ok(&["hawser", "hosts", "list", "-o", "json"])?;
    ensure!(!hosts.contains(&format!("\"{name}\"")), "it is known still: {hosts}");
    Ok(())
}
