//! The schema number and the way from each older one to the newest.

use std::path::Path;

use redb::{Database, ReadableTable as _, WriteTransaction};

use super::records::{ConfigRecord, HostKey, HostRecord, KeysRecord, Record as _, Registration, TokenRecord};
use super::{StoreError, Table, addresses};

/// The schema that this program writes. Raise it with an entry in [`MIGRATIONS`].
pub const SCHEMA: u32 = 2;

/// Names to text: `schema`, `trust_domain`.
pub(super) const META: Table = Table::new("meta");

/// Every table with records.
pub(super) const TABLES: [Table; 7] = [
    TokenRecord::TABLE,
    HostRecord::TABLE,
    HostKey::TABLE,
    ConfigRecord::TABLE,
    addresses::TABLE,
    Registration::TABLE,
    KeysRecord::TABLE,
];

type Migration = fn(&WriteTransaction) -> Result<(), StoreError>;

/// `MIGRATIONS[n]` takes schema `n` to `n + 1`; 0 is an empty file.
const MIGRATIONS: [Migration; SCHEMA as usize] = [make_tables, make_tables];

/// Opens a file and brings it to the newest schema.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let database = Database::create(path).map_err(|e| StoreError::from(e).at(path))?;
    super::files::make_private(path).map_err(|e| StoreError::io(path, e))?;
    migrate(&database).map_err(|e| e.at(path))?;
    Ok(database)
}

/// Holds the place of a database that is being opened again.
pub(super) fn in_memory() -> Result<Database, StoreError> {
    Ok(Database::builder().create_with_backend(redb::backends::InMemoryBackend::new())?)
}

fn migrate(database: &Database) -> Result<(), StoreError> {
    let txn = database.begin_write()?;
    let found = {
        let meta = txn.open_table(META)?;
        let text = meta.get("schema")?.map(|value| String::from_utf8_lossy(value.value()).into_owned());
        match text {
            None => 0,
            Some(text) => text
                .parse::<u32>()
                .map_err(|_| StoreError::Record { key: "schema".into(), why: "it is no number".into() })?,
        }
    };
    if found > SCHEMA {
        return Err(StoreError::Newer { found, known: SCHEMA });
    }
    if found == SCHEMA {
        txn.abort()?;
        return Ok(());
    }
    for migration in &MIGRATIONS[found as usize..] {
        migration(&txn)?;
    }
    txn.open_table(META)?.insert("schema", SCHEMA.to_string().as_bytes())?;
    txn.commit()?;
    Ok(())
}

fn make_tables(txn: &WriteTransaction) -> Result<(), StoreError> {
    for table in TABLES {
        txn.open_table(table)?;
    }
    Ok(())
}
