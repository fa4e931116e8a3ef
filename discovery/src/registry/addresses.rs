//! Virtual addresses: which service has which, for good.
//!
//! In: services that need an address, and those that are gone. Out: an IPv4 and an IPv6 address each, and what
//! must be written down. Invariant: two services never share one; a service keeps its own as long as it exists
//! and a day longer. The first choice is a hash of the name, so that two meshes, or one that lost its store,
//! agree on nearly all.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use hawser_mesh::Hostname;
use ipnet::{Ipv4Net, Ipv6Net};

use super::shards::Fnv;

/// How long an address rests after its service is gone.
const REST: Duration = Duration::from_secs(24 * 60 * 60);

/// The addresses of a host name, as they are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRecord {
    /// Whose.
    pub host: Hostname,
    /// None if the range was full.
    pub v4: Option<Ipv4Addr>,
    /// Always there: the range is never full.
    pub v6: Ipv6Addr,
    /// Since when the service is gone.
    pub released: Option<SystemTime>,
}

/// Where addresses are kept.
pub trait AddressBook: Send + 'static {
    /// All of them, at start.
    ///
    /// # Errors
    /// If they can't be read.
    fn load(&mut self) -> Result<Vec<AddressRecord>, AddressBookError>;

    /// Writes new and changed records and forgets others, in one transaction.
    ///
    /// # Errors
    /// If nothing was written.
    fn save(&mut self, changed: &[AddressRecord], forgotten: &[Hostname]) -> Result<(), AddressBookError>;
}

/// Why addresses can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("virtual addresses can't be kept: {0}")]
pub struct AddressBookError(pub Box<dyn std::error::Error + Send + Sync>);

/// A book that forgets everything at the end: for tests, and for checks without a store.
#[derive(Debug, Default)]
pub struct MemoryBook;

impl AddressBook for MemoryBook {
    fn load(&mut self) -> Result<Vec<AddressRecord>, AddressBookError> {
        Ok(Vec::new())
    }

    fn save(&mut self, _: &[AddressRecord], _: &[Hostname]) -> Result<(), AddressBookError> {
        Ok(())
    }
}

/// Where virtual addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualRanges {
    /// IPv4.
    pub v4: Ipv4Net,
    /// IPv6.
    pub v6: Ipv6Net,
}

impl Default for VirtualRanges {
    fn default() -> Self {
        Self {
            v4: Ipv4Net::new_assert(Ipv4Addr::new(240, 240, 0, 0), 16),
            v6: Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48),
        }
    }
}

impl VirtualRanges {
    /// Whether an address is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.v4.contains(&a),
            IpAddr::V6(a) => self.v6.contains(&a),
        }
    }
}

/// Who has which address.
#[derive(Debug)]
pub(super) struct Allocator {
    ranges: VirtualRanges,
    records: BTreeMap<Hostname, AddressRecord>,
    v4: HashMap<Ipv4Addr, Hostname>,
    v6: HashMap<Ipv6Addr, Hostname>,
    changed: BTreeMap<Hostname, ()>,
}

impl Allocator {
    /// From what was written down; records outside the ranges are forgotten at the next write.
    pub(super) fn new(ranges: VirtualRanges, records: Vec<AddressRecord>) -> Self {
        let mut this =
            Self { ranges, records: BTreeMap::new(), v4: HashMap::new(), v6: HashMap::new(), changed: BTreeMap::new() };
        for record in records {
            let inside = this.ranges.v6.contains(&record.v6) && record.v4.is_none_or(|a| this.ranges.v4.contains(&a));
            let free = !this.v6.contains_key(&record.v6) && record.v4.is_none_or(|a| !this.v4.contains_key(&a));
            if inside && free {
                this.hold(record);
            } else {
                this.changed.insert(record.host, ());
            }
        }
        this
    }

    /// The addresses of a service, new ones if it has none.
    pub(super) fn assign(&mut self, host: &Hostname, now: SystemTime) -> (Option<Ipv4Addr>, Ipv6Addr) {
        if let Some(record) = self.records.get_mut(host) {
            if record.released.take().is_some() {
                self.changed.insert(host.clone(), ());
            }
            return (record.v4, record.v6);
        }
        let v4 = self.free_v4(host).or_else(|| {
            self.forget_rested(now);
            self.free_v4(host)
        });
        let v6 = self.free_v6(host);
        self.hold(AddressRecord { host: host.clone(), v4, v6, released: None });
        self.changed.insert(host.clone(), ());
        (v4, v6)
    }

    /// The service is gone; its addresses rest.
    pub(super) fn release(&mut self, host: &Hostname, now: SystemTime) {
        if let Some(record) = self.records.get_mut(host)
            && record.released.is_none()
        {
            record.released = Some(now);
            self.changed.insert(host.clone(), ());
        }
    }

    /// Hosts that hold addresses and are not released.
    pub(super) fn held(&self) -> impl Iterator<Item = &Hostname> {
        self.records.values().filter(|r| r.released.is_none()).map(|r| &r.host)
    }

    /// What must be written down since the last call: records, and hosts to forget.
    pub(super) fn take_changes(&mut self) -> (Vec<AddressRecord>, Vec<Hostname>) {
        let mut changed = Vec::new();
        let mut forgotten = Vec::new();
        for host in std::mem::take(&mut self.changed).into_keys() {
            match self.records.get(&host) {
                Some(record) => changed.push(record.clone()),
                None => forgotten.push(host),
            }
        }
        (changed, forgotten)
    }

    /// Says the same changes again: they could not be written.
    pub(super) fn put_back(&mut self, changed: Vec<AddressRecord>, forgotten: Vec<Hostname>) {
        self.changed.extend(changed.into_iter().map(|r| (r.host, ())));
        self.changed.extend(forgotten.into_iter().map(|h| (h, ())));
    }

    fn hold(&mut self, record: AddressRecord) {
        if let Some(v4) = record.v4 {
            self.v4.insert(v4, record.host.clone());
        }
        self.v6.insert(record.v6, record.host.clone());
        self.records.insert(record.host.clone(), record);
    }

    fn forget_rested(&mut self, now: SystemTime) {
        let rested =
            |r: &AddressRecord| r.released.is_some_and(|at| now.duration_since(at).unwrap_or_default() >= REST);
        let gone: Vec<Hostname> = self.records.values().filter(|r| rested(r)).map(|r| r.host.clone()).collect();
        for host in gone {
            if let Some(record) = self.records.remove(&host) {
                self.v6.remove(&record.v6);
                if let Some(v4) = record.v4 {
                    self.v4.remove(&v4);
                }
            }
            self.changed.insert(host, ());
        }
    }

    fn free_v4(&self, host: &Hostname) -> Option<Ipv4Addr> {
        let size = 1u64 << (32 - u32::from(self.ranges.v4.prefix_len()));
        // Neither the range's own address nor its last one.
        let usable = size.checked_sub(2).filter(|n| *n > 0)?;
        if self.v4.len() as u64 >= usable {
            return None;
        }
        let start = hash(host, 0) % usable;
        let base = u32::from(self.ranges.v4.network());
        (0..usable)
            .map(|step| Ipv4Addr::from(base + 1 + ((start + step) % usable) as u32))
            .find(|address| !self.v4.contains_key(address))
    }

    fn free_v6(&self, host: &Hostname) -> Ipv6Addr {
        let base = u128::from(self.ranges.v6.network());
        let mask = (1u128 << (128 - u32::from(self.ranges.v6.prefix_len())).min(64)) - 1;
        let mut probe = 0;
        loop {
            let address = Ipv6Addr::from(base | (u128::from(hash(host, probe)) & mask).max(1));
            if !self.v6.contains_key(&address) {
                return address;
            }
            probe += 1;
        }
    }
}

fn hash(host: &Hostname, probe: u64) -> u64 {
    let mut hasher = Fnv::default();
    hasher.write(host.as_str().as_bytes());
    hasher.write(&probe.to_be_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> Hostname {
        format!("s{n}.default.svc.cluster.local").parse().unwrap()
    }

    #[test]
    fn an_address_is_stable_unique_and_rests_a_day() {
        let ranges = VirtualRanges { v4: "10.9.0.0/29".parse().unwrap(), ..Default::default() };
        let start = SystemTime::UNIX_EPOCH;
        let mut a = Allocator::new(ranges, vec![]);
        let first: Vec<_> = (0..6).map(|n| a.assign(&host(n), start)).collect();
        assert_eq!(first.iter().map(|x| x.0.unwrap()).collect::<std::collections::BTreeSet<_>>().len(), 6);
        assert_eq!(a.assign(&host(7), start).0, None, "the range is full");
        a.release(&host(3), start);
        assert_eq!(a.assign(&host(8), start + REST / 2).0, None, "resting");
        assert_eq!(a.assign(&host(9), start + REST).0, first[3].0);

        let (changed, forgotten) = a.take_changes();
        assert_eq!(forgotten, [host(3)]);
        let mut b = Allocator::new(ranges, changed);
        assert_eq!(b.assign(&host(5), start), first[5]);
        assert_eq!(b.take_changes(), (vec![], vec![]));
    }

    #[test]
    fn a_service_that_comes_back_has_its_old_address() {
        let mut a = Allocator::new(VirtualRanges::default(), vec![]);
        let first = a.assign(&host(1), SystemTime::UNIX_EPOCH);
        a.release(&host(1), SystemTime::UNIX_EPOCH);
        assert_eq!(a.assign(&host(1), SystemTime::UNIX_EPOCH + 3 * REST), first);
    }
}
