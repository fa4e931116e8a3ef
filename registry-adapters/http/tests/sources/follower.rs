//! An adapter that runs, and discovery as it hears it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use hawser_mesh::{Event, Object, ObjectKey, Publisher, RegistryAdapter, RegistryId};
use hawser_registry_http::{Mesh, Source, TargetsAdapter};
use hawser_registry_source::{Context, Handle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Follower {
    receiver: mpsc::Receiver<(RegistryId, Vec<Event>)>,
    task: JoinHandle<()>,
    pub(crate) handle: Handle,
    pub(crate) services: BTreeSet<String>,
    /// `address:port` and health, by name.
    pub(crate) workloads: BTreeMap<String, String>,
    pub(crate) problems: BTreeMap<String, String>,
    pub(crate) synced: u32,
    pub(crate) stale: Option<String>,
}

impl Follower {
    pub(crate) fn start(source: Source, directory: Option<&Path>) -> Self {
        source.check().unwrap();
        Self::start_unchecked(source, directory)
    }

    /// With times that are shorter than people may set them.
    pub(crate) fn start_unchecked(source: Source, directory: Option<&Path>) -> Self {
        let id = RegistryId { kind: source.kind(), name: "legacy".into() };
        let (context, handle) = Context::alone(&id, directory);
        let mesh = Mesh { trust_domain: "cluster.local".parse().unwrap(), domain: "cluster.local".to_owned() };
        let adapter = TargetsAdapter::new("legacy", source, mesh, context);
        let (sender, receiver) = mpsc::channel(4);
        let task = tokio::spawn(adapter.run(Publisher::new(id, sender)));
        Self {
            receiver,
            task,
            handle,
            services: BTreeSet::new(),
            workloads: BTreeMap::new(),
            problems: BTreeMap::new(),
            synced: 0,
            stale: None,
        }
    }

    /// Takes in events until `done`.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let state = format!(
                "{:?} {:?} {:?} synced {} stale {:?} {:?}",
                self.services,
                self.workloads,
                self.problems,
                self.synced,
                self.stale,
                self.handle.status()
            );
            let (_, events) = timeout(DEADLINE, self.receiver.recv()).await.expect(&state).expect(&state);
            events.into_iter().for_each(|event| self.take(event));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Upsert(Object::Service(service)) => {
                self.services.insert(service.host.to_string());
            }
            Event::Upsert(Object::Workload(w)) => {
                let (address, port) = (&w.addresses[""][0], w.ports.values().next().unwrap());
                self.workloads.insert(w.key.name.to_string(), format!("{address}:{port} {:?}", w.health));
            }
            Event::Delete(ObjectKey::Service(host)) => assert!(self.services.remove(host.as_str())),
            Event::Delete(ObjectKey::Workload(key)) => assert!(self.workloads.remove(&*key.name).is_some()),
            Event::Synced => self.synced += 1,
            Event::Stale(why) => self.stale = Some(why),
            Event::Fresh => self.stale = None,
            Event::Rejected { origin, message } => {
                self.problems.insert(origin.to_string(), message);
            }
            Event::Cleared(origin) => {
                self.problems.remove(&origin.to_string());
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is(&self, workloads: &[&str]) -> bool {
        self.workloads.values().map(String::as_str).eq(workloads.iter().copied())
    }

    pub(crate) fn is_stale(&self, with: &str) -> bool {
        self.stale.as_ref().is_some_and(|why| why.contains(with))
    }

    /// Nobody listens any more: the adapter ends.
    pub(crate) async fn end(self) {
        drop(self.receiver);
        timeout(DEADLINE, self.task).await.unwrap().unwrap();
    }
}
