//! How resources choose workloads.

use std::collections::BTreeMap;

use super::check::{Checker, text};
use super::error::shown;
use super::message::message;

message! {
    /// Workloads by label, as networking resources write it.
    pub struct WorkloadSelector [check_networking] {
        /// All of these; none is every workload of the namespace.
        labels: BTreeMap<String, String>,
    }

    /// Workloads by label, as security and telemetry resources and DestinationRules write it.
    pub struct LabelSelector [check_policy] {
        /// All of these; none is every workload.
        match_labels: BTreeMap<String, String>,
    }

    /// A resource that a policy is attached to.
    pub struct PolicyTargetReference [check_target] {
        /// API group; empty is the core one.
        group: String,
        /// Kind.
        kind: String,
        /// Name.
        name: String,
        /// Must be empty: the policy's own.
        namespace: String,
    }
}

impl WorkloadSelector {
    /// Whether a workload with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        contains(labels, &self.labels)
    }
}

impl LabelSelector {
    /// Whether a workload with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        contains(labels, &self.match_labels)
    }
}

fn contains(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn check_networking(selector: &WorkloadSelector, c: &mut Checker) {
    check_labels(c, "labels", &selector.labels, 256, "wildcard is not supported in selector");
}

fn check_policy(selector: &LabelSelector, c: &mut Checker) {
    check_labels(c, "match_labels", &selector.match_labels, 4096, "wildcard not allowed in label match");
}

fn check_labels(c: &mut Checker, field: &str, labels: &BTreeMap<String, String>, most: usize, wildcard: &str) {
    c.field(field, |c| {
        if labels.len() > most {
            c.problem(format!("it has more than {most} labels"));
        }
        for (key, value) in labels {
            c.key(key, |c| {
                if key.contains('*') || value.contains('*') {
                    return c.problem(format!("Invalid value: \"{}\": {wildcard}", shown(value)));
                }
                text::tell(c, text::label_key(key));
                text::tell(c, text::label_value(value));
            });
        }
    });
}

fn check_target(target: &PolicyTargetReference, c: &mut Checker) {
    c.required("kind", !target.kind.is_empty());
    c.required("name", !target.name.is_empty());
    if !target.group.is_empty() {
        c.field("group", |c| text::tell(c, text::object_name(&target.group)));
    }
    if !target.name.is_empty() {
        c.field("name", |c| text::tell(c, text::object_name(&target.name)));
    }
    if !target.namespace.is_empty() {
        c.wrong("namespace", "cross namespace referencing is not supported; leave it out");
    }
}

/// Either a selector or targets, for policies that can have both.
pub(crate) fn check_either(
    c: &mut Checker,
    selector: Option<&LabelSelector>,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    c.at_most_one(&[
        ("selector", selector.is_some()),
        ("targetRef", target.is_some()),
        ("targetRefs", !targets.is_empty()),
    ]);
    if targets.len() > 16 {
        c.wrong("target_refs", "it has more than 16 targets");
    }
}
