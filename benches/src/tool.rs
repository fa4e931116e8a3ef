//! The loader as another process, on a host: it says when it is ready, and runs when told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;

use crate::load::{Kind, Load, Seen};
use crate::mesh::{Hosts, Side};

/// A loader that has connected.
pub(crate) struct Tool {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Tool {
    /// Starts a load on the caller's host and waits until its connections stand.
    pub(crate) fn load(hosts: &Hosts, load: Load, target: SocketAddr) -> anyhow::Result<Self> {
        Self::spawn(hosts.command(Side::Caller, &arguments(load, target)?))
    }

    /// Opens connections that stay.
    pub(crate) fn hold(hosts: &Hosts, kind: Kind, target: SocketAddr, count: u32) -> anyhow::Result<Self> {
        let args =
            [&me()?, "hold", &name(kind)?, &target.to_string(), "--count", &count.to_string()].map(str::to_owned);
        Self::spawn(hosts.command(Side::Caller, &args))
    }

    /// Starts a command of [`arguments`], and waits until it is ready.
    pub(crate) fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("the loader can't be started")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("the loader has an output")?);
        let mut tool = Self { child, input, output };
        tool.says("ready")?;
        Ok(tool)
    }

    /// Lets it run; what it saw. Its connections stay until it is dropped.
    pub(crate) fn go(&mut self) -> anyhow::Result<Seen> {
        self.begin()?;
        self.seen()
    }

    /// Lets it run.
    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the loader has an input")?;
        Ok(input.write_all(b"go\n")?)
    }

    /// What it says it saw, next time it says so.
    pub(crate) fn seen(&mut self) -> anyhow::Result<Seen> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("the loader said {line:?}"))
    }

    /// The time since the epoch that it says next.
    pub(crate) fn time(&mut self) -> anyhow::Result<Duration> {
        let line = self.line()?;
        Ok(Duration::from_nanos(line.trim().parse().with_context(|| format!("it said {line:?}"))?))
    }

    /// Lets it end, which must be well.
    pub(crate) fn end(mut self, word: &str) -> anyhow::Result<()> {
        drop(self.input.take());
        self.says(word)
    }

    fn says(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.line()?;
        anyhow::ensure!(line.trim() == word, "the loader said {line:?}");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let mut error = String::new();
            if let Some(mut pipe) = self.child.stderr.take() {
                pipe.read_to_string(&mut error)?;
            }
            anyhow::bail!("the loader ended: {}", error.trim());
        }
        Ok(line)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // The end of its input is its order to end.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The command line of a load.
pub(crate) fn arguments(load: Load, target: SocketAddr) -> anyhow::Result<Vec<String>> {
    let mut args = vec![me()?, "load".to_owned(), name(load.kind)?, target.to_string()];
    for (flag, value) in [
        ("--connections", load.connections),
        ("--streams", load.streams),
        ("--rate", load.rate),
        ("--millis", load.millis),
    ] {
        args.extend([flag.to_owned(), value.to_string()]);
    }
    Ok(args)
}

/// This program.
pub(crate) fn me() -> anyhow::Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}

fn name(kind: Kind) -> anyhow::Result<String> {
    Ok(kind.to_possible_value().context("a kind without a name")?.get_name().to_owned())
}
