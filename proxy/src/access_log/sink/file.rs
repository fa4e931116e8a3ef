//! Files of access logs: opened when needed, opened again when they were moved away.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a descriptor that does not block may take no byte.
const STUCK: Duration = Duration::from_secs(1);

/// Files by path.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: BTreeMap<Arc<str>, Open>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<File>,
    /// A failure is told once.
    told: bool,
    /// A line was broken off.
    torn: bool,
}

impl Files {
    /// Forgets all open files.
    pub(super) fn close(&mut self) {
        self.open.values_mut().for_each(|open| open.file = None);
    }

    /// Writes `bytes`, which are so many lines; how many of them are lost.
    pub(super) fn write(&mut self, path: &Arc<str>, bytes: &[u8], lines: u64) -> u64 {
        let open = self.open.entry(path.clone()).or_default();
        let mut left = bytes;
        match open.write(path, &mut left) {
            Ok(()) => {
                open.told = false;
                0
            }
            Err(e) => {
                if !std::mem::replace(&mut open.told, true) {
                    tracing::error!(path = %path, error = %e, "access log can't be written; lines are dropped");
                }
                // It is opened anew with the next lines.
                open.file = None;
                if left.len() == bytes.len() { lines } else { left.iter().filter(|b| **b == b'\n').count() as u64 }
            }
        }
    }
}

impl Open {
    fn write(&mut self, path: &str, left: &mut &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|file| moved(path, file)) {
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                self.torn = false;
                none.insert(open(path)?)
            }
        };
        if self.torn {
            write(file, &mut &b"\n"[..])?;
        }
        let before = *left;
        let done = write(file, left);
        let written = &before[..before.len() - left.len()];
        self.torn = written.last().is_some_and(|b| *b != b'\n');
        done
    }
}

/// Writes all, also to a descriptor that does not block.
fn write(file: &mut File, left: &mut &[u8]) -> io::Result<()> {
    let mut stuck = None;
    while !left.is_empty() {
        match file.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                *left = &left[n..];
                stuck = None;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if stuck.get_or_insert_with(Instant::now).elapsed() > STUCK {
                    return Err(e);
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn open(path: &str) -> io::Result<File> {
    // Under a supervisor these are sockets, which can't be opened by path.
    match path {
        "/dev/stdout" => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        "/dev/stderr" => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        path => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
    }
}

/// Whether another file, or none, is at `path` now.
fn moved(path: &str, file: &File) -> bool {
    if path.starts_with("/dev/") {
        return false;
    }
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(ours)) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
        _ => true,
    }
}
