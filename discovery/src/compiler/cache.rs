//! What was compiled before.
//!
//! In: lookups by view, type and name. Out: resources, compiled at most once for each state of what they read.
//! Invariant: bounded: names that are nobody's are not remembered, and what nobody asked for during a while goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hawser_xds::{Changes, Resource, TypeUrl};
use parking_lot::Mutex;

use super::context::{Context, Note};
use super::{Need, compile, names, resource};
use crate::registry::Snapshot;
use crate::view::{Client, View};

type Found = (Resource, Arc<[Need]>);
type Key = (TypeUrl, Arc<str>);

/// Snapshots after which a view that nobody asked in is forgotten.
const UNUSED: u64 = 10_000;

/// Compiles, and remembers.
#[derive(Default)]
pub struct Compiler {
    views: Mutex<HashMap<Arc<View>, Arc<Memory>>>,
    touched: Mutex<Option<Touched>>,
}

/// Names that differ between two snapshots, for a view.
struct Touched {
    revisions: (u64, u64),
    by_view: HashMap<Arc<View>, Arc<Changes>>,
}

/// What was compiled in one view.
#[derive(Default)]
struct Memory {
    entries: Mutex<HashMap<Key, Entry>>,
    lists: Mutex<HashMap<TypeUrl, List>>,
    used: Mutex<u64>,
}

struct Entry {
    /// The last snapshot in which it was found to hold.
    checked: u64,
    note: Note,
    found: Found,
}

struct List {
    checked: u64,
    note: Note,
    names: Arc<[Arc<str>]>,
}

impl Compiler {
    /// The view of a client, one value for all who share it.
    pub fn view(&self, client: &Client, snapshot: &Snapshot) -> Arc<View> {
        let view = client.view(snapshot);
        let mut views = self.views.lock();
        if let Some((known, memory)) = views.get_key_value(&view) {
            *memory.used.lock() = snapshot.revision;
            return known.clone();
        }
        views.retain(|_, memory| *memory.used.lock() + UNUSED >= snapshot.revision);
        let view = Arc::new(view);
        let memory = Arc::new(Memory::default());
        *memory.used.lock() = snapshot.revision;
        views.insert(view.clone(), memory);
        view
    }

    /// One resource with what it needs.
    pub(super) fn get(&self, view: &Arc<View>, snapshot: &Snapshot, ty: &TypeUrl, name: &str) -> Option<Found> {
        let memory = self.memory(view);
        let key: Key = (ty.clone(), name.into());
        {
            let mut entries = memory.entries.lock();
            if let Some(entry) = entries.get_mut(&key)
                && (entry.checked == snapshot.revision || entry.note.holds(snapshot))
            {
                entry.checked = entry.checked.max(snapshot.revision);
                return Some(entry.found.clone());
            }
        }
        let context = Context::new(view, snapshot);
        let Some(made) = compile(&context, ty, name) else {
            memory.entries.lock().remove(&key);
            return None;
        };
        let found: Found = (resource(key.1.clone(), made.body), made.needs.into());
        // Of addresses that are nobody's alone there are more than can be remembered.
        if *ty == TypeUrl::LISTENER && super::listener::is_wide(snapshot, name) {
            return Some(found);
        }
        let entry = Entry { checked: snapshot.revision, note: context.into_note(), found: found.clone() };
        memory.entries.lock().insert(key, entry);
        Some(found)
    }

    /// What a wildcard of a type holds.
    pub(super) fn names(&self, view: &Arc<View>, snapshot: &Snapshot, ty: &TypeUrl) -> Arc<[Arc<str>]> {
        let memory = self.memory(view);
        {
            let mut lists = memory.lists.lock();
            if let Some(list) = lists.get_mut(ty)
                && (list.checked == snapshot.revision || list.note.holds(snapshot))
            {
                list.checked = list.checked.max(snapshot.revision);
                return list.names.clone();
            }
        }
        let context = Context::new(view, snapshot);
        let names: BTreeSet<Arc<str>> = names(&context, ty).into_iter().map(Arc::from).collect();
        let names: Arc<[Arc<str>]> = names.into_iter().collect();
        let list = List { checked: snapshot.revision, note: context.into_note(), names: names.clone() };
        memory.lists.lock().insert(ty.clone(), list);
        names
    }

    /// Names that differ between two snapshots, found once for all who share a view.
    pub(super) fn touched(
        &self,
        view: &Arc<View>,
        revisions: (u64, u64),
        find: impl FnOnce() -> Changes,
    ) -> Arc<Changes> {
        {
            let touched = self.touched.lock();
            if let Some(known) = touched.as_ref().filter(|t| t.revisions == revisions).and_then(|t| t.by_view.get(view))
            {
                return known.clone();
            }
        }
        let found = Arc::new(find());
        let mut touched = self.touched.lock();
        match touched.as_mut().filter(|t| t.revisions == revisions) {
            Some(known) => drop(known.by_view.insert(view.clone(), found.clone())),
            None => *touched = Some(Touched { revisions, by_view: [(view.clone(), found.clone())].into() }),
        }
        found
    }

    /// Forgets what is not there any more: called now and then.
    pub fn tidy(&self, snapshot: &Snapshot) {
        let memories: Vec<Arc<Memory>> = self.views.lock().values().cloned().collect();
        for memory in memories {
            memory.entries.lock().retain(|_, entry| entry.checked + UNUSED >= snapshot.revision);
        }
    }

    fn memory(&self, view: &Arc<View>) -> Arc<Memory> {
        self.views.lock().entry(view.clone()).or_default().clone()
    }
}
