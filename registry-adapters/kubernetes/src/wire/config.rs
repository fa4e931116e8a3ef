//! Istio's resources: whole but for what nobody reads.

use std::collections::BTreeMap;

use hawser_api::istio::{ParseError, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::meta::Writers;
use super::{Item, Meta};
use crate::name::Name;

/// A custom resource. What it says is checked when it becomes a [`Resource`]: every object can be read so far, so that
/// one that says nonsense holds up no other.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: ConfigMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default, rename = "status", deserialize_with = "conditions")]
    conditions: Vec<Value>,
}

/// What becomes the resource's metadata, and whose word it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigMeta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    generation: u64,
    creation_timestamp: String,
    labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
    #[serde(rename = "managedFields", deserialize_with = "super::meta::writers")]
    writers: Writers,
    #[serde(rename = "deletionTimestamp", deserialize_with = "super::meta::presence")]
    deleting: bool,
}

impl Config {
    /// Whether the object is our own word: written by us, or marked as ours.
    pub(crate) fn is_ours(&self) -> bool {
        Meta::ours(&self.metadata.annotations, self.metadata.writers)
    }

    /// Who wrote it.
    pub(crate) fn writers(&self) -> Writers {
        self.metadata.writers
    }

    /// Group and version that it was read in.
    pub(crate) fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Counts changes of what it says.
    pub(crate) fn generation(&self) -> u64 {
        self.metadata.generation
    }

    /// Its deletion was asked for.
    pub(crate) fn is_deleting(&self) -> bool {
        self.metadata.deleting
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key).map(String::as_str)
    }

    /// What it says.
    pub(crate) fn spec(&self) -> &Value {
        &self.spec
    }

    /// What was written down of how it is, by whomever.
    pub(crate) fn conditions(&self) -> &[Value] {
        &self.conditions
    }

    /// Its unique id.
    pub(crate) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// The resource, checked.
    pub(crate) fn resource(&self) -> Result<Resource, ParseError> {
        let meta = &self.metadata;
        let metadata = json!({
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "generation": meta.generation,
            "creationTimestamp": meta.creation_timestamp,
            "labels": meta.labels.clone().unwrap_or_default(),
            "annotations": meta.annotations,
        });
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), self.api_version.clone().into());
        object.insert("kind".to_owned(), self.kind.clone().into());
        object.insert("metadata".to_owned(), metadata);
        if !self.spec.is_null() {
            object.insert("spec".to_owned(), self.spec.clone());
        }
        Resource::from_json(&Value::Object(object))
    }
}

impl Item for Config {
    fn name(&self) -> Name {
        Name::new(&self.metadata.namespace, &self.metadata.name)
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// What `kubectl apply` keeps for itself: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    super::meta::some(deserializer, |key| key != LAST_APPLIED, usize::MAX)
}

/// Conditions of a status; of one that is none, none.
fn conditions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(mut status) => match status.remove("conditions") {
            Some(Value::Array(all)) => Ok(all),
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}
