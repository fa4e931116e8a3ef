//! Which services changed, by lists that tell of checks and nodes.
//!
//! In: each list as a whole. Out: services that what is new or gone in it concerns. A check of a node concerns all
//! services with an instance there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::wire::Check;

/// The last lists, and who is where.
#[derive(Debug, Default)]
pub(super) struct Signals {
    critical: HashSet<Check>,
    warning: HashSet<Check>,
    nodes: BTreeMap<Arc<str>, u64>,
    services_on: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    nodes_of: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Signals {
    /// Checks of one status; gives the services that are concerned by the difference.
    pub(super) fn checks(&mut self, warning: bool, checks: Vec<Check>) -> BTreeSet<Arc<str>> {
        let now: HashSet<Check> = checks.into_iter().collect();
        let known = if warning { &mut self.warning } else { &mut self.critical };
        let before = std::mem::replace(known, now);
        let known = if warning { &self.warning } else { &self.critical };
        let mut touched = BTreeSet::new();
        for check in before.symmetric_difference(known) {
            if check.service_name.is_empty() {
                touched.extend(self.services_on.get(check.node.as_str()).into_iter().flatten().cloned());
            } else {
                touched.insert(Arc::from(check.service_name.as_str()));
            }
        }
        touched
    }

    /// Nodes, each with a number that tells whether it changed.
    pub(super) fn nodes(&mut self, nodes: BTreeMap<Arc<str>, u64>) -> BTreeSet<Arc<str>> {
        let before = std::mem::replace(&mut self.nodes, nodes);
        let changed =
            before.iter().filter(|(name, number)| self.nodes.get(*name) != Some(number)).map(|(name, _)| name);
        // A node that is new has services that are new, which say so themselves.
        changed.flat_map(|name| self.services_on.get(name).into_iter().flatten().cloned()).collect()
    }

    /// A service has instances on these nodes.
    pub(super) fn learn(&mut self, service: &Arc<str>, nodes: impl IntoIterator<Item = Arc<str>>) {
        self.unlearn(service);
        let mut known: Vec<Arc<str>> = Vec::new();
        for node in nodes {
            // One text for each node.
            let node = self.services_on.get_key_value(&node).map_or(node, |(name, _)| name.clone());
            if self.services_on.entry(node.clone()).or_default().insert(service.clone()) {
                known.push(node);
            }
        }
        self.nodes_of.insert(service.clone(), known);
    }

    /// Forgets services that are gone.
    pub(super) fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        let all: Vec<Arc<str>> = self.nodes_of.keys().filter(|service| gone(service)).cloned().collect();
        for service in all {
            self.unlearn(&service);
        }
    }

    fn unlearn(&mut self, service: &str) {
        for node in self.nodes_of.remove(service).unwrap_or_default() {
            if let Some(services) = self.services_on.get_mut(&node) {
                services.remove(service);
                if services.is_empty() {
                    self.services_on.remove(&node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(node: &str, id: &str, service: &str) -> Check {
        Check { node: node.into(), check_id: id.into(), service_name: service.into(), status: "critical".into() }
    }

    fn names(touched: BTreeSet<Arc<str>>) -> Vec<String> {
        touched.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_check_that_came_or_went_concerns_its_service_or_all_on_its_node() {
        let mut signals = Signals::default();
        signals.learn(&"a".into(), ["n1".into(), "n2".into()]);
        signals.learn(&"b".into(), ["n1".into(), "n1".into()]);
        assert_eq!(names(signals.checks(false, vec![check("n2", "c1", "x")])), ["x"]);
        assert_eq!(
            names(signals.checks(false, vec![check("n2", "c1", "x"), check("n1", "serfHealth", "")])),
            ["a", "b"]
        );
        assert_eq!(names(signals.checks(false, vec![check("n1", "serfHealth", "")])), ["x"]);
        assert_eq!(names(signals.checks(true, vec![])), Vec::<String>::new());
        signals.learn(&"b".into(), ["n3".into()]);
        assert_eq!(names(signals.checks(false, vec![])), ["a"]);
    }

    #[test]
    fn a_node_that_changed_or_went_concerns_its_services_and_what_is_gone_is_forgotten() {
        let mut signals = Signals::default();
        let nodes = |list: &[(&str, u64)]| list.iter().map(|(n, v)| (Arc::from(*n), *v)).collect();
        signals.nodes(nodes(&[("n1", 1), ("n2", 1)]));
        signals.learn(&"a".into(), ["n1".into()]);
        signals.learn(&"b".into(), ["n2".into()]);
        assert_eq!(names(signals.nodes(nodes(&[("n1", 2), ("n2", 1)]))), ["a"]);
        assert_eq!(names(signals.nodes(nodes(&[("n1", 2)]))), ["b"]);
        signals.forget(|service| service == "a");
        assert!(signals.nodes(nodes(&[])).is_empty());
        assert_eq!(signals.services_on.len(), 1);
    }
}
