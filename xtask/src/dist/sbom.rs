//! What the programs are made of: a list of parts in CycloneDX's form.
//!
//! In: what cargo knows. Out: `hawser-<version>.cdx.json`, sorted: every crate that is linked into a program that is shipped,
//! its version, licence and checksum, and who needs whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Dist, output};
use crate::root;

/// The crates whose programs are shipped.
const SHIPPED: [&str; 4] = ["hawser-cli", "hawser-agent", "hawser-proxy", "hawser-discovery"];

/// Writes it.
pub(super) fn write(dist: &Dist) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version=1", "--locked", "--filter-platform", host.trim()]);
    let metadata: Value = serde_json::from_str(&output(metadata.current_dir(root()))?)?;
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let list = bill(dist, &metadata, &checksums(&lock)).context("cargo metadata says less than it did")?;
    let path = dist.out.join(format!("hawser-{}.cdx.json", dist.version));
    fs::write(path, serde_json::to_string_pretty(&list)? + "\n")?;
    Ok(())
}

fn bill(dist: &Dist, metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Option<Value> {
    let packages: BTreeMap<&str, &Value> =
        metadata["packages"].as_array()?.iter().filter_map(|p| Some((p["id"].as_str()?, p))).collect();
    let needs = linked(metadata)?;
    let roots = packages.iter().filter(|(_, p)| p["name"].as_str().is_some_and(|name| SHIPPED.contains(&name)));
    let mut waiting: Vec<&str> = roots.map(|(id, _)| *id).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            waiting.extend(needs.get(id).into_iter().flatten());
        }
    }
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for id in &reached {
        let package = packages.get(id)?;
        let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
        let reference = format!("pkg:cargo/{name}@{version}");
        let mut component = json!({
            "type": "library", "bom-ref": reference, "purl": reference, "name": name, "version": version,
        });
        if let Some(license) = package["license"].as_str() {
            component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        if let Some(sum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        let named = |id: &&str| {
            let package = packages.get(id)?;
            Some(format!("pkg:cargo/{}@{}", package["name"].as_str()?, package["version"].as_str()?))
        };
        let needed: BTreeSet<String> = needs.get(id).into_iter().flatten().filter_map(named).collect();
        components.insert(reference.clone(), component);
        dependencies.insert(reference.clone(), json!({ "ref": reference, "dependsOn": needed }));
    }
    let time = output(Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{}", dist.epoch)]));
    Some(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.ok()?.trim(),
            "component": { "type": "application", "bom-ref": "hawser", "name": "hawser", "version": dist.version },
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

/// Who needs whom at run time.
fn linked(metadata: &Value) -> Option<BTreeMap<&str, Vec<&str>>> {
    let nodes = metadata["resolve"]["nodes"].as_array()?;
    let at_run_time = |dependency: &&Value| {
        dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
    };
    Some(
        nodes
            .iter()
            .filter_map(|node| {
                let deps = node["deps"].as_array()?.iter().filter(at_run_time);
                Some((node["id"].as_str()?, deps.filter_map(|d| d["pkg"].as_str()).collect()))
            })
            .collect(),
    )
}

/// Checksums of Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let sums = checksums(lock);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[&("a".to_owned(), "1.0.0".to_owned())], "ab");
    }

    #[test]
    fn what_is_only_built_with_is_no_part() {
        let metadata = json!({"resolve": {"nodes": [
            {"id": "a", "deps": [
                {"pkg": "b", "dep_kinds": [{"kind": null}]},
                {"pkg": "c", "dep_kinds": [{"kind": "build"}, {"kind": "dev"}]},
            ]},
        ]}});
        assert_eq!(linked(&metadata).unwrap()["a"], ["b"]);
    }
}
