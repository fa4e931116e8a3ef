//! A host: network, mount, process and host name namespaces, with an address on the lab's wire.

use std::ffi::OsStr;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Process};
use crate::{programs, wait};

/// A host. All its processes end with it, however the test ends: its first process lives on a pipe that we hold.
#[derive(Debug)]
pub struct Host {
    name: String,
    number: u8,
    holder: Child,
    init: i32,
    /// What outlives a reboot: state, configuration, logs.
    disk: PathBuf,
}

/// What a command gave.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Exit code; 128 and more for signals.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Host {
    /// Makes the namespaces. `wired` hosts still need [`crate::Lab`] to plug them in.
    pub(crate) fn new(name: &str, number: u8, disk: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&disk)?;
        let (holder, init) = hold(name, &disk)?;
        Ok(Self { name: name.to_owned(), number, holder, init, disk })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number on the wire.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Both.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// The directory that outlives a reboot.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Its first process, as the test sees it.
    pub fn init(&self) -> i32 {
        self.init
    }

    /// A command that will run on this host; its first argument is the program.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--net", "--mount", "--uts", "--pid", "--"]);
        command.args(args);
        if let Ok(bin) = programs::directory() {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()));
        }
        command.env_remove("HAWSER_TOKEN");
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// If it can't be started, or does not end within a minute.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Seen> {
        self.run_with_input(args, None)
    }

    /// Runs a command with text on its stdin.
    ///
    /// # Errors
    /// If it can't be started, or does not end within a minute.
    pub fn run_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: Option<&str>) -> Result<Seen> {
        finish(self.command(args), input, Duration::from_secs(60))
    }

    /// Runs a command that must succeed; gives its stdout.
    ///
    /// # Errors
    /// If it does not.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        let seen = self.run(args)?;
        if seen.code != 0 {
            let line: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
            bail!("{}: {} ended with {}:\n{}{}", self.name, line.join(" "), seen.code, seen.out, seen.err);
        }
        Ok(seen.out)
    }

    /// Starts a program in the background.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, name: &str, args: &[S]) -> Result<Process> {
        self.spawn_command(name, self.command(args))
    }

    /// Starts a command of [`Host::command`] in the background.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn_command(&self, name: &str, command: Command) -> Result<Process> {
        let title = format!("{}/{name}", self.name);
        Process::spawn(&title, command, self.disk.join(format!("{name}.log")), true)
    }

    /// `curl` with a limit of ten seconds; the code is curl's.
    ///
    /// # Errors
    /// If curl can't be started.
    pub fn curl(&self, args: &[&str]) -> Result<Seen> {
        let mut all = vec!["curl", "--silent", "--show-error", "--max-time", "10"];
        all.extend(args);
        self.run(&all)
    }

    /// Takes the power away: every process and every connection is gone without a word.
    pub(crate) fn power_off(&mut self) {
        let _ = self.holder.kill();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.init), nix::sys::signal::Signal::SIGKILL);
        let _ = self.holder.wait();
    }

    /// Gives it back, with new namespaces and the same disk.
    pub(crate) fn power_on(&mut self) -> Result<()> {
        (self.holder, self.init) = hold(&self.name, &self.disk)?;
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.power_off();
    }
}

impl Seen {
    /// Whether it succeeded.
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

/// Runs a command to its end, at most `limit`.
///
/// # Errors
/// If it can't be started or does not end in time.
pub fn finish(mut command: Command, input: Option<&str>, limit: Duration) -> Result<Seen> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A command that reads nothing has closed its end.
        let _ = std::io::Write::write_all(&mut pipe, text.as_bytes());
    }
    let reader = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|p| Box::new(p) as _));
    let err = reader(child.stderr.take().map(|p| Box::new(p) as _));
    let status = wait::until("the end of a command", limit, || child.try_wait().ok().flatten());
    let Ok(status) = status else {
        for inner in i32::try_from(child.id()).map(process::children).unwrap_or_default() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(inner), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = child.kill();
        let _ = child.wait();
        bail!("{command:?} did not end within {limit:?}");
    };
    let code = std::os::unix::process::ExitStatusExt::signal(&status).map_or(status.code().unwrap_or(-1), |s| 128 + s);
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Seen { code, out: text(out), err: text(err) })
}

/// What programs of every user are started from.
fn reachable() -> Vec<std::ffi::OsString> {
    let venv = std::env::var_os("HAWSER_TESTBED_VENV").map(PathBuf::from);
    let dirs = [programs::directory().ok(), Some(programs::source_root()), venv];
    let there = dirs.into_iter().flatten().filter(|d| d.is_dir());
    there.flat_map(|d| ["--reachable".into(), d.into_os_string()]).collect()
}

/// Starts the first process of a host and waits until its file systems are in place.
fn hold(name: &str, disk: &Path) -> Result<(Child, i32)> {
    let mut holder = Command::new("unshare")
        .args(["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(programs::find("hawser-lab")?)
        .args(["hold", "--name", name, "--disk"])
        .arg(disk)
        .args(reachable())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("unshare can't be started")?;
    let mut word = [0; 6];
    let ready = holder.stdout.as_mut().map(|out| out.read_exact(&mut word));
    if !matches!(ready, Some(Ok(()))) || &word != b"ready\n" {
        let _ = holder.kill();
        let _ = holder.wait();
        bail!("the namespaces of {name} can't be made; see above");
    }
    let outer = i32::try_from(holder.id())?;
    let init = *process::children(outer).first().context("a host has a first process")?;
    Ok((holder, init))
}
