//! What can be wrong with the store, in sentences that name the cure.

use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{0} is in use by another hawser-discovery: the embedded store serves one; stop the other first")]
    InUse(PathBuf),
    /// Written by a newer program.
    #[error("the store has schema {found}, this program knows {known}: start the newer hawser-discovery that wrote it")]
    Newer {
        /// In the file.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// No space left.
    #[error("the disk that holds {0} is full: nothing was changed; free some space and try again")]
    Full(PathBuf),
    /// Some other refusal of the disk.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record that this program can't read.
    #[error("record {key:?} of the store can't be read ({why}): restore the last backup")]
    Record {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// A backup that is not one, or is not whole.
    #[error("this is no usable backup: {0}")]
    Backup(String),
    /// Anything else that redb says.
    #[error("the store failed: {0}")]
    Database(String),
    /// Discovery is shutting down.
    #[error("the store is closed: discovery is shutting down")]
    Closed,
}

impl StoreError {
    /// An I/O error at a path; a full disk gets its own sentence.
    pub fn io(path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full(path.to_owned())
        } else {
            Self::Io { path: path.to_owned(), source }
        }
    }

    /// Puts a path to errors that have none.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Io { path: old, source } if old.as_os_str().is_empty() => Self::io(path, source),
            Self::Full(old) if old.as_os_str().is_empty() => Self::Full(path.to_owned()),
            Self::InUse(old) if old.as_os_str().is_empty() => Self::InUse(path.to_owned()),
            other => other,
        }
    }

    /// The same for every job of a commit that failed.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Full(path) => Self::Full(path.clone()),
            Self::Io { path, source } => Self::io(path, io::Error::new(source.kind(), source.to_string())),
            Self::Closed => Self::Closed,
            other => Self::Database(other.to_string()),
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(source) => Self::io(Path::new(""), source),
            redb::Error::DatabaseAlreadyOpen => Self::InUse(PathBuf::new()),
            other => Self::Database(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($type:ty),*) => {
        $(impl From<$type> for StoreError {
            fn from(error: $type) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::DatabaseError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

impl From<StoreError> for tonic::Status {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full(_) => Self::resource_exhausted(error.to_string()),
            StoreError::Closed => Self::unavailable(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}
