//! What is shipped: packages, repositories, an archive, checksums, a list of parts.
//!
//! In: built programs and `packaging/`. Out: `target/dist` (`target/dist-debug`): `*.deb`, `*.rpm`, `apt/`, `yum/`, `*.tar.gz`,
//! `*.cdx.json`, `SHA256SUMS`. Invariant: equal input, equal bytes, but for signatures; the time in everything is that of the
//! commit, or `SOURCE_DATE_EPOCH`.

mod apt;
mod archive;
mod contents;
mod deb;
mod platform;
mod rpm;
mod sbom;
mod sign;
mod yum;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{must, release, root, target, tools};
pub(crate) use contents::PROGRAMS;
pub(crate) use platform::Platform;
use sign::Key;

/// The packages, in the order in which they need each other.
const PACKAGES: [&str; 3] = ["hawser", "hawser-agent", "hawser-discovery"];

/// How it is made.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Of debug builds, for tests: quick to make, slow to run
    #[arg(long)]
    pub(crate) debug: bool,
    /// Revision of the packages of this version
    #[arg(long, default_value_t = 1)]
    pub(crate) revision: u32,
    /// Where to put it; target/dist, or target/dist-debug, if absent
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// A directory with packages of earlier builds, which stay in the repositories
    #[arg(long)]
    pub(crate) previous: Option<PathBuf>,
    /// Then the same as the next revision, in a directory whose name ends with -next: for tests of upgrades
    #[arg(long)]
    pub(crate) next: bool,
    /// GnuPG's name of the key that signs; one is made for trials, and kept in target/dist-key, if absent
    #[arg(long, env = "HAWSER_SIGNING_KEY")]
    pub(crate) key: Option<String>,
    /// Take the programs as the last run has left them
    #[arg(long, hide = true)]
    pub(crate) no_build: bool,
}

/// What every part of it needs to know.
struct Dist {
    out: PathBuf,
    /// Where things lie while they are made.
    work: PathBuf,
    version: &'static str,
    revision: u32,
    /// Seconds since 1970 that stand in everything.
    epoch: u64,
    debug: bool,
}

/// Builds and packs.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::install(tools::DIST)?;
    let folder = if options.debug { "dist-debug" } else { "dist" };
    let out = options.out.clone().unwrap_or_else(|| target().join(folder));
    once(options, &out)?;
    if options.next {
        let mut beside = out.clone().into_os_string();
        beside.push("-next");
        let revision = options.revision + 1;
        let again = Options { revision, previous: Some(out), no_build: true, ..options.clone() };
        once(&again, Path::new(&beside))?;
    }
    Ok(())
}

/// Debug builds, of this revision and of the next.
pub(crate) fn for_tests() -> Result<()> {
    run(&Options { debug: true, revision: 1, out: None, previous: None, next: true, key: None, no_build: false })
}

fn once(options: &Options, out: &Path) -> Result<()> {
    let work = out.join("work");
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(&work)?;
    let dist = Dist {
        out: std::path::absolute(out)?,
        work: std::path::absolute(&work)?,
        version: env!("CARGO_PKG_VERSION"),
        revision: options.revision,
        epoch: epoch()?,
        debug: options.debug,
    };
    let key = Key::provide(options.key.as_deref(), dist.epoch)?;
    for platform in Platform::all(options.debug) {
        if !options.no_build {
            release::shipped(&platform, options.debug)?;
        }
        let programs = contents::programs(&dist, &platform)?;
        for package in PACKAGES {
            deb::build(&dist, &platform, package, &programs)?;
        }
        rpm::build(&dist, &platform, &programs, &key)?;
        archive::build(&dist, &platform, &programs)?;
    }
    if let Some(previous) = &options.previous {
        keep(previous, &dist.out)?;
    }
    sbom::write(&dist)?;
    apt::build(&dist, &key)?;
    yum::build(&dist, &key)?;
    fs::remove_dir_all(&dist.work)?;
    checksums(&dist, &key)?;
    println!("{}", dist.out.display());
    Ok(())
}

impl Dist {
    /// `0.1.0-1`.
    fn full_version(&self) -> String {
        format!("{}-{}", self.version, self.revision)
    }

    /// An empty directory for work.
    fn room(&self, name: &str) -> Result<PathBuf> {
        let dir = self.work.join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Files of a kind that are shipped, by name.
    fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.out)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        files.sort();
        Ok(files)
    }

    /// Gives every file below a directory the time that stands in everything.
    fn settle_times(&self, dir: &Path) -> Result<()> {
        let time = format!("@{}", self.epoch);
        let mut touch = Command::new("find");
        touch.arg(dir).args(["-exec", "touch", "--no-dereference", "--date", &time, "{}", "+"]);
        must(touch)
    }
}

/// The commit's time, unless the environment says another.
fn epoch() -> Result<u64> {
    let said = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root()))
            .context("no commit says the time: set SOURCE_DATE_EPOCH to seconds since 1970")?,
    };
    said.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH={said:?} is no number of seconds"))
}

/// Copies packages of earlier builds.
fn keep(previous: &Path, out: &Path) -> Result<()> {
    for entry in fs::read_dir(previous).with_context(|| previous.display().to_string())? {
        let path = entry?.path();
        let is_package = path.extension().is_some_and(|found| found == "deb" || found == "rpm");
        if let Some(name) = path.file_name().filter(|_| is_package) {
            fs::copy(&path, out.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn checksums(dist: &Dist, key: &Key) -> Result<()> {
    let mut names = Vec::new();
    for extension in ["deb", "rpm", "gz", "json"] {
        let files = dist.files(extension)?;
        names.extend(files.iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)));
    }
    let sums = output(Command::new("sha256sum").args(&names).current_dir(&dist.out))?;
    fs::write(dist.out.join("SHA256SUMS"), sums)?;
    key.detach(&dist.out.join("SHA256SUMS"), &dist.out.join("SHA256SUMS.asc"))
}

/// What a command says, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let title = format!("{command:?}");
    let done = command.output().with_context(|| title.clone())?;
    if !done.status.success() {
        bail!("{title} ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    String::from_utf8(done.stdout).context(title)
}

/// Runs a command that says much, and shows it only if it fails.
fn quietly(mut command: Command) -> Result<()> {
    output(&mut command).map(drop)
}
