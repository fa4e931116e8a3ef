//! Programs as they are shipped.
//!
//! Out: `target/release`, or `target/debug` for tests of packages. Programs that are shipped are linked statically: they need no
//! library of the host, whatever its age. The proxy, which runs on every host, is built by itself besides, with no more of its
//! libraries than it uses: two megabytes less memory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::dist::{PROGRAMS, Platform};
use crate::{cargo, cargo_with, must, target};

/// Says to this program that it stands between cargo and the compiler.
const WRAPS: &str = "HAWSER_XTASK_LINKS_STATICALLY";
/// What the compiler is told of a program that is linked statically.
const STATIC: [&str; 2] = ["-C", "target-feature=+crt-static"];
const SHORT: [&str; 2] = ["-C", "link-arg=-Wl,-z,pack-relative-relocs"];

/// The first glibc whose start-up code takes relocations in their short form.
const SHORT_RELOCATIONS: (u32, u32) = (2, 36);

/// Builds all programs, those of tests and of benchmarks too.
pub(crate) fn all() -> Result<()> {
    cargo(&["build", "--release", "--workspace", "--exclude", "hawser-proxy", "--bins"])?;
    proxy()
}

/// Builds the proxy.
pub(crate) fn proxy() -> Result<()> {
    proxy_for(&[], &[])?;
    let mut runs = Command::new(target().join("release/hawser-proxy"));
    runs.arg("--version");
    must(runs)
}

fn proxy_for(target: &[&str], environment: &[(String, OsString)]) -> Result<()> {
    let mut args = vec!["rustc", "--release", "--package", "hawser-proxy", "--bin", "hawser-proxy"];
    args.extend(target);
    args.push("--");
    if cfg!(target_env = "gnu") {
        can_link_statically()?;
        args.extend(STATIC);
        if target.is_empty() && glibc()? >= SHORT_RELOCATIONS {
            args.extend(SHORT);
        }
    }
    cargo_with(&args, environment)
}

/// Builds the programs that are shipped, for a platform.
pub(crate) fn shipped(platform: &Platform, debug: bool) -> Result<()> {
    can_link_statically()?;
    let mut environment = vec![
        ("RUSTC_WORKSPACE_WRAPPER".to_owned(), std::env::current_exe()?.into_os_string()),
        (WRAPS.to_owned(), "1".into()),
    ];
    let mut of_target = Vec::new();
    if let (Some(triple), Some(linker)) = (platform.triple, platform.linker()) {
        of_target.extend(["--target", triple]);
        let variable = triple.to_uppercase().replace('-', "_");
        environment.push((format!("CARGO_TARGET_{variable}_LINKER"), linker.clone().into()));
        environment.push((format!("CC_{}", triple.replace('-', "_")), linker.into()));
    }
    // With the features that everything else in the workspace was built with: only what is ours is built again.
    let mut args = vec!["build", "--workspace"];
    let mut programs = PROGRAMS.to_vec();
    if !debug {
        args.push("--release");
        programs.retain(|program| *program != "hawser-proxy");
    }
    args.extend(&of_target);
    for program in &programs {
        args.extend(["--bin", program]);
    }
    cargo_with(&args, &environment)?;
    if !debug {
        proxy_for(&of_target, &environment[2..])?;
    }
    let kept = platform.shipped(debug);
    fs::create_dir_all(&kept)?;
    for program in PROGRAMS {
        let built = platform.programs(debug).join(program);
        fs::copy(&built, kept.join(program)).with_context(|| built.display().to_string())?;
    }
    Ok(())
}

/// Between cargo and the compiler: adds what links a program that is shipped statically. Does nothing, and returns nothing, where
/// this is not asked.
pub(crate) fn wrapper() -> Option<ExitCode> {
    std::env::var_os(WRAPS)?;
    let mut args = std::env::args_os().skip(1);
    let mut compiler = Command::new(args.next()?);
    compiler.args(args);
    if std::env::var("CARGO_BIN_NAME").is_ok_and(|name| PROGRAMS.contains(&name.as_str())) {
        compiler.args(STATIC);
        let native = !std::env::args().any(|arg| arg == "--target");
        if native && glibc().is_ok_and(|version| version >= SHORT_RELOCATIONS) {
            compiler.args(SHORT);
        }
    }
    // Returns only if it can't.
    let error = compiler.exec();
    eprintln!("error: {}: {error}", compiler.get_program().to_string_lossy());
    Some(ExitCode::FAILURE)
}

fn can_link_statically() -> Result<()> {
    ensure!(
        !cfg!(target_env = "gnu") || library("libc.a")?,
        "libc.a is missing, which programs are linked to\nhint: it comes with libc6-dev (Debian), glibc-static (Fedora)"
    );
    Ok(())
}

/// Whether the linker finds it.
fn library(name: &str) -> Result<bool> {
    let found = Command::new("cc").arg(format!("-print-file-name={name}")).output().context("cc")?;
    // A name that is not found comes back as it was given.
    Ok(String::from_utf8_lossy(&found.stdout).contains('/'))
}

/// Its version here.
fn glibc() -> Result<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().context("getconf")?;
    let said = String::from_utf8_lossy(&said.stdout);
    version(&said).with_context(|| format!("getconf GNU_LIBC_VERSION says {said:?}, which is no version"))
}

fn version(said: &str) -> Option<(u32, u32)> {
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split_once('.').map_or(minor, |(minor, _)| minor);
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_of_glibc() {
        assert_eq!(version("glibc 2.36\n"), Some((2, 36)));
        assert_eq!(version("glibc 2.40.1"), Some((2, 40)));
        assert_eq!(version("musl 1.2"), None);
    }
}
