//! The API as a registry: resources that were applied, and instances that were registered by hand.
//!
//! In: the store at start, then what verbs changed. Out: events of [`RegistryKind::Api`]. Invariant: what is said is
//! on disk, in the order it was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_mesh::{Event, Publisher, RegistryId, RegistryKind};
use tokio::sync::{Mutex, MutexGuard};

use super::{config, registrations};
use crate::registry::{EventSender, Settings};
use crate::store::{Registration, Store, StoreError};

/// The API's registry. Clones share it.
#[derive(Clone, Debug)]
pub struct ApiSource {
    publisher: Publisher,
    /// Held from the write to the event, so that events follow the order of writes.
    turn: Arc<Mutex<()>>,
}

impl ApiSource {
    /// Which registry it is.
    pub fn id() -> RegistryId {
        RegistryId::only(RegistryKind::Api)
    }

    /// A source into the registry's queue.
    pub fn new(events: EventSender) -> Self {
        Self { publisher: Publisher::new(Self::id(), events), turn: Arc::default() }
    }

    /// Says everything the store holds.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn start(&self, store: &Store, settings: &Settings) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        let all: BTreeMap<String, Registration> = store.list()?.into_iter().collect();
        let mut events = registrations::events(&BTreeMap::new(), &all, settings);
        events.extend(config::stored(store)?);
        events.push(Event::Synced);
        self.publish(events).await;
        Ok(())
    }

    /// The right to write and to say it.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub(super) async fn publish(&self, events: Vec<Event>) {
        // `false` only when discovery is shutting down.
        let _ = self.publisher.publish(events).await;
    }
}
