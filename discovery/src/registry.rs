//! The registry: what all registries say, merged into snapshots.
//!
//! In: batches of events from adapters, joined hosts and the API. Out: a `watch` of immutable snapshots: the first
//! change at once when idle, then at most one every [`Settings::pause`]. Invariant: a snapshot is a function of what
//! was said, not of the order in which registries said it; silence removes nothing.

mod access_logging;
mod addresses;
mod authorization;
mod choice;
mod convert;
mod merge;
pub mod model;
mod rules;
mod shards;
mod snapshot;
mod tables;
mod twins;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_api::identity::TrustDomain;
use hawser_mesh::{Event, RegistryId};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::keys::Fetched;
pub use access_logging::{AccessLogging, LogFormat};
pub use addresses::{AddressBook, AddressBookError, AddressRecord, MemoryBook, VirtualRanges};
pub use authorization::{Asks, AuthzProvider, AuthzProviders};
pub(crate) use choice::of as choice;
pub(crate) use merge::selects;
pub(crate) use rules::resolve;
pub(crate) use rules::spoken;
pub use rules::{HostRules, Intake, Named, Rules, Scope, Security, Unknown};
pub(crate) use shards::Fnv;
pub use snapshot::{Changes, ServiceState, Snapshot};

/// Where events go: bounded, so that a fast registry waits.
pub type EventSender = mpsc::Sender<(RegistryId, Vec<Event>)>;
/// Where snapshots come from.
pub type Snapshots = watch::Receiver<Arc<Snapshot>>;

const QUEUE: usize = 256;
/// Whatever a snapshot costs, the next one does not wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Settings of the mesh that snapshots depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// DNS suffix of services: `cluster.local`.
    pub domain: String,
    /// Trust domain of identities.
    pub trust_domain: TrustDomain,
    /// Other trust domains whose workloads count as those of this one.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// Namespace whose configuration counts for the whole mesh.
    pub root_namespace: String,
    /// Where virtual addresses come from.
    pub virtual_ranges: VirtualRanges,
    /// Addresses that no service has are reached as they are; else they are not reached.
    pub allow_any: bool,
    /// Names of endpoints are looked up again after so long, where answers do not say.
    pub dns_refresh: Duration,
    /// How long the first bytes of a connection are waited for where they decide; then it is taken for one whose server
    /// speaks first. Zero: until they come, as far as the proxy allows.
    pub detect: Duration,
    /// What proxies write of each request and connection; nothing, if absent.
    pub access_logging: Option<AccessLogging>,
    /// Services that policies of CUSTOM ask.
    pub authorization: AuthzProviders,
    /// Shortest time between two snapshots.
    pub pause: Duration,
}

impl Settings {
    /// The mesh's own trust domain, and those that count as it.
    pub fn trust_domains(&self) -> Vec<&TrustDomain> {
        let aliases = self.trust_domain_aliases.iter().filter(|alias| **alias != self.trust_domain);
        std::iter::once(&self.trust_domain).chain(aliases).collect()
    }

    /// The defaults of a trust domain.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            domain: hawser_api::names::DEFAULT_DOMAIN.to_owned(),
            trust_domain,
            trust_domain_aliases: Vec::new(),
            root_namespace: hawser_api::names::ROOT_NAMESPACE.to_owned(),
            virtual_ranges: VirtualRanges::default(),
            allow_any: true,
            dns_refresh: Duration::from_secs(60),
            detect: Duration::from_secs(1),
            access_logging: None,
            authorization: AuthzProviders::new(),
            pause: Duration::from_millis(50),
        }
    }
}

/// Starts the registry. `expected` are the registries that snapshots wait for before they call themselves ready;
/// others may speak too. Ends when every sender is gone.
///
/// # Errors
/// If the virtual addresses can't be read.
pub fn spawn(
    settings: Settings,
    expected: impl IntoIterator<Item = RegistryId>,
    book: Box<dyn AddressBook>,
) -> Result<(EventSender, Snapshots), AddressBookError> {
    spawn_with_keys(settings, expected, book, watch::channel(Arc::default()).1)
}

/// The same, with keys of issuers as they are fetched.
///
/// # Errors
/// If the virtual addresses can't be read.
pub fn spawn_with_keys(
    settings: Settings,
    expected: impl IntoIterator<Item = RegistryId>,
    mut book: Box<dyn AddressBook>,
    mut keys: watch::Receiver<Arc<Fetched>>,
) -> Result<(EventSender, Snapshots), AddressBookError> {
    let records = book.load()?;
    let settings = Arc::new(settings);
    let mut tables = tables::Tables::new(settings.clone(), expected, records);
    tables.set_keys(keys.borrow_and_update().clone());
    let (events, receiver) = mpsc::channel(QUEUE);
    let (sender, snapshots) = watch::channel(tables.snapshot());
    tokio::spawn(run(tables, receiver, sender, book, keys));
    Ok((events, snapshots))
}

async fn run(
    mut tables: tables::Tables,
    mut events: mpsc::Receiver<(RegistryId, Vec<Event>)>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    mut book: Box<dyn AddressBook>,
    mut keys: watch::Receiver<Arc<Fetched>>,
) {
    let pause = snapshots.borrow().settings.pause;
    let mut due = Instant::now();
    loop {
        tokio::select! {
            said = events.recv() => match said {
                Some((registry, batch)) => tables.apply(&registry, batch, SystemTime::now()),
                None => return,
            },
            Ok(()) = keys.changed() => tables.set_keys(keys.borrow_and_update().clone()),
        }
        // What is queued belongs to this snapshot too, as long as it is not due.
        while let Ok(Some((registry, batch))) = tokio::time::timeout_at(due, events.recv()).await {
            tables.apply(&registry, batch, SystemTime::now());
        }
        let started = Instant::now();
        if let Some(snapshot) = tables.publish(SystemTime::now(), book.as_mut()) {
            snapshots.send_replace(snapshot);
        }
        // A large mesh must not spend its time on making snapshots of its own start.
        let rest = if snapshots.borrow().ready() { started.elapsed() } else { started.elapsed() * 4 };
        due = Instant::now() + pause.max(rest.min(LONGEST_PAUSE));
    }
}

#[cfg(test)]
mod tests;
