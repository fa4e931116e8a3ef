//! Namespaces: which count, and what they say of the pods in them. Nodes: where they are.

use std::collections::BTreeMap;

use hawser_api::istio::mesh_config::{LabelSelectorRequirement, MeshLabelSelector};
use hawser_mesh::Locality;

use crate::wire::Named;

/// Labels that say where something is.
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const SUB_ZONE: &str = "topology.istio.io/subzone";
/// Labels of namespaces and pods.
pub(super) const NETWORK: &str = "topology.istio.io/network";
pub(super) const DATAPLANE: &str = "istio.io/dataplane-mode";
/// Where pods are in an ambient mesh.
pub(super) const AMBIENT: &str = "ambient";

/// What is used of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) labels: BTreeMap<String, String>,
    /// It is being deleted.
    pub(super) ending: bool,
}

impl Namespace {
    pub(super) fn of(item: &Named) -> Self {
        Self { labels: item.metadata.labels.clone(), ending: item.metadata.deleting }
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Which namespaces are part of the mesh, by their labels: `discoverySelectors`. None means all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors {
    any: Vec<Selector>,
    /// Always is: its configuration counts for all.
    root: String,
}

/// A selector of labels; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Selector {
    labels: BTreeMap<String, String>,
    expressions: Vec<(String, Operator)>,
}

/// What is asked of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selectors {
    /// Of what the mesh's configuration says; `root` is always part of the mesh.
    pub(crate) fn new(said: &[MeshLabelSelector], root: &str) -> Self {
        let expression = |of: &LabelSelectorRequirement| {
            let operator = match of.operator.as_str() {
                "In" => Operator::In(of.values.clone()),
                "NotIn" => Operator::NotIn(of.values.clone()),
                "Exists" => Operator::Exists,
                _ => Operator::DoesNotExist,
            };
            (of.key.clone(), operator)
        };
        let selector = |of: &MeshLabelSelector| Selector {
            labels: of.match_labels.clone(),
            expressions: of.match_expressions.iter().map(expression).collect(),
        };
        Self { any: said.iter().map(selector).collect(), root: root.to_owned() }
    }

    /// Whether a namespace is part of the mesh.
    pub(crate) fn take(&self, labels: Option<&BTreeMap<String, String>>, name: &str) -> bool {
        let none = BTreeMap::new();
        self.any.is_empty() || name == self.root || self.any.iter().any(|s| s.takes(labels.unwrap_or(&none)))
    }
}

impl Selector {
    fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        let same = self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        same && self.expressions.iter().all(|(key, operator)| match (operator, labels.get(key)) {
            (Operator::In(values), value) => value.is_some_and(|value| values.contains(value)),
            (Operator::NotIn(values), value) => value.is_none_or(|value| !values.contains(value)),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
        })
    }
}

/// Where something with these labels is.
pub(super) fn locality_of(labels: &BTreeMap<String, String>) -> Locality {
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).cloned().unwrap_or_default();
    Locality { region: first(&REGION), zone: first(&ZONE), sub_zone: first(&[SUB_ZONE]) }
}
