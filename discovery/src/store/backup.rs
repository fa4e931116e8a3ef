//! A consistent copy of the data directory as a stream, and the way back.
//!
//! In: one read transaction and the CA's files. Out: lines of JSON: a header, one line an entry, and an end with
//! the number of entries and SHA-256 of all before it. Invariant: a copy that was cut off or changed is refused
//! before anything is put in place. The copy holds the CA's key: whoever reads it is the mesh.

use std::fs;
use std::io::{BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redb::{ReadableDatabase as _, ReadableTable as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{FILE, Store, StoreError, files, schema};
use crate::identity::{CROSS_CERTIFICATES_FILE, NEXT_FILE, ROOT_CERTIFICATE_FILE, ROOT_KEY_FILE};

/// Lines longer than this are not ours.
const LONGEST_LINE: u64 = 64 << 20;

/// Files beside the store that are part of a copy. What is still to be put in place comes first: it outweighs the others.
const FILES: [&str; 4] = [NEXT_FILE, ROOT_KEY_FILE, ROOT_CERTIFICATE_FILE, CROSS_CERTIFICATES_FILE];

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    HawserBackup { schema: u32 },
    Entry { table: String, key: String, value: String },
    File { name: String, content: String },
    End { entries: u64, sha256: String },
}

/// What a restore put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Records and files.
    pub entries: u64,
}

impl Store {
    /// Writes a consistent copy, piece by piece, as fast as `sink` takes it. Blocks.
    ///
    /// # Errors
    /// If the disk refuses. A sink that returns `false` ends the copy early.
    pub fn backup(&self, mut sink: impl FnMut(Vec<u8>) -> bool) -> Result<(), StoreError> {
        let database = Arc::clone(&self.shared.database.read());
        let txn = database.begin_read()?;
        let mut digest = Context::new(&SHA256);
        let mut entries = 0;
        let mut send = |line: &Line, counts: bool| -> Result<bool, StoreError> {
            let mut bytes = serde_json::to_vec(line).map_err(|e| StoreError::Backup(e.to_string()))?;
            bytes.push(b'\n');
            digest.update(&bytes);
            entries += u64::from(counts);
            Ok(sink(bytes))
        };
        if !send(&Line::HawserBackup { schema: schema::SCHEMA }, false)? {
            return Ok(());
        }
        for name in FILES {
            let path = self.shared.dir.join(name);
            let content = match fs::read(&path) {
                Ok(content) => Zeroizing::new(content),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io(&path, error)),
            };
            if !send(&Line::File { name: name.into(), content: STANDARD.encode(&*content) }, true)? {
                return Ok(());
            }
        }
        for table in schema::TABLES.into_iter().chain([schema::META]) {
            let table_name = redb::TableHandle::name(&table).to_owned();
            for entry in txn.open_table(table)?.iter()? {
                let (key, value) = entry?;
                let line = Line::Entry {
                    table: table_name.clone(),
                    key: key.value().to_owned(),
                    value: STANDARD.encode(value.value()),
                };
                if !send(&line, true)? {
                    return Ok(());
                }
            }
        }
        let sha256 = STANDARD.encode(digest.clone().finish());
        let mut end =
            serde_json::to_vec(&Line::End { entries, sha256 }).map_err(|e| StoreError::Backup(e.to_string()))?;
        end.push(b'\n');
        sink(end);
        Ok(())
    }
}

/// Puts a copy into a data directory that has no store yet.
///
/// # Errors
/// If the directory has a store, the copy is not whole, was made by a newer program, or the disk refuses.
pub fn restore(dir: &Path, copy: impl BufRead) -> Result<Restored, StoreError> {
    files::private_dir(dir).map_err(|e| StoreError::io(dir, e))?;
    let target = dir.join(FILE);
    for name in FILES.into_iter().chain([FILE]) {
        if dir.join(name).exists() {
            let why = format!("{} exists: move what is in {} away first", dir.join(name).display(), dir.display());
            return Err(StoreError::Backup(why));
        }
    }
    let beside = dir.join(format!("{FILE}.restore"));
    let _ = fs::remove_file(&beside);
    let result = fill(&beside, copy);
    let (restored, files) = match result {
        Ok(result) => result,
        Err(error) => {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
    };
    for (name, content) in files {
        let path = dir.join(name);
        files::write_file(&path, &content, 0o600).map_err(|e| StoreError::io(&path, e))?;
    }
    // The store last: without it the directory counts as empty.
    fs::rename(&beside, &target).and_then(|()| files::sync_parent(&target)).map_err(|e| StoreError::io(&target, e))?;
    Ok(restored)
}

type Files = Vec<(&'static str, Zeroizing<Vec<u8>>)>;

fn fill(path: &Path, mut copy: impl BufRead) -> Result<(Restored, Files), StoreError> {
    let bad = |why: &str| StoreError::Backup(why.to_owned());
    let database = schema::open(path)?;
    let txn = database.begin_write()?;
    let mut digest = Context::new(&SHA256);
    let (mut entries, mut files, mut line, mut begun) = (0, Files::new(), Vec::new(), false);
    loop {
        line.clear();
        let read =
            copy.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|e| StoreError::io(path, e))?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Err(bad("it ends too early"));
        }
        let parsed = serde_json::from_slice(&line).map_err(|_| bad("a line of it can't be read"))?;
        match parsed {
            Line::HawserBackup { schema: found } if !begun => {
                begun = true;
                if found > schema::SCHEMA {
                    return Err(StoreError::Newer { found, known: schema::SCHEMA });
                }
            }
            _ if !begun => return Err(bad("it does not begin like one")),
            Line::HawserBackup { .. } => return Err(bad("it begins twice")),
            Line::File { name, content } => {
                let name = FILES.into_iter().find(|f| *f == name).ok_or_else(|| bad("it holds an unknown file"))?;
                files.push((name, Zeroizing::new(decode(&content)?)));
                entries += 1;
            }
            Line::Entry { table, key, value } => {
                let table = schema::TABLES
                    .into_iter()
                    .chain([schema::META])
                    .find(|t| redb::TableHandle::name(t) == table)
                    .ok_or_else(|| bad("it holds an unknown table"))?;
                txn.open_table(table)?.insert(key.as_str(), decode(&value)?.as_slice())?;
                entries += 1;
            }
            Line::End { entries: said, sha256 } => {
                if said != entries || decode(&sha256)? != digest.finish().as_ref() {
                    return Err(bad("it was changed or damaged: its checksum does not agree"));
                }
                txn.commit()?;
                drop(database);
                // Brings a copy of an older program to this one's schema.
                drop(schema::open(path)?);
                return Ok((Restored { entries }, files));
            }
        }
        digest.update(&line);
    }
}

fn decode(text: &str) -> Result<Vec<u8>, StoreError> {
    STANDARD.decode(text).map_err(|_| StoreError::Backup("a value of it can't be read".into()))
}
