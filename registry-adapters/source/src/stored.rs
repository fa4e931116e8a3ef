//! The last state of a source, in a file, so that a restart while the source is away empties nothing.
//!
//! In: parts with their objects. Out: the same, a run later. The file is eight bytes that name it and its version, the
//! checksum of the rest, and a message. It is written and read part by part: only one of them is there twice at a time.
//! Invariant: a file that is not whole, or of another registry, is not read; one is replaced by renaming, so that there
//! is always an old or a new one.

mod objects;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, digest};
use prost::Message as _;

use crate::ledger::Remembered;

/// A state as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Whose it is.
    pub registry: String,
    /// Of the source's settings then.
    pub settings: u64,
    /// When it was written.
    pub written: SystemTime,
    /// What it is.
    pub parts: Vec<Remembered>,
}

/// Why a stored state is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The file can't be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not one of ours, or of a later version.
    #[error("it is no stored state of this version")]
    Foreign,
    /// It is not what was written.
    #[error("its checksum is wrong")]
    Damaged,
    /// It is larger than any of ours.
    #[error("it is larger than {} MiB", MOST >> 20)]
    TooLarge,
    /// It is of another registry.
    #[error("it is of registry {0}")]
    Other(String),
}

const MAGIC: &[u8; 7] = b"HWSTATE";
const VERSION: u8 = 1;
const CHECKSUM: usize = 32;
/// Largest file: about two million instances.
const MOST: u64 = 512 << 20;

/// Reads the stored state of `registry`; `None` if there is none.
///
/// # Errors
/// If there is one that can't be used, and why.
pub fn read(file: &Path, registry: &str) -> Result<Option<Stored>, StoredError> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    opened.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(StoredError::TooLarge);
    }
    let rest = bytes.strip_prefix(MAGIC.as_slice()).and_then(|rest| rest.strip_prefix(&[VERSION]));
    let (checksum, message) = rest.and_then(|rest| rest.split_at_checked(CHECKSUM)).ok_or(StoredError::Foreign)?;
    if digest(&SHA256, message).as_ref() != checksum {
        return Err(StoredError::Damaged);
    }
    let objects::State { head, parts } = objects::State::decode(message).map_err(|_| StoredError::Damaged)?;
    if head.registry != registry {
        return Err(StoredError::Other(head.registry));
    }
    let written = UNIX_EPOCH + Duration::from_secs(head.written);
    Ok(Some(Stored { registry: head.registry, settings: head.settings, written, parts }))
}

/// Writes a state in the place of the last one. Takes as long as its size asks for: not on an async thread.
///
/// # Errors
/// If it can't be written.
pub fn write(file: &Path, stored: &Stored) -> Result<(), StoredError> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let beside = file.with_extension("new");
    let new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let written = fill(new, stored);
    if written.is_err() {
        // The disk may be full of it.
        let _ = fs::remove_file(&beside);
    }
    written?.sync_all()?;
    fs::rename(&beside, file)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

fn fill(new: File, stored: &Stored) -> Result<File, StoredError> {
    let mut out = BufWriter::new(new);
    out.write_all(MAGIC)?;
    out.write_all(&[VERSION])?;
    out.write_all(&[0; CHECKSUM])?;
    let mut length = (MAGIC.len() + 1 + CHECKSUM) as u64;
    let mut checksum = Context::new(&SHA256);
    let written = stored.written.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let head = objects::Head { registry: stored.registry.clone(), settings: stored.settings, written };
    let mut bytes = head.encode_to_vec();
    let mut parts = stored.parts.iter();
    loop {
        length += bytes.len() as u64;
        if length > MOST {
            return Err(StoredError::TooLarge);
        }
        checksum.update(&bytes);
        out.write_all(&bytes)?;
        bytes.clear();
        let Some(part) = parts.next() else { break };
        objects::write(part, &mut bytes);
    }
    let mut new = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    new.seek(SeekFrom::Start(MAGIC.len() as u64 + 1))?;
    new.write_all(checksum.finish().as_ref())?;
    Ok(new)
}

#[cfg(test)]
mod tests;
