//! The agent's directory: small files, each whole or absent.
//!
//! In: names and bytes. Out: the same bytes after any crash. A file is written beside and renamed, 0600; a sealed
//! one carries a checksum of its content, so that a damaged disk is told from a good file. One agent at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg};

/// The state directory. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    _lock: Arc<Flock<File>>,
}

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The system said no.
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("{path} is damaged: its checksum is wrong", path = .0.display())]
    Damaged(PathBuf),
    /// Somebody else uses the directory.
    #[error("another agent uses {path}", path = .0.display())]
    Locked(PathBuf),
}

impl StateDir {
    /// Makes the directory (0700) if it is absent and takes its lock.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        make_dir(root, 0o700)?;
        // A package may have made it wider.
        if let Err(error) = fs::set_permissions(root, fs::Permissions::from_mode(0o700)) {
            tracing::warn!(path = %root.display(), %error, "the state directory's mode stays as it is");
        }
        let path = root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StateError::Io { path: path.clone(), source })?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StateError::Locked(root.into()))?;
        Ok(Self { root: root.into(), _lock: Arc::new(lock) })
    }

    /// Where it is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file's bytes, if there is one.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Replaces a file, atomically and durably.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        write_atomic(&path, bytes, true).map_err(|source| StateError::Io { path, source })
    }

    /// A sealed file's content, if there is one.
    pub(crate) fn read_sealed(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        match unseal(&bytes) {
            Some(content) => Ok(Some(content.to_vec())),
            None => Err(StateError::Damaged(self.path(name))),
        }
    }

    /// Replaces a sealed file.
    pub(crate) fn write_sealed(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        self.write(name, &seal(content))
    }

    /// Removes a file or a directory, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        let done = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match done {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io { path, source }),
            _ => Ok(()),
        }
    }

    /// Makes a directory in it (0700).
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path(name);
        make_dir(&path, 0o700)?;
        Ok(path)
    }
}

/// Makes a directory with all above it, if it is absent.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), StateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| StateError::Io { path: path.into(), source })
}

/// Writes beside and renames. `durable` waits for the disk.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let beside = directory.join(format!(".{name}.{}.{serial}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&beside, path)?;
        if durable {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// SHA-256 of the content, then the content.
fn seal(content: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    [digest.as_ref(), content].concat()
}

fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, content) = bytes.split_at_checked(32)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    (digest.as_ref() == sum).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_reads_back_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert!(state.read_sealed("record.pb").unwrap().is_none());
        state.write_sealed("record.pb", b"content").unwrap();
        assert_eq!(state.read_sealed("record.pb").unwrap().unwrap(), b"content");
        let mut bytes = state.read("record.pb").unwrap().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        state.write("record.pb", &bytes).unwrap();
        assert!(matches!(state.read_sealed("record.pb"), Err(StateError::Damaged(_))));
        state.write("record.pb", b"short").unwrap();
        assert!(matches!(state.read_sealed("record.pb"), Err(StateError::Damaged(_))));
    }

    #[test]
    fn a_second_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::Locked(_))));
    }
}
