//! Room: on the disk of the state, and for open files.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::Finding;
use crate::config::Config;
use crate::member::Member;

const DISK: &str = "disk";
const DESCRIPTORS: &str = "descriptors";
const MB: u64 = 1 << 20;
/// Keys, certificates and a record fit into this.
const LEAST_ROOM: u64 = 4 * MB;
/// And the last configuration of a large mesh into this.
const ENOUGH_ROOM: u64 = 64 * MB;
const LEAST_FILES: u64 = 64;
/// A call through the proxy takes two.
const ENOUGH_OPEN: u64 = 4096;

/// What there is of a file system.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: u64,
    /// Files that can be made; `None` where the file system does not count them.
    files: Option<u64>,
    read_only: bool,
    writable: bool,
}

/// Reads and judges both.
pub(super) async fn findings(config: &Config, member: Option<&Member>) -> Vec<Finding> {
    let dir = config.state_dir.clone();
    let proxy = member.map(|member| member.supervisor.state.borrow().pid).filter(|pid| *pid > 0);
    let mut findings = super::blocking(DISK, move || vec![disk(&dir)]).await;
    let rest = move || {
        let limits = |process: &str| std::fs::read_to_string(format!("/proc/{process}/limits")).ok();
        let mut findings = vec![descriptors("the agent", limits("self").and_then(|text| open_files(&text)))];
        // Other people's processes may be hidden from us.
        if let Some(text) = proxy.and_then(|pid| limits(&pid.to_string())) {
            findings.push(descriptors("the proxy", open_files(&text)));
        }
        findings.extend(files(&std::fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default()));
        findings
    };
    findings.extend(super::blocking(DESCRIPTORS, rest).await);
    findings
}

fn disk(dir: &Path) -> Finding {
    // Before an installation it is what will be above it.
    let there: PathBuf = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned();
    match statvfs(&there) {
        Ok(stat) => {
            let counts = stat.files() > 0;
            let room = Room {
                bytes: stat.blocks_available().saturating_mul(stat.fragment_size()),
                files: counts.then(|| stat.files_available()),
                read_only: stat.flags().contains(FsFlags::ST_RDONLY),
                writable: there != dir || access(&there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
            };
            judge(&dir.display().to_string(), room)
        }
        Err(error) => {
            Finding::unknown(DISK, format!("{} can't be looked at: {error}", there.display()), "see that it is mounted")
        }
    }
}

fn judge(dir: &str, room: Room) -> Finding {
    let free = room.bytes / MB;
    if room.read_only {
        let cure = "mount it writable, or name another directory: `hawser-agent --state-dir`";
        return Finding::failure(DISK, format!("{dir} is on a file system that is mounted read-only"), cure);
    }
    if !room.writable {
        let cure = format!("give it to the agent's user: chown -R hawser: {dir}");
        return Finding::failure(DISK, format!("{dir} can't be written by this user"), cure);
    }
    let few = room.files.is_some_and(|files| files < LEAST_FILES);
    let cure = format!("make room on the file system of {dir}");
    if room.bytes < LEAST_ROOM || few {
        let what = if few { "has no room for more files".to_owned() } else { format!("has {free} MB left") };
        return Finding::failure(DISK, format!("the disk of {dir} {what}: identity can't be kept"), cure);
    }
    if room.bytes < ENOUGH_ROOM {
        let sentence = format!("the disk of {dir} has {free} MB left: the last configuration may not be kept");
        return Finding::warning(DISK, sentence, cure);
    }
    Finding::ok(DISK, format!("{dir} has {free} MB left"))
}

fn descriptors(who: &str, limit: Option<u64>) -> Finding {
    let cure = "raise LimitNOFILE= in a drop-in of its unit: systemctl edit hawser-agent, or hawser-proxy";
    match limit {
        None => Finding::unknown(
            DESCRIPTORS,
            format!("how many files {who} may open is not told"),
            "see that /proc is mounted",
        ),
        Some(limit) if limit < ENOUGH_OPEN => Finding::warning(
            DESCRIPTORS,
            format!("{who} may open {limit} files: for {} calls at a time", limit / 2),
            cure,
        ),
        Some(limit) => Finding::ok(DESCRIPTORS, format!("{who} may open {limit} files")),
    }
}

/// The soft limit of a `/proc/<pid>/limits`.
fn open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The whole host's files by `/proc/sys/fs/file-nr`, if they are running out.
fn files(text: &str) -> Option<Finding> {
    let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let (open, most) = (numbers.next()?, numbers.nth(1)?);
    if most == 0 || open.saturating_mul(10) < most.saturating_mul(9) {
        return None;
    }
    let sentence = format!("this host has {open} files open of at most {most}");
    Some(Finding::warning(DESCRIPTORS, sentence, "raise fs.file-max, or see who opens so many"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_disk_is_judged_by_room_files_and_rights() {
        let good = Room { bytes: 1 << 30, files: Some(1000), read_only: false, writable: true };
        let verdict = |room| judge("/var/lib/hawser", room).verdict;
        assert_eq!(verdict(good), Verdict::Ok);
        assert_eq!(verdict(Room { files: None, ..good }), Verdict::Ok, "btrfs does not count files");
        assert_eq!(verdict(Room { bytes: 20 * MB, ..good }), Verdict::Warning);
        assert_eq!(verdict(Room { bytes: MB, ..good }), Verdict::Failure);
        assert_eq!(verdict(Room { files: Some(3), ..good }), Verdict::Failure);
        assert_eq!(verdict(Room { read_only: true, ..good }), Verdict::Failure);
        assert_eq!(verdict(Room { writable: false, ..good }), Verdict::Failure);
    }

    #[test]
    fn limits_of_open_files_are_read_and_judged() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max processes             63431                63431                processes\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(open_files(text), Some(1024));
        assert_eq!(open_files(&text.replace("1024  ", "unlimited")), Some(u64::MAX));
        assert_eq!(open_files(""), None);
        assert_eq!(descriptors("it", Some(65_536)).verdict, Verdict::Ok);
        assert_eq!(descriptors("it", Some(1024)).verdict, Verdict::Warning);
        assert_eq!(descriptors("it", None).verdict, Verdict::Unknown);
        assert!(files("950\t0\t1000\n").is_some());
        assert_eq!(files("100\t0\t9223372036854775807\n"), None);
        assert_eq!(files(""), None);
    }
}
