//! The proxy's process: started by us, or found running.
//!
//! In: program and user. Out: a child that has none of the agent's privileges and outlives it. Which process it is stands in
//! a file, with its start time, so that a new agent knows whether to wait for it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::config::ProxyUser;

/// Where the process of a hawser-proxy is written down.
pub(super) const HAWSER_PID: &str = "proxy.pid";
/// The same of an Envoy.
pub(super) const ENVOY_PID: &str = "envoy.pid";

/// How long a proxy that is not wanted any more may take to end.
const RETIRE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// How the proxy is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) binary: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) user: ProxyUser,
    pub(super) pid_file: PathBuf,
}

impl Program {
    /// Starts it.
    pub(super) fn start(&self) -> io::Result<Child> {
        let child = self.spawn(&[])?;
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            self.note(pid);
        }
        Ok(child)
    }

    /// Starts what replaces the one that runs, and ends then.
    pub(super) fn replace(&self) -> io::Result<Child> {
        self.spawn(&["--take-over"])
    }

    fn spawn(&self, more: &[&str]) -> io::Result<Child> {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).args(more);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(false);
        let own = nix::unistd::geteuid().as_raw();
        if own != self.user.uid {
            command.uid(self.user.uid).gid(self.user.gid);
        }
        // Ambient capabilities would pass to the proxy. They belong to a thread, so one without them starts it.
        let runtime = tokio::runtime::Handle::current();
        let started = std::thread::spawn(move || {
            let _runtime = runtime.enter();
            if let Err(error) = rustix::thread::clear_ambient_capability_set() {
                tracing::debug!(%error, "there are no ambient capabilities to clear");
            }
            command.spawn()
        });
        started.join().map_err(|_| io::Error::other("the starting thread failed"))?
    }

    /// Writes down which process it is.
    pub(super) fn note(&self, pid: i32) {
        if let Some(started) = start_time(pid)
            && let Err(error) =
                crate::state::write_atomic(&self.pid_file, format!("{pid} {started}\n").as_bytes(), false)
        {
            tracing::warn!(%error, "the proxy's process was not written down");
        }
    }

    /// The process that was written down, if it still runs.
    pub(super) fn running(&self) -> Option<i32> {
        running(&self.pid_file)
    }

    /// Forgets the process.
    pub(super) fn forget(&self) {
        let _ = std::fs::remove_file(&self.pid_file);
    }
}

/// The process that a file names, if it still runs.
fn running(file: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(file).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok().filter(|pid| *pid > 1)?;
    (start_time(pid)? == started.parse::<u64>().ok()?).then_some(pid)
}

/// Ends a proxy of the other kind, which an earlier agent has left behind: both want the same ports.
pub(super) async fn retire(file: &Path) {
    let Some(pid) = running(file) else { return };
    tracing::info!(pid, "a proxy of another kind runs; it ends");
    signal(pid, Signal::SIGTERM);
    if tokio::time::timeout(RETIRE, gone(file)).await.is_err() {
        signal(pid, Signal::SIGKILL);
        gone(file).await;
    }
    let _ = std::fs::remove_file(file);
}

/// Waits until the process that a file names runs no more. It is nobody's child, so it is looked at.
pub(super) async fn gone(file: &Path) {
    while running(file).is_some() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Sends a signal to a process that may be gone.
pub(super) fn signal(pid: i32, signal: Signal) {
    if pid > 1
        && let Err(error) = kill(Pid::from_raw(pid), signal)
    {
        tracing::debug!(pid, %signal, %error, "the proxy did not get a signal");
    }
}

/// When a process started, in ticks since the boot: with its number it names one process only.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name stands in parentheses and may hold anything. A zombie does not run.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_the_same_number() {
        let dir = tempfile::tempdir().unwrap();
        let user = ProxyUser { uid: 0, gid: 0 };
        let pid_file = dir.path().join(HAWSER_PID);
        let program = Program { binary: "/bin/true".into(), arguments: Vec::new(), user, pid_file };
        assert_eq!(program.running(), None);
        let own = i32::try_from(std::process::id()).unwrap();
        program.note(own);
        assert_eq!(program.running(), Some(own));
        std::fs::write(&program.pid_file, format!("{own} 1\n")).unwrap();
        assert_eq!(program.running(), None);
    }
}
