//! Who is connected to the relay and what it has, for `hawser status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The clients. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    clients: BTreeMap<u64, ClientStatus>,
    last_nack: Option<String>,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct ClientStatus {
    pub(crate) resources: usize,
    /// The agent itself.
    pub(crate) own: bool,
    /// A proxy in whose place another one serves.
    pub(crate) former: bool,
}

/// A client's entry; it leaves when dropped.
#[derive(Debug)]
pub(super) struct Client {
    table: Clients,
    id: u64,
}

impl Clients {
    pub(super) fn enter(&self, own: bool, former: bool) -> Client {
        let status = ClientStatus { resources: 0, own, former };
        let mut table = self.0.lock();
        let id = table.next;
        table.next += 1;
        table.clients.insert(id, status);
        Client { table: self.clone(), id }
    }

    /// The proxy's entry, if it is connected: the newest one that has not made room for another.
    pub(crate) fn proxy(&self) -> Option<ClientStatus> {
        self.0.lock().clients.values().rev().find(|client| !client.own && !client.former).cloned()
    }

    /// What a client refused last.
    pub(crate) fn last_nack(&self) -> Option<String> {
        self.0.lock().last_nack.clone()
    }
}

impl Client {
    pub(super) fn update(&self, resources: usize, last_nack: Option<&str>) {
        let mut table = self.table.0.lock();
        if let Some(client) = table.clients.get_mut(&self.id) {
            client.resources = resources;
        }
        if let Some(nack) = last_nack
            && table.last_nack.as_deref() != Some(nack)
        {
            tracing::warn!(nack, "configuration was refused; what was there before stays");
            table.last_nack = Some(nack.to_owned());
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.table.0.lock().clients.remove(&self.id);
    }
}
