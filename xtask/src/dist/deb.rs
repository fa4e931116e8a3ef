//! A package for Debian and its kin, made by dpkg-deb.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contents::{self, directories, gzip, lay_out, settings};
use super::{Dist, Platform, output, quietly};
use crate::root;

const MAINTAINER: &str = "The Hawser authors <authors@hawser.io>";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Builds one.
pub(super) fn build(dist: &Dist, platform: &Platform, package: &str, made: &Path) -> Result<()> {
    let tree = dist.room(&format!("deb-{package}-{}", platform.deb))?;
    let files = contents::of(package, made)?;
    lay_out(&files, directories(package), &tree)?;
    let sources = root().join("packaging/debian");
    let doc = tree.join("usr/share/doc").join(package);
    fs::copy(sources.join("copyright"), doc.join("copyright"))?;
    fs::write(doc.join("changelog.Debian.gz"), gzip(changelog(dist)?.as_bytes())?)?;
    let overrides = sources.join(format!("{package}.lintian-overrides"));
    if overrides.is_file() {
        let dir = tree.join("usr/share/lintian/overrides");
        fs::create_dir_all(&dir)?;
        fs::copy(overrides, dir.join(package))?;
    }
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    fs::write(control.join("md5sums"), sums(&tree)?)?;
    fs::write(control.join("control"), fields(dist, platform, package, &tree)?)?;
    let edited = settings(&files);
    if !edited.is_empty() {
        fs::write(control.join("conffiles"), edited.join("\n") + "\n")?;
    }
    for script in SCRIPTS {
        let from = sources.join(format!("{package}.{script}"));
        if from.is_file() {
            let to = control.join(script);
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        }
    }
    permissions(&tree)?;
    dist.settle_times(&tree)?;
    let name = format!("{package}_{}_{}.deb", dist.full_version(), platform.deb);
    let mut deb = Command::new("dpkg-deb");
    deb.env("SOURCE_DATE_EPOCH", dist.epoch.to_string()).arg("--root-owner-group");
    deb.args(if dist.debug { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z9"] })
        .arg("--build")
        .arg(&tree)
        .arg(dist.out.join(name));
    quietly(deb)
}

/// `control`, with what is the same for all packages.
fn fields(dist: &Dist, platform: &Platform, package: &str, tree: &Path) -> Result<String> {
    let from = root().join(format!("packaging/debian/{package}.control"));
    let own = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
    let own = own.replace("${version}", &dist.full_version());
    let (name, rest) = own.split_once('\n').context("a control file of one line")?;
    let size = output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    let size = size.split_whitespace().next().unwrap_or("0");
    Ok(format!(
        "{name}\nVersion: {}\nArchitecture: {}\nMaintainer: {MAINTAINER}\nInstalled-Size: {size}\nPriority: optional\n{rest}",
        dist.full_version(),
        platform.deb
    ))
}

fn changelog(dist: &Dist) -> Result<String> {
    let date =
        output(Command::new("date").args(["--utc", "-R", "-d", &format!("@{}", dist.epoch)]).env("LC_ALL", "C"))?;
    Ok(format!(
        "hawser ({}) unstable; urgency=medium\n\n  * Version {}; changelog.gz says what changed.\n\n -- {MAINTAINER}  {date}",
        dist.full_version(),
        dist.version
    ))
}

/// `md5sums` of everything but the control files.
fn sums(tree: &Path) -> Result<String> {
    let find = "find . -type f ! -path './DEBIAN/*' -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 -r md5sum";
    output(Command::new("sh").args(["-c", find]).current_dir(tree))
}

/// Files that were written here are everybody's to read.
fn permissions(tree: &Path) -> Result<()> {
    let mut find = Command::new("find");
    find.arg(tree).args(["(", "-type", "d", "-exec", "chmod", "0755", "{}", "+", ")", "-o"]);
    find.args(["(", "-type", "f", "!", "-perm", "-0100", "-exec", "chmod", "0644", "{}", "+", ")"]);
    quietly(find)
}
