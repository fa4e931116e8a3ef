//! All accepted resources, and the configuration that they make.
//!
//! In: resources and removals, one by one. Out: [`Store::snapshot`], and [`Store::wanted`]: what the held resources
//! refer to. A refused resource changes nothing. Parts that did not change are shared with the configuration before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hawser_api::names::{bound_at, listeners, types};
use hawser_api::proto::{cluster, endpoint, listener, route, tls};
use prost::Message as _;

use super::proto::{At as _, Refused, refuse};
use super::{
    Cluster, ClusterSpec, Config, Credentials, Discovery, EndpointSet, Filter, Guard, Listener, Roots, RouteSource,
    RouteTable, TcpGuard, Transport,
};
use crate::dns::Wish;

/// Kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
}

impl Kind {
    /// All, in the order in which what refers comes before what is referred to.
    pub const ALL: [Self; 5] = [Self::Listener, Self::Route, Self::Cluster, Self::Endpoints, Self::Secret];

    /// Its type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Listener => types::LISTENER,
            Self::Route => types::ROUTE,
            Self::Cluster => types::CLUSTER,
            Self::Endpoints => types::ENDPOINTS,
            Self::Secret => types::SECRET,
        }
    }

    /// The kind of a type URL.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.type_url() == type_url)
    }
}

/// Accepted resources.
#[derive(Debug, Default)]
pub struct Store {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    routes: BTreeMap<Arc<str>, Arc<RouteTable>>,
    specs: BTreeMap<Arc<str>, Arc<ClusterSpec>>,
    endpoints: BTreeMap<Arc<str>, Arc<EndpointSet>>,
    /// Endpoints that came with a cluster.
    fixed: BTreeMap<Arc<str>, Arc<EndpointSet>>,
    credentials: BTreeMap<Arc<str>, Arc<Credentials>>,
    roots: BTreeMap<Arc<str>, Arc<Roots>>,
    /// Addresses of names that were looked up.
    addresses: BTreeMap<Arc<str>, Vec<IpAddr>>,
    /// Clusters to be joined anew; those of the last configuration otherwise.
    stale: BTreeSet<Arc<str>>,
    clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// Clusters and endpoints that are referred to, and that discovery has not: nobody waits for them, and whoever would go
    /// there is told so.
    absent: BTreeSet<(Kind, Arc<str>)>,
}

impl Store {
    /// Takes a resource.
    ///
    /// # Errors
    /// If it can't be used; then what was there stays.
    pub fn put(&mut self, kind: Kind, name: &str, value: &[u8]) -> Result<(), Refused> {
        if let Err(found) = hawser_api::undeclared::check(kind.type_url(), value) {
            refuse!("{name}: {found}");
        }
        self.take(kind, name, value).at(name)?;
        self.absent.remove(&(kind, name.into()));
        Ok(())
    }

    fn take(&mut self, kind: Kind, name: &str, value: &[u8]) -> Result<(), Refused> {
        let unreadable = |e: prost::DecodeError| Refused(format!("can't be read: {e}"));
        let key: Arc<str> = name.into();
        match kind {
            Kind::Listener => {
                let message = listener::Listener::decode(value).map_err(unreadable)?;
                let known =
                    name == listeners::VIRTUAL_INBOUND || listener_address(name).is_some() || bound_at(name).is_some();
                if !known {
                    let inbound = listeners::VIRTUAL_INBOUND;
                    refuse!("a listener is named <address>_<port>, bound_<address>_<port> or {inbound}");
                }
                let before = self.listeners.get(name).map(AsRef::as_ref);
                let listener = Arc::new(Listener::new(&message, before)?);
                self.listeners.insert(key, listener);
            }
            Kind::Route => {
                let message = route::RouteConfiguration::decode(value).map_err(unreadable)?;
                self.routes.insert(key, Arc::new(RouteTable::new(&message)?));
            }
            Kind::Cluster => {
                let message = cluster::Cluster::decode(value).map_err(unreadable)?;
                let (spec, fixed) = ClusterSpec::new(&message)?;
                match fixed {
                    Some(set) => self.fixed.insert(key.clone(), Arc::new(set)),
                    None => self.fixed.remove(&key),
                };
                self.specs.insert(key.clone(), Arc::new(spec));
                self.stale.insert(key);
            }
            Kind::Endpoints => {
                let message = endpoint::ClusterLoadAssignment::decode(value).map_err(unreadable)?;
                self.endpoints.insert(key.clone(), Arc::new(EndpointSet::new(&message)?));
                self.stale_users_of(&key);
            }
            Kind::Secret => {
                use tls::secret::Type;
                let message = tls::Secret::decode(value).map_err(unreadable)?;
                match &message.r#type {
                    Some(Type::TlsCertificate(c)) => {
                        self.credentials.insert(key, Arc::new(Credentials::new(c)?));
                    }
                    Some(Type::ValidationContext(c)) => {
                        self.roots.insert(key, Arc::new(Roots::new(c)?));
                    }
                    None => refuse!("a secret without content"),
                }
            }
        }
        Ok(())
    }

    /// Forgets a resource. A secret stays: it is good until its life ends or a new one comes.
    /// Whether that says anything new.
    pub fn remove(&mut self, kind: Kind, name: &str) -> bool {
        let mut news = self.has(kind, name);
        if matches!(kind, Kind::Cluster | Kind::Endpoints) {
            news |= self.absent.insert((kind, name.into()));
        }
        match kind {
            Kind::Listener => {
                if let Some(gone) = self.listeners.remove(name) {
                    gone.all().for_each(|chain| chain.replaced.cancel());
                }
            }
            Kind::Route => drop(self.routes.remove(name)),
            Kind::Cluster => {
                self.specs.remove(name);
                self.fixed.remove(name);
                self.clusters.remove(name);
            }
            Kind::Endpoints => {
                self.endpoints.remove(name);
                self.stale_users_of(name);
            }
            Kind::Secret => {}
        }
        news
    }

    /// Names of endpoints that are looked up; what is known of others is forgotten.
    pub fn names_wanted(&mut self) -> BTreeMap<Arc<str>, Wish> {
        let mut wanted = BTreeMap::<Arc<str>, Wish>::new();
        for (cluster, spec) in &self.specs {
            let Discovery::Names { wish, .. } = spec.discovery else { continue };
            for (name, _) in self.fixed.get(cluster).iter().flat_map(|set| &set.named) {
                // The most impatient one decides.
                let known = wanted.entry(name.clone()).or_insert(wish);
                known.refresh = known.refresh.min(wish.refresh);
                known.by_answer |= wish.by_answer;
            }
        }
        self.addresses.retain(|name, _| wanted.contains_key(name));
        wanted
    }

    /// A name was looked up.
    pub fn looked_up(&mut self, name: Arc<str>, addresses: Vec<IpAddr>) {
        for (cluster, set) in &self.fixed {
            if set.named.iter().any(|(of, _)| *of == name) {
                self.stale.insert(cluster.clone());
            }
        }
        self.addresses.insert(name, addresses);
    }

    fn stale_users_of(&mut self, endpoints: &str) {
        for (name, spec) in &self.specs {
            if matches!(&spec.discovery, Discovery::Eds(n) if **n == *endpoints) {
                self.stale.insert(name.clone());
            }
        }
    }

    /// Whether a resource is held.
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Listener => self.listeners.contains_key(name),
            Kind::Route => self.routes.contains_key(name),
            Kind::Cluster => self.specs.contains_key(name),
            Kind::Endpoints => self.endpoints.contains_key(name),
            Kind::Secret => self.credentials.contains_key(name) || self.roots.contains_key(name),
        }
    }

    /// Names held of a kind.
    pub fn names(&self, kind: Kind) -> Vec<Arc<str>> {
        match kind {
            Kind::Listener => self.listeners.keys().cloned().collect(),
            Kind::Route => self.routes.keys().cloned().collect(),
            Kind::Cluster => self.specs.keys().cloned().collect(),
            Kind::Endpoints => self.endpoints.keys().cloned().collect(),
            Kind::Secret => self.credentials.keys().chain(self.roots.keys()).cloned().collect(),
        }
    }

    /// What the held listeners need, directly or not: routes, clusters, endpoints, secrets, listeners that are to be bound.
    pub fn wanted(&self) -> BTreeSet<(Kind, Arc<str>)> {
        let mut wanted: BTreeSet<_> = self.bound().iter().map(|name| (Kind::Listener, name.clone())).collect();
        for listener in self.listeners.values() {
            self.closure(listener, &mut wanted);
        }
        wanted
    }

    /// Names of listeners that we are to bind.
    fn bound(&self) -> &[Arc<str>] {
        self.listeners.get(listeners::VIRTUAL_INBOUND).map_or(&[], |inbound| &inbound.bound)
    }

    /// Whether all that a listener needs is there.
    pub fn complete(&self, name: &str) -> bool {
        let Some(listener) = self.listeners.get(name) else { return false };
        let mut wanted = BTreeSet::new();
        self.closure(listener, &mut wanted);
        let settled = |item: &(Kind, Arc<str>)| match item.0 {
            Kind::Secret => true,
            kind if !self.has(kind, &item.1) => self.absent.contains(item),
            Kind::Cluster => self.is_looked_up(&item.1),
            _ => true,
        };
        wanted.iter().all(settled)
    }

    /// Whether there is an address for a name of a cluster, or none for any of them.
    fn is_looked_up(&self, cluster: &str) -> bool {
        let mut all = true;
        for (name, _) in self.fixed.get(cluster).into_iter().flat_map(|set| &set.named) {
            match self.addresses.get(name) {
                Some(addresses) if !addresses.is_empty() => return true,
                known => all &= known.is_some(),
            }
        }
        all
    }

    fn closure(&self, listener: &Listener, wanted: &mut BTreeSet<(Kind, Arc<str>)>) {
        for chain in listener.all() {
            if let Some(tls) = &chain.tls {
                wanted.insert((Kind::Secret, tls.certificate.clone()));
                wanted.extend(tls.roots.iter().map(|r| (Kind::Secret, r.clone())));
            }
            match &chain.filter {
                Filter::Tcp(tcp) => {
                    tcp.clusters.iter().for_each(|(name, _)| self.cluster_closure(name, wanted));
                    for guard in &tcp.guards {
                        if let TcpGuard::Authz(authz) = guard {
                            self.cluster_closure(&authz.cluster, wanted);
                        }
                    }
                }
                Filter::Http(http) => {
                    for guard in &http.guards {
                        if let Guard::Authz(authz) = guard {
                            self.cluster_closure(&authz.cluster, wanted);
                        }
                    }
                    let table = match &http.routes {
                        RouteSource::Inline(table) => Some(table),
                        RouteSource::Named(name) => {
                            wanted.insert((Kind::Route, name.clone()));
                            self.routes.get(name)
                        }
                    };
                    table.iter().flat_map(|t| t.clusters()).for_each(|name| self.cluster_closure(name, wanted));
                }
            }
        }
    }

    fn cluster_closure(&self, name: &Arc<str>, wanted: &mut BTreeSet<(Kind, Arc<str>)>) {
        let Some(spec) = self.specs.get(name) else {
            if ClusterSpec::original(name).is_none() && **name != *hawser_api::names::clusters::BLACK_HOLE {
                wanted.insert((Kind::Cluster, name.clone()));
            }
            return;
        };
        wanted.insert((Kind::Cluster, name.clone()));
        if let Discovery::Eds(endpoints) = &spec.discovery {
            wanted.insert((Kind::Endpoints, endpoints.clone()));
        }
        for (_, transport) in &spec.transports {
            if let Transport::Tls(tls) = transport {
                wanted.extend(tls.certificate.iter().map(|c| (Kind::Secret, c.clone())));
                wanted.extend((tls.foreign.is_none()).then(|| (Kind::Secret, tls.roots.clone())));
            }
        }
    }

    /// The configuration that all of it makes.
    pub fn snapshot(&mut self) -> Arc<Config> {
        if !self.absent.is_empty() {
            let wanted = self.wanted();
            self.absent.retain(|absent| wanted.contains(absent));
        }
        for name in std::mem::take(&mut self.stale) {
            let Some(spec) = self.specs.get(&name) else { continue };
            let empty = EndpointSet::default();
            let set = match &spec.discovery {
                Discovery::Eds(endpoints) => self.endpoints.get(endpoints),
                _ => self.fixed.get(&name),
            };
            let before = self.clusters.get(&name).map(AsRef::as_ref);
            let looked_up;
            let set = match (&spec.discovery, set) {
                (Discovery::Names { one, .. }, Some(set)) => {
                    let addresses = |name: &str| self.addresses.get(name).map(Vec::as_slice).unwrap_or_default();
                    looked_up = set.resolved(addresses, *one);
                    &looked_up
                }
                (_, set) => set.map_or(&empty, AsRef::as_ref),
            };
            let joined = Cluster::new(spec.clone(), set, before);
            self.clusters.insert(name, Arc::new(joined));
        }
        let mut config = Config {
            routes: self.routes.iter().map(|(n, r)| (n.clone(), r.clone())).collect(),
            clusters: self.clusters.iter().map(|(n, c)| (n.clone(), c.clone())).collect(),
            credentials: self.credentials.iter().map(|(n, c)| (n.clone(), c.clone())).collect(),
            roots: self.roots.iter().map(|(n, r)| (n.clone(), r.clone())).collect(),
            ..Config::default()
        };
        for (name, listener) in &self.listeners {
            if **name == *listeners::VIRTUAL_INBOUND {
                config.inbound = Some(listener.clone());
            } else if let Some(address) = listener_address(name)
                && self.complete(name)
            {
                if listener.anywhere {
                    config.anywhere.entry(address.port()).or_insert_with(|| listener.clone());
                }
                config.outbound.insert(address, listener.clone());
            }
        }
        for name in self.bound() {
            if let (Some(at), Some(listener)) = (bound_at(name), self.listeners.get(name)) {
                config.bound.insert(at, listener.clone());
            }
        }
        // Clusters that need no resource: where the connection was going.
        for spec in self.built_in() {
            let name = spec.name.clone();
            let joined = || Arc::new(Cluster::new(Arc::new(spec), &EndpointSet::default(), None));
            let cluster = self.clusters.entry(name.clone()).or_insert_with(joined);
            config.clusters.insert(name, cluster.clone());
        }
        Arc::new(config)
    }

    /// Clusters that are referred to and need no resource.
    fn built_in(&self) -> Vec<ClusterSpec> {
        let mut names = BTreeSet::new();
        for chain in self.listeners.values().flat_map(|l| l.all()) {
            match &chain.filter {
                Filter::Tcp(tcp) => names.extend(tcp.clusters.iter().map(|(n, _)| n)),
                Filter::Http(http) => {
                    let table = match &http.routes {
                        RouteSource::Inline(table) => Some(table),
                        RouteSource::Named(name) => self.routes.get(name),
                    };
                    names.extend(table.iter().flat_map(|t| t.clusters()));
                }
            }
        }
        names.into_iter().filter(|n| !self.specs.contains_key(*n)).filter_map(|n| ClusterSpec::original(n)).collect()
    }

    /// Outbound listeners beyond so many, those that were used the longest time ago.
    pub fn least_used(&self, most: usize) -> Vec<Arc<str>> {
        let outbound = self.listeners.iter().filter(|(name, _)| listener_address(name).is_some());
        let used = |l: &Listener| l.used.load(std::sync::atomic::Ordering::Relaxed);
        let mut all: Vec<_> = outbound.map(|(name, listener)| (used(listener), name)).collect();
        all.sort();
        all.truncate(all.len().saturating_sub(most));
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// Outbound listeners that nobody has used since `then`.
    pub fn unused_since(&self, then: u64) -> Vec<Arc<str>> {
        let old = |l: &Listener| l.used.load(std::sync::atomic::Ordering::Relaxed) < then;
        let outbound = self.listeners.iter().filter(|(name, _)| listener_address(name).is_some());
        outbound.filter(|(_, l)| old(l)).map(|(name, _)| name.clone()).collect()
    }
}

/// `<address>_<port>`.
pub fn listener_name(address: SocketAddr) -> String {
    hawser_api::names::listener(address.ip().to_canonical(), address.port())
}

fn listener_address(name: &str) -> Option<SocketAddr> {
    let (address, port) = name.rsplit_once('_')?;
    let address: IpAddr = address.parse().ok()?;
    Some(SocketAddr::new(address, port.parse().ok().filter(|p| *p != 0)?))
}
