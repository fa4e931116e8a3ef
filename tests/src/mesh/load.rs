//! What goes on between members while something else happens to them.
//!
//! In: a host, and whom to ask. Out: requests at a steady rate, connections that are kept, and what became of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{APP_USER, as_user};
use crate::{Host, Process};

/// What a load generator saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests made.
    pub requests: u64,
    /// Those without an answer, or with one of 500 and more.
    pub failures: u64,
    /// What the first of them were.
    pub first_failures: Vec<String>,
    /// Answers by status.
    pub statuses: BTreeMap<String, u64>,
    /// The first answer of each status: when, and its headers.
    pub first: BTreeMap<String, String>,
    /// Good answers by who gave them.
    pub served_by: BTreeMap<String, u64>,
    /// Longest wait.
    pub max_ms: u64,
    /// 99th percentile.
    pub p99_ms: u64,
    /// How long it went on.
    pub seconds: f64,
}

/// What became of a connection that was kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TalkReport {
    /// Lines that came back.
    pub rounds: u64,
    /// Why it ended before it was told to.
    pub failure: Option<String>,
    /// How long it went on.
    pub seconds: f64,
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Talk(Process);

impl Talk {
    /// Opens one; the first line has come back.
    ///
    /// # Errors
    /// If it does not within ten seconds.
    pub fn start(host: &Host, address: &str, more: &[&str]) -> Result<Self> {
        let mut args = vec!["hawser-lab", "talk", address];
        args.extend(more);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let number = std::fs::read_dir(host.disk()).map(Iterator::count).unwrap_or_default();
        let command = as_user(host, APP_USER, &[], &args);
        let mut process = host.spawn_command(&format!("talk-{number}"), command)?;
        process.says("ready", Duration::from_secs(10))?;
        Ok(Self(process))
    }

    /// Says one more line, ends it, and tells. It must have lasted.
    ///
    /// # Errors
    /// If it ended before.
    pub fn stop(self) -> Result<TalkReport> {
        let text = self.0.finish(Duration::from_secs(30))?;
        let line = text.lines().rfind(|l| l.starts_with('{')).with_context(|| format!("no report in {text:?}"))?;
        let report: TalkReport = serde_json::from_str(line)?;
        ensure!(report.failure.is_none() && report.rounds > 1, "the connection did not last: {report:?}");
        Ok(report)
    }
}

/// Requests under way.
#[derive(Debug)]
pub struct Load(Process);

impl Load {
    /// Starts requests of a host at a steady rate.
    ///
    /// # Errors
    /// If they can't be started.
    pub fn start(host: &Host, url: &str, rate: u64, more: &[&str]) -> Result<Self> {
        let rate = rate.to_string();
        let mut args = vec!["hawser-lab", "load", "--url", url, "--rate", &rate];
        args.extend(more);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let number = std::fs::read_dir(host.disk()).map(Iterator::count).unwrap_or_default();
        let command = as_user(host, APP_USER, &[], &args);
        Ok(Self(host.spawn_command(&format!("load-{number}"), command)?))
    }

    /// Requests of a `hawser-lab load` that somebody started.
    pub fn of(process: Process) -> Self {
        Self(process)
    }

    /// Ends them and tells.
    ///
    /// # Errors
    /// If there is no report.
    pub fn stop(self) -> Result<LoadReport> {
        let text = self.0.finish(Duration::from_secs(30))?;
        let line = text.lines().rfind(|l| l.starts_with('{')).with_context(|| format!("no report in {text:?}"))?;
        Ok(serde_json::from_str(line)?)
    }
}

impl LoadReport {
    /// Nothing failed, and something was asked.
    ///
    /// # Errors
    /// If a request failed.
    pub fn all_ok(&self) -> Result<()> {
        ensure!(self.requests > 0, "no request was made");
        ensure!(
            self.failures == 0,
            "{} of {} requests failed: {:#?}",
            self.failures,
            self.requests,
            self.first_failures
        );
        Ok(())
    }
}
