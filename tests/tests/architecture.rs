//! The arrows of docs/architecture.md, held against what cargo knows.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may know whom; test and task crates may know all.
const MAY_KNOW: [(&str, &[&str]); 15] = [
    ("hawser-api", &[]),
    ("hawser-daemon", &[]),
    ("hawser-sockets", &[]),
    ("hawser-xds", &["hawser-api"]),
    ("hawser-routing", &["hawser-api"]),
    ("hawser-mesh", &["hawser-api"]),
    ("hawser-registry-files", &["hawser-mesh", "hawser-api"]),
    ("hawser-registry-http", &["hawser-registry-source", "hawser-mesh", "hawser-api"]),
    ("hawser-registry-source", &["hawser-mesh", "hawser-api", "hawser-daemon"]),
    ("hawser-registry-consul", &["hawser-registry-source", "hawser-mesh", "hawser-daemon"]),
    ("hawser-registry-kubernetes", &["hawser-registry-source", "hawser-mesh", "hawser-api", "hawser-daemon"]),
    (
        "hawser-discovery",
        &[
            "hawser-registry-consul",
            "hawser-registry-files",
            "hawser-registry-http",
            "hawser-registry-kubernetes",
            "hawser-registry-source",
            "hawser-mesh",
            "hawser-xds",
            "hawser-routing",
            "hawser-api",
            "hawser-daemon",
            "hawser-sockets",
        ],
    ),
    ("hawser-proxy", &["hawser-xds", "hawser-routing", "hawser-api", "hawser-daemon", "hawser-sockets"]),
    ("hawser-agent", &["hawser-xds", "hawser-api", "hawser-daemon", "hawser-sockets"]),
    ("hawser-cli", &["hawser-api"]),
];
const MAY_KNOW_ALL: [&str; 4] = ["hawser-tests", "hawser-kube-double", "hawser-benches", "xtask"];

#[test]
fn arrows_point_one_way() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    let rules: BTreeMap<&str, &[&str]> = MAY_KNOW.into_iter().collect();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if MAY_KNOW_ALL.contains(&name) {
            continue;
        }
        let allowed = rules.get(name).unwrap_or_else(|| panic!("{name} is not in the table of docs/architecture.md"));
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            let other = dependency.name.as_str();
            assert!(!ours.contains(other) || allowed.contains(&other), "{name} must not know {other}");
        }
    }
}

#[test]
fn the_adapter_crates_are_known_to_discovery_only() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap();
    for package in &metadata.packages {
        let knows = |d: &cargo_metadata::Dependency| d.name.starts_with("hawser-registry-");
        let name = package.name.as_str();
        // What adapters share is theirs.
        let shared = |d: &cargo_metadata::Dependency| d.name == "hawser-registry-source";
        let adapter = name.starts_with("hawser-registry-");
        let knows = |d: &cargo_metadata::Dependency| knows(d) && !(adapter && shared(d));
        assert!(name == "hawser-discovery" || !package.dependencies.iter().any(knows), "{name} knows an adapter");
    }
}
