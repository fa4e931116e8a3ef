//! What a cluster is told of the mesh, so that it can be written there: joined hosts, and what became of its resources.
//!
//! In: snapshots. Out: for each cluster, the latest of both. Invariant: nothing is told before it is known whole, and what
//! did not change is not told again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hawser_daemon::drain;
use hawser_mesh::{RegistryId, RegistryKind};
use hawser_registry_kubernetes::{Exports, Joined, Outcome, Outcomes, Verdict};
use tokio::sync::watch;

use crate::registry::model::{ConfigOutcome, ConfigState};
use crate::registry::{Snapshot, Snapshots};

/// Shortest time between two looks: many hosts change at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Follows snapshots for a cluster until the drain.
pub(super) fn follow(id: RegistryId, first: bool, snapshots: Snapshots, drain: drain::Watch) -> Exports {
    let (hosts, joined) = watch::channel(None);
    let (told, outcomes) = watch::channel(None);
    tokio::spawn(async move {
        tokio::select! {
            () = drain.draining() => {}
            () = run(&id, snapshots, &hosts, &told) => {}
        }
    });
    Exports { hosts: joined, outcomes, first }
}

async fn run(
    id: &RegistryId,
    mut snapshots: Snapshots,
    hosts: &watch::Sender<Option<Arc<Joined>>>,
    outcomes: &watch::Sender<Option<Arc<Outcomes>>>,
) {
    let (mut seen, mut configs) = (None, None);
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        if is_heard(&snapshot) && hosts_changed(&snapshot, seen) {
            hosts.send_if_modified(|old| replace(old, joined(&snapshot)));
            seen = Some(snapshot.revision);
        } else if seen.is_some() {
            seen = Some(snapshot.revision);
        }
        if snapshot.ready() && !configs.as_ref().is_some_and(|old| Arc::ptr_eq(old, &snapshot.configs)) {
            outcomes.send_if_modified(|old| replace(old, outcomes_of(id, &snapshot.configs)));
            configs = Some(snapshot.configs.clone());
        }
        // Nobody listens any more, or nobody speaks.
        let gone = async {
            hosts.closed().await;
            outcomes.closed().await;
        };
        tokio::select! {
            () = gone => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether all hosts are known that were when discovery started.
fn is_heard(snapshot: &Snapshot) -> bool {
    snapshot.registries.iter().any(|r| r.id.kind == RegistryKind::Hosts && r.synced)
}

fn hosts_changed(snapshot: &Snapshot, seen: Option<u64>) -> bool {
    let changes = seen.and_then(|revision| snapshot.changes_since(revision));
    changes.is_none_or(|changes| changes.workloads.iter().any(|id| id.registry.kind == RegistryKind::Hosts))
}

fn joined(snapshot: &Snapshot) -> Joined {
    let hosts = snapshot.workloads().into_iter().filter(|member| member.id.registry.kind == RegistryKind::Hosts);
    hosts.map(|member| (member.id.key.clone(), member.workload.clone())).collect()
}

fn outcomes_of(id: &RegistryId, configs: &[ConfigState]) -> Outcomes {
    let mut all: Outcomes = BTreeMap::new();
    for config in configs.iter().filter(|config| config.registry == *id) {
        let Some(object) = config.object.clone() else { continue };
        let verdict = match config.outcome {
            ConfigOutcome::Honoured => Verdict::Honoured,
            ConfigOutcome::Partly => Verdict::Partly,
            ConfigOutcome::Rejected => Verdict::Rejected,
            ConfigOutcome::Shadowed => Verdict::Shadowed,
        };
        let generation = config.resource.as_ref().map(|of| of.metadata.generation).unwrap_or_default();
        let message = config.messages.join("; ");
        all.insert(object, Outcome { verdict, generation, message });
    }
    all
}

/// Replaces what differs.
fn replace<T: PartialEq>(old: &mut Option<Arc<T>>, new: T) -> bool {
    if old.as_deref() == Some(&new) {
        return false;
    }
    *old = Some(Arc::new(new));
    true
}

#[cfg(test)]
mod tests {
    use hawser_mesh::{Event, Object, Origin, Workload, WorkloadKey};

    use super::*;
    use crate::registry::{MemoryBook, Settings, spawn};

    fn host(name: &str) -> Event {
        let key = WorkloadKey { namespace: "default".into(), name: name.into() };
        Event::Upsert(Object::Workload(Arc::new(Workload::new(key))))
    }

    fn names(joined: &Option<Arc<Joined>>) -> Vec<String> {
        joined.iter().flat_map(|joined| joined.keys().map(|key| key.name.to_string())).collect()
    }

    #[tokio::test]
    async fn hosts_are_told_when_all_are_known_and_outcomes_when_everything_is() {
        let cluster = RegistryId { kind: RegistryKind::Kubernetes, name: "main".into() };
        let hosts = RegistryId::only(RegistryKind::Hosts);
        let settings = Settings::new("cluster.local".parse().unwrap());
        let expected = [cluster.clone(), hosts.clone()];
        let (events, snapshots) = spawn(settings, expected, Box::new(MemoryBook)).unwrap();
        let (_trigger, drain) = drain::channel();
        let mut exports = follow(cluster.clone(), true, snapshots.clone(), drain);
        events.send((hosts.clone(), vec![host("a")])).await.unwrap();
        let mut after = snapshots.clone();
        after.wait_for(|snapshot| snapshot.workload_count() == 1).await.unwrap();
        tokio::time::sleep(PAUSE * 2).await;
        assert_eq!(*exports.hosts.borrow(), None, "there may be more");
        events.send((hosts.clone(), vec![host("b"), Event::Synced])).await.unwrap();
        let all = exports.hosts.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!((names(&all), exports.outcomes.borrow().is_none()), (vec!["a".to_owned(), "b".to_owned()], true));
        let rule = hawser_api::istio::Resource::from_json(&serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"namespace": "default", "name": "r", "generation": 4}, "spec": {"host": "a.example"}}));
        let rule = Arc::new(rule.unwrap());
        let said = Event::Upsert(Object::Config(rule.clone(), Origin::default()));
        events.send((cluster, vec![said, Event::Synced])).await.unwrap();
        let told = exports.outcomes.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        let outcome = &told[&rule.object_ref()];
        assert_eq!((outcome.verdict, outcome.generation), (Verdict::Honoured, 4));
    }
}
