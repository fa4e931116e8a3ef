//! Istio's resources: whole but for what nobody reads.

use std::collections::BTreeMap;

use hawser_api::istio::{ParseError, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

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
    #[serde(deserialize_with = "super::meta::managers")]
    managed_fields: Vec<super::meta::Manager>,
}

impl Config {
    /// Whether the object is our own word: written by us, or marked as ours.
    pub(crate) fn is_ours(&self) -> bool {
        Meta::ours(&self.metadata.annotations, &self.metadata.managed_fields)
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
