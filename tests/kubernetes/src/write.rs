//! Writing: create, update, patch and apply, of objects and of their status.
//!
//! In: a body, or a patch onto what is there. Out: the object as it is kept, or a refusal that changes nothing.

use std::sync::MutexGuard;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admit;
use crate::ask::{Asked, Want};
use crate::fields::Shape;
use crate::managed::{self, Manager};
use crate::refusal::{Cause, Refusal};
use crate::reply::{Reply, form};
use crate::server::{Found, Server, locked};
use crate::store::{Entry, Store};
use crate::{after, patch as patches};

mod apply;
mod body;

use body::json_body;
pub(crate) use body::{body, yaml};

/// A write that is under way.
pub(crate) struct Writing<'a> {
    pub(crate) server: &'a Server,
    pub(crate) store: MutexGuard<'a, Store>,
    pub(crate) found: &'a Found,
    manager: Manager,
    dry: bool,
    validation: String,
    warnings: Vec<String>,
}

/// What a write comes to.
pub(crate) struct Written {
    code: u16,
    object: Value,
    version: Option<u64>,
}

/// Now, as objects have it.
pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn create(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    if found.sub.as_deref() == Some("token") {
        return crate::reviews::token_request(server, found, asked);
    }
    if found.sub.is_some() || (found.name.is_some() && !found.kind.custom) {
        return Err(Refusal::method_not_allowed());
    }
    let want = asked.want()?;
    let object = body(asked, found)?;
    let mut writing = Writing::begin(server, found, asked, "CreateOptions")?;
    let written = writing.create(object)?;
    Ok(writing.reply(written, want))
}

pub(crate) fn update(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    let Some(name) = &found.name else {
        return Err(if found.kind.custom {
            Refusal::bad_request("name must be provided")
        } else {
            Refusal::method_not_allowed()
        });
    };
    let want = asked.want()?;
    let object = body(asked, found)?;
    let given = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if given != name {
        let text = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(Refusal::bad_request(text));
    }
    let mut writing = Writing::begin(server, found, asked, "UpdateOptions")?;
    let old = writing.old(name)?;
    if object.pointer("/metadata/resourceVersion").and_then(Value::as_str).is_none_or(str::is_empty)
        && found.kind.custom
    {
        let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        return Err(Refusal::invalid_as(&found.kind.place.group, &found.kind.place.plural, name, &[cause]));
    }
    let written = writing.update(&old, object)?;
    Ok(writing.reply(written, want))
}

pub(crate) fn patch(server: &Server, found: &Found, asked: &Asked) -> Result<Reply, Refusal> {
    let Some(name) = &found.name else { return Err(Refusal::method_not_allowed()) };
    let want = asked.want()?;
    let mut writing = Writing::begin(server, found, asked, "PatchOptions")?;
    let written = match asked.content_type() {
        "application/merge-patch+json" => {
            let change = json_body(asked)?;
            let old = writing.old(name)?;
            let mut object = writing.whole(&old);
            patches::merge(&mut object, &change);
            writing.patched(&old, object)?
        }
        // For what tests send, a strategic patch is a merge: whoever patches lists by their keys should apply.
        "application/strategic-merge-patch+json" if !found.kind.custom => {
            let change = json_body(asked)?;
            let old = writing.old(name)?;
            let mut object = writing.whole(&old);
            patches::merge(&mut object, &change);
            writing.patched(&old, object)?
        }
        "application/json-patch+json" => {
            let operations = json_body(asked)?;
            let old = writing.old(name)?;
            let operations = operations.as_array().ok_or_else(Refusal::patch_failed)?;
            let object = patches::operations(&writing.whole(&old), operations).ok_or_else(Refusal::patch_failed)?;
            writing.patched(&old, object)?
        }
        "application/apply-patch+yaml" => {
            if asked.query.given("fieldManager").is_none() {
                let cause = Cause::required("fieldManager", "is required for apply patch");
                return Err(Refusal::invalid_as("meta.k8s.io", "PatchOptions", "", &[cause]));
            }
            let said = yaml(&asked.body).map_err(Refusal::bad_request)?;
            writing.apply(name, said, asked.query.flag("force") && asked.query.get("force").is_some())?
        }
        _ => {
            let own = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            let built_in = "application/json-patch+json, application/merge-patch+json, \
                            application/strategic-merge-patch+json, application/apply-patch+yaml";
            return Err(Refusal::unsupported_media(if found.kind.custom { own } else { built_in }));
        }
    };
    Ok(writing.reply(written, want))
}

impl<'a> Writing<'a> {
    /// # Errors
    /// If the options are not good.
    pub(crate) fn begin(server: &'a Server, found: &'a Found, asked: &Asked, options: &str) -> Result<Self, Refusal> {
        let dry = asked.query.given("dryRun");
        if let Some(other) = dry.filter(|d| *d != "All") {
            let text = format!("Unsupported value: [{other:?}]: supported values: \"All\"");
            let cause = Cause::new("FieldValueNotSupported", "dryRun", text);
            return Err(Refusal::invalid_as("meta.k8s.io", options, "", &[cause]));
        }
        let manager = Manager {
            name: asked.manager(),
            api_version: found.api_version(),
            subresource: found.sub.clone().unwrap_or_default(),
            time: now(),
        };
        Ok(Self {
            server,
            store: server.store(),
            found,
            manager,
            dry: dry.is_some(),
            validation: asked.query.given("fieldValidation").unwrap_or("Warn").to_owned(),
            warnings: Vec::new(),
        })
    }

    /// For the server's own writes.
    pub(crate) fn own(server: &'a Server, store: MutexGuard<'a, Store>, found: &'a Found, name: &str) -> Self {
        let manager = Manager {
            name: name.to_owned(),
            api_version: found.api_version(),
            subresource: found.sub.clone().unwrap_or_default(),
            time: now(),
        };
        Self { server, store, found, manager, dry: false, validation: "Ignore".to_owned(), warnings: Vec::new() }
    }

    /// Makes an object, or replaces it; gives the store back.
    pub(crate) fn upsert(mut self, name: &str, mut object: Value) -> Result<(MutexGuard<'a, Store>, Value), Refusal> {
        let written = match self.old(name) {
            Ok(old) => {
                if let Some(metadata) = admit::metadata_of(&mut object) {
                    for given in ["resourceVersion", "uid", "managedFields"] {
                        metadata.remove(given);
                    }
                }
                self.update(&old, object)?
            }
            Err(_) => self.create(object)?,
        };
        Ok((self.store, written.object))
    }

    fn reply(self, written: Written, want: Want) -> Reply {
        let mut object = written.object;
        let mut entry = Entry::new(&object, written.version.unwrap_or_default());
        if written.version.is_none() {
            if let Some(metadata) = admit::metadata_of(&mut object) {
                metadata.remove("resourceVersion");
            }
            entry = Entry::unversioned(&object);
        }
        let mut out = Vec::new();
        entry.write(&form(self.found, want), &mut out);
        Reply::json(written.code, out).warned(&self.warnings)
    }

    fn shape(&self) -> Shape<'a> {
        let version = self.found.kind.version(&self.found.version);
        Shape { kind: &self.found.kind, schema: version.and_then(|v| v.schema.as_deref()) }
    }

    fn old(&self, name: &str) -> Result<Value, Refusal> {
        let place = &self.found.kind.place;
        let entry = self.store.get(place, self.found.namespace(), name);
        entry.map(|e| e.value()).ok_or_else(|| Refusal::not_found(place, name))
    }

    /// An object with its kind and version, as patches see it.
    fn whole(&self, old: &Value) -> Value {
        let mut object = old.clone();
        object["kind"] = self.found.kind.name.as_str().into();
        object["apiVersion"] = self.found.api_version().into();
        object
    }

    /// Keeps a new object.
    pub(crate) fn create(&mut self, mut object: Value) -> Result<Written, Refusal> {
        let kind = &self.found.kind;
        let place = &kind.place;
        self.right_kind(&object)?;
        let namespace = self.found.namespace().to_owned();
        let Some(metadata) = admit::metadata_of(&mut object) else { return Err(Refusal::patch_failed()) };
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if !text("namespace").is_empty() && text("namespace") != namespace && kind.namespaced {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::bad_request(why));
        }
        if !matches!(text("resourceVersion").as_str(), "" | "0") {
            return Err(Refusal::internal("resourceVersion should not be set on objects to be created"));
        }
        let mut name = text("name");
        if name.is_empty() && !text("generateName").is_empty() {
            name = format!("{}{}", text("generateName"), suffix());
        }
        if kind.namespaced && namespace.is_empty() {
            return Err(Refusal::bad_request("an empty namespace may not be set during creation"));
        }
        metadata.insert("name".to_owned(), name.clone().into());
        if kind.namespaced {
            metadata.insert("namespace".to_owned(), namespace.clone().into());
        } else {
            metadata.remove("namespace");
        }
        for fresh in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"] {
            metadata.remove(fresh);
        }
        self.may_create(&namespace, &name)?;
        admit::without_status(kind, &mut object);
        self.check(&mut object, None)?;
        if let Some(there) = self.store.get(place, &namespace, &name) {
            let ending = there.metadata().get("deletionTimestamp").is_some();
            return Err(Refusal::already_exists(place, &name, ending));
        }
        let (uid, time) = (uuid::Uuid::new_v4().to_string(), self.manager.time.clone());
        self.note(&kind.empty(), &mut object);
        if let Some(metadata) = admit::metadata_of(&mut object) {
            metadata.insert("uid".to_owned(), uid.into());
            metadata.insert("creationTimestamp".to_owned(), time.into());
            if kind.generations {
                metadata.insert("generation".to_owned(), 1.into());
            }
        }
        Ok(self.keep(201, object))
    }

    fn right_kind(&self, object: &Value) -> Result<(), Refusal> {
        let kind = &self.found.kind;
        let given = object["kind"].as_str().unwrap_or_default();
        if kind.custom && !given.is_empty() && given != kind.name {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let mut causes = vec![Cause::invalid("kind", &json!(given), &format!("must be {}", kind.name))];
            if let Some(schema) = self.shape().schema {
                causes.extend(schema.faults(object));
            }
            return Err(Refusal::invalid_as(&kind.place.group, given, name, &causes));
        }
        if !kind.custom && !given.is_empty() && given != kind.name {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let text = format!("{given} in version \"{version}\" cannot be handled as a {}", kind.name);
            return Err(Refusal::bad_request(text));
        }
        Ok(())
    }

    fn may_create(&self, namespace: &str, name: &str) -> Result<(), Refusal> {
        let kind = &self.found.kind;
        if kind.ending {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Refusal::forbidden(&kind.place, Some(name), why));
        }
        if !kind.namespaced {
            return Ok(());
        }
        let spaces = crate::kinds::Place::new("", "namespaces");
        let space = self.store.get(&spaces, "", namespace).ok_or_else(|| Refusal::not_found(&spaces, namespace))?;
        if space.metadata().get("deletionTimestamp").is_some() {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let cause = Cause::new(
                "NamespaceTerminating",
                "metadata.namespace",
                format!("namespace {namespace} is being terminated"),
            );
            return Err(Refusal::forbidden(&kind.place, Some(name), &why).because(&cause));
        }
        Ok(())
    }

    /// Fills in what is missing and looks for faults.
    fn check(&mut self, object: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
        let kind = self.found.kind.clone();
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (mut causes, warnings) = admit::metadata(object);
        let hard = kind.custom && causes.iter().any(|c| matches!(c.reason, "FieldValueRequired" | "FieldValueTooLong"));
        if old.is_none() || warnings.is_empty() {
            self.warnings.extend(warnings);
        }
        if let Some(schema) = self.shape().schema {
            let unknown = schema.prune(object);
            self.unknown_fields(&unknown)?;
            schema.default(object);
            causes.extend(schema.faults(object));
            if hard && schema.has_rules() && !causes.iter().any(|c| c.field == "<nil>") {
                causes.push(Cause::not_all_checked());
            }
        } else {
            admit::default(&kind, object, old, &mut locked(&self.server.addresses));
            let (more, warnings) = admit::faults(&kind, object, old);
            causes.extend(more);
            self.warnings.extend(warnings);
        }
        admit::tidy(object);
        if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(&kind, &name, &causes)) }
    }

    fn unknown_fields(&mut self, unknown: &[String]) -> Result<(), Refusal> {
        let each: Vec<String> = unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
        match self.validation.as_str() {
            "Ignore" => {}
            "Strict" if !unknown.is_empty() => {
                let (kind, version) = (&self.found.kind.name, &self.found.version);
                let text = format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
                    each.join(", ")
                );
                return Err(Refusal::bad_request(text));
            }
            _ => self.warnings.extend(each),
        }
        Ok(())
    }

    /// Notes in the managed fields who wrote.
    fn note(&self, before: &Value, object: &mut Value) {
        let shape = self.shape();
        let mut seen = object.clone();
        let mut was = before.clone();
        hide(self.found, &mut seen, &mut was);
        managed::updated(&shape, &was, &mut seen, &self.manager);
        let list = seen.pointer("/metadata/managedFields").cloned();
        if let Some(metadata) = admit::metadata_of(object) {
            match list {
                Some(list) => metadata.insert("managedFields".to_owned(), list),
                None => metadata.remove("managedFields"),
            };
        }
    }

    fn patched(&mut self, old: &Value, object: Value) -> Result<Written, Refusal> {
        if self.found.kind.name == "Lease"
            && let Some(time) = admit::bad_micro_time(&object)
        {
            return Err(bad_lease(&object, &time));
        }
        self.update(old, object)
    }

    /// Replaces an object, or its status.
    fn update(&mut self, old: &Value, mut object: Value) -> Result<Written, Refusal> {
        self.right_kind(&object)?;
        self.same_object(old, &object)?;
        self.protect(old, &mut object);
        self.check(&mut object, Some(old))?;
        let name = old.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if old.pointer("/metadata/deletionTimestamp").is_some() {
            self.no_new_finalizers(old, &object, &name)?;
        }
        self.note(old, &mut object);
        self.replace(old, object)
    }

    fn same_object(&self, old: &Value, object: &Value) -> Result<(), Refusal> {
        let place = &self.found.kind.place;
        let text = |o: &Value, key: &str| o["metadata"][key].as_str().unwrap_or_default().to_owned();
        let (name, uid, given) = (text(old, "name"), text(old, "uid"), text(object, "uid"));
        if !given.is_empty() && given != uid {
            let group = if place.group.is_empty() { String::new() } else { format!("{}/", place.group) };
            let whose = if self.found.kind.namespaced { format!("{}/", text(old, "namespace")) } else { String::new() };
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry/{group}{}/{whose}{name}, ResourceVersion: 0, \
                 AdditionalErrorMsg: Precondition failed: UID in precondition: {given}, UID in object meta: {uid}",
                place.plural
            );
            return Err(Refusal::conflict(place, &name, &why));
        }
        let version = text(object, "resourceVersion");
        if !version.is_empty() && version != text(old, "resourceVersion") {
            return Err(Refusal::modified(place, &name));
        }
        Ok(())
    }

    /// Keeps what this write may not change.
    fn protect(&self, old: &Value, object: &mut Value) {
        let kind = &self.found.kind;
        let status = self.found.sub.as_deref() == Some("status");
        if status {
            let given = object.get("status").cloned();
            let managed = object.pointer("/metadata/managedFields").cloned();
            let mut kept = old.clone();
            match given {
                Some(given) => kept["status"] = given,
                None => drop(kept.as_object_mut().map(|map| map.remove("status"))),
            }
            if let (Some(managed), Some(metadata)) = (managed, admit::metadata_of(&mut kept)) {
                metadata.insert("managedFields".to_owned(), managed);
            }
            *object = kept;
        } else if kind.has("status") {
            match old.get("status") {
                Some(was) => object["status"] = was.clone(),
                None => drop(object.as_object_mut().map(|map| map.remove("status"))),
            }
        }
        let Some(metadata) = admit::metadata_of(object) else { return };
        for key in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "name",
            "namespace",
            "generateName",
            "resourceVersion",
        ] {
            match old["metadata"].get(key) {
                Some(was) => metadata.insert(key.to_owned(), was.clone()),
                None => metadata.remove(key),
            };
        }
    }

    fn no_new_finalizers(&self, old: &Value, object: &Value, name: &str) -> Result<(), Refusal> {
        let none = Vec::new();
        let list =
            |o: &'_ Value| o.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or(none.clone());
        let (was, is) = (list(old), list(object));
        let new: Vec<&Value> = is.iter().filter(|f| !was.contains(f)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = new.iter().map(|f| f.as_str().unwrap_or_default().to_owned()).collect();
        let text = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            shown.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ")
        );
        let cause = Cause::new("FieldValueForbidden", "metadata.finalizers", text);
        // The real server looks twice, and says so in its list of causes.
        Err(Refusal::invalid(&self.found.kind, name, std::slice::from_ref(&cause)).because_again(&cause))
    }

    /// Puts an object in the place of the old one, if anything changed.
    fn replace(&mut self, old: &Value, mut object: Value) -> Result<Written, Refusal> {
        let kind = &self.found.kind;
        for key in ["kind", "apiVersion"] {
            object.as_object_mut().map(|map| map.remove(key));
        }
        let bare = |value: &Value| {
            let mut value = value.clone();
            admit::metadata_of(&mut value).map(|m| m.remove("managedFields"));
            value
        };
        let owners = |value: &Value| crate::managed::without_times(value);
        if bare(old) == bare(&object) && owners(old) == owners(&object) {
            let version = old.pointer("/metadata/resourceVersion").and_then(Value::as_str).and_then(|v| v.parse().ok());
            return Ok(Written { code: 200, object: old.clone(), version });
        }
        if kind.generations && self.found.sub.is_none() && content(old) != content(&object) {
            let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) + 1;
            object["metadata"]["generation"] = generation.into();
        }
        let ends = object.pointer("/metadata/deletionTimestamp").is_some()
            && object.pointer("/metadata/finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty)
            && !matches!(kind.name.as_str(), "Namespace" | "Pod");
        if ends && !self.dry {
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            let removed = self.store.remove(&kind.place, &text("namespace"), &text("name"));
            let version = removed.map(|r| r.version);
            return Ok(Written { code: 200, object, version });
        }
        Ok(self.keep(200, object))
    }

    fn keep(&mut self, code: u16, mut object: Value) -> Written {
        for key in ["kind", "apiVersion"] {
            object.as_object_mut().map(|map| map.remove(key));
        }
        if self.dry {
            let version =
                object.pointer("/metadata/resourceVersion").and_then(Value::as_str).and_then(|v| v.parse().ok());
            return Written { code, object, version };
        }
        let entry = self.store.put(&self.found.kind.place, &object);
        after::kept(&mut self.store, &self.found.kind, &entry, code == 201);
        Written { code, object: entry.value(), version: Some(entry.version) }
    }
}

/// All but metadata and status: what a generation counts.
fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.retain(|key, _| !matches!(key.as_str(), "metadata" | "status" | "kind" | "apiVersion"));
    }
    object
}

/// Takes out of a comparison what this kind of write does not own.
fn hide(found: &Found, seen: &mut Value, was: &mut Value) {
    let kind = &found.kind;
    for object in [seen, was] {
        let Some(map) = object.as_object_mut() else { continue };
        if found.sub.as_deref() == Some("status") {
            map.retain(|key, _| matches!(key.as_str(), "status" | "metadata"));
            continue;
        }
        if kind.has("status") && kind.name != "Node" {
            map.remove("status");
        }
        let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else { continue };
        let given: &[&str] = match kind.name.as_str() {
            "Service" => &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"],
            "Namespace" => &["finalizers"],
            "Pod" => &["tolerations", "priority", "preemptionPolicy", "serviceAccount"],
            _ => &[],
        };
        for key in given {
            spec.remove(*key);
        }
    }
}

fn bad_lease(object: &Value, time: &str) -> Refusal {
    let shown = object.to_string();
    let shown = Value::from(shown);
    let text = format!("parsing time \"{time}\" as \"2006-01-02T15:04:05.000000Z07:00\"");
    let cause = Cause::new("FieldValueInvalid", "patch", format!("Invalid value: {shown}: {text}"));
    Refusal::invalid_as("", "", "", &[cause])
}

/// What is put behind a `generateName`.
pub(crate) fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes: [u8; 5] = rand::random();
    bytes.iter().filter_map(|b| LETTERS.get(usize::from(*b) % LETTERS.len())).map(|b| char::from(*b)).collect()
}
