//! Packages for Fedora and its kin, made by rpmbuild.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::contents::{self, directories, lay_out};
use super::sign::Key;
use super::{Dist, PACKAGES, Platform, quietly};
use crate::root;

/// Builds them and signs each.
pub(super) fn build(dist: &Dist, platform: &Platform, made: &Path, key: &Key) -> Result<()> {
    let room = dist.room(&format!("rpm-{}", platform.rpm))?;
    let (tree, lists, built) = (room.join("tree"), room.join("lists"), room.join("built"));
    fs::create_dir_all(&lists)?;
    for package in PACKAGES {
        let files = contents::of(package, made)?;
        lay_out(&files, directories(package), &tree)?;
        let mut list = String::from("%defattr(-,root,root,-)\n");
        for directory in directories(package) {
            list.push_str(&format!("%dir /{directory}\n"));
        }
        if package != "hawser" {
            list.push_str("%dir /etc/hawser\n");
        }
        if files.iter().any(|file| file.to.starts_with(&format!("usr/share/doc/{package}/"))) {
            list.push_str(&format!("%dir /usr/share/doc/{package}\n"));
        }
        for file in &files {
            let word = match &file.to {
                to if to.starts_with("etc/") => "%config(noreplace) ",
                to if to.starts_with("usr/share/doc/") || to.starts_with("usr/share/man/") => "%doc ",
                _ => "",
            };
            list.push_str(&format!("{word}/{}\n", file.to));
        }
        if package != "hawser" {
            // Each brings what it needs enabled: the lines for units that are not there mean nothing.
            let preset = format!("usr/lib/systemd/system-preset/90-{package}.preset");
            let to = tree.join(&preset);
            fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            fs::copy(root().join("packaging/systemd/90-hawser.preset"), &to)?;
            list.push_str(&format!("/{preset}\n"));
        }
        fs::write(lists.join(package), list)?;
    }
    dist.settle_times(&tree)?;
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", platform.rpm]).env("SOURCE_DATE_EPOCH", dist.epoch.to_string());
    // A spec of its own settings: those of this machine's user and distribution differ.
    let defines = [
        format!("_topdir {}", room.join("top").display()),
        format!("_rpmdir {}", built.display()),
        format!("_tmppath {}", room.display()),
        format!("tree {}", tree.display()),
        format!("lists {}", lists.display()),
        format!("product_version {}", dist.version),
        format!("product_revision {}", dist.revision),
        "_buildhost hawser".into(),
        "use_source_date_epoch_as_buildtime 1".into(),
        "clamp_mtime_to_source_date_epoch 1".into(),
        "_build_id_links none".into(),
        "debug_package %{nil}".into(),
        "__os_install_post %{nil}".into(),
        "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm".into(),
        // What rpm of the oldest hosts can read.
        format!("_binary_payload {}", if dist.debug { "w1.gzdio" } else { "w6.xzdio" }),
    ];
    for define in &defines {
        rpmbuild.args(["--define", define]);
    }
    rpmbuild.arg(root().join("packaging/rpm/hawser.spec"));
    quietly(rpmbuild)?;
    for package in PACKAGES {
        let name = format!("{package}-{}.{}.rpm", dist.full_version(), platform.rpm);
        key.sign_rpm(&built.join(&name))?;
        fs::copy(built.join(&name), dist.out.join(&name))?;
    }
    Ok(())
}
