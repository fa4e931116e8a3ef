//! Files beside the store: written whole or not at all, and for nobody else to read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

/// Files of this kind are small; a longer one is something else.
const LONGEST: u64 = 1 << 20;

/// Writes a file beside its place, makes it durable, and renames it.
///
/// # Errors
/// If the disk refuses; what was there stays.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("a file has a name"))?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Reads a private key's file into memory that is wiped.
///
/// # Errors
/// If it can't be read, or is readable by others.
pub fn read_private(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(io::Error::other("everybody may read this private key: chmod 0600 it"));
    }
    // With room for all of it, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(meta.len().min(LONGEST)).unwrap_or(0) + 1));
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Makes a directory that only its owner may enter, if it is missing.
pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// For the owner alone.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// Makes a rename durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
