//! The adapter on a real directory: what people, editors and mounted volumes do to it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hawser_api::istio::Spec;
use hawser_mesh::{Event, Object, ObjectKey, Publisher, RegistryAdapter, RegistryId};
use hawser_registry_files::FilesAdapter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// An adapter, and what it said so far.
struct Followed {
    receiver: mpsc::Receiver<(RegistryId, Vec<Event>)>,
    task: JoinHandle<()>,
    addresses: BTreeMap<String, String>,
    rejected: BTreeMap<String, String>,
    synced: u32,
    stale: bool,
    upserts: u32,
}

impl Followed {
    fn start(directory: &Path) -> Self {
        let (sender, receiver) = mpsc::channel(4);
        let adapter = FilesAdapter::new(directory);
        let publisher = Publisher::new(adapter.id(), sender);
        let task = tokio::spawn(adapter.run(publisher));
        let (addresses, rejected) = Default::default();
        Self { receiver, task, addresses, rejected, synced: 0, stale: false, upserts: 0 }
    }

    async fn synced(directory: &Path) -> Self {
        let mut followed = Self::start(directory);
        followed.until(|f| f.synced == 1).await;
        followed
    }

    /// Takes in events until `done`.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let state = format!("{:?} {:?} synced {}", self.addresses, self.rejected, self.synced);
            let (_, events) = timeout(DEADLINE, self.receiver.recv()).await.expect(&state).expect(&state);
            assert!(!events.is_empty());
            events.into_iter().for_each(|event| self.take(event));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Upsert(Object::Config(resource, origin)) => {
                assert!(origin.line > 0);
                let Spec::WorkloadEntry(entry) = &resource.spec else { panic!() };
                self.upserts += 1;
                self.addresses.insert(resource.metadata.name.clone(), entry.address.clone());
            }
            Event::Delete(ObjectKey::Config(key)) => {
                self.addresses.remove(&key.name).unwrap();
            }
            Event::Synced => self.synced += 1,
            Event::Stale(_) => self.stale = true,
            Event::Fresh => self.stale = false,
            Event::Rejected { origin, message } => {
                self.rejected.insert(origin.to_string(), message);
            }
            Event::Cleared(origin) => {
                self.rejected.remove(&origin.to_string()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    fn address(&self, name: &str) -> Option<&str> {
        self.addresses.get(name).map(String::as_str)
    }
}

fn entry(name: &str, address: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{address: {address}}}\n"
    )
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("config.d");
    fs::create_dir(&directory).unwrap();
    (parent, directory)
}

#[tokio::test]
async fn a_change_is_said_within_a_second() {
    let (_parent, directory) = directory();
    fs::write(directory.join("a.yaml"), entry("a", "10.0.0.1")).unwrap();
    fs::write(directory.join("not-ours.txt"), "x").unwrap();
    fs::create_dir(directory.join("sub")).unwrap();
    let mut followed = Followed::synced(&directory).await;
    assert_eq!(followed.address("a"), Some("10.0.0.1"));
    for (file, name) in [("a.yaml", "a"), ("sub/b.yml", "b")] {
        let started = Instant::now();
        fs::write(directory.join(file), entry(name, "10.0.0.2")).unwrap();
        followed.until(|f| f.address(name) == Some("10.0.0.2")).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    fs::remove_file(directory.join("a.yaml")).unwrap();
    followed.until(|f| f.address("a").is_none()).await;
    assert_eq!((followed.address("b"), followed.upserts), (Some("10.0.0.2"), 3));
}

#[tokio::test]
async fn a_bad_file_is_told_and_put_right() {
    let (_parent, directory) = directory();
    fs::write(directory.join("a.yaml"), entry("a", "10.0.0.1")).unwrap();
    let mut followed = Followed::synced(&directory).await;
    fs::write(directory.join("a.yaml"), entry("a", "10.0.0.1").replace("address", "adress")).unwrap();
    followed.until(|f| !f.rejected.is_empty()).await;
    let (origin, message) = followed.rejected.first_key_value().unwrap();
    assert!(origin.ends_with("a.yaml:1"), "{origin}");
    assert!(message.contains("a.yaml:4: spec.adress: unknown field; did you mean address?"), "{message}");
    assert_eq!(followed.address("a"), Some("10.0.0.1"));
    fs::write(directory.join("b.yaml"), entry("b", "10.0.0.2")).unwrap();
    followed.until(|f| f.address("b").is_some()).await;
    fs::write(directory.join("a.yaml"), b"a: \xff").unwrap();
    followed.until(|f| f.rejected.values().any(|m| m.contains("not UTF-8"))).await;
    fs::write(directory.join("a.yaml"), entry("a", "10.0.0.3")).unwrap();
    followed.until(|f| f.rejected.is_empty() && f.address("a") == Some("10.0.0.3")).await;
}

#[tokio::test]
async fn an_editors_rename_over_a_file_is_seen_and_deletes_nothing() {
    let (_parent, directory) = directory();
    let file = directory.join("a.yaml");
    fs::write(&file, entry("a", "10.0.0.1")).unwrap();
    let mut followed = Followed::synced(&directory).await;
    fs::rename(&file, directory.join("a.yaml~")).unwrap();
    fs::write(directory.join(".a.yaml.swp"), "x").unwrap();
    fs::write(directory.join("4913"), "").unwrap();
    fs::write(directory.join(".new"), entry("a", "10.0.0.2")).unwrap();
    fs::rename(directory.join(".new"), &file).unwrap();
    followed.until(|f| f.address("a") == Some("10.0.0.2")).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped_as_a_whole() {
    let (_parent, directory) = directory();
    for (version, address) in [("..1", "10.0.0.1"), ("..2", "10.0.0.2")] {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("a.yaml"), entry("a", address)).unwrap();
    }
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/a.yaml", directory.join("a.yaml")).unwrap();
    let mut followed = Followed::synced(&directory).await;
    assert_eq!((followed.address("a"), followed.rejected.len()), (Some("10.0.0.1"), 0));
    symlink("..2", directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    followed.until(|f| f.address("a") == Some("10.0.0.2")).await;
}

#[tokio::test]
async fn a_directory_may_come_later_go_and_come_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("not/yet");
    let mut followed = Followed::start(&directory);
    followed.until(|f| !f.rejected.is_empty()).await;
    assert!(followed.rejected.values().all(|m| m.contains("this directory does not exist")), "{:?}", followed.rejected);
    assert_eq!((followed.synced, followed.stale), (0, true));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("a.yaml"), entry("a", "10.0.0.1")).unwrap();
    followed.until(|f| f.address("a").is_some() && f.rejected.is_empty() && f.synced == 1 && !f.stale).await;
    fs::rename(&directory, parent.path().join("not/away")).unwrap();
    followed.until(|f| f.stale && !f.rejected.is_empty()).await;
    assert_eq!(followed.address("a"), Some("10.0.0.1"), "what it said stays");
    fs::rename(parent.path().join("not/away"), &directory).unwrap();
    fs::write(directory.join("a.yaml"), entry("a", "10.0.0.2")).unwrap();
    followed.until(|f| f.address("a") == Some("10.0.0.2") && !f.stale && f.rejected.is_empty()).await;
    assert_eq!(followed.synced, 1);
}

#[tokio::test]
async fn the_adapter_ends_when_nobody_listens() {
    let (_parent, directory) = directory();
    let Followed { receiver, task, .. } = Followed::synced(&directory).await;
    drop(receiver);
    timeout(DEADLINE, task).await.unwrap().unwrap();
}
