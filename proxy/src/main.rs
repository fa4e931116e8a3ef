//! hawser-proxy: the data plane of a host.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

use clap::Parser as _;
use hawser_proxy::options::Options;
use hawser_proxy::{control, take_over};
use tokio::runtime::{Builder, LocalOptions};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    hawser_daemon::init()?;
    if options.take_over {
        return take_over::run();
    }
    // As the workers' runtimes: with one kind only, the program holds no scheduler for many threads.
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(control::run(options))
}
