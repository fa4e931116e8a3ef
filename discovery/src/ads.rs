//! The aggregated discovery service: xDS sessions on gRPC streams.
//!
//! In: requests of proxies, agents and gRPC programs, snapshots. Out: resources, and who holds what. Invariant: what
//! a client may make us hold is bounded; nobody gets the configuration of a workload that is not theirs.

use std::sync::Arc;
use std::time::Duration;

use hawser_mesh::InstanceRef;

use crate::registry::Snapshots;

/// What discovery knows of joined hosts.
pub trait Hosts: Send + Sync + 'static {
    /// A workload of a host's record; `None` if the host is revoked or unknown, or has no such workload. Without a
    /// workload's id, the host's first.
    fn workload(&self, instance_id: &str, workload_id: Option<&str>) -> Option<HostWorkload>;
}

/// A workload as a record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostWorkload {
    /// Where its ports are declared.
    pub instance: InstanceRef,
    /// Namespace.
    pub namespace: String,
    /// Name of its WorkloadEntry.
    pub name: String,
    /// Service account.
    pub service_account: String,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// The service; clones share it.
#[derive(Clone)]
pub struct Server {
    #[allow(dead_code)]
    inner: Arc<Inner>,
}

struct Inner {
    #[allow(dead_code)]
    snapshots: Snapshots,
    #[allow(dead_code)]
    hosts: Arc<dyn Hosts>,
}

/// How many clients held something and how many of them took its new version in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Clients that held it.
    pub holders: usize,
    /// Of these, clients that took it.
    pub acknowledged: usize,
}

impl Server {
    /// A service of what snapshots say.
    pub fn new(snapshots: Snapshots, hosts: Arc<dyn Hosts>) -> Self {
        Self { inner: Arc::new(Inner { snapshots, hosts }) }
    }

    /// Waits until the proxies that hold endpoints of this workload have taken the state of the newest snapshot at the
    /// time of the call (publish the change first and wait for its snapshot), at most `deadline`.
    pub async fn acknowledged(&self, instance: &InstanceRef, deadline: Duration) -> Acknowledged {
        let _ = (instance, deadline);
        Acknowledged::default()
    }
}
