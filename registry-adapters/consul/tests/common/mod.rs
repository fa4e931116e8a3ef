//! An adapter under test, and what it has said so far.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

pub mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hawser_mesh::{
    Event, Health, Hostname, Object, ObjectKey, Origin, Publisher, RegistryAdapter as _, RegistryId, Service, Workload,
};
use hawser_registry_consul::{ConsulAdapter, Settings};
use hawser_registry_source::{Context, Handle};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// An adapter that runs, and what it has said.
pub struct Followed {
    events: mpsc::Receiver<(RegistryId, Vec<Event>)>,
    pub interest: watch::Sender<Arc<BTreeSet<Hostname>>>,
    pub handle: Handle,
    task: JoinHandle<()>,
    pub services: BTreeMap<String, Arc<Service>>,
    /// By `<node>/<id>`.
    pub workloads: BTreeMap<String, Arc<Workload>>,
    pub rejected: BTreeMap<Origin, String>,
    pub synced: bool,
    pub stale: Option<String>,
    /// Objects that were said, gone ones too.
    pub said: usize,
}

impl Followed {
    /// Follows the first part of a Consul.
    pub fn start(settings: Settings) -> Self {
        Self::part(settings, 0, None)
    }

    /// Follows a part, with its last state stored in a directory.
    pub fn part(settings: Settings, part: usize, directory: Option<PathBuf>) -> Self {
        settings.check().unwrap();
        let (id, part) = ConsulAdapter::registries("", &settings).swap_remove(part);
        let (interest, interested) = watch::channel(Arc::default());
        let (context, handle) = Context::new(&id, directory.as_deref(), interested);
        let (sender, events) = mpsc::channel(64);
        let publisher = Publisher::new(id.clone(), sender);
        let adapter = ConsulAdapter::new(id, part, settings, context, "cluster.local");
        let task = tokio::spawn(adapter.run(publisher));
        Self {
            events,
            interest,
            handle,
            task,
            services: BTreeMap::new(),
            workloads: BTreeMap::new(),
            rejected: BTreeMap::new(),
            synced: false,
            stale: None,
            said: 0,
        }
    }

    /// Says which hosts some proxy is subscribed to.
    pub fn subscribe(&self, hosts: impl IntoIterator<Item = String>) {
        self.interest.send_replace(Arc::new(hosts.into_iter().map(|h| h.parse().unwrap()).collect()));
    }

    /// Takes in what is said until `done`.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}; {}", self.describe());
            // Its status changes without an event too.
            let soon = Instant::now() + Duration::from_millis(50);
            if let Ok(batch) = timeout_at(soon, self.events.recv()).await {
                self.take(batch.expect("the adapter runs").1);
            }
        }
    }

    /// Takes in what is said for as long as `span`; `so` must hold all the while.
    pub async fn stays(&mut self, what: &str, span: Duration, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + span;
        loop {
            assert!(so(self), "{what}: no longer; {}", self.describe());
            match timeout_at(deadline, self.events.recv()).await {
                Ok(batch) => self.take(batch.expect("the adapter runs").1),
                Err(_) => return,
            }
        }
    }

    fn describe(&self) -> String {
        let workloads: Vec<_> = self.workloads.values().take(10).map(|w| (&w.key.name, w.health, w.weight)).collect();
        format!(
            "{} services, {} workloads {workloads:?}, synced {}, stale {:?}, rejected {:?}, {:?}",
            self.services.len(),
            self.workloads.len(),
            self.synced,
            self.stale,
            self.rejected.values().take(5).collect::<Vec<_>>(),
            self.handle.status()
        )
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Upsert(Object::Service(service)) => {
                    self.said += 1;
                    self.services.insert(service.host.to_string(), service);
                }
                Event::Upsert(Object::Workload(workload)) => {
                    self.said += 1;
                    self.workloads.insert(workload.key.name.to_string(), workload);
                }
                Event::Delete(ObjectKey::Service(host)) => {
                    self.said += 1;
                    self.services.remove(host.as_str());
                }
                Event::Delete(ObjectKey::Workload(key)) => {
                    self.said += 1;
                    self.workloads.remove(&*key.name);
                }
                Event::Upsert(Object::Config(..) | Object::Gateway(_))
                | Event::Delete(ObjectKey::Config(_) | ObjectKey::Gateway(_))
                | Event::Ended => panic!("Consul has no resources and no gateways, and does not end"),
                Event::Synced => self.synced = true,
                Event::Stale(why) => self.stale = Some(why),
                Event::Fresh => self.stale = None,
                Event::Rejected { origin, message } => {
                    self.rejected.insert(origin, message);
                }
                Event::Cleared(origin) => {
                    self.rejected.remove(&origin);
                }
            }
        }
    }

    pub fn health(&self, workload: &str) -> Option<Health> {
        self.workloads.get(workload).map(|w| w.health)
    }

    pub fn is_frozen(&self) -> bool {
        self.handle.status().frozen.is_some()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
