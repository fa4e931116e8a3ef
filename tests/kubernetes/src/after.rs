//! What follows from a write at once: definitions make kinds, namespaces get what every one has.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::delete::{self, Options};
use crate::kinds::{Kind, Place};
use crate::server::Found;
use crate::store::{Entry, Store};
use crate::write::now;

/// Something was created or changed.
pub(crate) fn kept(store: &mut Store, kind: &Kind, entry: &Arc<Entry>, created: bool) {
    match kind.name.as_str() {
        "CustomResourceDefinition" => define(store, kind, entry, created),
        "Namespace" if created => furnish(store, &entry.name),
        _ => {}
    }
}

/// Something is marked as being deleted.
pub(crate) fn ending(store: &mut Store, kind: &Kind, entry: &Arc<Entry>) {
    if kind.name == "CustomResourceDefinition" {
        end_kind(store, kind, entry);
    }
}

fn define(store: &mut Store, kind: &Kind, entry: &Arc<Entry>, created: bool) {
    let object = entry.value();
    let Ok(defined) = Kind::defined(&object) else { return };
    if !created {
        let known = store.kind(&defined.place);
        if known.is_none_or(|known| known.revision != defined.revision) {
            store.define(defined, false);
        }
        return;
    }
    let mut object = object;
    let stored: Vec<Value> = defined.versions.iter().filter(|v| v.storage).map(|v| v.name.as_str().into()).collect();
    object["status"] = json!({
        "conditions": [condition("NamesAccepted", "NoConflicts", "no conflicts found")],
        "acceptedNames": object.pointer("/spec/names"), "storedVersions": stored,
    });
    store.put(&kind.place, &object);
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        conditions.push(condition("Established", "InitialNamesAccepted", "the initial names have been accepted"));
    }
    store.put(&kind.place, &object);
    store.define(defined, true);
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": "True", "lastTransitionTime": now(), "reason": reason, "message": message})
}

/// The place of the kind that a definition makes.
pub(crate) fn place_of(definition: &Value) -> Place {
    let part = |at: &str| definition.pointer(at).and_then(Value::as_str).unwrap_or_default();
    Place::new(part("/spec/group"), part("/spec/names/plural"))
}

fn end_kind(store: &mut Store, kind: &Kind, entry: &Arc<Entry>) {
    let mut object = entry.value();
    let place = place_of(&object);
    store.mark_ending(&place);
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        conditions.push(condition(
            "Terminating",
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        ));
    }
    store.put(&kind.place, &object);
    let Some(ending) = store.kind(&place) else { return };
    let version = ending.storage().to_owned();
    let found = Found { kind: ending, version, namespace: None, name: None, sub: None };
    for entry in store.list(&place, None) {
        delete::begin(store, &found, &entry, &Options::default());
    }
}

/// What the controllers of every cluster put into a namespace.
pub(crate) fn furnish(store: &mut Store, namespace: &str) {
    let made = |kind: &str, name: &str| {
        json!({"kind": kind, "apiVersion": "v1", "metadata": {
            "name": name, "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now()}})
    };
    let account = Place::new("", "serviceaccounts");
    if store.get(&account, namespace, "default").is_none() {
        store.put(&account, &made("ServiceAccount", "default"));
    }
    let maps = Place::new("", "configmaps");
    if store.get(&maps, namespace, "kube-root-ca.crt").is_none() {
        let mut map = made("ConfigMap", "kube-root-ca.crt");
        map["data"] = json!({"ca.crt": ""});
        store.put(&maps, &map);
    }
}
