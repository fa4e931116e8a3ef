//! Deleting: at once, gracefully, held by finalizers, or not at all because it was only tried.

use serde_json::{Value, json};

use crate::after;
use crate::ask::Asked;
use crate::kinds::Place;
use crate::read::Chosen;
use crate::refusal::{Cause, Refusal};
use crate::reply::Reply;
use crate::server::{Found, Server};
use crate::store::{Entry, Store};
use crate::write::{now, yaml};

/// What a deletion says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) dry: bool,
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) foreground: bool,
}

impl Options {
    fn read(asked: &Asked) -> Result<Self, Refusal> {
        let mut options = Self::default();
        // A body is all that counts, if there is one: a query beside it is not looked at.
        if asked.body.is_empty() {
            options.dry = dry(asked.query.given("dryRun").into_iter().map(str::to_owned))?;
            options.grace = asked.query.given("gracePeriodSeconds").and_then(|s| s.parse().ok());
            options.foreground = asked.query.given("propagationPolicy") == Some("Foreground");
            return Ok(options);
        }
        let body = yaml(&asked.body).map_err(Refusal::bad_request)?;
        let text = |at: &str| body.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let each = body["dryRun"].as_array().into_iter().flatten().filter_map(|d| d.as_str().map(str::to_owned));
        options.dry = dry(each)?;
        options.grace = body["gracePeriodSeconds"].as_i64();
        options.uid = text("/preconditions/uid");
        options.version = text("/preconditions/resourceVersion");
        options.foreground = body["propagationPolicy"] == "Foreground";
        Ok(options)
    }
}

fn dry(mut given: impl Iterator<Item = String>) -> Result<bool, Refusal> {
    match given.next() {
        None => Ok(false),
        Some(all) if all == "All" => Ok(true),
        Some(other) => {
            let text = format!("Unsupported value: {other:?}: supported values: \"All\"");
            let cause = Cause::new("FieldValueNotSupported", "dryRun", text);
            Err(Refusal::invalid_as("meta.k8s.io", "DeleteOptions", "", &[cause]))
        }
    }
}

/// What became of an object.
pub(crate) enum Gone {
    /// It is no more; what it was last.
    Removed(Value),
    /// It is still there, on its way out.
    Ending(Value),
}

/// Deletes one object.
pub(crate) fn one(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    if found.sub.is_some() {
        return Err(Refusal::method_not_allowed());
    }
    let options = Options::read(asked)?;
    let name = found.name.clone().unwrap_or_default();
    let mut store = server.store();
    let place = &found.kind.place;
    let entry = store.get(place, found.namespace(), &name).ok_or_else(|| Refusal::not_found(place, &name))?;
    preconditions(found, &entry, &options)?;
    let shown = |object: &Value| {
        let mut object = object.clone();
        object["kind"] = found.kind.name.as_str().into();
        object["apiVersion"] = found.api_version().into();
        Reply::value(200, &object)
    };
    if options.dry {
        return Ok(success(found, &entry));
    }
    match begin(&mut store, found, &entry, &options) {
        Gone::Ending(object) => Ok(shown(&object)),
        Gone::Removed(object) if matches!(found.kind.name.as_str(), "Pod" | "ServiceAccount" | "Service") => {
            Ok(shown(&object))
        }
        Gone::Removed(_) => Ok(success(found, &entry)),
    }
}

fn success(found: &Found, entry: &Entry) -> Reply {
    let mut details = json!({"name": entry.name, "kind": found.kind.place.plural, "uid": entry.uid});
    if !found.kind.place.group.is_empty() {
        details["group"] = found.kind.place.group.as_str().into();
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Reply::value(200, &status)
}

fn preconditions(found: &Found, entry: &Entry, options: &Options) -> Result<(), Refusal> {
    // These two name the kind, not the resource.
    let place = &Place::new(&found.kind.place.group, &found.kind.name);
    if let Some(uid) = options.uid.as_ref().filter(|uid| **uid != entry.uid) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted \
             and then recreated",
            entry.uid
        );
        return Err(Refusal::conflict(place, &entry.name, &why));
    }
    if let Some(version) = options.version.as_ref().filter(|v| **v != entry.version.to_string()) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            entry.version
        );
        return Err(Refusal::conflict(place, &entry.name, &why));
    }
    Ok(())
}

/// Deletes, or marks as being deleted.
pub(crate) fn begin(store: &mut Store, found: &Found, entry: &Entry, options: &Options) -> Gone {
    let kind = &found.kind;
    let place = &kind.place;
    let mut object = entry.value();
    let ending = object.pointer("/metadata/deletionTimestamp").is_some();
    let held = !object.pointer("/metadata/finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if kind.name == "Pod" {
        return pod(store, found, entry, object, options, held);
    }
    let own = match kind.name.as_str() {
        "CustomResourceDefinition" => Some("customresourcecleanup.apiextensions.k8s.io"),
        _ if options.foreground => Some("foregroundDeletion"),
        _ => None,
    };
    if ending {
        return Gone::Ending(object);
    }
    if !held && own.is_none() && kind.name != "Namespace" {
        let removed = store.remove(place, &entry.namespace, &entry.name);
        return Gone::Removed(removed.map(|r| r.value()).unwrap_or(object));
    }
    object["metadata"]["deletionTimestamp"] = now().into();
    match kind.name.as_str() {
        "Namespace" => object["status"]["phase"] = "Terminating".into(),
        "CustomResourceDefinition" => {}
        _ => {
            object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            raise_generation(&mut object);
        }
    }
    if let Some(own) = own {
        let mut finalizers =
            object.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        finalizers.push(own.into());
        object["metadata"]["finalizers"] = finalizers.into();
    }
    let kept = store.put(place, &object);
    after::ending(store, kind, &kept);
    Gone::Ending(kept.value())
}

fn raise_generation(object: &mut Value) {
    if let Some(generation) = object.pointer("/metadata/generation").and_then(Value::as_i64) {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// A pod that runs somewhere ends when its node says so: with a grace of nothing.
fn pod(store: &mut Store, found: &Found, entry: &Entry, mut object: Value, options: &Options, held: bool) -> Gone {
    let place = &found.kind.place;
    let runs = object.pointer("/spec/nodeName").is_some_and(|n| n.as_str().is_some_and(|n| !n.is_empty()));
    let over = matches!(object.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"));
    let ending = object.pointer("/metadata/deletionTimestamp").is_some();
    let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    let grace = if runs && (!over || ending) { options.grace.unwrap_or(own).max(0) } else { 0 };
    let known = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    if ending && known.is_some_and(|k| grace >= k) && grace > 0 {
        return Gone::Ending(object);
    }
    if grace > 0 || held || ending {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        object["metadata"]["deletionTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if !ending {
            raise_generation(&mut object);
        }
        let kept = store.put(place, &object);
        if grace > 0 || held {
            return Gone::Ending(kept.value());
        }
    }
    let removed = store.remove(place, &entry.namespace, &entry.name);
    Gone::Removed(removed.map(|r| r.value()).unwrap_or(object))
}

/// Deletes all that is chosen.
pub(crate) fn all(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    let options = Options::read(asked)?;
    let chosen = Chosen::read(found, asked)?;
    let mut store = server.store();
    let entries = store.list(&found.kind.place, found.namespace.as_deref());
    let mut items = Vec::new();
    for entry in entries.iter().filter(|e| chosen.all() || chosen.fits(e)) {
        let mut object = entry.value();
        if !options.dry
            && let Gone::Ending(ending) = begin(&mut store, found, entry, &options)
        {
            object = ending;
        }
        if found.kind.custom {
            object["kind"] = found.kind.name.as_str().into();
            object["apiVersion"] = found.api_version().into();
        }
        items.push(object);
    }
    let mut metadata = json!({"resourceVersion": store.version().to_string()});
    if found.kind.custom {
        metadata["continue"] = "".into();
    }
    let list =
        json!({"kind": found.kind.list, "apiVersion": found.api_version(), "metadata": metadata, "items": items});
    Ok(Reply::value(200, &list))
}
