//! Managed fields: who last wrote what, and applying by several.
//!
//! In: an object before and after a write, or what somebody applies. Out: the object with its `managedFields`, or the
//! conflicts. Times are given by the caller.

use serde_json::{Map, Value, json};

use crate::fields::{self, ListOf, Paths, Shape, Step};
use crate::refusal::Refusal;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: String,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
struct Owner {
    manager: Manager,
    applies: bool,
    paths: Paths,
}

impl Owner {
    fn is(&self, manager: &Manager, applies: bool) -> bool {
        self.applies == applies
            && self.manager.name == manager.name
            && self.manager.api_version == manager.api_version
            && self.manager.subresource == manager.subresource
    }

    /// As conflicts name it.
    fn shown(&self) -> String {
        if self.applies {
            return format!("\"{}\"", self.manager.name);
        }
        let sub = &self.manager.subresource;
        let with = if sub.is_empty() { String::new() } else { format!(" with subresource \"{sub}\"") };
        format!("\"{}\"{with} using {}", self.manager.name, self.manager.api_version)
    }
}

/// Notes who wrote, after a create, an update or a patch. `before` is the empty object for what is new.
pub(crate) fn updated(shape: &Shape<'_>, before: &Value, object: &mut Value, manager: &Manager) {
    let (came, went) = fields::differences(shape, before, object);
    let given = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    // An object sent without its list keeps what was known; with an empty list, all is forgotten.
    let kept = before.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut owners = match given {
        Some(list) if list.is_empty() => Vec::new(),
        Some(list) => read(list),
        None => read(kept.map_or(&[], Vec::as_slice)),
    };
    if !came.is_empty() || !went.is_empty() {
        for owner in &mut owners {
            let mine = owner.is(manager, false);
            owner.paths.retain(|path| !went.contains(path) && (mine || !came.contains(path)));
        }
        match owners.iter_mut().find(|o| o.is(manager, false)) {
            Some(mine) => {
                mine.paths.extend(came);
                mine.manager.time.clone_from(&manager.time);
            }
            None => owners.push(Owner { manager: manager.clone(), applies: false, paths: came }),
        }
    }
    write(object, owners);
}

/// Applies what somebody says onto what is there.
pub(crate) fn applied(
    shape: &Shape<'_>,
    live: &Value,
    said: &Value,
    manager: &Manager,
    force: bool,
) -> Result<Value, Refusal> {
    let paths = fields::said(shape, said);
    let kept = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut owners = read(kept.map_or(&[], Vec::as_slice));
    let mut object = live.clone();
    overlay(shape, &mut object, said, &mut Vec::new());
    let changed = |path: &fields::Path| fields::at(shape, live, path) != fields::at(shape, &object, path);
    let mut conflicts = Vec::new();
    for owner in owners.iter().filter(|o| !o.is(manager, true)) {
        let taken = paths.iter().filter(|p| owner.paths.contains(*p) && changed(p) && is_leaf(&paths, p));
        conflicts.extend(taken.map(|path| (owner.shown(), fields::shown(path))));
    }
    if !conflicts.is_empty() && !force {
        return Err(Refusal::field_conflicts(&conflicts));
    }
    let lost: Paths = paths.iter().filter(|p| changed(p) && is_leaf(&paths, p)).cloned().collect();
    let before = owners.iter().find(|o| o.is(manager, true)).map(|o| o.paths.clone()).unwrap_or_default();
    for owner in owners.iter_mut().filter(|o| !o.is(manager, true)) {
        owner.paths.retain(|path| !lost.contains(path));
    }
    // What was said before, is not said now, and is nobody else's goes.
    for path in before.iter().rev().filter(|p| !paths.contains(*p)) {
        let others = owners.iter().filter(|o| !o.is(manager, true));
        let wanted = others.flat_map(|o| o.paths.iter()).any(|p| p.starts_with(path));
        if !wanted && !paths.iter().any(|p| p.starts_with(path)) {
            fields::take_out(shape, &mut object, path);
            take_out_empty(shape, &mut object, path, &paths, &owners);
        }
    }
    match owners.iter_mut().find(|o| o.is(manager, true)) {
        Some(mine) if mine.paths == paths => {}
        Some(mine) => {
            mine.paths = paths;
            mine.manager.time.clone_from(&manager.time);
        }
        None => owners.push(Owner { manager: manager.clone(), applies: true, paths }),
    }
    write(&mut object, owners);
    Ok(object)
}

/// Takes out what is empty now, if nobody said that it is to be there.
fn take_out_empty(shape: &Shape<'_>, object: &mut Value, path: &fields::Path, said: &Paths, owners: &[Owner]) {
    let Some((_, parent)) = path.split_last().filter(|(_, parent)| parent.len() > 1) else { return };
    let parent = parent.to_vec();
    let empty = fields::at(shape, object, &parent).is_some_and(|v| match v {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    });
    if empty && !said.contains(&parent) && !owners.iter().any(|o| o.paths.contains(&parent)) {
        fields::take_out(shape, object, &parent);
        take_out_empty(shape, object, &parent, said, owners);
    }
}

fn is_leaf(paths: &Paths, path: &fields::Path) -> bool {
    !paths.range(path.clone()..).nth(1).is_some_and(|next| next.len() > path.len() && next.starts_with(path))
}

fn overlay(shape: &Shape<'_>, target: &mut Value, said: &Value, path: &mut fields::Path) {
    match said {
        Value::Object(map) if !shape.atomic_map(path) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Some(into) = target.as_object_mut() else { return };
            for (key, value) in map {
                path.push(Step::Field(key.clone()));
                overlay(shape, into.entry(key.clone()).or_insert(Value::Null), value, path);
                path.pop();
            }
        }
        Value::Array(items) if shape.list(path) != ListOf::Atomic => {
            let of = shape.list(path);
            if !target.is_array() {
                *target = json!([]);
            }
            let Some(into) = target.as_array_mut() else { return };
            for item in items {
                let Some(step) = fields::step(&of, item) else { continue };
                let known = into.iter_mut().find(|there| fields::step(&of, there).as_ref() == Some(&step));
                path.push(step);
                match known {
                    Some(there) => overlay(shape, there, item, path),
                    None => into.push(item.clone()),
                }
                path.pop();
            }
        }
        other => *target = other.clone(),
    }
}

fn read(list: &[Value]) -> Vec<Owner> {
    list.iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let manager = Manager {
                name: text("manager"),
                api_version: text("apiVersion"),
                subresource: text("subresource"),
                time: text("time"),
            };
            Owner { manager, applies: entry["operation"] == "Apply", paths: fields::read(&entry["fieldsV1"]) }
        })
        .collect()
}

fn write(object: &mut Value, mut owners: Vec<Owner>) {
    owners.retain(|o| !o.paths.is_empty());
    owners.sort_by(|a, b| {
        let key = |o: &Owner| {
            (
                !o.applies,
                o.manager.time.clone(),
                o.manager.name.clone(),
                o.manager.api_version.clone(),
                o.manager.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let list: Vec<Value> = owners
        .iter()
        .map(|owner| {
            let mut entry = json!({
                "manager": owner.manager.name, "operation": if owner.applies { "Apply" } else { "Update" },
                "apiVersion": owner.manager.api_version, "time": owner.manager.time, "fieldsType": "FieldsV1",
                "fieldsV1": fields::write(&owner.paths),
            });
            if !owner.manager.subresource.is_empty() {
                entry["subresource"] = owner.manager.subresource.as_str().into();
            }
            entry
        })
        .collect();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        if list.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), list.into());
        }
    }
}

/// The managed fields of an object, without the times of writing.
pub(crate) fn without_times(object: &Value) -> Vec<Value> {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|entry| {
            let mut entry = entry.clone();
            entry.as_object_mut().map(|map| map.remove("time"));
            entry
        })
        .collect()
}
