//! AuthorizationPolicy and RequestAuthentication: which of them are about a workload.
//!
//! In: policies of the root namespace and of others. Out: those that a workload is held to. Invariant: a policy that can't
//! be enforced as it is written is among them, marked: whoever compiles it refuses all that it is about.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hawser_api::istio::{ObjectRef, PolicyTargetReference, Resource, Spec, honoured};
use parking_lot::Mutex;

use super::Named;
use crate::keys::Origin;
use crate::registry::merge::selects;

/// What a workload is held to.
#[derive(Debug, Default)]
pub struct Security {
    /// AuthorizationPolicies, by name; those of the root namespace among them.
    pub authorization: Vec<Named>,
    /// RequestAuthentications: those of the root namespace first.
    pub tokens: Vec<Named>,
    /// Those of them that can't be enforced as they are written.
    pub unenforceable: Vec<ObjectRef>,
}

impl PartialEq for Security {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &[Named], b: &[Named]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && (Arc::ptr_eq(&a.1, &b.1) || a.1 == b.1))
        };
        same(&self.authorization, &other.authorization) && same(&self.tokens, &other.tokens)
    }
}

/// All such policies.
#[derive(Debug, Default)]
pub(super) struct SecurityRules {
    root: Vec<Entry>,
    namespaces: HashMap<String, Vec<Entry>>,
    /// Equal lists are one value: there are many workloads and few policies.
    known: Mutex<BTreeMap<Vec<ObjectRef>, Arc<Security>>>,
}

#[derive(Debug)]
struct Entry {
    named: Named,
    enforceable: bool,
}

impl SecurityRules {
    pub(super) fn add(&mut self, named: Named, root: &str) {
        if is_attached(&named.1) {
            // To what is no workload.
            return;
        }
        let enforceable = honoured(&named.1).refuse.is_none();
        let namespace = named.0.namespace.clone();
        let list = if namespace == root { &mut self.root } else { self.namespaces.entry(namespace).or_default() };
        list.push(Entry { named, enforceable });
    }

    pub(super) fn sort(&mut self) {
        for list in self.namespaces.values_mut().chain([&mut self.root]) {
            list.sort_by(|a, b| a.named.0.cmp(&b.named.0));
        }
    }

    pub(super) fn key_origins(&self) -> BTreeMap<Origin, Option<Duration>> {
        let mut all = BTreeMap::new();
        for entry in self.namespaces.values().flatten().chain(&self.root) {
            let Spec::RequestAuthentication(policy) = &entry.named.1.spec else { continue };
            for rule in &policy.jwt_rules {
                let timeout = rule.timeout.map(|t| t.get());
                let Some(origin) = Origin::of(rule) else { continue };
                let known = all.entry(origin).or_insert(timeout);
                *known = (*known).max(timeout);
            }
        }
        all
    }

    /// What a workload of a namespace with these labels is held to.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Arc<Security> {
        let chosen = |entry: &&Entry| selector(&entry.named.1).is_none_or(|wanted| selects(wanted, labels));
        let own = self.namespaces.get(namespace).into_iter().flatten();
        let all: Vec<&Entry> = self.root.iter().chain(own).filter(chosen).collect();
        let names: Vec<ObjectRef> = all.iter().map(|entry| entry.named.0.clone()).collect();
        let make = |names: &Vec<ObjectRef>| {
            if names.is_empty() {
                return Arc::default();
            }
            let mut security = Security::default();
            for entry in all {
                match &entry.named.1.spec {
                    Spec::AuthorizationPolicy(_) => security.authorization.push(entry.named.clone()),
                    _ => security.tokens.push(entry.named.clone()),
                }
                if !entry.enforceable {
                    security.unenforceable.push(entry.named.0.clone());
                }
            }
            Arc::new(security)
        };
        self.known.lock().entry(names).or_insert_with_key(make).clone()
    }
}

fn selector(resource: &Resource) -> Option<&BTreeMap<String, String>> {
    match &resource.spec {
        Spec::AuthorizationPolicy(policy) => policy.selector.as_ref(),
        Spec::RequestAuthentication(policy) => policy.selector.as_ref(),
        _ => None,
    }
    .map(|selector| &selector.match_labels)
}

fn is_attached(resource: &Resource) -> bool {
    let any = |one: &Option<PolicyTargetReference>, all: &[PolicyTargetReference]| one.is_some() || !all.is_empty();
    match &resource.spec {
        Spec::AuthorizationPolicy(policy) => any(&policy.target_ref, &policy.target_refs),
        Spec::RequestAuthentication(policy) => any(&policy.target_ref, &policy.target_refs),
        _ => false,
    }
}
