//! All objects, in versions: what is there, what was there a moment ago, and what changed since.
//!
//! In: entries. Out: lists as of a version, changes after one. Invariant: a version is given once, to one change; what
//! is remembered of changes is bounded, and what is older is said to be too old.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::kinds::{self, Kind, Place};

/// Changes of a kind that are remembered.
const HISTORY: usize = 20_000;

/// An object, in the pieces that answers are put together from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) uid: String,
    /// Unique ids of its owners.
    pub(crate) owners: Vec<String>,
    /// `metadata`, as JSON.
    meta: Bytes,
    /// All but kind, apiVersion and metadata, as JSON without its braces.
    rest: Bytes,
}

/// How an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Whole, with its kind and version.
    Whole { api_version: String, kind: String },
    /// Whole, without them, as items of lists of built-in kinds are.
    Bare,
    /// Only its metadata.
    Metadata,
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) before: Option<Arc<Entry>>,
    /// What is there now, or what was there last, with the version of its end.
    pub(crate) now: Arc<Entry>,
    pub(crate) deleted: bool,
}

/// What was asked for is no longer remembered; the oldest version that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld(pub(crate) u64);

/// The objects of a kind.
#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<(String, String), Arc<Entry>>,
    history: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    floor: u64,
    /// Raised when its watches are to end.
    life: u64,
    /// The version at which the kind came.
    born: u64,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Store {
    version: u64,
    kinds: BTreeMap<Place, Arc<Kind>>,
    collections: BTreeMap<Place, Collection>,
    lives: u64,
    signal: watch::Sender<u64>,
}

impl Entry {
    /// An object with the version that it gets.
    pub(crate) fn new(object: &Value, version: u64) -> Self {
        let empty = Map::new();
        let map = object.as_object().unwrap_or(&empty);
        let mut meta = map.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
        let owners = meta.get("ownerReferences").and_then(Value::as_array);
        let owners = owners.into_iter().flatten().filter_map(|o| o["uid"].as_str().map(str::to_owned)).collect();
        meta.insert("resourceVersion".to_owned(), version.to_string().into());
        let named = ["kind", "apiVersion", "metadata"];
        let rest: Map<String, Value> =
            map.iter().filter(|(k, _)| !named.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
        let rest = Value::Object(rest).to_string();
        let rest = rest.get(1..rest.len() - 1).unwrap_or_default().to_owned();
        Self { namespace, name, version, uid, owners, meta: Value::Object(meta).to_string().into(), rest: rest.into() }
    }

    /// One that is not kept, and so has no version.
    pub(crate) fn unversioned(object: &Value) -> Self {
        let mut entry = Self::new(object, 0);
        let mut meta = entry.metadata();
        meta.as_object_mut().map(|map| map.remove("resourceVersion"));
        entry.meta = meta.to_string().into();
        entry
    }

    /// Writes it.
    pub(crate) fn write(&self, form: &Form, out: &mut Vec<u8>) {
        let head = match form {
            Form::Whole { api_version, kind } => {
                format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":")
            }
            Form::Bare => "{\"metadata\":".to_owned(),
            Form::Metadata => {
                "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":".to_owned()
            }
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&self.meta);
        if *form != Form::Metadata && !self.rest.is_empty() {
            out.push(b',');
            out.extend_from_slice(&self.rest);
        }
        out.push(b'}');
    }

    /// Its metadata.
    pub(crate) fn metadata(&self) -> Value {
        serde_json::from_slice(&self.meta).unwrap_or_default()
    }

    /// The object, without kind and version.
    pub(crate) fn value(&self) -> Value {
        let mut out = Vec::with_capacity(self.meta.len() + self.rest.len() + 32);
        self.write(&Form::Bare, &mut out);
        serde_json::from_slice(&out).unwrap_or_default()
    }

    /// Whether a text stands somewhere in its metadata: a quick look before it is read.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let text = text.as_bytes();
        text.is_empty() || self.meta.windows(text.len()).any(|part| part == text)
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let metadata = self.metadata();
        let labels = metadata["labels"].as_object();
        labels.into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
    }

    /// The same with another version.
    pub(crate) fn at(&self, version: u64) -> Self {
        Self::new(&self.value(), version)
    }
}

impl Store {
    /// With the built-in kinds, at a version.
    pub(crate) fn new(version: u64) -> Self {
        let kinds = kinds::built_in();
        let collections = kinds.keys().map(|place| (place.clone(), Collection::at(version, 0))).collect();
        Self { version, kinds, collections, lives: 0, signal: watch::Sender::new(0) }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Told whenever something changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.signal.subscribe()
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    pub(crate) fn kind(&self, place: &Place) -> Option<Arc<Kind>> {
        self.kinds.get(place).cloned()
    }

    /// The kind of this name in a group, as objects name it.
    pub(crate) fn kind_named(&self, group: &str, name: &str) -> Option<Arc<Kind>> {
        self.kinds.values().find(|k| k.place.group == group && k.name == name).cloned()
    }

    /// A kind comes anew, or changes; watches of it end.
    pub(crate) fn define(&mut self, kind: Kind, anew: bool) {
        let place = kind.place.clone();
        self.lives += 1;
        let version = self.version;
        if anew {
            self.collections.remove(&place);
        }
        let collection = self.collections.entry(place.clone()).or_insert_with(|| Collection::at(version, 0));
        collection.life = self.lives;
        self.kinds.insert(place, Arc::new(kind));
        self.tell();
    }

    /// Changes what is known of a kind; its watches go on.
    pub(crate) fn mark_ending(&mut self, place: &Place) {
        if let Some(kind) = self.kinds.get_mut(place) {
            Arc::make_mut(kind).ending = true;
        }
    }

    /// A kind goes, with what is left of it.
    pub(crate) fn undefine(&mut self, place: &Place) {
        self.kinds.remove(place);
        self.collections.remove(place);
        self.tell();
    }

    /// How often the watches of a kind were to end; absent when the kind is.
    pub(crate) fn life(&self, place: &Place) -> Option<u64> {
        self.collections.get(place).map(|c| c.life)
    }

    pub(crate) fn get(&self, place: &Place, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.collections.get(place)?.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Keeps an object; the version is the next one.
    pub(crate) fn put(&mut self, place: &Place, object: &Value) -> Arc<Entry> {
        self.version += 1;
        self.keep(place, Entry::new(object, self.version))
    }

    /// Keeps an object as it is, its version included: how recorded objects come in.
    pub(crate) fn put_as_is(&mut self, place: &Place, object: &Value) -> Arc<Entry> {
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).and_then(|v| v.parse().ok());
        let version = version.unwrap_or(self.version);
        self.version = self.version.max(version);
        let entry = Entry::new(object, version);
        let entry = Arc::new(entry);
        if let Some(collection) = self.collections.get_mut(place) {
            collection.objects.insert((entry.namespace.clone(), entry.name.clone()), Arc::clone(&entry));
            collection.floor = collection.floor.max(version);
            collection.history.clear();
        }
        self.tell();
        entry
    }

    fn keep(&mut self, place: &Place, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        if let Some(collection) = self.collections.get_mut(place) {
            let key = (entry.namespace.clone(), entry.name.clone());
            let before = collection.objects.insert(key, Arc::clone(&entry));
            collection.remember(Change { version: entry.version, before, now: Arc::clone(&entry), deleted: false });
        }
        self.tell();
        entry
    }

    /// Removes an object, as it was last, or as the caller says it was.
    pub(crate) fn remove(&mut self, place: &Place, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let version = self.version + 1;
        let collection = self.collections.get_mut(place)?;
        let before = collection.objects.remove(&(namespace.to_owned(), name.to_owned()))?;
        let now = Arc::new(before.at(version));
        collection.remember(Change { version, before: Some(before), now: Arc::clone(&now), deleted: true });
        self.version = version;
        self.tell();
        Some(now)
    }

    /// What is there, in the order of namespaces and names.
    pub(crate) fn list(&self, place: &Place, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let Some(collection) = self.collections.get(place) else { return Vec::new() };
        match namespace {
            None => collection.objects.values().cloned().collect(),
            Some(namespace) => {
                let from = (namespace.to_owned(), String::new());
                let of = collection.objects.range(from..).take_while(|((n, _), _)| n == namespace);
                of.map(|(_, entry)| Arc::clone(entry)).collect()
            }
        }
    }

    /// What was there at a version.
    pub(crate) fn list_at(
        &self,
        place: &Place,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Vec<Arc<Entry>>, TooOld> {
        let Some(collection) = self.collections.get(place) else { return Ok(Vec::new()) };
        if version < collection.floor {
            return Err(TooOld(collection.floor));
        }
        let mut objects = collection.objects.clone();
        for change in collection.history.iter().rev().take_while(|c| c.version > version) {
            let key = (change.now.namespace.clone(), change.now.name.clone());
            match &change.before {
                Some(before) => objects.insert(key, Arc::clone(before)),
                None => objects.remove(&key),
            };
        }
        Ok(objects.into_values().filter(|e| namespace.is_none_or(|n| n == e.namespace)).collect())
    }

    /// What happened to a kind after a version.
    pub(crate) fn changes(&self, place: &Place, after: u64) -> Result<Vec<Change>, TooOld> {
        let Some(collection) = self.collections.get(place) else { return Ok(Vec::new()) };
        if after < collection.floor {
            return Err(TooOld(collection.floor));
        }
        let from = collection.history.partition_point(|c| c.version <= after);
        Ok(collection.history.range(from..).cloned().collect())
    }

    /// What happened to all kinds after a version, in order.
    pub(crate) fn all_changes(&self, after: u64) -> Result<Vec<(Place, Change)>, TooOld> {
        let mut all = Vec::new();
        for place in self.collections.keys() {
            // A kind that came later knows nothing of what was before.
            let from = after.max(self.collections.get(place).map_or(0, |c| c.born));
            all.extend(self.changes(place, from)?.into_iter().map(|change| (place.clone(), change)));
        }
        all.sort_by_key(|(_, change)| change.version);
        Ok(all)
    }

    /// Forgets all that was: what a server does that starts anew.
    pub(crate) fn forget(&mut self) {
        let version = self.version;
        for collection in self.collections.values_mut() {
            collection.floor = version;
            collection.history.clear();
        }
        self.tell();
    }

    /// Goes back to what was kept aside, versions included.
    pub(crate) fn restore(&mut self, kept: Kept) {
        self.version = kept.version;
        self.kinds = kept.kinds;
        let version = self.version;
        let lives = &self.collections;
        let life = |place: &Place| lives.get(place).map_or(0, |c| c.life);
        let back = kept.objects.into_iter().map(|(place, objects)| {
            let collection = Collection { objects, ..Collection::at(version, life(&place)) };
            (place, collection)
        });
        let back: BTreeMap<Place, Collection> = back.collect();
        self.collections = back;
        self.tell();
    }

    /// All that is there, to go back to.
    pub(crate) fn keep_aside(&self) -> Kept {
        let objects = self.collections.iter().map(|(place, c)| (place.clone(), c.objects.clone()));
        Kept { version: self.version, kinds: self.kinds.clone(), objects: objects.collect() }
    }

    /// Goes on to a version, as other kinds' writes do.
    pub(crate) fn advance(&mut self, by: u64) {
        self.version += by;
        self.tell();
    }

    fn tell(&self) {
        self.signal.send_modify(|count| *count += 1);
    }
}

/// A state to go back to: the copy of a data base.
#[derive(Clone, Debug)]
pub struct Kept {
    version: u64,
    kinds: BTreeMap<Place, Arc<Kind>>,
    objects: BTreeMap<Place, BTreeMap<(String, String), Arc<Entry>>>,
}

impl Collection {
    fn at(floor: u64, life: u64) -> Self {
        Self { floor, life, born: floor, ..Self::default() }
    }

    fn remember(&mut self, change: Change) {
        if self.history.len() >= HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.floor = oldest.version;
        }
        self.history.push_back(change);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, n: u8) -> Value {
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "a"}, "spec": {"n": n}})
    }

    #[test]
    fn a_list_of_the_past_is_what_was_there_then() {
        let mut store = Store::new(10);
        let place = Place::new("", "pods");
        store.put(&place, &pod("x", 1));
        let then = store.version();
        store.put(&place, &pod("x", 2));
        store.put(&place, &pod("y", 1));
        store.remove(&place, "a", "x");
        let names = |list: Vec<Arc<Entry>>| {
            list.iter().map(|e| (e.name.clone(), e.value()["spec"]["n"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(names(store.list_at(&place, None, then).unwrap()), [("x".to_owned(), json!(1))]);
        assert_eq!(names(store.list(&place, Some("a"))), [("y".to_owned(), json!(1))]);
        assert_eq!(store.list_at(&place, None, 9), Err(TooOld(10)));
        assert_eq!(store.changes(&place, then).unwrap().len(), 3);
        store.forget();
        assert_eq!(store.changes(&place, then).unwrap_err(), TooOld(store.version()));
    }

    #[test]
    fn an_object_is_written_in_every_form() {
        let entry = Entry::new(&pod("x", 1), 7);
        let written = |form: Form| {
            let mut out = Vec::new();
            entry.write(&form, &mut out);
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        let meta = json!({"name": "x", "namespace": "a", "resourceVersion": "7"});
        let whole = written(Form::Whole { api_version: "v1".to_owned(), kind: "Pod".to_owned() });
        assert_eq!(whole, json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": {"n": 1}}));
        assert_eq!(written(Form::Bare), json!({"metadata": meta, "spec": {"n": 1}}));
        let partial = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta});
        assert_eq!(written(Form::Metadata), partial);
    }
}
