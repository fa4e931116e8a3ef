//! An archive with everything, for hosts that have neither apt nor dnf.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contents::{PROGRAMS, pages};
use super::{Dist, Platform, quietly};
use crate::root;

const PAGES: [&str; 3] = ["README.md", "CHANGELOG.md", "LICENSE"];
const FOLDERS: [&str; 4] = ["systemd", "sysusers.d", "tmpfiles.d", "etc"];

/// Packs it.
pub(super) fn build(dist: &Dist, platform: &Platform, made: &Path) -> Result<()> {
    let room = dist.room(&format!("archive-{}", platform.deb))?;
    let name = format!("hawser-{}-linux-{}", dist.version, platform.rpm);
    let tree = room.join(&name);
    for folder in ["bin", "man", "completions"].iter().chain(&FOLDERS) {
        fs::create_dir_all(tree.join(folder))?;
    }
    for program in PROGRAMS {
        fs::copy(made.join(program), tree.join("bin").join(program))?;
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = format!("hawser.{shell}");
        fs::copy(made.join(&script), tree.join("completions").join(&script))?;
    }
    for page in pages()? {
        fs::copy(&page, tree.join("man").join(page.file_name().unwrap_or_default()))?;
    }
    let packaging = root().join("packaging");
    for folder in FOLDERS {
        for entry in fs::read_dir(packaging.join(folder))? {
            let entry = entry?;
            fs::copy(entry.path(), tree.join(folder).join(entry.file_name()))?;
        }
    }
    fs::copy(packaging.join("install.sh"), tree.join("install.sh"))?;
    for page in PAGES {
        fs::copy(root().join(page), tree.join(page)).with_context(|| page.to_owned())?;
    }
    let mut tar = Command::new("tar");
    let time = format!("--mtime=@{}", dist.epoch);
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX", &time]);
    tar.args(["-I", if dist.debug { "gzip -n1" } else { "gzip -n9" }, "-cf"]);
    tar.arg(dist.out.join(format!("{name}.tar.gz"))).arg(&name);
    tar.current_dir(&room);
    quietly(tar)
}
