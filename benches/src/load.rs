//! The loads: HTTP, gRPC, small TCP messages, TCP bulk; as fast as they are answered, or in an open loop at a rate.
//!
//! In: a [`Load`] and where to. Out: a line of JSON with what was [`Seen`]. Invariant: every answer is compared with what
//! the server is known to give; one that differs, or never comes, is a failure that is counted and described.

pub(crate) mod answer;
mod bulk;
pub(crate) mod grpc;
pub(crate) mod histogram;
mod hold;
mod sockets;

pub(crate) use hold::run as hold;

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::bodies;
use histogram::Histogram;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// `GET /`, an answer of 3 bytes.
    Tiny,
    /// `GET /1k`, an answer of 1,024 bytes.
    Kilobyte,
    /// `GET /`, each on a connection of its own.
    TinyNew,
    /// A unary call, with trailers.
    Grpc,
    /// 64 bytes there and back.
    Message,
    /// The same, each on a connection of its own.
    MessageNew,
    /// As many bytes as go, one way.
    Bulk,
}

/// All that makes two loads the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Load {
    /// What is sent.
    pub(crate) kind: Kind,
    /// Connections.
    pub(crate) connections: u32,
    /// Calls at a time on each connection; for gRPC.
    pub(crate) streams: u32,
    /// Requests a second, open loop: a late answer does not delay the next request's due time. 0: as many as go.
    pub(crate) rate: u32,
    /// How long, in milliseconds.
    pub(crate) millis: u32,
}

/// The same on the command line.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Shape {
    #[arg(long, default_value_t = 16)]
    connections: u32,
    #[arg(long, default_value_t = 1)]
    streams: u32,
    #[arg(long, default_value_t = 0)]
    rate: u32,
    #[arg(long, default_value_t = 3000)]
    millis: u32,
}

impl Shape {
    /// With what is sent.
    pub(crate) fn of(self, kind: Kind) -> Load {
        let Self { connections, streams, rate, millis } = self;
        Load { kind, connections, streams, rate, millis }
    }
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests or messages answered as expected.
    pub(crate) done: u64,
    /// Those that were not.
    pub(crate) failed: u64,
    /// What the first of them were.
    pub(crate) first_failures: Vec<String>,
    /// Bytes sent in bulk, and counted by the server.
    pub(crate) bytes: u64,
    /// From first to last.
    pub(crate) seconds: f64,
    /// Median latency in microseconds, from when a request was due.
    pub(crate) p50: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
    /// Seconds that the loader itself stood still, as a machine without time for it makes it.
    pub(crate) still: f64,
    /// Whether this is the last word.
    pub(crate) over: bool,
}

/// Counts while a load runs.
#[derive(Debug)]
struct Tally {
    began: Instant,
    seen: Seen,
    latencies: Histogram,
    interval: Histogram,
}

/// How often a long load says how it goes.
const TELLS: Duration = Duration::from_secs(10);
/// How long an answer may take before it counts as lost.
const LOST: Duration = Duration::from_secs(10);
/// A loop of the loader that takes longer did not run: nobody can be blamed for what came late then.
const STILL: Duration = Duration::from_secs(1);
/// Connections are made, pools filled and caches warm before anything is measured.
const WARM: Duration = Duration::from_millis(150);

/// Says `ready` when its connections stand, runs when told so, says what it saw, keeps its connections until its stdin
/// ends: so that whoever measures can leave out their beginning and end.
pub(crate) fn run(load: Load, target: SocketAddr, tells: bool) -> anyhow::Result<()> {
    // The kernel's default would make each request of an open loop up to 50 us late.
    let _ = nix::sys::prctl::set_timerslack(1);
    let span = Duration::from_millis(load.millis.into());
    match load.kind {
        Kind::Bulk => bulk::run(target, span),
        Kind::Grpc => grpc::run(load, target, span, tells),
        _ => sockets::run(load, target, span, tells),
    }
}

/// Waits for the word to begin.
fn told_to_begin() -> anyhow::Result<()> {
    say("ready")?;
    let mut word = String::new();
    anyhow::ensure!(std::io::stdin().lock().read_line(&mut word)? > 0, "nobody waits for this load any more");
    Ok(())
}

/// Says what was seen, and waits until whoever measures has looked.
fn tell(seen: Seen) -> anyhow::Result<()> {
    say(&serde_json::to_string(&Seen { over: true, ..seen })?)?;
    std::io::stdin().lock().read_to_end(&mut vec![])?;
    Ok(())
}

pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

impl Kind {
    /// What is expected of HTTP.
    fn body(self) -> Vec<u8> {
        if self == Self::Kilobyte { bodies::kilobyte() } else { bodies::TINY.to_vec() }
    }

    /// Bytes of an answer, without what frames them.
    pub(crate) fn answered(self) -> usize {
        match self {
            Self::Tiny | Self::TinyNew => bodies::TINY.len(),
            Self::Kilobyte => 1024,
            Self::Grpc => grpc::ANSWERED.into(),
            Self::Message | Self::MessageNew => bodies::MESSAGE,
            Self::Bulk => 0,
        }
    }

    /// Whether each request has a connection of its own.
    fn is_new(self) -> bool {
        matches!(self, Self::TinyNew | Self::MessageNew)
    }

    fn is_http(self) -> bool {
        matches!(self, Self::Tiny | Self::Kilobyte | Self::TinyNew)
    }
}

impl Tally {
    fn new() -> Self {
        let (latencies, interval) = (Histogram::default(), Histogram::default());
        Self { began: Instant::now(), seen: Seen::default(), latencies, interval }
    }

    fn good(&mut self, took: Duration) {
        self.seen.done += 1;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.interval.add(nanos);
    }

    fn bad(&mut self, why: impl std::fmt::Display) {
        self.seen.failed += 1;
        if self.seen.first_failures.len() < 10 {
            let after = self.began.elapsed().as_secs_f64();
            self.seen.first_failures.push(format!("after {after:.3} s: {why}"));
        }
    }

    /// What was seen so far; latencies since the last time.
    fn so_far(&mut self) -> Seen {
        let seen = summary(&self.seen, self.began, &self.interval);
        self.latencies.merge(&std::mem::take(&mut self.interval));
        seen
    }

    fn finish(mut self) -> Seen {
        self.latencies.merge(&self.interval);
        summary(&self.seen, self.began, &self.latencies)
    }
}

fn summary(seen: &Seen, began: Instant, latencies: &Histogram) -> Seen {
    let (p50, p99, max) = (latencies.micros_at(0.5), latencies.micros_at(0.99), latencies.micros_at(1.0));
    Seen { seconds: began.elapsed().as_secs_f64(), p50, p99, max, ..seen.clone() }
}

/// When the next request of a sender is due.
#[derive(Clone, Debug)]
struct Pace {
    next: Instant,
    step: Option<Duration>,
}

impl Pace {
    /// Of sender `index` of `count`, which share the rate.
    fn new(start: Instant, rate: u32, index: usize, count: usize) -> Self {
        if rate == 0 {
            return Self { next: start, step: None };
        }
        let step = Duration::from_secs_f64(count as f64 / f64::from(rate));
        Self { next: start + step.mul_f64(index as f64 / count as f64), step: Some(step) }
    }

    /// A request was sent: when it was due, from which its latency counts.
    fn sent(&mut self, now: Instant) -> Instant {
        match self.step {
            None => now,
            Some(step) => {
                let due = self.next;
                self.next += step;
                due
            }
        }
    }

    /// It was answered: without a rate the next is due at once.
    fn answered(&mut self, now: Instant) {
        if self.step.is_none() {
            self.next = now;
        }
    }
}

#[cfg(test)]
mod tests;
