//! Looking at a directory: which files lie there, and what they hold.
//!
//! In: a directory. Out: a [`Look`]. Files are `*.yaml` and `*.yml` that do not start with a dot, in subdirectories too,
//! symbolic links followed (a mounted ConfigMap is made of them). A file that has not changed since the last look is
//! not read again. Bounded in depth, in files and in their size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_api::istio::MAX_TEXT;

use crate::contents::{Look, Text};

/// Deepest subdirectory.
const MAX_DEPTH: usize = 8;
/// Most files.
const MAX_FILES: usize = 20_000;
/// A file changed so lately may have changed again within one tick of the file system's clock.
const SETTLED: Duration = Duration::from_secs(2);

/// Looks at one directory, again and again.
#[derive(Debug)]
pub(crate) struct Scanner {
    directory: PathBuf,
    /// Files that need not be read again unless this changes.
    known: BTreeMap<Arc<str>, Fingerprint>,
    /// Files of the last look.
    names: BTreeSet<Arc<str>>,
}

/// What tells that a file changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or_default());
        now.saturating_sub(changed) > SETTLED
    }
}

impl Scanner {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, known: BTreeMap::new(), names: BTreeSet::new() }
    }

    /// Looks at all of it.
    ///
    /// # Errors
    /// If the directory itself can't be read: then nothing is known of what is gone.
    pub(crate) fn look(&mut self) -> io::Result<Look> {
        let mut finder = Finder::default();
        finder.find(&self.directory, MAX_DEPTH)?;
        let Finder { files, unreadable, too_many, .. } = finder;
        self.known.retain(|name, _| files.contains_key(name));
        let mut look = Look::new();
        for (name, path) in files {
            if let Some(text) = self.read(&name, &path) {
                look.insert(name, text);
            }
        }
        for (directory, why) in unreadable {
            let below = |name: &&Arc<str>| Path::new(&***name).starts_with(&directory);
            look.extend(self.names.iter().filter(below).map(|name| (name.clone(), Text::Unchanged)));
            look.insert(directory.to_string_lossy().into(), Text::Unreadable(format!("it can't be read: {why}")));
        }
        if too_many {
            let why = format!("it holds more than {MAX_FILES} files, the rest is not read");
            look.insert(self.directory.to_string_lossy().into(), Text::Unreadable(why));
        }
        self.names = look.keys().cloned().collect();
        Ok(look)
    }

    /// What a file holds; `None` if it went while we looked.
    fn read(&mut self, name: &Arc<str>, path: &Path) -> Option<Text> {
        let before = self.known.remove(name);
        let (fingerprint, text) = match read(path, before) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Text::Unreadable(format!("it can't be read: {error}"))),
        };
        if fingerprint.is_settled() {
            self.known.insert(name.clone(), fingerprint);
        }
        Some(text)
    }
}

fn read(path: &Path, before: Option<Fingerprint>) -> io::Result<(Fingerprint, Text)> {
    // A name that a pipe or device hides behind must not be opened: that could block.
    let metadata = std::fs::metadata(path)?;
    let fingerprint = Fingerprint::of(&metadata);
    if !metadata.is_file() {
        return Ok((fingerprint, Text::Unreadable("it is not a regular file".to_owned())));
    }
    if before == Some(fingerprint) {
        return Ok((fingerprint, Text::Unchanged));
    }
    let mut bytes = Vec::new();
    let limit = MAX_TEXT as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TEXT {
        let why = format!("it is larger than {} MiB; split it", MAX_TEXT >> 20);
        return Ok((fingerprint, Text::Unreadable(why)));
    }
    let text = String::from_utf8(bytes).map_or_else(
        |error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
            Text::Unreadable(format!("line {line} is not UTF-8; save the file as UTF-8"))
        },
        Text::Read,
    );
    Ok((fingerprint, text))
}

/// Finds the files of a directory.
#[derive(Default)]
struct Finder {
    /// By the name that is shown to people.
    files: BTreeMap<Arc<str>, PathBuf>,
    /// Subdirectories that can't be read, and why.
    unreadable: Vec<(PathBuf, io::Error)>,
    too_many: bool,
    /// Directories by device and inode, against loops of links.
    visited: BTreeSet<(u64, u64)>,
}

impl Finder {
    fn find(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        let metadata = std::fs::metadata(directory)?;
        if !self.visited.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // A dangling link, or a file that went meanwhile.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                if depth == 0 {
                    continue;
                }
                match self.find(&path, depth - 1) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => self.unreadable.push((path, error)),
                    _ => {}
                }
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                if self.files.len() >= MAX_FILES {
                    self.too_many = true;
                    return Ok(());
                }
                self.files.insert(path.to_string_lossy().into(), path);
            }
        }
        Ok(())
    }
}
