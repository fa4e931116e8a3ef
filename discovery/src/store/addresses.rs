//! Virtual addresses by host, with the time of release: table `addresses`.

use super::{Store, Table};

pub(super) const TABLE: Table = Table::new("addresses");

/// The store as the registry's book of virtual addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    store: Store,
}

impl Addresses {
    /// The book of a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}
