//! The names of the mesh, changed in place.
//!
//! In: `Name` resources as they come and go. Out: addresses for a name: of the host itself, of the host it is an alias
//! of, or of the narrowest wildcard above it. A host without addresses is not ours to answer for.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use hawser_api::hostname::Hostname;
use hawser_api::proto::mesh::Name;
use parking_lot::RwLock;

/// The most addresses that are answered for one name.
const MOST_ADDRESSES: usize = 64;

/// The table. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// By host, wildcards included.
    hosts: HashMap<Arc<str>, Entry>,
    /// Hosts by alias: the first in order counts.
    aliases: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

#[derive(Debug)]
struct Entry {
    addresses: Arc<[IpAddr]>,
    aliases: Vec<Arc<str>>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) addresses: Arc<[IpAddr]>,
    /// The host itself, or the wildcard.
    host: Arc<str>,
}

impl Found {
    /// Whether others may know more of it than addresses: the names of services are the mesh's alone
    /// (`<service>.<namespace>.svc.<domain>`), those of a Consul or of the world are not.
    pub(crate) fn is_shared(&self) -> bool {
        self.host.split('.').nth(2) != Some("svc")
    }
}

impl Names {
    /// Takes new, changed and removed names.
    pub(crate) fn change(&self, changed: Vec<Name>, removed: &[String]) {
        let mut table = self.0.write();
        for host in removed {
            table.remove(host);
        }
        for name in changed {
            table.put(&name);
        }
    }

    /// The addresses of a name in lower case without its final dot.
    pub(crate) fn lookup(&self, name: &str) -> Option<Found> {
        self.0.read().lookup(name)
    }

    /// How many hosts there are.
    pub(crate) fn len(&self) -> usize {
        self.0.read().hosts.len()
    }
}

impl Table {
    fn put(&mut self, name: &Name) {
        self.remove(&name.host);
        let mut addresses: Vec<IpAddr> = name.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        addresses.truncate(MOST_ADDRESSES);
        let Ok(host) = name.host.parse::<Hostname>() else { return };
        if addresses.is_empty() {
            return;
        }
        let host: Arc<str> = host.as_str().into();
        let aliases: Vec<Arc<str>> =
            name.aliases.iter().filter_map(|alias| Some(alias.parse::<Hostname>().ok()?.as_str().into())).collect();
        for alias in &aliases {
            self.aliases.entry(alias.clone()).or_default().insert(host.clone());
        }
        self.hosts.insert(host, Entry { addresses: addresses.into(), aliases });
    }

    fn remove(&mut self, host: &str) {
        let Some((host, entry)) = self.hosts.remove_entry(host) else { return };
        for alias in entry.aliases {
            if let Some(hosts) = self.aliases.get_mut(&alias) {
                hosts.remove(&host);
                if hosts.is_empty() {
                    self.aliases.remove(&alias);
                }
            }
        }
    }

    fn lookup(&self, name: &str) -> Option<Found> {
        let found = |host: &str| {
            let (host, entry) = self.hosts.get_key_value(host)?;
            Some(Found { addresses: entry.addresses.clone(), host: host.clone() })
        };
        if let Some(known) = found(name) {
            return Some(known);
        }
        if let Some(host) = self.aliases.get(name).and_then(BTreeSet::first) {
            return found(host);
        }
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(known) = found(&format!("*.{above}")) {
                return Some(known);
            }
            rest = above;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, addresses: &[&str], aliases: &[&str]) -> Name {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Name { host: host.into(), addresses: own(addresses), aliases: own(aliases) }
    }

    fn first(names: &Names, host: &str) -> Option<String> {
        names.lookup(host).map(|found| found.addresses[0].to_string())
    }

    #[test]
    fn hosts_aliases_and_wildcards_are_found_narrowest_first() {
        let names = Names::default();
        names.change(
            vec![
                name(
                    "reviews.default.svc.cluster.local",
                    &["240.240.0.1"],
                    &["reviews.default", "reviews.default.svc"],
                ),
                name("*.example.com", &["240.240.0.2"], &[]),
                name("*.b.example.com", &["240.240.0.3"], &[]),
                name("empty.example.org", &[], &[]),
            ],
            &[],
        );
        assert_eq!(first(&names, "reviews.default.svc.cluster.local").as_deref(), Some("240.240.0.1"));
        assert_eq!(first(&names, "reviews.default").as_deref(), Some("240.240.0.1"));
        assert_eq!(first(&names, "a.example.com").as_deref(), Some("240.240.0.2"));
        assert_eq!(first(&names, "a.b.example.com").as_deref(), Some("240.240.0.3"));
        for unknown in ["example.com", "empty.example.org", "reviews", ""] {
            assert_eq!(first(&names, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_removed_host_takes_its_aliases_along() {
        let names = Names::default();
        names.change(vec![name("a.x.svc.m", &["10.0.0.1"], &["a"]), name("b.x.svc.m", &["10.0.0.2"], &["a"])], &[]);
        assert_eq!(first(&names, "a").as_deref(), Some("10.0.0.1"));
        names.change(Vec::new(), &["a.x.svc.m".into()]);
        assert_eq!(first(&names, "a").as_deref(), Some("10.0.0.2"));
        names.change(vec![name("b.x.svc.m", &["10.0.0.3"], &[])], &[]);
        assert_eq!((first(&names, "a"), names.len()), (None, 1));
    }
}
