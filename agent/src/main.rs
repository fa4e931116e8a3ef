//! `hawser-agent`: the program.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> anyhow::Result<ExitCode> {
    if cfg!(target_feature = "crt-static") {
        hawser_sockets::names_without_modules();
    }
    // Short errands of the same program: the guard of an unconfirmed commit, the boot's restore, looks at the host.
    let args = || std::env::args_os().skip(1);
    if let Some(code) = hawser_agent::redirect::errand(args()).or_else(|| hawser_agent::doctor_errand(args())) {
        return Ok(code);
    }
    daemon().map(|()| ExitCode::SUCCESS)
}

#[tokio::main(worker_threads = 2)]
async fn daemon() -> anyhow::Result<()> {
    let args = hawser_agent::Args::parse();
    hawser_daemon::init()?;
    hawser_agent::run(args).await
}
