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
    /// Directories that every user of the host must be able to reach
    #[arg(long)]
    reachable: Vec<PathBuf>,
}

/// Mounts an empty /run and a resolv.conf of its own, then reaps until stdin ends; everything in the process
/// namespace ends with it.
pub(crate) fn run(args: &Args) -> Result<()> {
    nix::unistd::sethostname(&args.name).context("host name")?;
    resolver(&args.disk).context("resolv.conf")?;
    reachable(&args.reachable).context("directories for every user")?;
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

/// Where a directory lies below one that only its owner may enter (a checkout in root's home), the host sees it at the
/// same place below an empty one. Only this mount namespace changes.
fn reachable(dirs: &[PathBuf]) -> Result<()> {
    let none: Option<&str> = None;
    let closed = |dir: &&Path| {
        std::fs::metadata(dir).is_ok_and(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 1 == 0)
    };
    let stash = Path::new("/run/lab-tree");
    let mut hidden: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (number, dir) in dirs.iter().enumerate() {
        let dir = std::fs::canonicalize(dir)?;
        if let Some(closed) = dir.ancestors().skip(1).filter(closed).last() {
            let kept = stash.join(number.to_string());
            std::fs::create_dir_all(&kept)?;
            mount(Some(&dir), &kept, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            hidden.push((closed.to_owned(), dir.clone()));
        } else {
            hidden.push((PathBuf::new(), dir.clone()));
        }
    }
    let mut covered: Vec<&Path> = Vec::new();
    for (number, (closed, dir)) in hidden.iter().enumerate() {
        if closed.as_os_str().is_empty() {
            continue;
        }
        if !covered.contains(&closed.as_path()) {
            mount(Some("tmpfs"), closed, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
            covered.push(closed);
        }
        std::fs::create_dir_all(dir)?;
        mount(Some(&stash.join(number.to_string())), dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    }
    Ok(())
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
