//! `file_sd` on real files.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hawser_registry_http::{FileSd, Source};

use crate::follower::Follower;

fn follow(files: &[&str], directory: &Path, hosts: &str) -> Follower {
    let files: Vec<String> = files.iter().map(|file| directory.join(file).display().to_string()).collect();
    let yaml = format!("{{files: [{}], service: {{hosts: [{hosts}], port: {{number: 80}}}}}}", files.join(", "));
    let source: FileSd = serde_saphyr::from_str(&yaml).unwrap();
    Follower::start(Source::FileSd(source), None)
}

fn list(address: &str) -> String {
    format!(r#"[{{"targets": ["{address}"], "labels": {{"job": "x"}}}}]"#)
}

#[tokio::test]
async fn files_are_watched_and_a_bad_one_takes_nothing_down() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), list("10.0.0.1:1")).unwrap();
    fs::write(dir.path().join("b.yaml"), "- targets: ['10.0.0.2:2']\n").unwrap();
    fs::write(dir.path().join("c.txt"), "no").unwrap();
    let mut follower = follow(&["*.json", "*.yaml"], dir.path(), "a.mesh");
    follower.until(|f| f.synced == 1 && f.is(&["10.0.0.1:1 Healthy", "10.0.0.2:2 Healthy"])).await;
    let started = Instant::now();
    fs::write(dir.path().join("c.json"), list("10.0.0.3:3")).unwrap();
    follower.until(|f| f.workloads.len() == 3).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    fs::write(dir.path().join("a.json"), "[").unwrap();
    follower.until(|f| f.problems.keys().any(|name| name.ends_with("a.json"))).await;
    fs::write(dir.path().join("c.json"), list("10.0.0.4:4")).unwrap();
    follower.until(|f| f.is(&["10.0.0.1:1 Healthy", "10.0.0.2:2 Healthy", "10.0.0.4:4 Healthy"])).await;
    fs::write(dir.path().join("a.json"), list("10.0.0.5:5")).unwrap();
    follower.until(|f| f.problems.is_empty() && f.workloads.values().any(|w| w.starts_with("10.0.0.5"))).await;
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    follower.until(|f| f.workloads.len() == 2).await;
    follower.end().await;
}

#[tokio::test]
async fn a_file_that_was_emptied_or_taken_away_says_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, "- targets: ['10.0.0.2:2']\n").unwrap();
    let mut follower = follow(&["a.yaml"], dir.path(), "a.mesh");
    follower.until(|f| f.synced == 1 && f.workloads.len() == 1).await;
    fs::write(&file, "").unwrap();
    follower.until(|f| f.problems.values().any(|why| why.contains("it is empty"))).await;
    fs::remove_file(&file).unwrap();
    follower.until(|f| f.problems.values().any(|why| why.contains("No such file"))).await;
    assert_eq!((follower.workloads.len(), follower.stale.is_none()), (1, true));
    fs::write(&file, "[]").unwrap();
    follower.until(|f| f.workloads.is_empty() && f.problems.is_empty()).await;
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_keeps_the_registry_from_being_ready() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), list("10.0.0.1:1")).unwrap();
    let mut follower = follow(&["a.json", "b.json"], dir.path(), "a.mesh");
    follower.until(|f| f.workloads.len() == 1 && f.is_stale("b.json")).await;
    assert_eq!(follower.synced, 0);
    fs::write(dir.path().join("b.json"), list("10.0.0.2:2")).unwrap();
    follower.until(|f| f.workloads.len() == 2 && f.synced == 1 && f.stale.is_none()).await;
}

#[tokio::test]
async fn labels_choose_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        r#"[{"targets": ["10.0.0.1:1"], "labels": {"job": "x"}}, {"targets": ["10.0.0.2:2"], "labels": {"job": "y"}}]"#;
    fs::write(dir.path().join("a.json"), text).unwrap();
    let mut follower = follow(&["a.json"], dir.path(), "'{job}.mesh'");
    follower.until(|f| f.synced == 1).await;
    assert!(follower.services.iter().eq(["x.mesh", "y.mesh"]));
    fs::write(dir.path().join("a.json"), list("10.0.0.1:1")).unwrap();
    follower.until(|f| f.services.iter().eq(["x.mesh"]) && f.workloads.len() == 1).await;
}
