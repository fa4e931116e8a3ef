//! An object's metadata, as Kubernetes has it.

use std::collections::BTreeMap;

use super::check::{Checker, text};
use super::message::message;

message! {
    /// Name, labels and what else is said of an object. What Kubernetes alone needs is read and dropped.
    pub struct ObjectMeta [check_metadata] {
        /// Unique for its kind and namespace.
        name: String,
        /// Namespace; `default` if the document says none and the reader of it knows no other.
        namespace: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
        /// Unique over time, where a registry gives one.
        uid: String,
        /// The registry's version of the object.
        resource_version: String,
        /// Counts changes of the spec.
        generation: u64,
        /// When it was made, RFC 3339; of two policies that say different things, the older counts.
        creation_timestamp: String,
        /// When its deletion was asked for.
        deletion_timestamp: String,
        /// Time it is given to go.
        #[serde(skip_serializing)]
        deletion_grace_period_seconds: Option<i64>,
        /// Dropped.
        #[serde(skip_serializing)]
        generate_name: String,
        /// Dropped.
        #[serde(skip_serializing)]
        self_link: String,
        /// Dropped.
        #[serde(skip_serializing)]
        finalizers: Vec<String>,
        /// Dropped.
        #[serde(skip_serializing)]
        owner_references: Vec<serde_json::Value>,
        /// Dropped.
        #[serde(skip_serializing)]
        managed_fields: Vec<serde_json::Value>,
    }
}

fn check_metadata(metadata: &ObjectMeta, c: &mut Checker) {
    c.required("name", !metadata.name.is_empty());
    if !metadata.name.is_empty() {
        c.field("name", |c| text::tell(c, text::object_name(&metadata.name)));
    }
    if !metadata.namespace.is_empty() {
        c.field("namespace", |c| text::tell(c, text::label(&metadata.namespace)));
    }
    text::labels(c, "labels", &metadata.labels);
    c.field("annotations", |c| {
        if metadata.annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > 256 << 10 {
            c.problem("annotations have at most 256 KiB together");
        }
        for key in metadata.annotations.keys() {
            c.key(key, |c| text::tell(c, text::label_key(&key.to_ascii_lowercase())));
        }
    });
}
