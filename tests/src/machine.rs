//! Machines with systemd as their first process, from a Debian root of their own, on one wire.
//!
//! In: a release of Debian, installed once into `target/testbeds`. Out: a [`Yard`] of [`Machine`]s that boot, reboot and lose
//! power; commands in them. Needs root: systemd-nspawn does. Invariant: roots are never written to, and machines end with the
//! test, however it ends.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::finish;
use crate::process::children;
use crate::testbeds::{self, Root};
use crate::{Seen, wait};

/// How long a machine may take to boot on a busy machine.
const BOOT: Duration = Duration::from_secs(60);
/// How long a command in a machine may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// systemd-nspawn's exit code when its machine asks for a reboot.
const REBOOT: i32 = 133;
/// Controllers of old control groups in which a machine has a place of its own.
const CONTROLLERS: [&str; 4] = ["systemd", "unified", "memory", "pids"];

/// Machines on one wire.
#[derive(Debug)]
pub struct Yard {
    /// Holds the wire's network namespace.
    wire: Child,
    dir: tempfile::TempDir,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    name: String,
    number: u8,
    /// Its control group, below each controller.
    place: String,
    script: String,
    log: PathBuf,
    nspawn: Child,
    leader: i32,
}

impl Yard {
    /// A wire with nothing on it.
    ///
    /// # Errors
    /// If this is not root, or something is missing.
    pub fn new() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "machines with systemd need root: run this test as root");
        let line = "ip link set lo up; ip link add br0 type bridge; ip link set br0 up; echo ready; exec cat";
        let mut wire = Command::new("unshare")
            .args(["--net", "--", "sh", "-ec", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare can't be started")?;
        let mut word = [0; 6];
        let ready = wire.stdout.as_mut().map(|out| out.read_exact(&mut word));
        ensure!(matches!(ready, Some(Ok(()))), "the wire can't be made; see above");
        // Overlays need a file system that is none itself.
        let below = crate::programs::source_root().join("target/testbeds/machines");
        std::fs::create_dir_all(&below)?;
        Ok(Self { wire, dir: tempfile::tempdir_in(below)? })
    }

    /// A machine that has booted. `binds` are directories of ours that it sees, at the same paths.
    ///
    /// # Errors
    /// If it does not boot.
    pub fn boot(&self, name: &str, number: u8, root: Root, binds: &[&Path]) -> Result<Machine> {
        let lower = testbeds::root(root)?;
        let disk = self.dir.path().join(name);
        for part in ["upper", "work", "merged"] {
            std::fs::create_dir_all(disk.join(part))?;
        }
        furnish(&disk.join("upper"), name, number)?;
        let binds: String = binds.iter().map(|dir| format!(" --bind-ro={}", dir.display())).collect();
        // Of this yard alone: two machines of one name would fight for their control groups.
        let yard = self.dir.path().file_name().unwrap_or_default().to_string_lossy();
        let place = format!("hawser-{}-{}-{name}", std::process::id(), yard.trim_start_matches('.'));
        let mut script = String::from("set -e\n");
        for controller in CONTROLLERS {
            let dir = format!("/sys/fs/cgroup/{controller}/{place}");
            script += &format!(
                "if [ -d /sys/fs/cgroup/{controller} ]; then mkdir -p {dir}; echo $$ >{dir}/cgroup.procs; fi\n"
            );
        }
        script += &format!(
            "mount --make-rprivate /\n\
             mount -t overlay overlay -o lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work {disk}/merged\n\
             export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1\n\
             exec nsenter --net=/proc/{wire}/ns/net systemd-nspawn --quiet --boot --directory={disk}/merged --register=no \
             --keep-unit --machine={name} --network-bridge=br0 --console=read-only --resolv-conf=off --timezone=off{binds}\n",
            lower = lower.display(),
            disk = disk.display(),
            wire = self.wire.id(),
        );
        let log = disk.join("console");
        let (nspawn, leader) = start(&script, &log)?;
        let mut machine = Machine { name: name.to_owned(), number, place, script, log, nspawn, leader };
        machine.booted()?;
        Ok(machine)
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let _ = self.wire.kill();
        let _ = self.wire.wait();
    }
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the wire.
    pub fn address(&self) -> String {
        format!("10.99.0.{}", self.number)
    }

    /// Runs a command.
    ///
    /// # Errors
    /// If it can't be started, or does not end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Seen> {
        finish(self.command(args), None, PATIENCE)
    }

    /// Runs a command that must succeed; gives its stdout.
    ///
    /// # Errors
    /// If it does not.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        self.fed(args, None)
    }

    /// The same with text on its stdin.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn fed<S: AsRef<OsStr>>(&self, args: &[S], input: Option<&str>) -> Result<String> {
        let seen = finish(self.command(args), input, PATIENCE)?;
        if !seen.ok() {
            let line: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
            bail!("{}: {} ended with {}:\n{}{}", self.name, line.join(" "), seen.code, seen.out, seen.err);
        }
        Ok(seen.out)
    }

    /// Runs lines of a shell that must succeed; gives their stdout.
    ///
    /// # Errors
    /// If they do not.
    pub fn sh(&self, lines: &str) -> Result<String> {
        self.ok(&["sh", "-ec", lines])
    }

    /// Writes a file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put(&self, path: &str, text: &str, mode: &str) -> Result<()> {
        let line = format!("umask 077; mkdir -p \"$(dirname {path})\"; cat >{path}; chmod {mode} {path}");
        self.fed(&["sh", "-ec", &line], Some(text)).map(drop)
    }

    /// Reboots, as its administrator would.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn reboot(&mut self) -> Result<()> {
        let _ = self.run(&["systemctl", "reboot"]);
        let code = wait::until("the end before the reboot", BOOT, || self.nspawn.try_wait().ok().flatten())?;
        ensure!(code.code() == Some(REBOOT), "{} did not ask for a reboot: {code}", self.name);
        self.again()
    }

    /// Takes the power away, and gives it back.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn power_cycle(&mut self) -> Result<()> {
        self.power_off();
        self.power_on()
    }

    /// Takes the power away.
    pub fn power_off(&mut self) {
        self.end();
    }

    /// Gives it back.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn power_on(&mut self) -> Result<()> {
        self.again()
    }

    fn again(&mut self) -> Result<()> {
        (self.nspawn, self.leader) = start(&self.script, &self.log)?;
        self.booted()
    }

    fn booted(&mut self) -> Result<()> {
        let state = wait::until("a booted system", BOOT, || {
            let seen = self.run(&["systemctl", "is-system-running", "--wait"]).ok()?;
            let state = seen.out.trim().to_owned();
            ["running", "degraded"].contains(&state.as_str()).then_some(state)
        });
        let state = state.with_context(|| {
            format!("{} said:\n{}", self.name, std::fs::read_to_string(&self.log).unwrap_or_default())
        })?;
        if state == "degraded" {
            let failed = self.sh("systemctl --failed --no-legend --plain | cut -d' ' -f1")?;
            let logs = failed.lines().map(|unit| self.ok(&["journalctl", "-b", "--no-pager", "-n", "40", "-u", unit]));
            bail!("{}: {failed}{}", self.name, logs.collect::<Result<String>>()?);
        }
        Ok(())
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        command.args(["--root", "--wd", "--"]).args(args).env_clear();
        command.envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("HOME", "/root"),
            ("TERM", "dumb"),
            ("DEBIAN_FRONTEND", "noninteractive"),
        ]);
        command
    }

    fn end(&mut self) {
        let _ = kill(Pid::from_raw(self.leader), Signal::SIGKILL);
        let _ = wait::until("the end of a machine", Duration::from_secs(10), || self.nspawn.try_wait().ok().flatten());
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
        for controller in CONTROLLERS {
            remove_groups(&Path::new("/sys/fs/cgroup").join(controller).join(&self.place));
        }
    }
}

/// Starts systemd-nspawn in a mount namespace of its own; the machine's first process.
fn start(script: &str, log: &Path) -> Result<(Child, i32)> {
    let out = std::fs::File::options().create(true).append(true).open(log)?;
    let mut nspawn = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("setpriv can't be started")?;
    let pid = i32::try_from(nspawn.id())?;
    let first = wait::until("a machine's first process", BOOT, || {
        let ended = !matches!(nspawn.try_wait(), Ok(None));
        let named =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n");
        match children(pid).into_iter().find(named) {
            Some(leader) => Some(Some(leader)),
            None => ended.then_some(None),
        }
    });
    match first {
        Ok(Some(leader)) => Ok((nspawn, leader)),
        other => {
            let _ = nspawn.kill();
            let _ = nspawn.wait();
            other?;
            bail!("systemd-nspawn ended:\n{}", std::fs::read_to_string(log).unwrap_or_default())
        }
    }
}

/// What differs from machine to machine: names, address, and the time of its network in the boot.
fn furnish(upper: &Path, name: &str, number: u8) -> Result<()> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
    let network = format!(
        "[Unit]\nDefaultDependencies=no\nWants=network.target\nAfter=network-pre.target\nBefore=network.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/ip addr add 10.99.0.{number}/24 dev host0\n\
         ExecStart=/bin/ip link set host0 up\n\n[Install]\nWantedBy=multi-user.target\n"
    );
    let files = [
        ("etc/hostname", format!("{name}\n")),
        ("etc/machine-id", id),
        ("etc/hosts", "127.0.0.1 localhost\n10.99.0.1 control control.test\n".to_owned()),
        ("etc/resolv.conf", "nameserver 10.99.0.254\noptions timeout:1 attempts:1\n".to_owned()),
        ("etc/systemd/system/wire.service", network),
    ];
    for (path, text) in files {
        let path = upper.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(upper))?;
        std::fs::File::create(path)?.write_all(text.as_bytes())?;
    }
    let wanted = upper.join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wanted)?;
    std::os::unix::fs::symlink("../wire.service", wanted.join("wire.service"))?;
    Ok(())
}

fn remove_groups(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    // Others of the same test may still be in it.
    let _ = std::fs::remove_dir(dir);
}
