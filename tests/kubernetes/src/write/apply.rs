//! Applying: what somebody says of an object becomes part of it, and theirs.

use serde_json::{Value, json};

use super::{Writing, Written};
use crate::refusal::{Cause, Refusal};
use crate::{admit, managed};

impl Writing<'_> {
    pub(super) fn apply(&mut self, name: &str, mut said: Value, force: bool) -> Result<Written, Refusal> {
        let kind = self.found.kind.clone();
        let part = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        if part("kind").is_empty() || part("apiVersion").is_empty() {
            return Err(Refusal::bad_request(format!(
                "invalid object type: {}/, Kind={}",
                part("apiVersion"),
                part("kind")
            )));
        }
        self.right_kind(&said)?;
        if said.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        if let Some(schema) = self.shape().schema
            && let Some(first) = schema.prune(&mut said.clone()).first()
        {
            let (version, whose) = (self.found.api_version(), &kind.name);
            return Err(Refusal::internal(format!(
                "failed to create typed patch object (/{name}; {version}, Kind={whose}): .{first}: field not declared in \
                     schema"
            )));
        }
        let status = self.found.sub.as_deref() == Some("status");
        if let Some(map) = said.as_object_mut() {
            if status {
                map.retain(|key, _| matches!(key.as_str(), "status" | "metadata" | "kind" | "apiVersion"));
            } else if kind.has("status") {
                map.remove("status");
            }
        }
        let old = match self.old(name) {
            Ok(old) => old,
            Err(refusal) if status => return Err(refusal),
            Err(_) => return self.apply_new(name, said, force),
        };
        if let Some(uid) = said.pointer("/metadata/uid").filter(|uid| **uid != old["metadata"]["uid"]) {
            let cause = Cause::invalid("metadata.uid", uid, "field is immutable");
            return Err(Refusal::invalid(&kind, name, std::slice::from_ref(&cause)).because_again(&cause));
        }
        self.same_object(&old, &said)?;
        let shape = self.shape();
        let mut object = managed::applied(&shape, &old, &said, &self.manager, force)?;
        self.protect(&old, &mut object);
        let managed = object.pointer("/metadata/managedFields").cloned();
        self.check(&mut object, Some(&old))?;
        if let (Some(managed), Some(metadata)) = (managed, admit::metadata_of(&mut object)) {
            metadata.insert("managedFields".to_owned(), managed);
        }
        self.replace(&old, object)
    }

    fn apply_new(&mut self, name: &str, said: Value, force: bool) -> Result<Written, Refusal> {
        let place = &self.found.kind.place;
        if let Some(uid) = said.pointer("/metadata/uid").and_then(Value::as_str) {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Refusal::conflict(place, name, &why));
        }
        let empty = json!({"kind": said["kind"], "apiVersion": said["apiVersion"], "metadata": {"name": name}});
        let shape = self.shape();
        let mut object = managed::applied(&shape, &empty, &said, &self.manager, force)?;
        object["metadata"]["name"] = name.into();
        let managed = object.pointer("/metadata/managedFields").cloned();
        // Made as by a create, but not kept yet: its managed fields are those of the apply.
        let dry = std::mem::replace(&mut self.dry, true);
        let made = self.create(object);
        self.dry = dry;
        let mut object = made?.object;
        if let (Some(managed), Some(metadata)) = (managed, admit::metadata_of(&mut object)) {
            metadata.insert("managedFields".to_owned(), managed);
        }
        Ok(self.keep(201, object))
    }
}
