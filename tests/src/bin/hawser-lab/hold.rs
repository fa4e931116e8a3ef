//! A host's first process.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Host name
    #[arg(long)]
    name: String,
    /// What outlives a reboot
    #[arg(long)]
    disk: PathBuf,
}

/// Mounts an empty /run and a resolv.conf of its own, then reaps until stdin ends; everything in the process
/// namespace ends with it.
pub(crate) fn run(args: &Args) -> Result<()> {
    nix::unistd::sethostname(&args.name).context("host name")?;
    resolver(&args.disk).context("resolv.conf")?;
    crate::ready();
    let stdin = std::io::stdin();
    loop {
        let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, PollTimeout::from(100u16)).unwrap_or(0);
        if ready > 0 && std::io::Read::read(&mut stdin.lock(), &mut [0; 16]).unwrap_or(0) == 0 {
            return Ok(());
        }
        let any = nix::unistd::Pid::from_raw(-1);
        while matches!(waitpid(any, Some(WaitPidFlag::WNOHANG)), Ok(s) if s != WaitStatus::StillAlive) {}
    }
}

fn resolver(disk: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let file = disk.join("resolv.conf");
    if !file.exists() {
        std::fs::write(&file, "nameserver 10.77.0.254\noptions timeout:2 attempts:2\n")?;
    }
    // Where resolv.conf is a link into /run, the empty /run needs what the link points to.
    let target = std::fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| "/etc/resolv.conf".into());
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))?;
    if target.starts_with("/run") {
        std::fs::create_dir_all(target.parent().context("a file has a directory")?)?;
        std::fs::copy(&file, &target)?;
    } else {
        mount(Some(&file), &target, none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}
