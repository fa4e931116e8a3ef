//! Virtual addresses by host, with the time of release: the registry's address book, in table `addresses`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_mesh::Hostname;
use serde::{Deserialize, Serialize};

use super::{Record, Store, StoreError, Table};
use crate::registry::{AddressBook, AddressBookError, AddressRecord};
use crate::words::unix;

pub(super) const TABLE: Table = Table::new("addresses");

/// The store as the registry's book of virtual addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    store: Store,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v4: Option<Ipv4Addr>,
    v6: Ipv6Addr,
    released: Option<u64>,
}

impl Record for Stored {
    const TABLE: Table = TABLE;
}

impl Addresses {
    /// The book of a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl AddressBook for Addresses {
    fn load(&mut self) -> Result<Vec<AddressRecord>, AddressBookError> {
        let stored = self.store.list::<Stored>().map_err(|e| AddressBookError(Box::new(e)))?;
        let record = |(host, stored): (String, Stored)| {
            let host: Hostname = host.parse().map_err(|e| AddressBookError(Box::new(e)))?;
            let released: Option<SystemTime> = stored.released.map(|s| UNIX_EPOCH + Duration::from_secs(s));
            Ok(AddressRecord { host, v4: stored.v4, v6: stored.v6, released })
        };
        stored.into_iter().map(record).collect()
    }

    fn save(&mut self, changed: &[AddressRecord], forgotten: &[Hostname]) -> Result<(), AddressBookError> {
        let (changed, forgotten) = (changed.to_vec(), forgotten.to_vec());
        self.store
            .write_blocking(move |txn| {
                for host in &forgotten {
                    txn.remove::<Stored>(host.as_str())?;
                }
                for record in &changed {
                    let released = record.released.map(unix);
                    txn.put(record.host.as_str(), &Stored { v4: record.v4, v6: record.v6, released })?;
                }
                Ok::<_, StoreError>(())
            })
            .map_err(|e| AddressBookError(Box::new(e)))
    }
}
