//! The life of joined hosts: tokens in; records, certificates and leases out.
//!
//! In: `hawser.host.v1` calls, edits of groups, time. Out: records in the store, certificates, and the workloads of the
//! registry of hosts. Invariant: a record is on disk before anybody hears of it; a heartbeat writes nothing; what is
//! published of a host follows from its record, its lease and its own report, whatever order they came in.

mod address;
mod connect_back;
#[doc(hidden)]
pub mod doors;
mod epoch;
mod group;
mod join;
mod lease;
mod proof;
mod publish;
mod record;
mod refusal;
mod service;
mod session;
mod sign;
mod sweep;
mod tokens;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hawser_api::proto::host;
use hawser_mesh::{InstanceRef, Locality, RegistryId, RegistryKind};
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use group::Group;
pub use lease::State as LeaseState;
pub use proof::{Binding, signed_text};
pub use record::{Mesh, for_agent};
pub use refusal::Refusal;
pub use service::HostService;
pub use tokens::{key_hash, secret_hash};

use crate::identity::Authority;
use crate::metrics::Metrics;
use crate::registry::Snapshots;
use crate::store::{HostKey, HostRecord, Standing, Store, StoreError};
use crate::words::unix;

/// Label of the TLS exporter that binds a signature to its connection.
pub const EXPORTER: &[u8] = b"EXPORTER-hawser-host";

/// What the operator decides about hosts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a silent host stays in.
    pub lease: Duration,
    /// How long a record outlives its certificates.
    pub rejoin_window: Duration,
    /// What every record says of the mesh.
    pub mesh: Mesh,
    /// Ranges that no host's address may be in.
    pub virtual_ranges: Vec<IpNet>,
}

/// The registry of joined hosts.
pub fn registry_id() -> RegistryId {
    RegistryId::only(RegistryKind::Hosts)
}

/// All joined hosts. Clones share them.
#[derive(Clone)]
pub struct Hosts {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: Store,
    authority: Arc<Authority>,
    snapshots: Snapshots,
    metrics: Metrics,
    connect_back: connect_back::ConnectBack,
    table: Mutex<Table>,
    wake: Notify,
    /// Counts what was published: see [`Hosts::flush`].
    published: watch::Sender<u64>,
}

struct Table {
    leases: lease::Leases,
    hosts: HashMap<Arc<str>, Live>,
    /// Hosts whose view in the registry may have changed.
    dirty: BTreeSet<Arc<str>>,
    /// Counts changes: see [`Hosts::flush`].
    generation: u64,
}

/// A host as this run of discovery knows it.
struct Live {
    record: HostRecord,
    health: Vec<host::WorkloadHealth>,
    session: Option<Session>,
    /// Cancelled when the host is revoked or forgotten.
    connections: CancellationToken,
}

/// The way to a host's session.
#[derive(Clone)]
struct Session {
    epoch: u64,
    /// Where it comes from.
    source: std::net::IpAddr,
    /// Counts its heartbeats.
    beats: watch::Sender<u64>,
    out: mpsc::Sender<Result<host::SessionResponse, tonic::Status>>,
    /// Ends the session.
    end: CancellationToken,
}

/// A host, for listings.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Its id.
    pub instance_id: Arc<str>,
    /// Its record.
    pub record: HostRecord,
    /// Its lease; `None` if it was revoked.
    pub lease: Option<LeaseState>,
}

impl Hosts {
    /// All hosts of a store. Every lease that was held has its grace from now.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn load(
        settings: Settings,
        store: Store,
        authority: Arc<Authority>,
        snapshots: Snapshots,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let now = Instant::now();
        let mut table = Table {
            leases: lease::Leases::new(settings.lease),
            hosts: HashMap::new(),
            dirty: BTreeSet::new(),
            generation: 1,
        };
        for (id, record) in store.list::<HostRecord>()? {
            let id: Arc<str> = id.into();
            if !record.revoked {
                let state = match record.standing {
                    Standing::New => LeaseState::New,
                    Standing::Present => LeaseState::Grace,
                    Standing::Lapsed => LeaseState::Lapsed,
                    Standing::Away => LeaseState::Away,
                };
                table.leases.add(id.clone(), record::services(&record), state, now);
            }
            table.dirty.insert(id.clone());
            table.hosts.insert(id, Live::new(record));
        }
        let inner = Inner {
            settings,
            store,
            authority,
            snapshots,
            metrics,
            connect_back: connect_back::ConnectBack::default(),
            table: Mutex::new(table),
            wake: Notify::new(),
            published: watch::channel(0).0,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Every host, by id.
    pub fn list(&self) -> Vec<HostView> {
        let table = self.inner.table.lock();
        let view = |(id, live): (&Arc<str>, &Live)| HostView {
            instance_id: id.clone(),
            record: live.record.clone(),
            lease: table.leases.state(id),
        };
        let mut all: Vec<HostView> = table.hosts.iter().map(view).collect();
        all.sort_by(|a, b| a.instance_id.cmp(&b.instance_id));
        all
    }

    /// Hosts in each state of their lease.
    pub fn counts(&self) -> std::collections::BTreeMap<LeaseState, usize> {
        self.inner.table.lock().leases.counts()
    }

    /// What is frozen, in words.
    pub fn freezes(&self) -> Vec<String> {
        let table = self.inner.table.lock();
        let counts = table.leases.counts();
        let count = |state| counts.get(&state).copied().unwrap_or_default();
        let mut words: Vec<String> = Vec::new();
        if count(LeaseState::Degraded) > 0 {
            words.push(format!(
                "registry hosts: {} hosts lapsed with many others and are the last choice until they come back",
                count(LeaseState::Degraded)
            ));
        }
        let services = table.leases.frozen_services();
        words.extend(services.iter().map(|s| format!("service {s}: all its hosts lapsed, they stay as they were")));
        words
    }

    /// What every record says of the mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.inner.settings.mesh
    }

    /// Ends when the host is revoked or forgotten; `None` if it is so already.
    pub fn connection(&self, instance_id: &str) -> Option<CancellationToken> {
        let table = self.inner.table.lock();
        table.hosts.get(instance_id).filter(|live| !live.record.revoked).map(|live| live.connections.clone())
    }

    /// Takes a host out for good: its certificates open nothing from now on, and its key can't rejoin.
    ///
    /// # Errors
    /// If there is no such host, or the store refuses.
    pub async fn revoke(&self, instance_id: &str) -> Result<(), Refusal> {
        self.update(instance_id, |record| {
            record.revoked = true;
            Ok(())
        })
        .await?;
        self.drop_live(instance_id, false);
        tracing::info!(instance_id, "host revoked");
        Ok(())
    }

    /// Waits until the registry was told of every change made before.
    pub async fn flush(&self) {
        let wanted = self.inner.table.lock().generation;
        let mut published = self.inner.published.subscribe();
        // The sender lives as long as we do.
        let _ = published.wait_for(|published| *published >= wanted).await;
    }

    /// Changes a record on disk, then here. The change must not have side effects.
    async fn update<T: Send + 'static>(
        &self,
        instance_id: &str,
        change: impl FnOnce(&mut HostRecord) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let id = instance_id.to_owned();
        let (record, result) = self
            .inner
            .store
            .write(move |txn| {
                let mut record: HostRecord = txn.get(&id)?.ok_or(Refusal::HostUnknown)?;
                let result = change(&mut record)?;
                record.revision += 1;
                txn.put(&id, &record)?;
                Ok::<_, Refusal>((record, result))
            })
            .await?;
        self.learn(instance_id, record);
        Ok(result)
    }

    /// Takes a record over from disk, unless a newer one is known.
    fn learn(&self, instance_id: &str, record: HostRecord) {
        let mut table = self.inner.table.lock();
        let id: Arc<str> = instance_id.into();
        let services = record::services(&record);
        match table.hosts.get_mut(instance_id) {
            Some(live) if live.record.revision >= record.revision => return,
            Some(live) => {
                live.record = record;
                table.leases.set_services(instance_id, services);
            }
            None => {
                table.leases.add(id.clone(), services, LeaseState::New, Instant::now());
                table.hosts.insert(id.clone(), Live::new(record));
            }
        }
        table.touch(id);
        self.inner.wake.notify_one();
    }

    /// Ends a host's lease, session and connections.
    fn drop_live(&self, instance_id: &str, forget: bool) {
        let mut table = self.inner.table.lock();
        table.leases.remove(instance_id);
        if let Some(live) = table.hosts.get_mut(instance_id) {
            live.connections.cancel();
            if let Some(session) = live.session.take() {
                session.end.cancel();
            }
        }
        if forget {
            table.hosts.remove(instance_id);
        }
        table.touch(instance_id.into());
        self.inner.wake.notify_one();
    }

    /// Removes a host's record and the binding of its key.
    async fn forget(&self, instance_id: &str) -> Result<(), Refusal> {
        let id = instance_id.to_owned();
        self.inner
            .store
            .write(move |txn| {
                let Some(record) = txn.get::<HostRecord>(&id)? else { return Ok(()) };
                let key = key_hash(&record.host_key);
                if txn.get::<HostKey>(&key)?.is_some_and(|bound| bound.instance_id == id) {
                    txn.remove::<HostKey>(&key)?;
                }
                txn.remove::<HostRecord>(&id)?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.drop_live(instance_id, true);
        tracing::info!(instance_id, "host forgotten");
        Ok(())
    }

    /// The record of a caller with a host certificate.
    fn record_of(&self, instance_id: &str) -> Result<HostRecord, Refusal> {
        let table = self.inner.table.lock();
        let live = table.hosts.get(instance_id).ok_or(Refusal::HostUnknown)?;
        if live.record.revoked { Err(Refusal::HostRevoked) } else { Ok(live.record.clone()) }
    }

    fn now() -> u64 {
        unix(SystemTime::now())
    }
}

impl Table {
    fn touch(&mut self, id: Arc<str>) {
        self.dirty.insert(id);
        self.generation += 1;
    }
}

impl Live {
    fn new(record: HostRecord) -> Self {
        Self { record, health: Vec::new(), session: None, connections: CancellationToken::new() }
    }
}

impl crate::ads::Hosts for Hosts {
    fn workload(&self, instance_id: &str, workload_id: Option<&str>) -> Option<crate::ads::HostWorkload> {
        let table = self.inner.table.lock();
        let (id, live) = table.hosts.get_key_value(instance_id).filter(|(_, live)| !live.record.revoked)?;
        let mut workloads = live.record.workloads.iter().map(|w| &w.workload);
        let own = match workload_id {
            Some(wanted) => workloads.find(|w| w.id == wanted)?,
            None => workloads.next()?,
        };
        let (region, zone, sub_zone) = live.record.locality.clone();
        Some(crate::ads::HostWorkload {
            instance: InstanceRef { instance_id: id.clone(), workload_id: own.id.as_str().into() },
            namespace: own.namespace.clone(),
            name: own.name.clone(),
            service_account: own.service_account.clone(),
            labels: own.labels.clone(),
            locality: Locality { region, zone, sub_zone },
        })
    }
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosts").finish_non_exhaustive()
    }
}
