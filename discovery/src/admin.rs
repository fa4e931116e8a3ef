//! What `hawser` on the control host asks for: `hawser.admin.v1` on the Unix socket.
//!
//! In: verbs of administrators. Out: changes in the store first, then events of the API's own registry; listings of
//! the newest snapshot. Invariant: a verb that answers is on disk, and a verb that fails changed nothing.

mod backup;
mod ca;
mod config;
mod explain;
mod registrations;
mod registries;
mod service;
mod source;
mod tokens;
mod views;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hawser_daemon::readiness::Readiness;

pub use source::ApiSource;

use crate::ads;
use crate::hosts::Hosts;
use crate::identity::Authority;
use crate::registry::{Settings, Snapshot, Snapshots};
use crate::sources::Sources;
use crate::store::Store;

/// The longest that a verb waits for its change to show.
const SHOWN: Duration = Duration::from_secs(2);

/// The service. Clones share it.
#[derive(Clone)]
pub struct AdminService {
    inner: Arc<Parts>,
}

/// What the service stands on.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Joined hosts.
    pub hosts: Hosts,
    /// xDS clients.
    pub ads: ads::Server,
    /// What is so.
    pub snapshots: Snapshots,
    /// Settings of the mesh.
    pub settings: Settings,
    /// The API as a registry.
    pub source: ApiSource,
    /// Registries of other systems.
    pub sources: Sources,
    /// What is missing.
    pub readiness: Readiness,
    /// `host:port` of the TLS port, for tokens.
    pub advertise: Vec<String>,
    /// When this run began.
    pub started: SystemTime,
    /// How long a host that was off may come back.
    pub rejoin_window: Duration,
}

impl AdminService {
    /// A service of these parts.
    pub fn new(parts: Parts) -> Self {
        Self { inner: Arc::new(parts) }
    }

    /// Waits until a change shows in the registry, so that who asks next sees it. The change itself is done.
    async fn shown(&self, what: impl FnMut(&Arc<Snapshot>) -> bool) {
        let mut snapshots = self.inner.snapshots.clone();
        // Late is not wrong: it is on disk, and on its way.
        let _ = tokio::time::timeout(SHOWN, snapshots.wait_for(what)).await;
    }
}

impl std::fmt::Debug for AdminService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminService").finish_non_exhaustive()
    }
}
