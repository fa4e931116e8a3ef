//! The embedded store: one redb file, one writer, records that survive a kill at any moment.
//!
//! In: jobs that read and write records in one transaction. Out: their results, after the commit is on disk. Jobs
//! that wait while one commits share the next commit, so that a thousand joins cost tens of commits. Invariant:
//! what a caller was told is on disk; a newer schema is never opened; an older one is migrated in one transaction.

mod addresses;
mod backup;
mod error;
mod files;
mod records;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

pub use addresses::Addresses;
pub use backup::{Restored, restore};
pub use error::StoreError;
pub use files::{read_private, write_file};
pub use records::{
    ConfigRecord, HostKey, HostRecord, HostWorkload, KeysRecord, PortRecord, Record, Registration, Standing,
    TokenRecord,
};
pub use schema::SCHEMA;
pub use writer::Txn;

/// Name of the store's file in the data directory.
pub const FILE: &str = "store.redb";

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: writer::Writer,
}

struct Shared {
    dir: PathBuf,
    /// Replaced when an I/O error made redb close itself.
    database: RwLock<Arc<Database>>,
}

impl Store {
    /// Opens the store of a data directory; makes both if they are missing.
    ///
    /// # Errors
    /// If another process has it open, its schema is newer than this program's, or the disk refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        files::private_dir(dir).map_err(|e| StoreError::io(dir, e))?;
        let database = schema::open(&dir.join(FILE))?;
        let shared = Arc::new(Shared { dir: dir.to_owned(), database: RwLock::new(Arc::new(database)) });
        let writer = writer::Writer::start(shared.clone()).map_err(|e| StoreError::io(dir, e))?;
        Ok(Self { shared, writer })
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// One record.
    ///
    /// # Errors
    /// If the disk refuses or the record can't be read.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        self.shared.read(|txn| {
            let table = txn.open_table(R::TABLE)?;
            table.get(key)?.map(|value| records::decode(key, value.value())).transpose()
        })
    }

    /// All records of a kind, by key.
    ///
    /// # Errors
    /// If the disk refuses or a record can't be read.
    pub fn list<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        self.shared.read(|txn| {
            let table = txn.open_table(R::TABLE)?;
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                all.push((key.value().to_owned(), records::decode(key.value(), value.value())?));
            }
            Ok(all)
        })
    }

    /// The text kept under a name of table `meta`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.shared.read(|txn| {
            let table = txn.open_table(schema::META)?;
            Ok(table.get(name)?.map(|value| String::from_utf8_lossy(value.value()).into_owned()))
        })
    }

    /// Runs a job in a write transaction and answers when it is on disk. A job that returns an error must not have
    /// written anything: it shares its transaction with others.
    ///
    /// # Errors
    /// The job's own, or the store's.
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Txn<'_>) -> Result<T, E> + Send + 'static,
    {
        self.writer.run(job).await
    }

    /// The same from a thread that may block.
    ///
    /// # Errors
    /// The job's own, or the store's.
    pub fn write_blocking<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Txn<'_>) -> Result<T, E> + Send + 'static,
    {
        self.writer.run_blocking(job)
    }
}

impl Shared {
    fn read<T>(&self, job: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.read().clone();
        let result = database.begin_read().map_err(StoreError::from).and_then(|txn| job(&txn));
        result.map_err(|e| e.at(&self.dir))
    }

    /// After an I/O error redb refuses everything until it is opened again.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write();
        // The file's lock goes with the last reference, so a reader that is still at work makes this fail; the
        // next job tries again.
        let parked = Arc::new(schema::in_memory()?);
        drop(std::mem::replace(&mut *database, parked));
        *database = Arc::new(schema::open(&self.dir.join(FILE))?);
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
