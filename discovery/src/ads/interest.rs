//! Hosts whose endpoints somebody holds.
//!
//! In: what streams hold. Out: a `watch` of the set of all, at most one change each [`TOGETHER`]. A stream that holds
//! very many (an Envoy that takes everything) says nothing of what is worth watching, and does not count.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::names::OutboundCluster;
use hawser_mesh::Hostname;
use hawser_registry_source::Interest;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Changes that come within this are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Clusters of a stream that counts.
const MANY: usize = 1_000;

/// All of them. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    all: Mutex<All>,
    told: watch::Sender<Arc<BTreeSet<Hostname>>>,
}

#[derive(Debug, Default)]
struct All {
    /// How many streams hold each.
    counts: BTreeMap<Hostname, u32>,
    /// A change is on its way.
    telling: bool,
}

/// What one stream holds.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// Of the names it was made from.
    hash: u64,
    hosts: Vec<Hostname>,
}

impl Default for Watched {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { all: Mutex::default(), told: watch::channel(Arc::default()).0 }) }
    }
}

impl Watched {
    /// The set, kept up to date.
    pub(super) fn interest(&self) -> Interest {
        self.inner.told.subscribe()
    }

    /// Notes that a stream holds other clusters than before; cheap if it does not.
    pub(super) fn update(&self, watching: &mut Watching, held: usize, each: impl Fn(&mut dyn FnMut(&Arc<str>))) {
        let counts = (1..=MANY).contains(&held);
        let mut hasher = DefaultHasher::new();
        if counts {
            each(&mut |name| name.hash(&mut hasher));
        }
        let hash = if counts { hasher.finish() } else { 0 };
        if hash == watching.hash {
            return;
        }
        let mut hosts = Vec::new();
        if counts {
            each(&mut |name| hosts.extend(OutboundCluster::parse(name).map(|cluster| cluster.host)));
            hosts.sort_unstable();
            hosts.dedup();
        }
        watching.hash = hash;
        let old = std::mem::replace(&mut watching.hosts, hosts);
        self.swap(&old, &watching.hosts);
    }

    fn swap(&self, old: &[Hostname], new: &[Hostname]) {
        let mut all = self.inner.all.lock();
        let mut changed = false;
        for host in new {
            let count = all.counts.entry(host.clone()).or_default();
            *count += 1;
            changed |= *count == 1;
        }
        for host in old {
            if let Some(count) = all.counts.get_mut(host) {
                *count -= 1;
                if *count == 0 {
                    all.counts.remove(host);
                    changed = true;
                }
            }
        }
        if changed && !std::mem::replace(&mut all.telling, true) {
            let inner = self.inner.clone();
            tokio::spawn(async move {
                tokio::time::sleep(TOGETHER).await;
                let mut all = inner.all.lock();
                all.telling = false;
                let hosts: BTreeSet<Hostname> = all.counts.keys().cloned().collect();
                drop(all);
                inner.told.send_if_modified(|told| {
                    let new = **told != hosts;
                    if new {
                        *told = Arc::new(hosts);
                    }
                    new
                });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(watched: &Watched, watching: &mut Watching, names: &[&str]) {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        watched.update(watching, names.len(), |with| names.iter().for_each(with));
    }

    async fn next(interest: &mut Interest) -> String {
        interest.changed().await.unwrap();
        interest.borrow_and_update().iter().map(Hostname::as_str).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_host_is_in_it_while_some_stream_holds_one_of_its_clusters() {
        let watched = Watched::default();
        let mut interest = watched.interest();
        let (mut first, mut second) = (Watching::default(), Watching::default());
        hold(&watched, &mut first, &["outbound|80||a.x", "outbound|81|v1|a.x", "outbound|80||b.x", "BlackHoleCluster"]);
        hold(&watched, &mut second, &["outbound|80||b.x", "outbound|80||c.x"]);
        assert_eq!(next(&mut interest).await, "a.x b.x c.x");
        hold(&watched, &mut first, &["outbound|80||c.x"]);
        assert_eq!(next(&mut interest).await, "b.x c.x");
        hold(&watched, &mut second, &[]);
        assert_eq!(next(&mut interest).await, "c.x");
    }

    #[tokio::test]
    async fn who_holds_everything_says_nothing() {
        let watched = Watched::default();
        let mut interest = watched.interest();
        let names: Vec<String> = (0..=MANY).map(|n| format!("outbound|80||h{n}.x")).collect();
        let (mut all, mut one) = (Watching::default(), Watching::default());
        hold(&watched, &mut all, &names.iter().map(String::as_str).collect::<Vec<_>>());
        hold(&watched, &mut one, &["outbound|80||a.x"]);
        assert_eq!(next(&mut interest).await, "a.x");
    }
}
