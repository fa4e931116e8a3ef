//! The last good configuration, on disk: what a host needs to work without discovery.
//!
//! In: resources that a client took, unopened. Out: the same, after any crash or reboot. One file a type, written
//! beside and renamed soon after a change; each record carries its own checksum, so that damage costs what is damaged.
//! Bounded in bytes; what no client has had for 7 days goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use hawser_api::proto::discovery::Resource;
use hawser_xds::TypeUrl;
use parking_lot::Mutex;
use prost::Message as _;

use super::core::Kept;
use crate::state::{make_dir, write_atomic};

const MAGIC: &[u8] = b"hawser-cache-1\n";
const UNUSED: Duration = Duration::from_secs(7 * 86_400);
const MOST_BYTES: usize = 64 << 20;
/// Between two writes of one file.
const SETTLE: Duration = Duration::from_millis(300);
/// The same for a big one.
const SETTLE_BIG: Duration = Duration::from_secs(10);
const BIG: usize = 256 << 10;

/// The cache of one kind of client.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    types: BTreeMap<TypeUrl, Shelf>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: BTreeMap<String, Entry>,
    bytes: usize,
    changed: bool,
    written: Option<SystemTime>,
}

#[derive(Clone, Debug)]
struct Entry {
    resource: Arc<Resource>,
    size: usize,
    /// Seconds since 1970.
    used: u64,
}

impl Cache {
    /// Reads what is there; what is damaged or too old is left out.
    pub(crate) fn open(dir: &Path, now: SystemTime) -> Self {
        if let Err(error) = make_dir(dir, 0o700) {
            tracing::warn!(%error, "no cache on disk");
        }
        let mut inner = Inner::default();
        let oldest = seconds(now).saturating_sub(UNUSED.as_secs());
        for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != "cache") {
                // Left by a crash in front of the rename.
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let Some((ty, entries, whole)) = decode(&bytes) else {
                tracing::warn!(file = %path.display(), "a cache file is damaged and left out");
                continue;
            };
            if !whole {
                tracing::warn!(file = %path.display(), "a cache file is damaged in part");
            }
            for entry in entries.into_iter().filter(|entry| entry.used >= oldest) {
                inner.put(&ty, entry);
            }
        }
        for shelf in inner.types.values_mut() {
            shelf.changed = false;
        }
        Self { dir: dir.into(), inner: Mutex::new(inner) }
    }

    /// Keeps a resource.
    pub(crate) fn put(&self, ty: &TypeUrl, resource: Arc<Resource>, now: SystemTime) {
        let size = resource.encoded_len();
        if size > MOST_BYTES / 4 {
            return;
        }
        let mut inner = self.inner.lock();
        inner.put(ty, Entry { resource, size, used: seconds(now) });
        while inner.bytes > MOST_BYTES && inner.evict() {}
    }

    /// Drops a resource that does not exist any more.
    pub(crate) fn remove(&self, ty: &TypeUrl, name: &str) {
        self.inner.lock().remove(ty, name);
    }

    /// These are in use.
    pub(crate) fn touch<'a>(&self, names: impl Iterator<Item = (&'a TypeUrl, &'a str)>, now: SystemTime) {
        let mut inner = self.inner.lock();
        for (ty, name) in names {
            if let Some(shelf) = inner.types.get_mut(ty)
                && let Some(entry) = shelf.entries.get_mut(name)
            {
                entry.used = seconds(now);
                shelf.changed = true;
            }
        }
    }

    /// Drops what was not used for long.
    pub(crate) fn expire(&self, now: SystemTime) {
        let oldest = seconds(now).saturating_sub(UNUSED.as_secs());
        let mut inner = self.inner.lock();
        let old: Vec<(TypeUrl, String)> = inner
            .types
            .iter()
            .flat_map(|(ty, shelf)| shelf.entries.iter().map(move |(name, entry)| (ty, name, entry.used)))
            .filter(|(.., used)| *used < oldest)
            .map(|(ty, name, _)| (ty.clone(), name.clone()))
            .collect();
        for (ty, name) in old {
            inner.remove(&ty, &name);
        }
    }

    /// Writes what changed and has settled; all that changed with `now` absent.
    pub(crate) fn flush(&self, now: Option<SystemTime>) {
        let mut due = Vec::new();
        {
            let mut inner = self.inner.lock();
            for (ty, shelf) in &mut inner.types {
                if !shelf.changed {
                    continue;
                }
                let settle = if shelf.bytes > BIG { SETTLE_BIG } else { SETTLE };
                // A clock that went back writes too often rather than not at all.
                let settled = |now: SystemTime| {
                    shelf.written.and_then(|written| now.duration_since(written).ok()).is_none_or(|age| age >= settle)
                };
                if now.is_none_or(settled) {
                    shelf.changed = false;
                    shelf.written = now;
                    due.push((ty.clone(), shelf.entries.values().cloned().collect::<Vec<_>>()));
                }
            }
        }
        for (ty, entries) in due {
            let path = self.dir.join(format!("{}.cache", file_name(&ty)));
            if let Err(error) = write_atomic(&path, &encode(&ty, &entries), false) {
                tracing::warn!(file = %path.display(), %error, "the cache was not written");
                if let Some(shelf) = self.inner.lock().types.get_mut(&ty) {
                    shelf.changed = true;
                }
            }
        }
    }
}

impl Kept for Cache {
    fn get(&self, ty: &TypeUrl, name: &str) -> Option<Arc<Resource>> {
        Some(self.inner.lock().types.get(ty)?.entries.get(name)?.resource.clone())
    }

    fn all(&self, ty: &TypeUrl) -> Vec<Arc<Resource>> {
        let inner = self.inner.lock();
        let Some(shelf) = inner.types.get(ty) else { return Vec::new() };
        shelf.entries.values().map(|entry| entry.resource.clone()).collect()
    }
}

impl Inner {
    fn put(&mut self, ty: &TypeUrl, entry: Entry) {
        let shelf = self.types.entry(ty.clone()).or_default();
        shelf.changed = true;
        shelf.bytes += entry.size;
        self.bytes += entry.size;
        if let Some(old) = shelf.entries.insert(entry.resource.name.clone(), entry) {
            shelf.bytes -= old.size;
            self.bytes -= old.size;
        }
    }

    fn remove(&mut self, ty: &TypeUrl, name: &str) {
        let Some(shelf) = self.types.get_mut(ty) else { return };
        if let Some(old) = shelf.entries.remove(name) {
            shelf.changed = true;
            shelf.bytes -= old.size;
            self.bytes -= old.size;
        }
    }

    /// Drops the entry that was used longest ago.
    fn evict(&mut self) -> bool {
        let all = self.types.iter().flat_map(|(ty, shelf)| shelf.entries.iter().map(move |entry| (ty, entry)));
        let oldest = all.min_by_key(|(_, (_, entry))| entry.used).map(|(ty, (name, _))| (ty.clone(), name.clone()));
        let Some((ty, name)) = oldest else { return false };
        self.remove(&ty, &name);
        true
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The message's full name; a URL that nobody knows can hold anything.
fn file_name(ty: &TypeUrl) -> String {
    let name = ty.as_str().rsplit('/').next().unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' }).take(200).collect()
}

fn encode(ty: &TypeUrl, entries: &[Entry]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    record(&mut out, ty.as_str().as_bytes());
    for entry in entries {
        let mut payload = entry.used.to_le_bytes().to_vec();
        payload.extend(entry.resource.encode_to_vec());
        record(&mut out, &payload);
    }
    out
}

/// Length, the first bytes of a SHA-256, content.
fn record(out: &mut Vec<u8>, content: &[u8]) {
    out.extend(u32::try_from(content.len()).unwrap_or_default().to_le_bytes());
    out.extend(&digest(&SHA256, content).as_ref()[..8]);
    out.extend(content);
}

/// Type, the entries that are whole, and whether all were.
fn decode(bytes: &[u8]) -> Option<(TypeUrl, Vec<Entry>, bool)> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let ty = TypeUrl::from(std::str::from_utf8(next(&mut rest)??).ok()?);
    let (mut entries, mut whole) = (Vec::new(), true);
    while !rest.is_empty() {
        let Some(content) = next(&mut rest) else { return Some((ty, entries, false)) };
        match content.and_then(entry) {
            Some(entry) => entries.push(entry),
            None => whole = false,
        }
    }
    Some((ty, entries, whole))
}

/// The next record's content, `Some(None)` if its checksum is wrong; `None` at a length that can't be.
#[allow(clippy::option_option)]
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (sum, after) = after.split_first_chunk::<8>()?;
    let (content, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some((digest(&SHA256, content).as_ref()[..8] == *sum).then_some(content))
}

fn entry(content: &[u8]) -> Option<Entry> {
    let (used, body) = content.split_first_chunk::<8>()?;
    let resource = Resource::decode(body).ok()?;
    Some(Entry { size: resource.encoded_len(), resource: Arc::new(resource), used: u64::from_le_bytes(*used) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Arc<Resource> {
        let any = prost_types::Any { type_url: TypeUrl::NAME.as_str().into(), value: name.as_bytes().to_vec() };
        Arc::new(Resource { name: name.into(), version: "1".into(), resource: Some(any) })
    }

    fn names(cache: &Cache) -> Vec<String> {
        cache.all(&TypeUrl::NAME).iter().map(|resource| resource.name.clone()).collect()
    }

    #[test]
    fn a_cache_reads_back_and_forgets_what_is_unused() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let cache = Cache::open(dir.path(), now);
        cache.put(&TypeUrl::NAME, resource("a"), now);
        cache.put(&TypeUrl::NAME, resource("b"), now);
        cache.remove(&TypeUrl::NAME, "b");
        cache.flush(None);
        assert_eq!(names(&Cache::open(dir.path(), now)), ["a"]);
        assert!(names(&Cache::open(dir.path(), now + UNUSED + Duration::from_secs(1))).is_empty());
        let later = now + UNUSED / 2;
        cache.touch([(&TypeUrl::NAME, "a")].into_iter(), later);
        cache.expire(later + UNUSED / 2);
        assert_eq!(names(&cache), ["a"]);
    }

    #[test]
    fn damage_costs_only_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let cache = Cache::open(dir.path(), now);
        for name in ["a", "b", "c"] {
            cache.put(&TypeUrl::NAME, resource(name), now);
        }
        cache.flush(None);
        let path = dir.path().join("hawser.mesh.v1.Name.cache");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            std::fs::write(&path, &bad).unwrap();
            assert!(names(&Cache::open(dir.path(), now)).len() <= 3);
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(names(&Cache::open(dir.path(), now)).len() < 3);
        }
        let mut last = good.clone();
        *last.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &last).unwrap();
        assert_eq!(names(&Cache::open(dir.path(), now)), ["a", "b"]);
    }
}
