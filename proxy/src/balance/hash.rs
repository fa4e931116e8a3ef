//! Which endpoint a hash leads to: a ring of hashes, or Maglev's table.
//!
//! In: endpoints with their weights, told by their addresses; a hash. Out: a place among them. Invariant: equal endpoints
//! give equal tables, in whatever order they come and in any process; one that comes or goes moves no more than its share,
//! and of Maglev's table little beside.

use std::net::SocketAddr;

/// The most places of a ring.
const MOST: u64 = 8 * 1024 * 1024;
/// How many places are looked at for an endpoint that will do.
const LOOKS: usize = 4096;

/// How tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A ring with so many places, or more where there are more endpoints.
    Ring(u64),
    /// Maglev's table of that size, a prime.
    Maglev(u64),
}

/// A table for a set of endpoints.
#[derive(Debug)]
pub enum Hashed {
    /// Hashes in their order, each with an endpoint.
    Ring(Vec<(u64, u32)>),
    /// Endpoints by the remainder of a hash.
    Maglev(Vec<u32>),
}

impl Hashed {
    /// A table of endpoints with their weights; `None` if there are none.
    pub fn new(table: Table, endpoints: &[(SocketAddr, u32)]) -> Option<Self> {
        if endpoints.is_empty() {
            return None;
        }
        Some(match table {
            Table::Ring(least) => Self::Ring(ring(least, endpoints)),
            Table::Maglev(size) => Self::Maglev(maglev(size, endpoints)),
        })
    }

    /// The first endpoint from a hash on that will do, if one is not too far.
    pub fn find(&self, hash: u64, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let (all, start) = match self {
            Self::Ring(ring) => (ring.len(), ring.partition_point(|(at, _)| *at < hash)),
            Self::Maglev(table) => (table.len(), (hash % table.len() as u64) as usize),
        };
        let at = |place: usize| match self {
            Self::Ring(ring) => ring[place % all].1 as usize,
            Self::Maglev(table) => table[place % all] as usize,
        };
        let mut last = usize::MAX;
        (start..start + all.min(LOOKS)).map(at).find(|found| {
            // Most neighbours of one that will not do are others; the same twice is asked once.
            std::mem::replace(&mut last, *found) != *found && will_do(*found)
        })
    }
}

/// A hash of bytes, the same in any process.
pub fn of(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// All bits of all bits.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn name(address: SocketAddr) -> u64 {
    of(address.to_string().as_bytes())
}

/// Each endpoint has places by its weight. How many there are for a weight is a power of two, so that it stays the same when
/// some endpoints come or go: none but theirs move.
fn ring(least: u64, endpoints: &[(SocketAddr, u32)]) -> Vec<(u64, u32)> {
    let weights = || endpoints.iter().map(|(_, weight)| u64::from(*weight).max(1));
    let size = least.clamp(1, MOST);
    let common = weights().fold(0, greatest_common_divisor).max(1);
    let sum = weights().sum::<u64>() / common;
    let mut unit = size.div_ceil(sum).next_power_of_two();
    while unit > 1 && unit.saturating_mul(sum) > MOST {
        unit /= 2;
    }
    let places = |weight: u64| match sum > size {
        false => weight / common * unit,
        // Weights that are finer than the ring are rounded.
        true => (u128::from(weight / common) * u128::from(size)).div_ceil(u128::from(sum)) as u64,
    };
    let mut all = Vec::new();
    for (index, ((address, _), weight)) in endpoints.iter().zip(weights()).enumerate() {
        let name = name(*address);
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        all.extend((0..places(weight)).map(|place| (mixed(name ^ mixed(place.wrapping_add(1))), index)));
    }
    all.sort_unstable();
    all
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// As in "Maglev: A Fast and Reliable Software Network Load Balancer" (3.4): endpoints take turns at their next free
/// place; the heavier ones have more turns.
fn maglev(size: u64, endpoints: &[(SocketAddr, u32)]) -> Vec<u32> {
    struct Turn {
        index: u32,
        at: u64,
        skip: u64,
        weight: f64,
        target: f64,
    }
    let size = size.clamp(2, 5_000_011);
    let heaviest = endpoints.iter().map(|(_, weight)| (*weight).max(1)).max().map_or(1.0, f64::from);
    // In an order of their own, so that the order in which they come makes no difference.
    let mut order: Vec<usize> = (0..endpoints.len()).collect();
    order.sort_by_key(|index| endpoints[*index].0);
    let mut turns: Vec<Turn> = order
        .into_iter()
        .map(|index| {
            let (address, weight) = endpoints[index];
            let name = name(address);
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let weight = f64::from(weight.max(1)) / heaviest;
            Turn { index, at: name % size, skip: mixed(name ^ 1) % (size - 1) + 1, weight, target: 0.0 }
        })
        .collect();
    let mut table = vec![u32::MAX; size as usize];
    let mut left = size;
    let mut round = 0.0;
    while left > 0 {
        round += 1.0;
        for turn in &mut turns {
            if round * turn.weight < turn.target {
                continue;
            }
            turn.target += 1.0;
            while table[turn.at as usize] != u32::MAX {
                turn.at = (turn.at + turn.skip) % size;
            }
            table[turn.at as usize] = turn.index;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(ports: impl IntoIterator<Item = u16>) -> Vec<(SocketAddr, u32)> {
        ports.into_iter().map(|port| (SocketAddr::from(([10, 0, 0, 1], port)), 1)).collect()
    }

    fn ports(table: Table, endpoints: &[(SocketAddr, u32)]) -> Vec<u16> {
        let hashed = Hashed::new(table, endpoints).unwrap();
        let port = |hash| endpoints[hashed.find(hash, |_| true).unwrap()].0.port();
        (0..10_000u64).map(|key| port(of(&key.to_be_bytes()))).collect()
    }

    const TABLES: [Table; 2] = [Table::Ring(1024 * 16), Table::Maglev(65_537)];

    #[test]
    fn each_gets_its_share() {
        for table in TABLES {
            let mut all = endpoints([1, 2, 3]);
            all[2].1 = 2;
            let found = ports(table, &all);
            let count = |port| found.iter().filter(|p| **p == port).count();
            for (port, wanted) in [(1, 2500), (2, 2500), (3, 5000)] {
                let seen = count(port);
                assert!(seen.abs_diff(wanted) < wanted / 8, "{table:?}: {port} has {seen}");
            }
        }
    }

    #[test]
    fn the_order_in_which_endpoints_come_makes_no_difference() {
        for table in TABLES {
            assert_eq!(ports(table, &endpoints([1, 2, 3, 4])), ports(table, &endpoints([3, 1, 4, 2])), "{table:?}");
        }
    }

    #[test]
    fn one_that_goes_moves_its_share_and_little_more() {
        for (table, most) in TABLES.into_iter().zip([0, 400]) {
            let (before, after) = (ports(table, &endpoints(1..=10)), ports(table, &endpoints(1..=9)));
            let moved = before.iter().zip(&after).filter(|(b, a)| **b != 10 && a != b).count();
            assert!(moved <= most, "{table:?}: {moved} of 10000 moved beside its own");
        }
    }

    #[test]
    fn what_will_not_do_is_passed_over_in_one_way() {
        for table in TABLES {
            let all = endpoints(1..=5);
            let hashed = Hashed::new(table, &all).unwrap();
            let first = hashed.find(7, |_| true).unwrap();
            let second = hashed.find(7, |index| index != first).unwrap();
            assert_ne!(first, second);
            assert_eq!(hashed.find(7, |index| index != first), Some(second), "{table:?}");
            assert_eq!(hashed.find(7, |_| false), None);
        }
    }
}
