//! Addresses of targets that are host names.
//!
//! In: targets. Out: each with its addresses. Invariant: a name that can't be looked up now keeps the addresses it had;
//! few look-ups at once, each bounded in time, and none more often than [`FRESH`].

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};

use crate::targets::Target;

/// How long an address is believed.
const FRESH: Duration = Duration::from_secs(30);
/// Longest time for one name.
const PATIENCE: Duration = Duration::from_secs(5);
/// Look-ups at once.
const AT_ONCE: usize = 16;
/// Most addresses of a name that count.
const MAX_ADDRESSES: usize = 64;

/// What names are known to be.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    looked: Instant,
}

impl Names {
    /// Looks up what is not known or no longer fresh. Returns names that have no address at all, and why the first has
    /// none.
    pub(crate) async fn refresh(&mut self, targets: &[Target]) -> Option<(usize, String)> {
        let wanted: BTreeSet<&str> =
            targets.iter().map(|t| t.host.as_str()).filter(|host| host.parse::<IpAddr>().is_err()).collect();
        self.known.retain(|name, _| wanted.contains(name.as_str()));
        let now = Instant::now();
        let fresh = |name: &str| self.known.get(name).is_some_and(|known| now.duration_since(known.looked) < FRESH);
        let due: Vec<String> = wanted.into_iter().filter(|name| !fresh(name)).map(str::to_owned).collect();
        let mut answers = stream::iter(due.into_iter().map(look)).buffer_unordered(AT_ONCE);
        let mut nameless: Option<(usize, String)> = None;
        while let Some((name, answer)) = answers.next().await {
            match answer {
                Ok(addresses) => {
                    self.known.insert(name, Known { addresses, looked: Instant::now() });
                }
                Err(why) if !self.known.contains_key(&name) => {
                    nameless.get_or_insert((0, format!("{name}: {why}"))).0 += 1;
                }
                // It keeps what it had, and is looked up again next time.
                Err(_) => {}
            }
        }
        nameless
    }

    /// Addresses of a target.
    pub(crate) fn of(&self, target: &Target) -> Vec<IpAddr> {
        match target.host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.known.get(&target.host).map(|known| known.addresses.clone()).unwrap_or_default(),
        }
    }
}

async fn look(name: String) -> (String, Result<Vec<IpAddr>, String>) {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.clone(), 0))).await;
    let addresses = match found {
        Err(_) => Err("no answer".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => Ok(choose(found.map(|address| address.ip()).collect())),
    };
    (name, addresses)
}

/// One family: an instance with an address of each is one, not two.
pub(crate) fn choose(found: BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let v4 = found.iter().any(IpAddr::is_ipv4);
    found.into_iter().filter(|address| address.is_ipv4() == v4).take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_with_addresses_of_both_families_is_one() {
        let of = |list: &[&str]| choose(list.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(of(&["::1", "10.0.0.2", "10.0.0.1"]), of(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(of(&["::1"]).len(), 1);
    }
}
