//! `hawser-discovery`: the core of the mesh.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

use clap::Parser as _;
use hawser_discovery::args::{Args, Verb};
use hawser_discovery::run;

fn main() -> anyhow::Result<()> {
    if cfg!(target_feature = "crt-static") {
        hawser_sockets::names_without_modules();
    }
    let args = Args::parse();
    hawser_daemon::init()?;
    // Lists of large registries are read by whichever thread is free; an arena each would keep what they took many times.
    hawser_sockets::share_memory(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.verb {
        None => runtime.block_on(run::serve(args.serve)),
        Some(Verb::Backup(args)) => runtime.block_on(run::backup(args)),
        Some(Verb::Restore(args)) => run::restore(&args),
    }
}
