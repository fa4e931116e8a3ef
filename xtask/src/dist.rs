//! Release programs as an archive, with a checksum beside it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, must, release, root, target};

const PROGRAMS: [&str; 4] = ["hawser", "hawser-discovery", "hawser-agent", "hawser-proxy"];
const PAGES: [&str; 3] = ["README.md", "CHANGELOG.md", "LICENSE"];

/// Builds and packs into `target/dist`.
pub(crate) fn run() -> Result<()> {
    let mut args = vec!["build", "--release"];
    for package in ["hawser-cli", "hawser-discovery", "hawser-agent"] {
        args.extend(["--package", package]);
    }
    cargo(&args)?;
    release::proxy()?;
    let name = format!("hawser-{}-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    let dist = target().join("dist");
    let dir = dist.join(&name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    for program in PROGRAMS {
        fs::copy(target().join("release").join(program), dir.join(program)).with_context(|| program.to_owned())?;
        let mut strip = Command::new("strip");
        strip.arg(dir.join(program));
        must(strip)?;
    }
    for page in PAGES {
        fs::copy(root().join(page), dir.join(page)).with_context(|| page.to_owned())?;
    }
    let archive = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    // Equal input, equal archive.
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf", &archive, &name]);
    tar.current_dir(&dist).env("GZIP", "-n");
    must(tar)?;
    let sums = Command::new("sha256sum").arg(&archive).current_dir(&dist).output().context("sha256sum")?;
    fs::write(dist.join("SHA256SUMS"), &sums.stdout)?;
    println!("{}", dist.join(&archive).display());
    Ok(())
}
