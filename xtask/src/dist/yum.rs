//! A repository for dnf: `yum/`, packages and index signed.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::sign::Key;
use super::{Dist, quietly};

/// Makes it of the packages that are there.
pub(super) fn build(dist: &Dist, key: &Key) -> Result<()> {
    let yum = dist.out.join("yum");
    fs::create_dir_all(&yum)?;
    for rpm in dist.files("rpm")? {
        fs::hard_link(&rpm, yum.join(rpm.file_name().unwrap_or_default()))?;
    }
    dist.settle_times(&yum)?;
    let mut index = Command::new("createrepo_c");
    index.args(["--quiet", "--no-database", "--set-timestamp-to-revision"]);
    index.arg(format!("--revision={}", dist.epoch)).arg(&yum).env("SOURCE_DATE_EPOCH", dist.epoch.to_string());
    quietly(index)?;
    let list = yum.join("repodata/repomd.xml");
    key.detach(&list, &yum.join("repodata/repomd.xml.asc"))?;
    key.export(&yum.join("hawser.asc"))
}
