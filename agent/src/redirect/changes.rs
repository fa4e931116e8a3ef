//! What to change in the sets to get from one state to another, and how what is loaded differs from what should be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::json::SetChange;
use super::ruleset::{Element, Set, SetKind};
use super::{compile, text};

/// The changes that lead from one state of the sets to another; expiring sets are renewed, not changed.
pub(super) fn between(from: &BTreeMap<&'static str, Set>, to: &BTreeMap<&'static str, Set>) -> Vec<SetChange> {
    let nothing = BTreeSet::new();
    let mut changes = Vec::new();
    for (name, set) in to {
        let old = from.get(name).map_or(&nothing, |s| &s.elements);
        if *old == set.elements || compile::expiring_sets().contains(name) {
            continue;
        }
        // Ranges are few, and may only go in when what overlaps them is out.
        let ranges = matches!(set.kind, SetKind::Net(_) | SetKind::NetPort(_));
        changes.push(if ranges {
            SetChange { set: name, flush: true, remove: BTreeSet::new(), add: set.elements.clone() }
        } else {
            let remove = old.difference(&set.elements).copied().collect();
            SetChange { set: name, flush: false, remove, add: set.elements.difference(old).copied().collect() }
        });
    }
    changes
}

/// The changes that start the life of expiring elements anew.
pub(super) fn renewals(sets: &BTreeMap<&'static str, Set>) -> Vec<SetChange> {
    let expiring = compile::expiring_sets();
    let renew = |name: &'static str| {
        let add: BTreeSet<Element> = sets.get(name).map(|set| set.elements.clone()).unwrap_or_default();
        SetChange { set: name, flush: true, remove: BTreeSet::new(), add }
    };
    expiring.into_iter().map(renew).collect()
}

/// How rules differ: lines that are missing and lines that nobody of ours wrote.
pub(super) fn rules(expected: &str, loaded: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let (expected, loaded) = (by_block(expected), by_block(loaded));
    for (block, lines) in &expected {
        match loaded.get(block) {
            None => differences.push(format!("{block} is missing")),
            Some(found) if found == lines => {}
            Some(found) => {
                differences.extend(lines.iter().filter(|l| !found.contains(l)).map(|l| format!("{block} lacks: {l}")));
                differences
                    .extend(found.iter().filter(|l| !lines.contains(l)).map(|l| format!("{block} has besides: {l}")));
                if differences.is_empty() {
                    differences.push(format!("{block} has its rules in another order"));
                }
            }
        }
    }
    differences.extend(loaded.keys().filter(|b| !expected.contains_key(*b)).map(|b| format!("{b} is not ours")));
    differences
}

/// How elements differ from what `list table` says as JSON.
pub(super) fn elements(expected: &BTreeMap<&'static str, Set>, listing: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, set) in expected {
        let objects = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found: BTreeSet<String> = objects
            .iter()
            .filter(|object| object["set"]["name"] == **name)
            .flat_map(|object| object["set"]["elem"].as_array().map(Vec::as_slice).unwrap_or_default())
            .map(element)
            .collect();
        let wanted: BTreeSet<String> = set.elements.iter().map(text::element).collect();
        let expiring = compile::expiring_sets().contains(name);
        let lacks = wanted.difference(&found).filter(|_| !expiring).map(|e| format!("set {name} lacks {e}"));
        differences.extend(lacks.chain(found.difference(&wanted).map(|e| format!("set {name} has besides {e}"))));
    }
    differences
}

/// An element of the JSON listing as nft's language writes it.
fn element(value: &Value) -> String {
    if let Some(inner) = value.get("elem") {
        return element(&inner["val"]);
    }
    if let Some(prefix) = value.get("prefix") {
        return format!("{}/{}", element(&prefix["addr"]), prefix["len"]);
    }
    if let Some(parts) = value["concat"].as_array() {
        return parts.iter().map(element).collect::<Vec<_>>().join(" . ");
    }
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn by_block(listing: &str) -> BTreeMap<String, Vec<String>> {
    let mut blocks = BTreeMap::new();
    let mut block = String::new();
    for line in listing.lines().map(str::trim).filter(|l| !l.is_empty() && *l != "}") {
        match line.strip_suffix(" {") {
            Some(header) => {
                block = header.to_owned();
                blocks.entry(block.clone()).or_insert_with(Vec::new);
            }
            None => blocks.entry(block.clone()).or_insert_with(Vec::new).push(line.to_owned()),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::intent::{Capture, Intent, Outbound, Scope, Target};

    fn intent(targets: &[(&str, u16)], ranges: &[&str]) -> Intent {
        Intent {
            capture: Capture {
                virtual_ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
                targets: targets.iter().map(|(a, port)| Target { net: a.parse().unwrap(), port: *port }).collect(),
                ..Capture::default()
            },
            outbound: [Outbound { scope: Scope::Host, port: 15001, workload: "w".into() }].into(),
            ..Intent::default()
        }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let from = compile::sets(&intent(&[("10.0.0.1/32", 80), ("10.0.0.2/32", 80)], &["240.240.0.0/16"]));
        let to = compile::sets(&intent(&[("10.0.0.2/32", 80), ("10.0.0.3/32", 80)], &["240.240.0.0/16"]));
        let element = |a: &str| BTreeSet::from([Element::NetPort(a.parse().unwrap(), 80)]);
        let change =
            SetChange { set: "targets4", flush: false, remove: element("10.0.0.1/32"), add: element("10.0.0.3/32") };
        assert_eq!(between(&from, &to), [change]);
        assert_eq!(between(&to, &to), []);
    }

    #[test]
    fn a_rule_more_or_less_is_named() {
        let ours = "table inet hawser {\n\tchain a {\n\t\trule one\n\t\trule two\n\t}\n}\n";
        assert_eq!(rules(ours, ours), Vec::<String>::new());
        let theirs = "table inet hawser {\n\tchain a {\n\t\trule two\n\t}\n\tchain b {\n\t\taccept\n\t}\n}\n";
        assert_eq!(rules(ours, theirs), ["chain a lacks: rule one", "chain b is not ours"]);
    }
}
