//! The whole story on one machine: hosts as namespaces, real programs, every step with what was seen.
//!
//! In: the built programs beside this one. Out: a narration on stdout, a table at the end, exit code 0 if every step
//! was seen as it should be. Invariant: no root where the system lets users make namespaces, and nothing stays.

mod consul;
mod kubernetes;
mod play;
mod report;
mod rights;
mod story;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::report::Report;

#[derive(Debug, Parser)]
struct Args {
    /// Which story
    #[arg(value_enum, default_value = "mesh")]
    story: Story,
    /// Leave everything up at the end, and say how to play with it
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Story {
    /// Hosts that join, split traffic, fail and leave
    Mesh,
    /// A service that Consul knows, and its move to a joined host
    Consul,
    /// Pods and hosts in one mesh, and a service that moves between them
    Kubernetes,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(code) = rights::elsewhere() {
        return code;
    }
    let mut report = Report::new();
    let outcome = match args.story {
        Story::Mesh => story::tell(&mut report),
        Story::Consul => consul::tell(&mut report),
        Story::Kubernetes => kubernetes::tell(&mut report),
    };
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
