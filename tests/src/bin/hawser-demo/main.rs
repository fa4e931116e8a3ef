//! The whole story on one machine: hosts as namespaces, real programs, every step with what was seen.
//!
//! In: the built programs beside this one. Out: a narration on stdout, a table at the end, exit code 0 if every step
//! was seen as it should be. Invariant: no root where the system lets users make namespaces, and nothing stays.

mod play;
mod report;
mod rights;
mod story;

use std::process::ExitCode;

use clap::Parser;

use crate::report::Report;

#[derive(Debug, Parser)]
struct Args {
    /// Leave everything up at the end, and say how to play with it
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(code) = rights::elsewhere(args.keep) {
        return code;
    }
    let mut report = Report::new();
    let outcome = story::tell(&mut report);
    let (code, scene) = match outcome {
        Ok(scene) => (ExitCode::SUCCESS, Some(scene)),
        Err(error) => {
            report.failed(&error);
            (ExitCode::FAILURE, None)
        }
    };
    report.table();
    if let (true, Some(scene)) = (args.keep, &scene) {
        play::play(scene);
    }
    code
}
