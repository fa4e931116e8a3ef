//! The driver between an adapter and discovery's queue.

use std::path::Path;
use std::time::Duration;

use hawser_mesh::{RegistryId, RegistryKind};
use tokio::time::timeout;

use super::*;
use crate::Handle;
use crate::ledger::tests::some;

const DEADLINE: Duration = Duration::from_secs(30);

struct Discovery {
    receiver: mpsc::Receiver<(RegistryId, Vec<Event>)>,
    handle: Handle,
}

impl Discovery {
    async fn start(directory: Option<&Path>, room: usize, settings: u64) -> (Driver, Self) {
        let id = RegistryId { kind: RegistryKind::HttpSd, name: "a".into() };
        let (sender, receiver) = mpsc::channel(room);
        let (context, handle) = Context::alone(&id, directory);
        let publisher = Publisher::new(id, sender);
        let driver = Driver::start(publisher, context, &Settings::default(), settings).await.unwrap();
        (driver, Self { receiver, handle })
    }

    /// Events that wait, in short: `+name`, `-name`, and words.
    fn heard(&mut self) -> String {
        let mut words = Vec::new();
        while let Ok((_, events)) = self.receiver.try_recv() {
            words.extend(events.into_iter().map(|event| match event {
                Event::Upsert(Object::Workload(w)) => format!("+{}", w.key.name),
                Event::Delete(key) => format!("-{key:?}"),
                Event::Synced => "synced".to_owned(),
                Event::Stale(_) => "stale".to_owned(),
                Event::Fresh => "fresh".to_owned(),
                other => format!("{other:?}"),
            }));
        }
        words.join(" ")
    }
}

#[tokio::test]
async fn events_of_a_future_that_was_dropped_are_sent_by_the_next_call_once_and_in_order() {
    let (mut driver, mut discovery) = Discovery::start(None, 1, 0).await;
    driver.observe("a", None, || some("a", 0, 1)).await.unwrap();
    // The queue is full: this one waits, and is dropped while it does.
    let waits = driver.observe("a", None, || some("a", 0, 2));
    assert!(timeout(Duration::from_millis(20), waits).await.is_err());
    assert_eq!(discovery.heard(), "+a-0");
    driver.parts(["a"]).await.unwrap();
    assert_eq!(discovery.heard(), "+a-1 synced");
}

#[tokio::test]
async fn the_state_is_stored_and_is_where_the_next_run_begins() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("http_5fsd_2fa.state");
    let (mut driver, discovery) = Discovery::start(Some(dir.path()), 64, 1).await;
    driver.observe("a", None, || some("a", 0, 2)).await.unwrap();
    driver.parts(["a"]).await.unwrap();
    let there = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, driver.wait(there)).await.unwrap().unwrap();
    drop((driver, discovery));
    let (mut driver, mut discovery) = Discovery::start(Some(dir.path()), 64, 1).await;
    assert_eq!(discovery.heard(), "+a-0 +a-1 stale synced");
    assert_eq!(discovery.handle.status().state(), "stale");
    driver.observe("a", None, || some("a", 0, 2)).await.unwrap();
    driver.parts(["a"]).await.unwrap();
    assert_eq!((discovery.heard().as_str(), discovery.handle.status().state()), ("fresh", "synced"));
}

#[tokio::test]
async fn a_damaged_file_is_no_reason_not_to_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("http_5fsd_2fa.state"), "HWSTATE").unwrap();
    let (_driver, mut discovery) = Discovery::start(Some(dir.path()), 64, 1).await;
    assert_eq!(discovery.heard(), "");
}

#[tokio::test]
async fn an_operators_word_reaches_a_driver_that_idles() {
    let (mut driver, mut discovery) = Discovery::start(None, 64, 0).await;
    driver.observe("a", None, || some("a", 0, 10)).await.unwrap();
    driver.parts(["a"]).await.unwrap();
    driver.parts([]).await.unwrap();
    assert!(discovery.heard().ends_with(" synced"), "and nothing after it");
    assert_eq!(discovery.handle.status().state(), "frozen");
    let mut changes = discovery.handle.changes();
    assert!(discovery.handle.accept());
    let thawed = async {
        changes.wait_for(|status| status.frozen.is_none()).await.unwrap();
    };
    timeout(DEADLINE, driver.wait(thawed)).await.unwrap().unwrap();
    assert_eq!(discovery.heard().matches("-Workload").count(), 10);
}

#[tokio::test]
async fn everything_ends_when_nobody_listens() {
    let (mut driver, discovery) = Discovery::start(None, 64, 0).await;
    drop(discovery);
    assert_eq!(driver.observe("a", None, || some("a", 0, 1)).await, Err(Closed));
    assert_eq!(timeout(DEADLINE, driver.idle()).await, Ok(Closed));
}
