//! Fuzzing: the programs of `fuzz/` built for libFuzzer with AddressSanitizer, and run one after the other.
//!
//! In: names of targets, seconds for each. Out: a corpus that grows in `target/fuzz/corpus`, and findings, made small, in
//! `target/fuzz/findings`. Everything is built by the compiler that the workspace is built by, with the versions of its
//! lock file; nothing has to be installed but a C++ compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;

use crate::{must, root, target};

/// What a compiler of the stable channel takes only with `RUSTC_BOOTSTRAP`.
const FLAGS: &[&str] = &[
    "--cfg",
    "fuzzing",
    "-Zsanitizer=address",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What libFuzzer is told unless the caller says otherwise. No input takes a hundredth of that time or memory, but a machine may
/// have other things to do, and what is instrumented is slow.
const LIMITS: &[&str] = &["-timeout=25", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"];

#[derive(Debug, Parser)]
#[command(name = "cargo xtask fuzz")]
struct Options {
    /// Targets, as in fuzz/fuzz_targets; all if none is named
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Only build, and say where the programs are
    #[arg(long)]
    build: bool,
    /// Afterwards keep of each corpus only what reaches more than the rest
    #[arg(long)]
    shrink: bool,
    /// Handed on to libFuzzer, like -max_len=100000
    #[arg(long = "libfuzzer", value_name = "OPTION", allow_hyphen_values = true)]
    more: Vec<String>,
}

/// Builds, then runs target after target; an error if one of them found something.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let args = args.iter().filter(|arg| *arg != "--").cloned();
    let options = Options::try_parse_from(std::iter::once("cargo xtask fuzz".to_owned()).chain(args));
    let options = options.unwrap_or_else(|error| error.exit());
    let known = targets()?;
    let chosen = if options.targets.is_empty() { known.clone() } else { options.targets.clone() };
    for name in &chosen {
        ensure!(known.contains(name), "there is no target {name}\nhint: there are {}", known.join(", "));
    }
    let programs = build(&chosen)?;
    if options.build {
        chosen.iter().for_each(|name| println!("{}", programs.join(name).display()));
        return Ok(());
    }
    let mut found = Vec::new();
    for name in chosen {
        let target = Target { program: programs.join(&name), name };
        println!("{}: {} s", target.name, options.seconds);
        found.extend(target.run(options.seconds, &options.more)?);
        if options.shrink {
            target.shrink()?;
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    for finding in &found {
        println!("found {}", finding.display());
    }
    bail!(
        "{} findings\nhint: `<program> <finding>` shows one again; once it is mended, keep it in fuzz/seeds",
        found.len()
    )
}

struct Target {
    name: String,
    program: PathBuf,
}

impl Target {
    /// Runs for so long; what was found, made small.
    fn run(&self, seconds: u64, more: &[String]) -> Result<Option<PathBuf>> {
        let (corpus, findings) = (self.folder("corpus"), self.folder("findings"));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&findings)?;
        let before = files(&findings)?;
        let mut command = Command::new(&self.program);
        command.arg(&corpus).arg(self.seeds()).args(LIMITS).arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", findings.display())).args(more);
        if command.status().with_context(|| format!("{command:?}"))?.success() {
            return Ok(None);
        }
        let finding = files(&findings)?.into_iter().find(|file| !before.contains(file));
        let finding =
            finding.with_context(|| format!("{} ended with an error, and with no input for it", self.name))?;
        Ok(Some(self.minimise(finding)))
    }

    /// The same fault from fewer bytes, if it is one that can be made small.
    fn minimise(&self, finding: PathBuf) -> PathBuf {
        let small = finding.with_extension("small");
        let mut command = Command::new(&self.program);
        command.args(LIMITS).args(["-minimize_crash=1", "-max_total_time=60"]);
        command.arg(format!("-exact_artifact_path={}", small.display())).arg(&finding);
        // It ends with an error also when it has done its work.
        let _ = command.status();
        if small.exists() { small } else { finding }
    }

    fn shrink(&self) -> Result<()> {
        let (corpus, shrunk) = (self.folder("corpus"), self.folder("shrunk"));
        let _ = fs::remove_dir_all(&shrunk);
        fs::create_dir_all(&shrunk)?;
        let mut command = Command::new(&self.program);
        command.args(LIMITS).arg("-merge=1").arg(&shrunk).arg(self.seeds()).arg(&corpus);
        must(command)?;
        fs::remove_dir_all(&corpus)?;
        fs::rename(&shrunk, &corpus).with_context(|| corpus.display().to_string())
    }

    fn seeds(&self) -> PathBuf {
        root().join("fuzz/seeds").join(&self.name)
    }

    fn folder(&self, kind: &str) -> PathBuf {
        folder().join(kind).join(&self.name)
    }
}

/// Where everything of fuzzing is kept.
fn folder() -> PathBuf {
    target().join("fuzz")
}

/// Every target there is.
fn targets() -> Result<Vec<String>> {
    let stems = files(&root().join("fuzz/fuzz_targets"))?;
    Ok(stems.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
}

/// Builds; the folder of the programs.
fn build(targets: &[String]) -> Result<PathBuf> {
    let manifest = root().join("fuzz/Cargo.toml");
    lock()?;
    let host = host()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With a target named, programs that run during the build are built without the flags.
    cargo.args(["build", "--release", "--target", &host, "--manifest-path"]).arg(manifest);
    targets.iter().for_each(|name| _ = cargo.args(["--bin", name]));
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS.join(" ")).env("CARGO_TARGET_DIR", folder());
    must(cargo)?;
    Ok(folder().join(host).join("release"))
}

/// Fuzzes the versions that are shipped: the lock file of `fuzz/` begins as a copy of the workspace's.
fn lock() -> Result<()> {
    let (ours, copy) = (root().join("Cargo.lock"), folder().join("Cargo.lock.workspace"));
    let begun = root().join("fuzz/Cargo.lock");
    let now = fs::read(&ours).with_context(|| ours.display().to_string())?;
    if begun.exists() && fs::read(&copy).is_ok_and(|then| then == now) {
        return Ok(());
    }
    fs::create_dir_all(folder())?;
    fs::write(begun, &now)?;
    fs::write(copy, now).context("the copy of the lock file")
}

fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").output().context("rustc")?.stdout;
    let said = String::from_utf8_lossy(&said);
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
