//! The tasks of development: `cargo xtask demo | test | fuzz | bench | soak | dist | docs`.
//!
//! In: a task's name. Out: that task done with cargo and the programs of the workspace, its exit code ours.
//! Invariant: nothing here but the order of things; what is done is done by cargo and by the workspace's programs.
#![allow(clippy::print_stdout)]

mod dist;
mod docs;
mod fuzz;
mod kubernetes;
mod release;
mod tools;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

/// The tasks of development.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Build, then show the whole story on this machine
    Demo {
        /// mesh (the main job), consul (a service that Consul knows) or kubernetes (pods and hosts in one mesh)
        #[arg(default_value = "mesh")]
        story: String,
        /// Leave everything up at the end
        #[arg(long)]
        keep: bool,
    },
    /// Install what the tests need where that is possible, then run every test; `test kubernetes-real` asks a real
    /// Kubernetes API server what its double is asked
    Test {
        /// Handed on to cargo test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Feed the parsers of strangers' bytes with bytes that nobody thought of, for ten minutes each
    #[command(disable_help_flag = true)]
    Fuzz {
        /// `[TARGET...] [--seconds N] [--shrink] [--build]`; --help says more
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure beside Envoy and haproxy, in release builds
    Bench {
        /// Handed on to hawser-bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Load a changing mesh for a long time, in release builds: nothing may fail, grow or leak
    Soak {
        /// In debug builds, which are there after the tests
        #[arg(long)]
        debug: bool,
        /// Handed on to hawser-bench soak
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Packages, repositories, an archive and a list of parts, in target/dist
    Dist(dist::Options),
    /// Write the pages that are made from the code
    Docs {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    if let Some(code) = release::wrapper() {
        return code;
    }
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo { story, keep } => {
            tools::check(tools::DEMO)?;
            cargo(&["build", "--workspace", "--bins"])?;
            let mut demo = Command::new(target().join("debug/hawser-demo"));
            demo.arg(story);
            if keep {
                demo.arg("--keep");
            }
            must(demo)
        }
        Task::Test { args } if args.first().is_some_and(|a| a == "kubernetes-real") => kubernetes::run(&args[1..]),
        Task::Test { args } => {
            tools::install(tools::TEST)?;
            tools::install(tools::MACHINES)?;
            dist::for_tests()?;
            cargo(&["build", "--workspace", "--bins"])?;
            let mut all = vec!["test", "--workspace"];
            all.extend(args.iter().map(String::as_str));
            cargo(&all)?;
            if let Some(sentence) = kubernetes::missing() {
                println!("{sentence}");
            }
            Ok(())
        }
        Task::Fuzz { args } => fuzz::run(&args),
        Task::Bench { args } => {
            tools::install(tools::BENCH)?;
            release::all()?;
            let mut bench = Command::new(target().join("release/hawser-bench"));
            bench.args(args);
            must(bench)
        }
        Task::Soak { debug, args } => {
            tools::install(tools::SOAK)?;
            let folder = if debug {
                cargo(&["build", "--workspace", "--bins"])?;
                "debug"
            } else {
                release::all()?;
                "release"
            };
            let mut soak = Command::new(target().join(folder).join("hawser-bench"));
            soak.arg("soak").args(args);
            must(soak)
        }
        Task::Dist(options) => dist::run(&options),
        Task::Docs { check } => docs::run(check),
    }
}

/// The root of the source tree.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn cargo(args: &[&str]) -> Result<()> {
    cargo_with(args, &[])
}

fn cargo_with(args: &[&str], environment: &[(String, OsString)]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).envs(environment.iter().cloned()).current_dir(root());
    must(command)
}

fn must(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
