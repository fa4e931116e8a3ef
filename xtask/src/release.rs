//! Programs as they are shipped.
//!
//! Out: `target/release`. The proxy, which runs on every host, is built by itself, with no more of its libraries than it
//! uses, and linked statically: it needs no library of the host, whatever its age, and two megabytes less memory.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{cargo, must, target};

/// The first glibc whose start-up code takes relocations in their short form.
const SHORT_RELOCATIONS: (u32, u32) = (2, 36);

/// Builds all programs, those of tests and of benchmarks too.
pub(crate) fn all() -> Result<()> {
    cargo(&["build", "--release", "--workspace", "--exclude", "hawser-proxy", "--bins"])?;
    proxy()
}

/// Builds the proxy.
pub(crate) fn proxy() -> Result<()> {
    let mut args = vec!["rustc", "--release", "--package", "hawser-proxy", "--bin", "hawser-proxy", "--"];
    if cfg!(target_env = "gnu") {
        ensure!(
            library("libc.a")?,
            "libc.a is missing, which the proxy is linked to\nhint: it comes with libc6-dev (Debian), glibc-static (Fedora)"
        );
        args.extend(["-C", "target-feature=+crt-static"]);
        if glibc()? >= SHORT_RELOCATIONS {
            args.extend(["-C", "link-arg=-Wl,-z,pack-relative-relocs"]);
        }
    }
    cargo(&args)?;
    let mut runs = Command::new(target().join("release/hawser-proxy"));
    runs.arg("--version");
    must(runs)
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
