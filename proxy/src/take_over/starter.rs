//! The process that was asked: it starts the new proxy, tells the service manager, and ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hawser_daemon::Service;

use super::{GO, NO, READY, SERVING};

/// How long the new proxy may take to have its sockets and its configuration.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the agent may then take.
const AGENT: Duration = Duration::from_secs(10);
/// The longest line.
const LONGEST: u64 = 4096;

/// Starts a proxy like this one, without the wish to take over, and waits until it has.
///
/// # Errors
/// If it does not get so far. It is gone then, and the one that runs goes on.
pub fn run() -> anyhow::Result<()> {
    let (mut child, mut lines) = start()?;
    let led = lead(&mut lines, child.id());
    if led.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    led.context("nothing has changed, the proxy that runs goes on")
}

fn start() -> anyhow::Result<(Child, Lines)> {
    let (ours, theirs) = UnixStream::pair()?;
    let program = std::env::current_exe().context("this program can't be found")?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != "--take-over")).arg("--successor");
    command.stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0);
    let child = command.spawn().with_context(|| format!("{} can't be started", program.display()))?;
    Ok((child, Lines(BufReader::new(ours))))
}

fn lead(lines: &mut Lines, pid: u32) -> anyhow::Result<()> {
    let said = lines.read(PATIENCE).context("the new proxy did not get ready")?;
    ensure!(said == READY, "the new proxy says {said:?}");
    // Before the former one is told to end: a main process that ends would be started again.
    Service::main_process(pid).context("the service manager can't be told of the new proxy")?;
    lines.0.get_mut().write_all(format!("{GO}\n").as_bytes()).context("the new proxy is gone")?;
    match lines.read(AGENT) {
        Ok(said) if said == SERVING => tracing::info!(pid, "it has taken over"),
        // It is the main process: what is missing now it gets by itself.
        Ok(said) => tracing::warn!(pid, said, "it serves, and has not heard from the agent yet"),
        Err(error) => {
            tracing::warn!(pid, error = %format_args!("{error:#}"), "it serves, and has not heard from the agent yet")
        }
    }
    Ok(())
}

/// What the new proxy says.
struct Lines(BufReader<UnixStream>);

impl Lines {
    fn read(&mut self, within: Duration) -> anyhow::Result<String> {
        use std::io::Read as _;
        let until = Instant::now() + within;
        let mut line = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "it said nothing for {} s", within.as_secs());
            self.0.get_ref().set_read_timeout(Some(left))?;
            let room = LONGEST - u64::try_from(line.len()).unwrap_or(LONGEST);
            match (&mut self.0).take(room).read_until(b'\n', &mut line) {
                Ok(0) => bail!("it ended; its log says why"),
                Ok(_) if line.ends_with(b"\n") => break,
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match line.strip_prefix(NO).and_then(|rest| rest.strip_prefix(": ")) {
            Some(why) => bail!("{why}"),
            None => Ok(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> (UnixStream, Lines) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        (theirs, Lines(BufReader::new(ours)))
    }

    #[test]
    fn it_hears_what_the_new_proxy_says_and_waits_for_it_only_so_long() {
        let (mut theirs, mut lines) = lines();
        theirs.write_all(b"ready\nno: the agent refuses\n").unwrap();
        assert_eq!(lines.read(PATIENCE).unwrap(), READY);
        assert_eq!(lines.read(PATIENCE).unwrap_err().to_string(), "the agent refuses");
        theirs.write_all(b"rea").unwrap();
        let late = lines.read(Duration::from_millis(20)).unwrap_err();
        assert!(late.to_string().starts_with("it said nothing for"), "{late}");
        drop(theirs);
        assert_eq!(lines.read(PATIENCE).unwrap_err().to_string(), "it ended; its log says why");
    }

    #[test]
    fn a_child_that_is_not_ready_may_not_go() {
        let (mut theirs, mut ours) = lines();
        theirs.write_all(b"serving\n").unwrap();
        assert!(lead(&mut ours, 1).is_err());
        theirs.set_nonblocking(true).unwrap();
        let mut heard = [0; 8];
        let error = std::io::Read::read(&mut theirs, &mut heard).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "it was told something");
    }
}
