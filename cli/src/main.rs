//! `hawser`: the command that people type.
//!
//! In: arguments, and the Unix sockets of the host's agent and of discovery. Out: data on stdout, everything else
//! on stderr, and an exit code that scripts can rely on ([`exit`]). Invariant: it holds no state and no
//! privilege of its own; what it may do is what the socket lets it.

// Nothing that comes in may end a process: what can't be is an error too.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::panic, clippy::unreachable))]

mod args;
mod connect;
mod exit;
mod failure;
mod input;
mod output;
#[cfg(test)]
mod pages;
mod terminal;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data; clap knows which stream is whose.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime could be started: {error}");
            return ExitCode::from(exit::FAILURE);
        }
    };
    match runtime.block_on(verbs::run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}
