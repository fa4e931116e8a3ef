//! A repository for apt: `apt/pool`, `apt/dists/stable`, signed.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contents::gzip;
use super::sign::Key;
use super::{Dist, output};

/// Makes it of the packages that are there.
pub(super) fn build(dist: &Dist, key: &Key) -> Result<()> {
    let apt = dist.out.join("apt");
    let (pool, suite) = (apt.join("pool"), apt.join("dists/stable"));
    fs::create_dir_all(&pool)?;
    let mut architectures = BTreeSet::new();
    for deb in dist.files("deb")? {
        let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((_, architecture)) = name.trim_end_matches(".deb").rsplit_once('_') {
            architectures.insert(architecture.to_owned());
        }
        fs::hard_link(&deb, pool.join(name))?;
    }
    for architecture in &architectures {
        let dir = suite.join(format!("main/binary-{architecture}"));
        fs::create_dir_all(&dir)?;
        let mut scan = Command::new("apt-ftparchive");
        let packages = output(scan.args(["--arch", architecture, "packages", "pool"]).current_dir(&apt))?;
        fs::write(dir.join("Packages.gz"), gzip(packages.as_bytes())?)?;
        fs::write(dir.join("Packages"), packages)?;
    }
    let architectures = architectures.into_iter().collect::<Vec<_>>().join(" ");
    let mut release = Command::new("apt-ftparchive");
    let fields = [
        ("Origin", "Hawser"),
        ("Label", "Hawser"),
        ("Suite", "stable"),
        ("Codename", "stable"),
        ("Components", "main"),
        ("Architectures", architectures.as_str()),
    ];
    for (field, value) in fields {
        release.args(["-o", &format!("APT::FTPArchive::Release::{field}={value}")]);
    }
    let said = output(release.args(["release", "dists/stable"]).current_dir(&apt))?;
    let date =
        output(Command::new("date").args(["--utc", "-R", "-d", &format!("@{}", dist.epoch)]).env("LC_ALL", "C"))?;
    let date = date.trim().replace("+0000", "UTC");
    let lines =
        said.lines().map(|line| if line.starts_with("Date:") { format!("Date: {date}") } else { line.to_owned() });
    let release = suite.join("Release");
    fs::write(&release, lines.collect::<Vec<_>>().join("\n") + "\n").context("Release")?;
    key.detach(&release, &suite.join("Release.gpg"))?;
    key.clear(&release, &suite.join("InRelease"))?;
    key.export(&apt.join("hawser.asc"))
}
