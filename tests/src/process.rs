//! A running program that ends with its guard.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A program that was started in the background; killed when this is dropped. What it says goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Entered through a helper that waits for the program proper.
    entered: bool,
}

impl Process {
    /// Starts a program whose stdout and stderr go to `log`, and whose stdin stays open while this lives.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn(name: &str, mut command: Command, log: PathBuf, entered: bool) -> Result<Self> {
        let out = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("{name} can't be started"))?;
        Ok(Self { name: name.to_owned(), child, log, entered })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The file of what it says.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The process id of the program proper, as this namespace sees it.
    pub fn pid(&self) -> Option<i32> {
        let outer = i32::try_from(self.child.id()).ok()?;
        if self.entered { children(outer).first().copied() } else { Some(outer) }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the program proper.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Kills it as a power cut would, and waits for its end.
    pub fn kill(mut self) {
        self.end_now();
    }

    /// Closes its stdin, which the lab's own tools take as the order to finish, and waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<String> {
        drop(self.child.stdin.take());
        self.wait(limit)?;
        Ok(self.log())
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.wait(limit)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("{} did not end within {limit:?}; it said:\n{}", self.name, tail(&self.log()));
            }
            wait::between_looks(Duration::from_millis(10));
        }
    }

    /// Waits until it has said `text`.
    ///
    /// # Errors
    /// If it ends before, or `limit` passes.
    pub fn says(&mut self, text: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.log().contains(text) {
                return Ok(());
            }
            if !self.is_running() || start.elapsed() > limit {
                let ended = if self.is_running() { "did not say" } else { "ended before it said" };
                bail!("{} {ended} {text:?}; it said:\n{}", self.name, tail(&self.log()));
            }
            wait::between_looks(Duration::from_millis(10));
        }
    }

    fn end_now(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// Direct children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// The end of a log, for messages.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
